"""Gated recurrences without an inner state dimension: the RG-LRU block and the short convolution."""

from dataclasses import dataclass

from memcalc.blocks.ledger import Split, Weight, linear, whole
from memcalc.blocks.profile import Profile
from memcalc.blocks.state import Sections, StateTensor, convolution_state, depthwise
from memcalc.blocks.tape import Tape, Var
from memcalc.errors import Unsupported

ROLE = "state-space"


@dataclass(frozen=True)
class RGLRU:
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
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with Griffin's recurrent block is not modelled")


@dataclass(frozen=True)
class ShortConvolution:
    """LFM2's mixer: C ⊙ conv(B ⊙ x), with B, C and x from one projection. Its state is the convolution's."""

    hidden: int
    conv_kernel: int
    bias: bool = False

    @property
    def conv_channels(self) -> int:
        return self.hidden

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
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with LFM2's short convolution is not modelled")
