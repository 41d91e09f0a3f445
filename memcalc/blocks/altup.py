"""Gemma 3n's wider residual stream (alternating updates) and its low-rank residual connection (Laurel), as
modeling_gemma3n.py computes them."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight, linear, prefixed
from memcalc.blocks.norm import Norm
from memcalc.frozen import dataclass

NORM = "rms-fp32"


@dataclass(frozen=True)
class AltUp(Block, without=("constants", "cache", "state", "traits")):
    """`streams` copies of the residual; a layer computes on one and corrects a prediction of all.

    The hidden state between layers is `streams` times as wide as `hidden`.
    """

    wired = True

    hidden: int
    streams: int
    epsilon: float = 1e-6

    def weights(self) -> tuple[Weight, ...]:
        out = linear("correction_coefs", "mlp", self.streams, self.streams)
        out += linear("prediction_coefs", "mlp", self.streams, self.streams**2)
        out += linear("modality_router", "mlp", self.hidden, self.streams)
        scale = Weight("correct_output_scale", "other", (self.hidden,))
        return (*out, *prefixed("router_norm", self._norm.weights()), scale)

    @property
    def _norm(self) -> Norm:
        return Norm(self.hidden, NORM, epsilon=self.epsilon)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the prediction: all streams, each plus a mixture of them whose coefficients the active one gives."""
        coefficients = ops.linear(
            t, p, self._routed(t, p, one_of(t, x, self.streams)), Matrix("prediction_coefs", self.streams**2, self.streams**3)
        )
        x16 = ops.cast(t, x, p.formats.compute) if p.formats.autocast else x
        t.multiply("prediction", x16.elements * (2 * self.streams), 2)
        mixed = t.emit("mixed", [x16, coefficients], x16.elements, x16.each, [x16, coefficients])
        same = mixed.each == x.each
        shares = [Step("share"), Step("share", source=1) if same else Step("input", x.bytes, 1)]
        mixed = t.emit("prediction", [mixed, x], mixed.elements, mixed.each, (), shares)
        mixed = t.emit("laid out", [mixed], mixed.elements, mixed.each, (), [Step("share")])
        return ops.cast(t, mixed, x.each)

    def correct(self, t: Tape, p: Profile, predictions: Var, active: Var) -> Var:
        """Predictions plus what the active stream has become less what was predicted of it, times a coefficient each."""
        routed = self._routed(t, p, active)
        predicted = one_of(t, predictions, self.streams)
        steps = [Step("share"), Step("input", predicted.bytes, 1)]
        new = t.emit("innovation", [active, predicted], active.elements, active.each, (), steps)
        new = t.emit("repeated", [new], predictions.elements, new.each)
        made = ops.linear(t, p, routed, Matrix("correction_coefs", self.streams, self.streams**2))
        made = t.emit("plus one", [made], made.elements, made.each, (), [Step("share")])
        corrected = ops.weighted(t, new, made)
        return t.emit("corrected", [corrected, predictions], corrected.elements, corrected.each, (),
                      [Step("share"), Step("share", source=1)])  # fmt: skip

    def scaled(self, t: Tape, p: Profile, corrected: Var) -> Var:
        """A copy of the active stream times a learned vector."""
        first = one_of(t, corrected, self.streams)
        first = t.emit("copied", [first], first.elements, first.each, (), [Step("share")])
        return ops.scale_by_norm(t, p, first, self.hidden, p.formats.weights)

    def rest_plus(self, t: Tape, x: Var, y: Var) -> Var:
        """y added in place to all streams but the first. Python writes the slice back after it, so that the backward takes it
        out twice."""
        rest = x.bytes * ((self.streams - 1) / self.streams)
        written = [Step("temp", rest), Step("temp", rest), Step("input", x.bytes)]
        x = t.emit("slice", [x], x.elements, x.each, (), written)
        return t.emit("rest plus", [x, y], x.elements, x.each, (), [*written, Step("input", y.bytes, 1)])

    def _routed(self, t: Tape, p: Profile, x: Var) -> Var:
        """tanh of a small projection of the stream's norm, in fp32."""
        normed = ops.scale(t, self._norm.forward(t, p, x, p.degrees.stream))
        made = ops.cast(t, ops.linear(t, p, normed, Matrix("modality_router", self.streams, self.hidden * self.streams)), FP32)
        made = t.emit("tanh", [made], made.elements, FP32)
        if made.grad:
            t.nodes[-1].saves = (made,)
        return ops.cast(t, made, x.each)


