"""Gated recurrences without an inner state dimension: the RG-LRU block and the short convolution."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Split, Weight, linear, whole
from memcalc.blocks.mixers import operations as mixer
from memcalc.blocks.mixers.state import Sections, StateTensor, convolution_state, depthwise
from memcalc.frozen import dataclass

ROLE = "state-space"


@dataclass(frozen=True)
class RGLRU(Block, without=("constants", "cache")):
    """Griffin's recurrent block (RecurrentGemma): a branch through convolution and RG-LRU, gated by a second branch.

    The real-gated linear recurrent unit is h ← a h + √(1 − a²) (i x), where a (recurrence) and i (input) are gates
    computed from x by block-diagonal matrices, one block a head. Kept while generating, per sequence: the convolution's
    last kernel − 1 inputs and h, one number a channel.
    """

    hidden: int
    width: int
    heads: int
    conv_kernel: int
    activation: str = "gelu_pytorch_tanh"
    state_dtype: str = "float32"

    @property
    def conv_channels(self) -> int:
        return self.width

    @property
    def _sections(self) -> Sections:
        return ((self.heads, self.width // self.heads),)

    @property
    def traits(self) -> Traits:
        return Traits(heads=self.heads)

    def weights(self) -> tuple[Weight, ...]:
        block = self.width // self.heads
        by_head = whole(0, self.heads)
        gates = tuple(
            weight
            for gate in ("input_gate", "recurrence_gate")
            for weight in (
                Weight(gate, ROLE, (self.heads, block, block), by_head),
                Weight(f"{gate}.bias", ROLE, (self.heads, block), by_head),
            )
        )
        return (
            *linear("y", ROLE, self.hidden, self.width, bias=True, cut="outputs", sections=self._sections),
            *linear("x", ROLE, self.hidden, self.width, bias=True, cut="outputs", sections=self._sections),
            *depthwise("conv", ROLE, self.conv_kernel, self._sections, bias=True),
            Weight("recurrence", ROLE, (self.width,), Split(0, self._sections)),
            *gates,
            *linear("output", ROLE, self.width, self.hidden, bias=True, cut="inputs", sections=self._sections),
        )

    def state(self) -> tuple[StateTensor, ...]:
        return (
            convolution_state(self.conv_kernel - 1, self._sections),
            StateTensor("recurrent", (self.width,), Split(0, self._sections), self.state_dtype),
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the block as modeling_recurrent_gemma.RecurrentGemmaRecurrentBlock, a loop over tokens."""
        width = -(-self.heads // p.degrees.tp) * (self.width // self.heads)
        matrix = self.hidden * width
        x = ops.gathered(t, p, x)
        y = ops.activation(t, p, ops.linear(t, p, x, Matrix("y", width, matrix, bias=width)), self.activation)
        mixed = ops.linear(t, p, x, Matrix("x", width, matrix, bias=width))
        mixed = mixer.convolution(t, p, mixed, self.conv_kernel, width, "", bias=True)
        read = self._unit(t, p, mixed, width)
        out = ops.mul(t, read, y)
        return ops.linear(t, p, out, Matrix("output", self.hidden * p.degrees.stream, matrix, bias=self.hidden, reduced=True))

    def _unit(self, t: Tape, p: Profile, x: Var, width: int) -> Var:
        """The linear recurrent unit (RecurrentGemmaRglru): h ← a h + √(1 − a²) (i x)."""
        rows = mixer.copied(t, x)  # by head
        input_gate, gate = (ops.sigmoid(t, mixer.copied(t, self._gate(t, p, rows, name, width))) for name in ("i", "a"))
        rate = mixer.softplus(t, mixer.learned(t, p, "recurrence", width, FP32 if p.formats.autocast else 0))
        logarithm = mixer.outer(t, ops.scale(t, gate), rate, gate.elements)
        decay, squared = mixer.exponential(t, logarithm), mixer.exponential(t, ops.scale(t, logarithm))
        gated = ops.mul(t, x, input_gate)
        rest = ops.scale(t, squared, "1 - a²")
        root = t.emit("root", [rest], rest.elements, rest.each, [rest])
        scaled = ops.mul(t, gated, ops.cast(t, ops.scale(t, root), x.each))
        return self._loop(t, ops.scale(t, decay), scaled)

    def _gate(self, t: Tape, p: Profile, rows: Var, name: str, width: int) -> Var:
        weight = self.width // self.heads * width
        return ops.linear(t, p, rows, Matrix(f"{name} gate", width, weight, bias=width))

    def _loop(self, t: Tape, decay: Var, x: Var) -> Var:
        """Keeps h before every token, and the decay, in fp32. Backward, each token's slice is written into zeros."""
        t.multiply("loop", x.elements * 2, 2)
        states = Var(x.elements, FP32, False, f"{t.path}/states")
        decays = decay if decay.each == FP32 else Var(x.elements, FP32, False, f"{t.path}/decays, fp32")
        steps = [Step("input", decay.bytes), Step("input", x.bytes, 1), Step("temp", decay.bytes), Step("temp", decay.bytes)]
        return t.emit("loop", [decay, x], x.elements, x.each, [decays, states], steps)


@dataclass(frozen=True)
class ShortConvolution(Block, without=("constants", "cache")):
    """LFM2's mixer: C ⊙ conv(B ⊙ x), with B, C and x from one projection. Its state is the convolution's."""

    hidden: int
    conv_kernel: int
    bias: bool = False

    @property
    def conv_channels(self) -> int:
        return self.hidden

    @property
    def traits(self) -> Traits:
        return Traits()

    def weights(self) -> tuple[Weight, ...]:
        third = (self.hidden, 1)
        sections = (third, third, third)
        return (
            *linear("in", ROLE, self.hidden, 3 * self.hidden, bias=self.bias, cut="outputs", sections=sections),
            *depthwise("conv", ROLE, self.conv_kernel, (third,), bias=self.bias),
            *linear("output", ROLE, self.hidden, self.hidden, bias=self.bias, cut="inputs"),
        )

    def state(self) -> tuple[StateTensor, ...]:
        return (convolution_state(self.conv_kernel, ((self.hidden, 1),)),)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the block as modeling_lfm2.Lfm2ShortConv."""
        channels = -(-self.hidden // p.degrees.tp)
        x = ops.gathered(t, p, x)
        joined = ops.linear(t, p, x, Matrix("in", 3 * channels, 3 * channels * self.hidden, bias=self.bias * 3 * channels))
        before, after, value = (mixer.view(t, joined, Size(token=channels)) for _ in range(3))
        mixed = mixer.convolution(t, p, ops.mul(t, before, value), self.conv_kernel, channels, "", bias=self.bias)
        rows = mixer.copied(t, ops.mul(t, after, mixed))
        output = Matrix(
            "output", self.hidden * p.degrees.stream, channels * self.hidden, bias=self.bias * self.hidden, reduced=True
        )
        return ops.linear(t, p, rows, output)
