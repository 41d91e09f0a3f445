"""Convolutions: patch embeddings of images and video, the front of audio encoders, depthwise mixing."""

from math import prod

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Size, Step, Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight, linear
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class Convolution(Block, without=("constants", "cache", "state", "traits")):
    """A convolution with weight [outputs, inputs / groups, *kernel].

    A patch embedding has its kernel as its stride. `flattened`: the same product written as a linear layer over the
    pixels of a patch, weight [outputs, inputs × kernel].
    """

    begins = True

    inputs: int
    outputs: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = ()  # default: the kernel, so patches do not overlap
    groups: int = 1
    bias: bool = False
    flattened: bool = False
    activation: str = ""  # none
    role: str = "other"
    frames: int = 0  # of a recording that come in for each token of the encoder; 0: it reads something else

    def weights(self) -> tuple[Weight, ...]:
        inputs = self.inputs // self.groups
        if self.flattened:
            return linear("weight", self.role, inputs * prod(self.kernel), self.outputs, bias=self.bias)
        weight = Weight("weight", self.role, (self.outputs, inputs, *self.kernel))
        return (weight, Weight("weight.bias", self.role, (self.outputs,))) if self.bias else (weight,)

    def forward(self, t: Tape, p: Profile, x: Var | None = None) -> Var:
        """Record an audio stem's convolution: x is what the one before it made; None: the recording's features, which need no
        gradient.
        """
        if not self.frames or p.degrees.tp > 1:
            raise Unsupported("training with convolutions other than Whisper's two is not modelled")
        frames = p.batch.source * self.frames
        if x is None:
            x = Var(Size(token=self.inputs * frames), p.formats.weights, False, f"{t.path}/features")
        used = ops.cast(t, x, p.formats.compute)
        outputs = Size(token=self.outputs * frames / prod(self.stride))
        t.multiply("convolution", outputs * (2 * self.inputs * prod(self.kernel)), x.grad + p.method.trained)
        saves, steps = ([used] if p.method.trained else []), [Step("input", used.bytes)]
        saves += [] if x.grad else [x]  # the batch itself
        if p.method.trained and p.formats.autocast:
            saves.append(Var(Size(fixed=self.weights()[0].parameters), p.formats.compute, False, f"{t.path}/weight cast"))
        steps += [Step("weight", Size(fixed=w.parameters * p.formats.weights)) for w in self.weights() if p.method.trained]
        out = t.emit("convolution", [used], outputs, used.each, saves, steps, trained=p.method.trained)
        return ops.activation(t, p, out, self.activation) if self.activation else out
