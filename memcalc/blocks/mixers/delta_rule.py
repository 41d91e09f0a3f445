"""The gated delta rule in chunks, as transformers computes it in PyTorch (modeling_qwen3_next.torch_chunk_gated_delta_rule).

Within a chunk everything is done at once through small triangular systems, chunk × chunk for each head; between chunks
a loop carries the memory. All of it is fp32, and every intermediate is kept. The fla kernels keep far less.
"""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import BYTE, FP32, Size, Step, Tape, Var
from memcalc.blocks.mixers import operations as mixer
from memcalc.frozen import NamedTuple


class DeltaRule(NamedTuple):
    """Sizes of one rank's heads. Sequences are padded to whole numbers of chunks."""

    heads: int
    key_dim: int
    value_dim: int
    chunk: int
    strided: bool = False  # heads are not contiguous, so products of matrices copy their operands

    def record(self, t: Tape, p: Profile, query: Var, key: Var, value: Var, decay: Var, rate: Var) -> Var:
        """The memory's answers, [heads, value_dim] a token; inputs are fp32 and padded, which copies them even by nothing."""
        query = ops.scale(t, mixer.unit_length(t, query, self.heads))
        key = mixer.unit_length(t, key, self.heads)
        query, key, value, rate, decay = (
            mixer.padded(t, x, p.batch.padding(self.chunk)) for x in (query, key, value, rate, decay)
        )
        written = ops.weighted(t, value, rate)
        scaled_key = ops.weighted(t, key, rate)
        total = ops.scale(t, decay, "cumulative")
        pairwise = self._pairwise(t, p, total)
        system = ops.mul(t, self._pairs(t, p, scaled_key, key), pairwise)
        within = ops.mul(t, self._pairs(t, p, query, key), pairwise)
        decayed = ops.weighted(t, scaled_key, mixer.exponential(t, total))
        new_values, predicting = self._solve(t, system, written), self._solve(t, system, decayed)
        query = ops.weighted(t, query, mixer.exponential(t, total))
        key = ops.weighted(t, key, mixer.exponential(t, ops.scale(t, total)))
        return self._scan(t, p, query, key, new_values, predicting, within, total)

    def _pair_size(self, p: Profile) -> Size:
        """Each token with each of its chunk."""
        return Size(token=self.heads * self.chunk * p.batch.padding(self.chunk))

    def _pairs(self, t: Tape, p: Profile, a: Var, b: Var) -> Var:
        if self.strided and not p.formats.autocast:
            a, b = mixer.copied(t, a), mixer.copied(t, b)
        return mixer.product(t, p, a, b, self._pair_size(p), Size(fixed=self.key_dim))

    def _pairwise(self, t: Tape, p: Profile, total: Var) -> Var:
        """exp of differences, later tokens masked."""
        size = self._pair_size(p)
        mask = Var(Size(fixed=self.chunk**2), BYTE, False, f"{t.path}/mask of a chunk")
        steps = [Step("temp", size * FP32), Step("input", total.bytes)]
        difference = t.emit("difference", [total], size, FP32, (), steps)
        return mixer.exponential(t, t.emit("masked", [difference], size, FP32, [mask]), "pairwise decay")

    def _solve(self, t: Tape, system: Var, right: Var) -> Var:
        """A triangular system for each chunk and head: saves the system and its solution."""
        t.multiply("solution", right.elements * self.chunk, 2)  # forward substitution: half of a full product
        steps = [Step("input", right.bytes, 1), Step("temp", system.bytes), Step("input", system.bytes)]
        out = t.emit("solution", [system, right], right.elements, FP32, [system], steps)
        if out.grad:
            t.nodes[-1].saves = (*t.nodes[-1].saves, out)
        return out

    def _scan(self, t: Tape, p: Profile, query: Var, key: Var, new: Var, predicting: Var, within: Var, total: Var) -> Var:
        """The loop over chunks: keeps the memory before each, and the values written.

        Backward, each chunk's slice becomes a full-sized gradient that is added to the one so far, out of place.
        """
        inputs = [query, key, new, predicting, within]
        # what the memory predicts, what the query reads, what the keys write; and the chunk's own values
        times = p.batch.padding(self.chunk)
        memory_work, chunk_work = 3 * self.key_dim * self.value_dim, self.chunk * self.value_dim
        t.multiply("scan", Size(token=2 * self.heads * times * (memory_work + chunk_work)), 2)
        chunk_decay = mixer.exponential(
            t, t.emit("last", [total], total.elements * (1 / self.chunk), FP32, (), [Step("input", total.bytes)])
        )
        memory = Var(
            Size(token=self.heads * self.key_dim * self.value_dim * times / self.chunk), FP32, False, f"{t.path}/memory"
        )
        values = Var(Size(token=self.heads * self.value_dim * times), FP32, False, f"{t.path}/values written")
        saves = [*inputs[:2], predicting, within, chunk_decay, memory, values]
        if p.formats.autocast:  # slices are cast for each product; memory and values take part in two
            saves = [chunk_decay, memory, *self._cast(p, [query, key, predicting, within, memory, memory, values, values])]
        largest = max((var.bytes for var in inputs), key=lambda size: size.token)
        steps = [Step("input", var.bytes, i) for i, var in enumerate(inputs)]
        steps += [Step("input", chunk_decay.bytes, len(inputs)), Step("temp", largest), Step("temp", largest)]
        return t.emit("scan", [*inputs, chunk_decay], Size(token=self.heads * self.value_dim), FP32, saves, steps)

    def _cast(self, p: Profile, kept: list[Var]) -> list[Var]:
        return [Var(var.elements, p.formats.compute, False, f"{var.label}, cast") for var in kept]
