"""Convolutions: patch embeddings of images and video, the front of audio encoders, depthwise mixing."""

from dataclasses import dataclass
from math import prod

from memcalc.blocks.ledger import Weight, linear
from memcalc.blocks.profile import Profile
from memcalc.blocks.tape import Tape, Var
from memcalc.errors import Unsupported


@dataclass(frozen=True)
class Convolution:
    """A convolution with weight [outputs, inputs / groups, *kernel].

    A patch embedding has its kernel as its stride. `flattened`: the same product written as a linear layer over the
    pixels of a patch, weight [outputs, inputs × kernel].
    """

    inputs: int
    outputs: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = ()  # default: the kernel, so patches do not overlap
    groups: int = 1
    bias: bool = False
    flattened: bool = False
    activation: str = ""  # none
    role: str = "other"

    def weights(self) -> tuple[Weight, ...]:
        inputs = self.inputs // self.groups
        if self.flattened:
            return linear("weight", self.role, inputs * prod(self.kernel), self.outputs, bias=self.bias)
        weight = Weight("weight", self.role, (self.outputs, inputs, *self.kernel))
        return (weight, Weight("weight.bias", self.role, (self.outputs,))) if self.bias else (weight,)

    def forward(self, t: Tape, p: Profile, x: Var | None = None) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with convolutions (patch embeddings, audio front ends) is not modelled")
