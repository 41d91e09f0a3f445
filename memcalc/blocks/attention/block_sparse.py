"""BigBird's attention: each block of queries reads its neighbours, the first and the last block and a few at random; the first
and the last block read everything (Zaheer et al. 2020; transformers modeling_big_bird.py, BigBirdBlockSparseAttention).

Sequences that are hardly longer than what a block reads get full attention. The library lays the probabilities out for every
pair afterwards, whoever asks for them.
"""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Node, Size, Step, Tape, Var
from memcalc.blocks.attention.core import Core
from memcalc.blocks.attention.kernels import contiguous
from memcalc.blocks.attention.own_scores import attend_own, unsaved
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Traits
from memcalc.errors import Unsupported
from memcalc.frozen import NamedTuple, dataclass

BAND, ENDS = 3, 2  # blocks around a block's own; first and last


class Lengths(NamedTuple):
    """Sizes of parts of all sequences, cut into blocks."""

    block: int
    sequences: int

    def all_but(self, blocks: int, each: float) -> Size:
        """`each` for every token but those of so many blocks."""
        return Size(token=each, fixed=-each * blocks * self.block * self.sequences)

    def one(self, each: float) -> Size:
        """`each` for every token of one block."""
        return Size(fixed=each * self.block * self.sequences)


@dataclass(frozen=True)
class BlockSparseAttention(Attention, without=("state",)):
    """Attention of blocks of queries."""

    block: int = 64
    random: int = 3  # blocks that each block reads beside its neighbours and the ends
    mask_itemsize: int = FP32  # of its masks, whole numbers where they are wider (BigBird-Pegasus)

    @property
    def traits(self) -> Traits:
        return super().traits._replace(uneven_scan=True)

    def _full(self, p: Profile) -> bool:
        """Whether sequences are too short to leave anything out."""
        return p.batch.length <= (BAND + ENDS + 2 * self.random) * self.block

    def handed(self, p: Profile) -> Size:
        """A mask of tokens in fp32, or one of the bands."""
        if self._full(p):
            return Size(token=self.mask_itemsize)
        return Lengths(self.block, p.batch.sequences).all_but(4, BAND * self.block * self.mask_itemsize)

    def _attend(self, t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var) -> Var:
        t.beside = t.beside + self.handed(p)
        if self._full(p):
            return attend_own(t, p, core, "mask, to the layer's end", query, key, value)
        if p.degrees.tp > 1 or p.degrees.cp > 1:
            raise Unsupported("block-sparse attention divided over ranks is not modelled")
        of = Lengths(self.block, p.batch.sequences)
        sparse = _Sparse(t, p, core, self.block, self.random, self.mask_itemsize, of, [query])
        return sparse.attend(query, key, value)


