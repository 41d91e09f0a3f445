"""ProphetNet's decoder: beside the tokens' stream one for each token ahead that is predicted (Qi et al. 2020; transformers
modeling_prophetnet.py). All streams pass the same matrices; those ahead read the tokens' keys and their own.

Scores are written out, in fp32 where they become probabilities, and so is a bias for every pair: a projection of the input says
it for each bucket of distances.
"""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, INT64, Size, Step, Tape, Var
from memcalc.blocks.attention.kernels import contiguous
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight, linear
from memcalc.blocks.mixers import operations as mixer
from memcalc.blocks.mlp import MLP
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass

INT32 = 4


def of_streams(t: Tape, p: Profile, x: Var, name: str, width: float, inputs: float, streams: float) -> Var:
    """A matrix with a bias over all streams."""
    if p.degrees.tp > 1 or p.adapters.layers:
        raise Unsupported("streams that predict ahead (ProphetNet) with adapters or divided over ranks are not modelled")
    return ops.linear(t, p, x, Matrix(name, width * streams, inputs * width, bias=width, used=streams))


def feed_forward(t: Tape, p: Profile, mlp: MLP, x: Var, streams: int) -> Var:
    """A layer's feed-forward over all streams."""
    up = of_streams(t, p, x, "up", mlp.intermediate, mlp.hidden, streams)
    acted = ops.dropout(t, p, ops.activation(t, p, up, mlp.activation), mlp.inner_dropout)
    return ops.dropout(t, p, of_streams(t, p, acted, "down", mlp.hidden, mlp.intermediate, streams), mlp.dropout)


@dataclass(frozen=True)
class StreamsCross(Attention, without=("state",)):
    """All streams read the encoder's tokens."""

    ahead: int = 2

    wired = True

    @property
    def streams(self) -> int:  # type: ignore[override]
        return 1 + self.ahead

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        size, longer, source = self.query_size, p.batch.source, t.source or x
        query = ops.scale(t, of_streams(t, p, x, "q", size, self.inputs, self.streams))
        key, value = (of_streams(t, p, source, name, size, self.inputs, longer) for name in "kv")
        query, key = _product_type(t, p, query), _product_type(t, p, key)
        pairs = self.heads * self.streams * longer
        mixed = self._mixed(t, p, contiguous(t, query), contiguous(t, key), contiguous(t, _product_type(t, p, value)), pairs)
        return ops.dropout(t, p, of_streams(t, p, mixed, "output", self.outputs, size, self.streams), self.output_dropout)

    def _mixed(
        self, t: Tape, p: Profile, query: Var, key: Var, value: Var, pairs: float, bias: Var | None = None, mask: int = 0
    ) -> Var:  # fmt: skip
        """What queries read, of so many pairs; with a bias beside a mask of so many bytes each, and probabilities in fp32."""
        work = Size(pair=2 * pairs * self.head_dim)
        t.multiply("attention", work + work, 2)
        scores = t.emit("scores", [query, key], Size(pair=pairs), query.each, [query, key])
        if bias:
            scores = ops.add(t, scores, bias)
            mine = Step("share") if scores.each >= mask else Step("input", scores.bytes)
            scores = t.emit("masked", [scores], scores.elements, max(scores.each, mask), (), [mine])
        probabilities = ops.softmax(t, scores, FP32 if bias or p.formats.autocast else scores.each)
        probabilities = ops.cast(t, probabilities, scores.each) if bias else probabilities
        probabilities = ops.dropout(t, p, probabilities, self.softmax.dropout)
        t.returned += [probabilities] if bias else []
        probabilities = ops.cast(t, probabilities, value.each)
        mixed = t.emit("mixed", [probabilities, value], query.elements, value.each, [probabilities, value])
        return t.emit("transposed", [mixed], mixed.elements, mixed.each)


