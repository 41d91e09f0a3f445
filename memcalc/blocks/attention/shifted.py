"""XLNet's attention: content and position scores of one query with a bias of its own for each, the position scores shifted by
one column a row (transformers modeling_xlnet.py, XLNetRelativeAttention; Dai et al. 2019, appendix B).

Sequences come first in memory. Positions are sines of twice as many distances as there are tokens, for every sequence.
"""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.blocks.attention.core import Core
from memcalc.blocks.attention.kernels import multiply
from memcalc.blocks.attention.own_scores import unsaved
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight, linear
from memcalc.frozen import dataclass

DISTANCES = 2  # for each token
KEYS = "positions"


@dataclass(frozen=True)
class ShiftedAttention(Attention, without=("state",)):
    """Attention with relative positions by shifted scores. Segments' numbers are stored; one segment does not meet them."""

    def _extras(self) -> tuple[Weight, ...]:
        heads, size = self.heads, self.head_dim
        return (
            *super()._extras(),
            *linear(KEYS, "attention", self.inputs, self.key_size),
            *(Weight(f"{name}_bias", "attention", (heads, size)) for name in ("content", "position")),
            Weight("segment_bias", "attention", (heads, size), frozen=True),
            Weight("segments", "attention", (2, heads, size), frozen=True),
        )

    def _attend(self, t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var) -> Var:
        heads = core.shape.heads
        multiply(t, core, query)
        t.multiply("position scores", Size(pair=2 * DISTANCES * core.shape.query_size), query.grad + key.grad)
        sines = positions(p, self.inputs)
        if p.formats.compute != FP32:
            t.beside = t.beside + sines.bytes
            sines = sines if p.formats.autocast else ops.cast(t, sines, p.formats.compute)
        width = DISTANCES * core.shape.key_size
        distances = ops.linear(t, p, sines, Matrix(KEYS, width, self.inputs * core.shape.key_size, used=DISTANCES))
        if p.method.trained:  # what needs no gradient needs no matrix in its backward
            node = t.nodes[-1]
            node.saves = tuple(var for var in node.saves if not var.label.endswith(ops.WEIGHT_CAST))
        pairs = Size(pair=heads)
        content = self._scores(t, p, query, key, pairs, "content")
        shifted = self._scores(t, p, query, distances, pairs * DISTANCES, "position")
        shifted = t.emit("rows cut", [shifted], shifted.elements, shifted.each)
        shifted = t.emit("shifted", [shifted], pairs, shifted.each, (), [Step("input", shifted.bytes)])
        scores = ops.add(t, content, shifted)
        scores = t.emit("plus segments", [scores], pairs, scores.each, (), [Step("share")])
        scores = ops.scale(t, scores, "scores scaled")
        probabilities = ops.softmax(t, scores, FP32 if p.formats.autocast else scores.each)
        dropped = ops.dropout(t, p, probabilities, core.softmax.dropout)
        mixing = ops.cast(t, dropped, value.each)
        out = t.emit("mixed", [mixing, value], Size(token=core.shape.output_size), value.each, [mixing, value])
        t.passing.append(t.saved_bytes() + unsaved(t, query, content, shifted, scores, dropped) + out.bytes)
        mixed = t.emit("transposed", [out], out.elements, out.each)
        if p.method.trained and not p.formats.autocast:  # the output matrix, laid out anew
            copy = Size(fixed=core.shape.output_size * self.hidden)
            t.nodes[-1].saves = (Var(copy, p.formats.weights, False, f"{t.path}/output laid out"),)
        return mixed

    def _scores(self, t: Tape, p: Profile, query: Var, key: Var, pairs: Size, name: str) -> Var:
        """(query + bias) · key."""
        steps = [Step("weight", Size(fixed=self.query_size * p.formats.weights))] if p.method.trained else []
        each = max(query.each, p.formats.weights)
        steps.append(Step("share") if query.each == each else Step("input", query.bytes))
        query = t.emit(f"{name} query", [query], query.elements, each, (), steps, trained=p.method.trained)
        query = ops.cast(t, query, key.each)
        return t.emit(f"{name} scores", [query, key], pairs, key.each, [query, key])


def positions(p: Profile, hidden: int) -> Var:
    """Sines of all distances for each sequence, in fp32."""
    return Var(Size(token=DISTANCES * hidden), FP32, False, "sines", outside=True)


@dataclass(frozen=True)
class Distances(Block, without=("weights", "constants", "cache", "state", "traits")):
    """The sines that all layers read: kept once where none of them casts them."""

    hidden: int

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """x passes by."""
        if p.formats.compute == FP32 and p.method.trained and t.nodes:
            kept = positions(p, self.hidden)
            kept.outside = False
            t.nodes[-1].saves = (*t.nodes[-1].saves, kept)
        return x