def one_of(t: Tape, x: Var, streams: int) -> Var:
    """A view of one stream, whose gradient is written into zeros of all."""
    one = t.emit("stream", [x], x.elements * (1 / streams), x.each, (), [Step("input", x.bytes)])
    one.whole = x.whole or x
    return one


@dataclass(frozen=True)
class AltUpProjections(Block, without=("constants", "cache", "state", "traits")):
    """A square matrix for each stream but the first: into the streams before the layers, or (`back`) after them, where they
    are averaged. Each projected stream gets the first one's root mean square."""

    hidden: int
    streams: int
    back: bool = False

    def weights(self) -> tuple[Weight, ...]:
        others = self.streams - 1
        return (Weight("weight", "other", (self.hidden, self.hidden), tensors=others),) if others else ()

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """All streams side by side, or their mean."""
        first = one_of(t, x, self.streams) if self.back else x
        target = self._magnitude(t, p, first)
        made = [one_of(t, x, self.streams) if self.back else x]
        for number in range(1, self.streams):
            stream = one_of(t, x, self.streams) if self.back else x
            path = t.path
            t.path = f"{path}/{number}"
            y = ops.linear(t, p, stream, Matrix("projection", self.hidden * p.degrees.stream, self.hidden**2))
            y = ops.cast(t, y, x.each)
            own = self._magnitude(t, p, y, clamped=True)
            made.append(_divided(t, ops.weighted(t, y, target), own))
            t.path = path
        each = max(var.each for var in made)
        steps = [Step("share", source=i) if v.each == each else Step("input", v.bytes, i) for i, v in enumerate(made)]
        out = t.emit("streams", made, made[0].elements * self.streams, each, (), steps)
        return t.emit("mean", [out], first.elements, out.each) if self.back else out

    def _magnitude(self, t: Tape, p: Profile, x: Var, *, clamped: bool = False) -> Var:
        """The root of the mean square."""
        x = ops.cast(t, x, FP32) if p.formats.autocast else x
        squares = [Step("temp", x.bytes), Step("temp", x.bytes), Step("input", x.bytes)]
        square = t.emit("square", [x], x.elements, x.each, [x], squares)
        mean = t.emit("mean", [square], Size(token=p.degrees.stream), x.each, (), [Step("input", x.bytes)])
        if clamped:
            mean = t.emit("clamped", [mean], mean.elements, mean.each, [mean])
        root = t.emit("root", [mean], mean.elements, mean.each, () if clamped else [mean])
        if clamped and root.grad:
            t.nodes[-1].saves = (root,)
        return root


def _divided(t: Tape, x: Var, by: Var) -> Var:
    """x / a number for each token: saves both; the number's gradient is summed from a product of three."""
    each = max(x.each, by.each)
    full = Step("temp", x.elements * each)
    return t.emit(
        "divided", [x, by], x.elements, each, [x, by], [Step("input", x.bytes), full, full, Step("input", by.bytes, 1)]
    )


@dataclass(frozen=True)
class Laurel(Block, without=("constants", "cache", "state", "traits")):
    """x + norm(right(left(x))) of rank `rank`, beside the attention."""

    wired = True

    hidden: int
    rank: int
    epsilon: float = 1e-6

    @property
    def _norm(self) -> Norm:
        return Norm(self.hidden, NORM, epsilon=self.epsilon)

    def weights(self) -> tuple[Weight, ...]:
        out = linear("linear_left", "mlp", self.hidden, self.rank)
        out += linear("linear_right", "mlp", self.rank, self.hidden)
        return out + prefixed("norm", self._norm.weights())

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the block."""
        matrix = self.hidden * self.rank
        y = ops.linear(t, p, x, Matrix("linear_left", self.rank, matrix))
        y = ops.linear(t, p, y, Matrix("linear_right", self.hidden * p.degrees.stream, matrix))
        return ops.add(t, x, self._norm.forward(t, p, y))
