"""Mamba 2's scan in chunks, as transformers computes it in PyTorch (modeling_mamba2.mamba2_chunk_scan).

Within a chunk tokens mix through chunk × chunk matrices for each head, between chunks through states [head_dim, state].
All of it is fp32, contractions copy what they multiply, and every intermediate is kept. mamba_ssm's kernels keep far less.
"""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import BYTE, FP32, Size, Step, Tape, Var
from memcalc.blocks.mixers import operations as mixer
from memcalc.frozen import NamedTuple


class ChunkedScan(NamedTuple):
    """Sizes of one rank's heads. Sequences are padded to whole numbers of chunks."""

    heads: int
    head_dim: int
    state_size: int
    chunk: int

    def record(self, t: Tape, p: Profile, value: Var, step: Var, b: Var, c: Var) -> Var:
        """What the states answer, [heads, head_dim] a token, in fp32."""
        step = ops.cast(t, step, FP32) if p.formats.autocast else step
        step = mixer.clamped(t, mixer.softplus(t, step))
        value = ops.cast(t, value, FP32)
        wide = Size(token=self.heads * self.state_size)
        b, c = (t.emit("repeated", [ops.cast(t, x, FP32)], wide, FP32) for x in (b, c))
        times, tokens = p.batch.padding(self.chunk), value.elements
        kept = mixer.times_weight(t, p, mixer.padded(t, value, times), "D", self.heads)
        value = ops.weighted(t, value, ops.cast(t, step, FP32))
        total = ops.scale(t, mixer.padded(t, self._rates(t, p, step), times), "cumulative")
        value, b, c = (mixer.padded(t, x, times) for x in (value, b, c))
        read = ops.add(t, self._within(t, p, total, value, b, c), self._between(t, p, total, value, b, c))
        read = ops.add(t, mixer.copied(t, read), kept)
        if times == 1:
            return read
        cut = t.emit("cut", [read], tokens, read.each)
        cut.whole = read
        return cut

    def _rates(self, t: Tape, p: Profile, step: Var) -> Var:
        """−exp(A) Δ: keeps Δ in fp32 once more."""
        rates = mixer.exponential(t, mixer.learned(t, p, "A_log", self.heads, FP32))
        return mixer.outer(t, ops.scale(t, rates), ops.cast(t, step, FP32), Size(token=self.heads))

    def _within(self, t: Tape, p: Profile, total: Var, value: Var, b: Var, c: Var) -> Var:
        """Tokens of one chunk: (C Bᵀ · decay) x."""
        pairs = Size(token=self.heads * self.chunk * p.batch.padding(self.chunk))
        masks = [Var(Size(fixed=self.chunk**2), BYTE, False, f"{t.path}/mask of a chunk {i}") for i in range(2)]
        masked = t.emit("segment sums", [total], pairs, FP32, masks, [Step("temp", pairs * FP32), Step("input", total.bytes)])
        decay = mixer.exponential(t, masked, "decay within")
        mixing = ops.mul(t, mixer.contraction(t, p, c, b, pairs, self.state_size), decay)
        return mixer.contraction(t, p, mixing, value, value.elements, self.chunk)

    def _between(self, t: Tape, p: Profile, total: Var, value: Var, b: Var, c: Var) -> Var:
        """Chunks hand states on: each chunk's own, those before it by a product over chunks, and what C reads of them."""
        times = p.batch.padding(self.chunk)
        states = Size(token=self.heads * self.head_dim * self.state_size * times / self.chunk)
        left = mixer.exponential(t, ops.scale(t, total))
        made = mixer.contraction(t, p, ops.weighted(t, b, left), value, states, self.chunk)
        over_chunks = Size(pair=self.heads * (times / self.chunk) ** 2)  # one factor for each pair of chunks
        decay = mixer.exponential(t, t.emit("chunk sums", [total], over_chunks, FP32, (), [Step("input", total.bytes)]))
        before = mixer.product(t, p, mixer.copied(t, made), decay, states, Size(token=times / self.chunk))
        read = mixer.contraction(t, p, c, before, value.elements, self.state_size)
        return ops.weighted(t, read, mixer.exponential(t, total))
