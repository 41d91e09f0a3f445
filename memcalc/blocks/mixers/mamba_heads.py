"""Mamba's mixer in heads that each select for themselves (Zamba; transformers modeling_zamba.ZambaMambaMixer)."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.blocks.block import Traits
from memcalc.blocks.mixers import operations as mixer
from memcalc.blocks.mixers.state_space import Mamba
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class MambaOfHeads(Mamba, without=("constants", "cache")):
    """Mamba whose Δ, B and C each head makes of its own part of x, with matrices of its own; heads are scanned in turn."""

    heads: int = 2

    @property
    def traits(self) -> Traits:
        return Traits(by_sequence=True)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the block with the scan in PyTorch, a loop over tokens for each head."""
        if p.degrees.tp > 1:
            raise Unsupported("tensor parallelism of Mamba mixers of several heads (Zamba) is not modelled")
        inner, rank, state = self.inner, self.time_step_rank, self.state_size
        both = ops.linear(t, p, x, Matrix("in", 2 * inner, self.hidden * 2 * inner, bias=self.bias * 2 * inner))
        half = Size(token=inner)
        mixed, gate = mixer.copied(t, mixer.view(t, both, half)), mixer.view(t, both, half)
        mixed = mixer.convolution(t, p, mixed, self.conv_kernel, inner, self.activation, bias=self.conv_bias)
        selected = self._by_head(t, p, mixer.copied(t, mixed), "x", rank + 2 * state, inner // self.heads)
        parts = [mixer.view(t, selected, Size(token=self.heads * size)) for size in (rank, state, state)]
        steps = self._by_head(t, p, parts[0], "dt", inner // self.heads, rank)
        bias = mixer.learned(t, p, "dt bias", inner, FP32)
        rates = self._rates(t, p, inner)
        read = [self._head(t, p, mixed, gate, steps, bias, parts[1], parts[2], rates) for _ in range(self.heads)]
        rows = mixer.copied(t, ops.cast(t, mixer.joined(t, *read), x.each))
        return ops.linear(t, p, rows, Matrix("output", self.hidden, inner * self.hidden, bias=self.bias * self.hidden))

    def _by_head(self, t: Tape, p: Profile, x: Var, name: str, outputs: int, inputs: int) -> Var:
        """Each head's product with its own matrix, which is laid out for each sequence."""
        size = self.heads * outputs * inputs
        weight = mixer.learned(t, p, f"{name} weight", size, p.formats.product)
        spread = Size(fixed=size * p.batch.sequences)
        laid_out = t.emit(f"{name} weight of each sequence", [weight], spread, weight.each, (), [Step("input", weight.bytes)])
        return mixer.product(t, p, laid_out, x, Size(token=self.heads * outputs), Size(fixed=inputs), name)

    def _head(
        self, t: Tape, p: Profile, mixed: Var, gate: Var, steps: Var, bias: Var, b: Var, c: Var, rates: Var
    ) -> Var:  # fmt: skip
        """One head's scan, gated."""
        x, z, step, b, c, rates = (self._part(t, whole) for whole in (mixed, gate, steps, b, c, rates))
        step = t.emit("dt biased", [step, bias], step.elements, step.each, (), [Step("share"), Step("input", bias.bytes, 1)])
        read = self._scan(t, p, x, step, b, c, rates)
        read = ops.add(t, read, mixer.times_weight(t, p, x, "D", self.inner / self.heads))
        return ops.mul(t, read, ops.activation(t, p, z, "silu"))

    def _part(self, t: Tape, whole: Var) -> Var:
        """A head's part, a view whose gradient is written into zeros as large as the whole."""
        part = t.emit("head", [whole], whole.elements * (1 / self.heads), whole.each, (), [Step("input", whole.bytes)])
        part.whole = whole.whole or whole
        return part
