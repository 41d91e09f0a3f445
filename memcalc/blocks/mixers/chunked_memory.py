"""The matrix memory of mLSTM in chunks (Beck et al. 2024; transformers modeling_xlstm.mlstm_chunkwise_native_autograd).

Between chunks the memory of every head is kept, a key by a value; within one, scores of all pairs under decays in logarithms.
In 16 bit without autocast that code stops over matrices of two types; it is recorded as under autocast then.
"""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, INT64, Size, Step, Tape, Var
from memcalc.blocks.mixers import operations as mixer
from memcalc.blocks.values import revised
from memcalc.frozen import NamedTuple


class ChunkedMemory(NamedTuple):
    """Heads, keys and values of all of them, tokens of a chunk."""

    heads: int
    keys: int
    values: int
    chunk: int

    def record(self, t: Tape, p: Profile, query: Var, key: Var, value: Var, input_gate: Var, forget_gate: Var) -> Var:
        """What the memory gives back, in fp32."""
        p = p if p.formats.compute == FP32 else revised(p, autocast=True)
        query, key, value = (mixer.copied(t, x) for x in (query, key, value))
        forget, written = mixer.copied(t, forget_gate), mixer.copied(t, input_gate)
        logs = t.emit("log-sigmoid", [forget], forget.elements, forget.each, [forget])
        decay = t.emit("cumulative", [ops.cast(t, logs, FP32)], logs.elements, FP32)
        states, norms = self._states(t, p, key, value, decay)
        within, largest = self._decays(t, decay, written)
        width, depth = Size(token=self.values), Size(fixed=self.keys / self.heads)
        scores = ops.scale(t, mixer.product(t, p, query, key, within.elements, depth, "scores"))
        weights = ops.mul(t, scores, within)
        shares = [Step("share"), Step("share", source=1)]
        reach = mixer.exponential(t, t.emit("reach", [decay, largest], decay.elements, FP32, (), shares))
        gated = ops.scale(t, mixer.outer(t, query, reach, query.elements))
        far = mixer.product(t, p, gated, states, width, depth, "from the memory")
        near = mixer.product(t, p, weights, value, width, Size(fixed=self.chunk), "within the chunk")
        numerator = ops.add(t, far, near)
        far = mixer.product(t, p, gated, norms, Size(token=self.heads), depth, "normaliser")
        near = t.emit("row sums", [weights], far.elements, FP32, (), [Step("share")])
        total = ops.add(t, far, near)
        bounds = [Var(total.elements, FP32, False, f"{t.path}/{name}") for name in ("absolute", "least")]
        return self._divided(t, numerator, t.emit("bounded", [total], total.elements, FP32, [total, *bounds]))

    def _states(self, t: Tape, p: Profile, key: Var, value: Var, decay: Var) -> tuple[Var, Var]:
        """Memory and normaliser before each chunk, in a tensor of all chunks that each writes its part of: backward, every part
        is cut out of a copy of the whole gradient (torch/csrc/autograd/functions/tensor.cpp, CopySlices)."""
        each = p.formats.compute
        before = Size(token=self.keys * self.values / (self.heads * self.chunk))
        kept = Var(before, FP32, False, f"{t.path}/memory")
        rates = Var(Size(token=self.heads), FP32, False, f"{t.path}/rates")
        gated = Var(key.elements, each, False, f"{t.path}/keys by rate")
        t.multiply("memory", Size(token=4 * self.keys * self.values / self.heads), 2)
        full = Step("temp", before * each)
        parts = (step for i, x in enumerate((key, value)) for step in (Step("temp", x.bytes), Step("input", x.bytes, i)))
        steps = [full, full, *parts]
        states = t.emit("memory of chunks", [key, value, decay], before, each, [kept, rates, gated, key, value], steps)
        norms = t.emit("normalisers of chunks", [key], Size(token=self.keys / self.chunk), each, [])
        return mixer.copied(t, states), mixer.copied(t, norms)

    def _decays(self, t: Tape, decay: Var, written: Var) -> tuple[Var, Var]:
        """exp of what lies between every pair of a chunk, less each row's maximum."""
        square = Size(token=self.heads * self.chunk)
        between = t.emit("between", [decay], square, FP32, (), [Step("input", decay.bytes)])
        between = t.emit("causal", [between], square, FP32)
        steps = [Step("share"), Step("input", written.bytes, 1)]
        between = t.emit("plus input gate", [between, written], square, FP32, (), steps)
        index = Var(decay.elements, INT64, False, f"{t.path}/maxima")
        rows = t.emit("row maxima", [between], decay.elements, FP32, [index], [Step("input", between.bytes)])
        before = Var(rows.elements, FP32, False, f"{t.path}/maxima before")
        largest = t.emit("maximum", [rows], rows.elements, FP32, [rows, before])
        steps = [Step("share"), Step("input", largest.bytes, 1)]
        return mixer.exponential(t, t.emit("less maximum", [between, largest], square, FP32, (), steps)), largest

    def _divided(self, t: Tape, numerator: Var, denominator: Var) -> Var:
        """Their quotient, laid out anew."""
        full = Step("temp", numerator.elements * FP32)
        mine = Step("input", numerator.bytes) if numerator.each == FP32 else Step("cast", numerator.bytes)
        steps = [full, full, mine, Step("input", denominator.bytes, 1)]
        read = t.emit("divided", [numerator, denominator], numerator.elements, FP32, [numerator, denominator], steps)
        return mixer.joined(t, read)
