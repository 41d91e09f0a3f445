"""Where frames of sound stand, told by a grouped convolution over them (wav2vec 2; transformers modeling_wav2vec2.py,
Wav2Vec2PositionalConvEmbedding)."""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Size, Step, Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class ConvolvedPositions(Block, without=("constants", "cache", "state", "traits")):
    """x + act(convolution(x)). `normed`: its weight is a direction times a length of each place in the kernel (weight norm)."""

    hidden: int
    kernel: int
    groups: int
    activation: str = "gelu"
    normed: bool = False

    def weights(self) -> tuple[Weight, ...]:
        lengths = (Weight("norms", "other", (1, 1, self.kernel)),) if self.normed else ()
        weight = Weight("weight", "other", (self.hidden, self.hidden // self.groups, self.kernel))
        return (weight, Weight("weight.bias", "other", (self.hidden,)), *lengths)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """The weight is made anew for each step and kept; the result has a frame too many, which is cut off."""
        trained, each = p.method.trained, p.formats.weights
        size = Size(fixed=self.weights()[0].parameters)
        weight = t.emit("weight", [], size, each, (), [Step("weight", size * each)], trained=trained)
        weight.outside = not self.normed  # the parameter itself
        used = x
        if p.formats.autocast:
            used, weight = ops.cast(t, x, p.formats.compute), ops.cast(t, weight, p.formats.compute)
        t.multiply("convolution", Size(token=2 * self.weights()[0].parameters), x.grad + trained)
        steps = [Step("input", used.bytes), Step("input", weight.bytes, 1)]
        steps += [Step("weight", Size(fixed=self.hidden * each))] * trained
        whole = t.emit("convolution", [used, weight], x.elements, used.each, [used, weight] if trained else [weight], steps)
        cut = t.emit("cut", [whole], whole.elements, whole.each)
        cut.whole = whole
        return ops.add(t, x, ops.activation(t, p, cut, self.activation))