@dataclass(frozen=True)
class StreamsAttention(StreamsCross, without=("state",)):
    """The tokens' stream reads itself; those ahead read it too, each beside itself."""

    buckets: int = 32

    def _extras(self) -> tuple[Weight, ...]:
        return (*super()._extras(), *linear("distances", "attention", self.inputs, self.buckets * self.heads, bias=True))

    def handed(self, p: Profile) -> Size:
        """Masks of both kinds, and buckets of distances of every sequence."""
        kinds = 1 + 2 * self.ahead
        return Size(pair=p.formats.residual * kinds / p.batch.sequences + 3 * INT32)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        size, n = self.query_size, self.ahead
        # the decoder's variables: masks, embeddings of tokens, of two tables of positions, and of each stream ahead
        t.beside = t.beside + self.handed(p) + Size(token=self.inputs * (3 + n) * p.formats.weights)
        made = {name: of_streams(t, p, x, name, size, self.inputs, self.streams) for name in "qkv"}
        made["q"] = ops.scale(t, made["q"])
        query, key, value = (contiguous(t, y) for y in made.values())
        one, rest = Size(token=size), Size(token=size * n)
        parts = [(mixer.view(t, y, one), mixer.view(t, y, rest)) for y in (query, key, value)]
        (query, queries), (key, keys), (value, values) = parts
        tokens, ahead = (mixer.view(t, x, Size(token=self.inputs * count)) for count in (1, n))
        cast = [_product_type(t, p, y) for y in (query, key, value)]
        bias = self._distances(t, p, tokens, 1, self.heads, "weight")
        main = self._mixed(t, p, cast[0], cast[1], cast[2], self.heads, bias, p.formats.residual)
        main = of_streams(t, p, main, "output", self.outputs, size, 1)
        queries = mixer.copied(t, queries)
        keys = mixer.copied(t, mixer.joined(t, *[key] * n, keys))
        ahead = mixer.copied(t, ahead)
        values = mixer.joined(t, mixer.joined(t, *[value] * n, values))
        pairs = 2 * n * self.heads
        queries, keys = _product_type(t, p, queries), _product_type(t, p, keys)
        bias = self._distances(t, p, ahead, n, pairs, "temp")
        seen = self._mixed(t, p, queries, keys, contiguous(t, _product_type(t, p, values)), pairs, bias)
        since = len(t.nodes)
        seen = of_streams(t, p, seen, "output", self.outputs, size, n)
        _second(t, since)
        return ops.dropout(t, p, mixer.joined(t, main, seen), self.output_dropout)

    def _distances(self, t: Tape, p: Profile, x: Var, streams: int, pairs: int, kind: str) -> Var:
        """A number for each pair, gathered from those of buckets. The projection is read twice."""
        since = len(t.nodes)
        made = of_streams(t, p, contiguous(t, x), "distances", self.buckets * self.heads, self.inputs, streams)
        if kind == "temp":
            _second(t, since)
        made = contiguous(t, made)
        index = Var(Size(pair=pairs), INT64, False, f"{t.path}/buckets")
        return t.emit("by distance", [made], Size(pair=pairs), made.each, [index, made])


def _product_type(t: Tape, p: Profile, x: Var) -> Var:
    """As einsum takes it under autocast."""
    return ops.cast(t, x, p.formats.compute) if p.formats.autocast else x


def _second(t: Tape, since: int) -> None:
    """A matrix is read again: its first gradient is there once, here, and is added to. Autocast has cast it already."""
    for node in t.nodes[since:]:
        if node.name.endswith(ops.WEIGHT_CAST):
            node.out.outside = True
    for node in t.nodes[since:]:
        node.saves = tuple(var for var in node.saves if not var.outside)


@dataclass(frozen=True)
class StreamsAhead(Block, without=("constants", "cache", "state", "traits")):
    """Embeddings of tokens, then for each token ahead its own embedding plus those of the positions after."""

    ahead: int
    hidden: int
    positions: int
    dropout: float = 0.0

    def weights(self) -> tuple[Weight, ...]:
        return (Weight("tokens", "other", (self.ahead, self.hidden)),)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        trained, each = p.method.trained, p.formats.weights
        ids, one = Var(Size(token=1), INT64, False, f"{t.path}/position ids"), Size(token=self.hidden)
        second = [Step("temp", Size(fixed=self.positions * self.hidden * each))]
        looked = t.emit("positions after", [ids], one, each, [ids], second, trained=trained)
        learned = [Step("share"), Step("temp", Size(fixed=self.hidden * each))]
        made = [t.emit("ahead", [looked], one, each, (), learned, trained=trained) for _ in range(self.ahead)]
        return ops.dropout(t, p, mixer.joined(t, x, *made), self.dropout)


@dataclass(frozen=True)
class HeadAhead(Head, without=("constants", "cache", "state", "traits")):
    """Predicts from the streams ahead alone."""

    ahead: int = 2

    @property
    def streams(self) -> int:  # type: ignore[override]
        return 1 + self.ahead

    def loss(self, t: Tape, p: Profile, x: Var) -> Size:
        """One loss over all tokens ahead, their logits laid out by stream (ProphetNetForConditionalGeneration)."""
        if p.loss not in ("full", "upcast") or p.degrees.tp > 1:
            raise Unsupported("losses of several tokens ahead (ProphetNet) other than the library's own are not modelled")
        width, n = self.vocabulary, self.ahead
        picked = t.emit("streams ahead", [x], Size(token=self.size * n), x.each)
        matrix = Matrix("logits", width * n, self.size * width, used=n, trained=self._trained(p))
        logits = ops.linear(t, p, picked, matrix)
        t.path = "loss"
        t.result = logits
        laid_out = mixer.copied(t, logits)
        wide = ops.cast(t, laid_out, FP32)
        log_softmax = t.emit("log-softmax", [wide], wide.elements, FP32)
        if log_softmax.grad:
            t.nodes[-1].saves = (log_softmax,)
        labels = Var(Size(token=1 + n), INT64, False, f"{t.path}/labels")
        t.emit("loss", [log_softmax], Size(fixed=1), FP32, [log_softmax, labels], [Step("input", log_softmax.bytes)])
        held = laid_out.bytes if wide is not laid_out else Size()
        return held + wide.bytes + logits.bytes * (1 + 1 / n)
