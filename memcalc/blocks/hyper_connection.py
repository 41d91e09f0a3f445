"""Hyper-connections: several residual streams, mixed anew before and after each block by learned coefficients, as
modeling_deepseek_v4.DeepseekV4HyperConnection and modeling_glm5_next.Glm5NextTextHyperConnection compute them."""

from typing import NamedTuple

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight
from memcalc.blocks.norm import Norm
from memcalc.blocks.values import revised
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


class Coefficients(NamedTuple):
    """What a block's output is spread by, and what the streams are mixed by."""

    spread: Var
    mix: Var


@dataclass(frozen=True)
class HyperConnection(Block, without=("constants", "cache", "state", "traits")):
    """Coefficients that collapse `streams` residual streams into a block's input, spread its output and mix the rest.

    Computed for each token, in fp32, from all streams laid side by side (`streams` × `hidden`): n to collapse, n to
    spread, n × n to mix, made doubly stochastic in `iterations` of two divisions each. At the end of the model (`collapses`)
    only the first n. The residual that a layer reads and writes is `streams` times as wide as `hidden`. `mixes`: without it
    the residual streams stay apart (Hy4). `narrow`: its matrix has the model's type, else fp32.
    """

    wired = True

    hidden: int
    streams: int
    collapses: bool = False
    mixes: bool = True
    iterations: int = 20
    narrow: bool = False

    @property
    def coefficients(self) -> int:
        if self.collapses:
            return self.streams
        return (2 + self.streams) * self.streams if self.mixes else 2 * self.streams

    def weights(self) -> tuple[Weight, ...]:
        return (
            Weight("projection", "other", (self.coefficients, self.streams * self.hidden)),
            Weight("base", "other", (self.coefficients,)),
            Weight("scale", "other", (1 if self.collapses else 3 if self.mixes else 2,)),
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the collapse at the end of the model."""
        if not self.collapses:
            raise Unsupported("training with hyper-connections in layers of this kind is not modelled")
        return self._collapsed(t, p, x, self._one(t, p, self._projected(t, p, x), self.streams))

    def enter(self, t: Tape, p: Profile, x: Var) -> tuple[Var, Coefficients]:
        """The streams collapsed into a block's input, and the coefficients for what it returns."""
        if not self.mixes:
            raise Unsupported("training with hyper-connections that keep the streams apart (Hunyuan 4) is not modelled")
        projected, n = self._projected(t, p, x), self.streams
        collapse, spread = self._one(t, p, projected, n), ops.scale(t, self._one(t, p, projected, n))
        mix = self._stochastic(t, ops.softmax(t, self._affine(t, p, projected, n * n), FP32))
        return self._collapsed(t, p, x, collapse), Coefficients(spread, mix)

    def leave(self, t: Tape, p: Profile, x: Var, y: Var, coefficients: Coefficients) -> Var:
        """What the block returned, spread over the streams, plus the streams mixed."""
        spread, mix = (ops.cast(t, var, x.each) for var in coefficients)
        each = max(spread.each, y.each)
        spread_out = _outer(t, spread, y, x.elements, each)
        t.multiply("mix", x.elements * (2 * self.streams), 2)
        if p.formats.autocast:
            mix, x = ops.cast(t, mix, p.formats.compute), ops.cast(t, x, p.formats.compute)
        mixed = t.emit("mixed", [mix, x], x.elements, x.each, [mix, x])
        return ops.add(t, spread_out, mixed)

    def _projected(self, t: Tape, p: Profile, x: Var) -> Var:
        """A product of the normalised streams, in fp32 but under autocast."""
        wide = ops.cast(t, x, FP32)
        if wide is x:  # a view all the same, whose gradients are added up before x's others
            wide = t.emit("side by side", [x], x.elements, x.each, (), [Step("share")])
            wide.whole = x
        normed = Norm(0, affine=False).forward(t, revised(p, compute=FP32, weights=FP32), wide, p.degrees.stream)
        if not p.formats.autocast:  # a matrix that is narrow is cast, as autocast does to 16 bits
            p = revised(p, autocast=self.narrow, compute=FP32, weights=p.formats.weights if self.narrow else FP32)
        width = self.coefficients * p.degrees.stream
        return ops.linear(t, p, normed, Matrix("projection", width, self.coefficients * self.streams * self.hidden))

    def _affine(self, t: Tape, p: Profile, projected: Var, width: int) -> Var:
        """Some of the coefficients times a learned number, plus learned biases."""
        part = t.emit("part", [projected], Size(token=width * p.degrees.stream), projected.each, (), [Step("share")])
        part.whole = projected
        full = Step("temp", part.elements * FP32)
        scaled = t.emit("scaled", [part], part.elements, FP32, [part], [full, Step("input", part.bytes)])
        return t.emit("shifted", [scaled], scaled.elements, FP32, (), [Step("share")])

    def _one(self, t: Tape, p: Profile, projected: Var, width: int) -> Var:
        return ops.sigmoid(t, self._affine(t, p, projected, width))

    def _stochastic(self, t: Tape, mix: Var) -> Var:
        """Rows and columns are divided by their sums, in turns: each division keeps both."""
        mix = t.emit("plus epsilon", [mix], mix.elements, FP32, (), [Step("share")])
        for _ in range(2 * self.iterations - 1):
            total = t.emit("sum", [mix], mix.elements * (1 / self.streams), FP32, (), [Step("share")])
            full = Step("temp", mix.bytes)
            steps = [Step("input", mix.bytes), full, full, Step("input", total.bytes, 1)]
            mix = t.emit("divided", [mix, total], mix.elements, FP32, [mix, total], steps)
        return mix

    def _collapsed(self, t: Tape, p: Profile, x: Var, weights: Var) -> Var:
        weights = t.emit("plus epsilon", [weights], weights.elements, weights.each, (), [Step("share")])
        product = ops.weighted(t, x, weights)
        total = t.emit("collapsed", [product], x.elements * (1 / self.streams), product.each, (), [Step("share")])
        return ops.cast(t, total, x.each)


def _outer(t: Tape, weights: Var, y: Var, elements: Size, each: int) -> Var:
    """Every number times every vector of a token: both gradients are summed from full products, the second once
    the first has gone."""
    full = elements * each
    steps = [Step("temp", full), Step("temp", full - y.bytes), Step("input", weights.bytes), Step("input", y.bytes, 1)]
    return t.emit("spread", [weights, y], elements, each, [weights, y], steps)


@dataclass(frozen=True)
class Streams(Block, without=("constants", "cache", "state", "traits")):
    """As many copies of the embedding as there are streams."""

    streams: int
    averages: bool = False  # back into one, by their mean (GLM-5 Next), at the end of the model

    def weights(self) -> tuple[Weight, ...]:
        return ()

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the copies or the mean."""
        if self.averages:
            return t.emit("mean", [x], x.elements * (1 / self.streams), x.each, (), [Step("input", x.bytes)])
        return t.emit("streams", [x], x.elements * self.streams, x.each, (), [Step("input", x.bytes)])
