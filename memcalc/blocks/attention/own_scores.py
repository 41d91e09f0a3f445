"""Attention of encoders that write their scores out whatever kernel was asked for: what each adds to the product of queries and
keys is a row of OWN."""

from collections.abc import Callable

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, INT64, ZERO, Size, Step, Tape, Var, sum_of
from memcalc.blocks.attention.core import Core
from memcalc.blocks.attention.kernels import contiguous, multiply
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight
from memcalc.frozen import NamedTuple, dataclass

LAST = ", last"  # of a stack: the backward begins here, no gradient of what all layers share is on its way


def attend_own(t: Tape, p: Profile, core: Core, own: str, query: Var, key: Var, value: Var, named: Size = ZERO) -> Var:
    """The attention result, heads × head_dim a token. `named`: bytes of what Python's variables hold meanwhile beside these."""
    multiply(t, core, query)
    projected = (query, key, value)
    if p.formats.autocast:
        query, key, value = (ops.cast(t, x, p.formats.compute) for x in (query, key, value))
    row = OWN[own.removesuffix(LAST)]
    query, key = contiguous(t, ops.scale(t, query) if row.scales_query else query), contiguous(t, key)
    scores = t.emit("scores", [query, key], Size(pair=core.shape.heads), query.each, [query, key])
    scores = scores if row.scales_query else ops.scale(t, scores, "scores scaled")
    scores = row.scores(t, p, core, scores, last=own.endswith(LAST))
    probabilities = ops.softmax(t, scores, FP32 if p.formats.autocast else scores.each)
    probabilities = ops.dropout(t, p, probabilities, core.softmax.dropout)
    made = probabilities
    probabilities = ops.cast(t, probabilities, value.each)
    if row.held and made is not probabilities:
        t.returned.append(made)
    if row.returns and made is not probabilities:
        t.beside = t.beside + made.bytes  # those of the layer before, which the loop holds until this one returns its own
    value = contiguous(t, value)
    out = t.emit("mixed", [probabilities, value], Size(token=core.shape.output_size), value.each, [probabilities, value])
    out = t.emit("transposed", [out], out.elements, out.each)
    t.passing.append(t.saved_bytes() + unsaved(t, made, scores, *projected) + out.bytes * 2 + named)
    return out


def unsaved(t: Tape, *variables: Var) -> Size:
    """Bytes of what Python's variables hold until the output projection, though nothing saves it."""
    saved = set(t.saved())
    return sum_of(var.bytes for var in dict.fromkeys(var.whole or var for var in variables) if var not in saved)


def _masked(t: Tape, p: Profile, core: Core, scores: Var, *, last: bool) -> Var:
    """+ a mask, which is there without padding too (modeling_roformer.RoFormerSelfAttention)."""
    return t.emit("masked", [scores], scores.elements, scores.each, (), [Step("share")])


def _bucketed(t: Tape, p: Profile, core: Core, scores: Var, *, last: bool) -> Var:
    """+ a bias by distance and head, made once and as large as the scores, in place (modeling_mpnet.MPNetSelfAttention)."""
    bias = Var(scores.elements, p.formats.weights, p.method.trained, f"{t.path}/bias", outside=True)
    t.beside = t.beside + bias.bytes
    if bias.grad and not last:
        t.carried.append(bias)
    steps = [Step("share"), Step("share", source=1) if bias.each == scores.each else Step("input", bias.bytes, 1)]
    return _masked(t, p, core, t.emit("biased", [scores, bias], scores.elements, scores.each, (), steps), last=last)


def _alone(t: Tape, p: Profile, core: Core, scores: Var, *, last: bool) -> Var:
    """As they are: of text without padding there is no mask (modeling_prophetnet.ProphetNetAttention)."""
    return scores


class Own(NamedTuple):
    """How one modeling file makes probabilities."""

    scores: Callable[..., Var]  # from the product of query and key to what softmax takes
    held: bool = False  # a variable of the layer has the probabilities until it is through
    returns: bool = False  # and the layer returns them
    scales_query: bool = False  # queries are scaled, not scores


OWN = {
    "mask": Own(_masked, held=True, returns=True), "mask, to the layer's end": Own(_masked, held=True),
    "mask, kept to itself": Own(_masked), "buckets": Own(_bucketed), "scaled queries": Own(_alone, scales_query=True),
}  # fmt: skip


@dataclass(frozen=True)
class DistanceBias(Block, without=("constants", "cache", "state", "traits")):
    """A learned number for each bucket of distances and head, laid out for every pair and sequence (MPNet)."""

    buckets: int
    heads: int

    def weights(self) -> tuple[Weight, ...]:
        return (Weight("bias", "position", (self.buckets, self.heads)),)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record what all layers read; x passes by."""
        square = Size(pair=1 / p.batch.sequences)
        buckets = Var(square, INT64, False, f"{t.path}/buckets")
        steps = [Step("weight", Size(fixed=self.buckets * self.heads * p.formats.weights))]
        values = t.emit("bias", [], square * self.heads, p.formats.weights, [buckets], steps, trained=p.method.trained)
        values = t.emit("laid out", [values], Size(pair=self.heads), values.each, (), [Step("input", values.bytes)])
        if values.grad:
            t.carried.append(values)
        return x


@dataclass(frozen=True)
class Sines(Block, without=("constants", "cache", "state", "traits")):
    """Fixed sines and cosines in a parameter that is not trained (RoFormer)."""

    shape: tuple[int, int]

    def weights(self) -> tuple[Weight, ...]:
        return (Weight("positions", "position", self.shape, frozen=True),)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Looked up, which saves nothing; each layer lays them out anew. x passes by."""
        return x
