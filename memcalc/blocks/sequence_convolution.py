"""A convolution along the sequence inside a model of text, with as many tokens after it as before."""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Size, Step, Tape, Var
from memcalc.blocks.attention.kernels import contiguous
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class SequenceConvolution(Block, without=("constants", "cache", "state", "traits")):
    """act(dropout(convolution(x))), weight [outputs, inputs / groups, kernel], laid out channel by channel and back."""

    inputs: int
    outputs: int
    kernel: int
    groups: int = 1
    activation: str = ""
    dropout: float = 0.0

    def weights(self) -> tuple[Weight, ...]:
        shape = (self.outputs, self.inputs // self.groups, self.kernel)
        return (Weight("weight", "other", shape), Weight("bias", "other", (self.outputs,)))

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        x = contiguous(t, ops.cast(t, x, p.formats.compute) if p.formats.autocast else x)
        weight = self.weights()[0].parameters
        out = convolve(t, p, "convolution", x, self.outputs, weight, self.outputs)
        out = contiguous(t, out)
        out = ops.dropout(t, p, out, self.dropout)
        return ops.activation(t, p, out, self.activation) if self.activation else out


def convolve(t: Tape, p: Profile, name: str, x: Var, outputs: float, weight: int, bias: int = 0) -> Var:
    """One convolution: saves its input and weight, of which autocast makes copies; one kernel makes all gradients."""
    trained, each = p.method.trained, p.formats.weights
    t.multiply(name, Size(token=2 * weight), x.grad + trained)
    inputs, steps = [x], [Step("input", x.bytes)]
    if trained and p.formats.autocast and each != p.formats.compute:
        size = Size(fixed=weight)
        copy = t.emit(f"{name}{ops.WEIGHT_CAST}", [], size, p.formats.compute, (), [Step("weight", size * each)], trained=True)
        inputs, steps = [x, copy], [*steps, Step("input", copy.bytes, 1)]
    elif trained:
        steps.append(Step("weight", Size(fixed=weight * each)))
    steps += [Step("weight", Size(fixed=bias * each))] if bias and trained else []
    return t.emit(name, inputs, Size(token=outputs), x.each, inputs if trained else [], steps, trained=trained)