class _Sparse(NamedTuple):
    """One recording of it."""

    t: Tape
    p: Profile
    core: Core
    block: int
    random: int
    mask_itemsize: int
    of: Lengths
    named: list[Var]  # what Python's variables hold to the end, saved or not

    def attend(self, query: Var, key: Var, value: Var) -> Var:
        t, size = self.t, self.core.shape.query_size
        read = (BAND + ENDS + self.random) * self.block
        self._multiply(2 * size * (2 * read + 2 * ENDS * self.block), query)
        chosen = self.of.all_but(2, self.random * size)
        keys, values = (t.emit("gathered", [x], chosen, x.each, [x]) for x in (key, value))
        contexts = [self._end(query, key, value), self._next(query, key, value, keys, values)]
        middle = self._middle(query, key, value, keys, values)
        contexts += [middle, self._next(query, key, value, keys, values), self._end(query, key, value)]
        steps = [Step("share", source=i) for i in range(len(contexts))]
        joined = t.emit("joined", contexts, Size(token=size), middle.each, (), steps)
        wide = 0 if self.mask_itemsize > FP32 else self.p.formats.residual
        masked = t.emit("masked", [joined], joined.elements, max(joined.each, wide))
        pairs = self.core.shape.heads * self.block * self.mask_itemsize
        masks = self.of.all_but(2, self.random * pairs) + self.of.one(2 * (BAND + 1 + self.random) * pairs)
        whole = Var(Size(pair=self.core.shape.heads), masked.each, False, f"{t.path}/probabilities of all pairs")
        t.passing.append(t.saved_bytes() + unsaved(t, keys, values, *self.named, *contexts, masked) + masks + whole.bytes)
        t.nodes.append(Node("laid out", whole, (masked,), (), ()))
        t.returned.append(whole)
        return t.emit("transposed", [masked], masked.elements, masked.each)

    def _multiply(self, forward: float, query: Var) -> None:
        size = Size(token=forward)
        self.t.multiply("attention", size, 2.0 if query.grad else 0.0)

    def _softmax(self, scores: Var, each: int) -> Var:
        """Probabilities as the next product reads them."""
        scores = ops.scale(self.t, scores, "scores scaled")
        probabilities = ops.softmax(self.t, scores, FP32 if self.p.formats.autocast else scores.each)
        self.named.extend((scores, probabilities))
        return ops.cast(self.t, probabilities, each)

    def _product(self, name: str, a: Var, b: Var, size: Size) -> Var:
        return self.t.emit(name, [a, b], size, a.each, [a, b])

    def _block_of(self, x: Var) -> Var:
        """One block of queries, keys or values, laid out anew."""
        return self.t.emit("block", [x], self.of.one(self.core.shape.query_size), x.each)

    def _end(self, query: Var, key: Var, value: Var) -> Var:
        """A block that reads everything."""
        size = Size(token=self.core.shape.heads * self.block)
        scores = self._product("scores", self._block_of(query), contiguous(self.t, key), size)
        weights = self._softmax(scores, value.each)
        return self._product("mixed", weights, contiguous(self.t, value), self.of.one(self.core.shape.query_size))

    def _next(self, query: Var, key: Var, value: Var, keys: Var, values: Var) -> Var:
        """The second block, or the last but one: four others and those at random."""
        shape, count = self.core.shape, BAND + 1 + self.random
        joined = []
        for x, chosen in ((key, keys), (value, values)):
            joined.append(self.t.emit("joined", [x, chosen], self.of.one(count * shape.query_size), x.each))
        scores = self._product("scores", self._block_of(query), joined[0], self.of.one(shape.heads * count * self.block))
        return self._product("mixed", self._softmax(scores, value.each), joined[1], self.of.one(shape.query_size))

    def _middle(self, query: Var, key: Var, value: Var, keys: Var, values: Var) -> Var:
        """All other blocks at once."""
        t, shape, of = self.t, self.core.shape, self.of
        size, pairs = shape.query_size, shape.heads * self.block
        widths = {"band": BAND, "random": self.random, "first": 1, "last": 1}

        def read(x: Var, chosen: Var) -> dict[str, Var]:
            band = t.emit("band", [x], of.all_but(4, BAND * size), x.each)
            picked = t.emit("middle", [chosen], of.all_but(4, self.random * size), x.each)
            return {"band": band, "random": picked, "first": self._block_of(x), "last": self._block_of(x)}

        products = []
        for name, x in read(key, keys).items():
            mine = t.emit("middle", [query], of.all_but(4, size), query.each)
            product = self._product(f"{name} scores", mine, x, of.all_but(4, widths[name] * pairs))
            products.append(ops.scale(t, product, "scores scaled"))
        total = of.all_but(4, sum(widths.values()) * pairs)
        steps = [Step("share", source=i) for i in range(len(products))]
        scores = t.emit("joined", products, total, query.each, (), steps)
        weights = ops.softmax(t, scores, FP32 if self.p.formats.autocast else scores.each)
        out: Var | None = None
        for name, x in read(value, values).items():
            part = t.emit("part", [weights], of.all_but(4, widths[name] * pairs), weights.each)
            part.whole = weights
            mixed = self._product("mixed", ops.cast(t, part, value.each), x, of.all_but(4, size))
            if out is None:
                out = mixed
                continue
            out = t.emit("sum", [out, mixed], mixed.elements, mixed.each, (), [Step("share"), Step("share", source=1)])
        assert out is not None
        self.named.extend((*products, scores))
        return out
