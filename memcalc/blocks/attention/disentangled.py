"""DeBERTa's attention: content and relative positions attend to each other, and scores are written out whatever kernel was
asked for (transformers modeling_deberta_v2.py and modeling_deberta.py, DisentangledSelfAttention).

Relative positions are rows of one table that all layers read, each through matrices of its own or those of its content.
"""

from dataclasses import field

from memcalc.autograd import operations as ops
from memcalc.autograd.elementary import WEIGHT_CAST
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import BYTE, FP32, INT64, Node, Size, Step, Tape, Var
from memcalc.blocks.attention.core import Core, HeadShape
from memcalc.blocks.attention.kernels import contiguous, multiply
from memcalc.blocks.attention.own_scores import unsaved
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Weight, linear
from memcalc.frozen import NamedTuple, dataclass

KEYS, QUERIES = "c2p", "p2c"  # positions as keys of content, as queries to it
NAMED = {KEYS: ("position_key", "k"), QUERIES: ("position_query", "q")}  # the matrix of its own, or content's


class Disentangled(NamedTuple):
    """What relative positions are to one attention."""

    rows: int = 0  # of the table; 0: there is none
    kinds: tuple[str, ...] = ()  # KEYS, QUERIES
    shared: bool = False  # content's matrices project them (DeBERTa v3)
    key_bias: bool = True  # of their own matrix as keys
    first: bool = False  # DeBERTa 1: no rows beyond the length, copies are those of four-dimensional products
    dropout: float = 0.0  # of the table, in each layer
    normed: bool = False  # what layers read is not the table itself but its norm's result
    last: int = 0  # of a stack of so many layers: the backward begins here, no gradient of the table is on its way

    def used(self, p: Profile) -> int:
        """Rows that are read."""
        return min(self.rows, 2 * p.batch.length) if self.first and p.batch.length else self.rows


@dataclass(frozen=True)
class DisentangledAttention(Attention, without=("state",)):
    """Attention that knows relative positions by projections of their own."""

    relative: Disentangled = field(default_factory=Disentangled)

    @property
    def traits(self) -> Traits:
        return super().traits._replace(uneven_scan=self.relative.first)

    def handed(self, p: Profile) -> Size:
        """A mask of pairs in fp32, their distances, and the table where a norm made what is read of it."""
        table = self.relative.rows * self.inputs * p.formats.residual if self.relative.normed else 0
        return Size(pair=FP32, fixed=table) + Size(pair=INT64 / p.batch.sequences if self.relative.rows else 0)

    def _extras(self) -> tuple[Weight, ...]:
        found = super()._extras()
        if self.relative.shared:
            return found
        biases = {KEYS: self.relative.key_bias, QUERIES: True}
        for kind in self.relative.kinds if self.relative.rows else ():
            found += linear(NAMED[kind][0], "attention", self.inputs, self.query_size, bias=biases[kind])
        return found

    def _project(self, t: Tape, p: Profile, shape: HeadShape, x: Var) -> tuple[Var, Var, Var]:
        """From the class's own matrices, which no kernels merge: positions read them too."""
        return super()._project(t, p._replace(kernels=p.kernels._replace(merged=False, fused_qkv=False)), shape, x)

    def _attend(self, t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var) -> Var:
        multiply(t, core, query)
        # the model lists every layer's result, of which autocast saves but casts
        listed = max(0, self.relative.last - 2) * self.hidden * p.degrees.stream * p.formats.residual
        t.beside = t.beside + self.handed(p) + Size(token=listed if p.formats.autocast else 0)
        made, kinds = self.relative, self.relative.kinds if self.relative.rows else ()
        if made.first:
            query, value = (_with_bias(t, p, x, self.query_size) for x in (query, value))
            query = ops.scale(t, query, "query scaled")
            used = contiguous(t, ops.cast(t, query, key.each)), contiguous(t, key)
        else:
            query, key, value = (contiguous(t, x) for x in (query, key, value))
            used = query, ops.scale(t, key, "key scaled")
        pairs, named = Size(pair=core.shape.heads), [query, key, value]
        scores = t.emit("scores", list(used), pairs, used[1].each, list(used))
        if kinds:
            table = self._table(t, p)
            bias = self._bias(t, p, core, {KEYS: query, QUERIES: key}, kinds, table, [scores, *named, table])
            named += [table, bias]
            scores = ops.add(t, scores, bias)
        unmasked = Var(Size(pair=1), BYTE, False, f"{t.path}/mask")
        masked = t.emit("masked", [scores], pairs, scores.each, [unmasked])
        probabilities = ops.softmax(t, masked, FP32 if p.formats.autocast else masked.each)
        dropped = ops.dropout(t, p, probabilities, core.softmax.dropout)
        mixing = ops.cast(t, dropped, used[1].each)
        value = contiguous(t, ops.cast(t, value, mixing.each)) if made.first else value
        out = t.emit("mixed", [mixing, value], Size(token=core.shape.output_size), value.each, [mixing, value])
        mask = unmasked.bytes  # and that of which it is the opposite
        t.passing.append(t.saved_bytes() + unsaved(t, *named, masked, dropped) + out.bytes * 2 + mask)
        return t.emit("transposed", [out], out.elements, out.each)

    def _table(self, t: Tape, p: Profile) -> Var:
        """The rows that are read, as this layer's dropout leaves them."""
        size = Size(fixed=self.relative.used(p) * self.inputs)
        table = Var(size, p.formats.residual, p.method.trained, f"{t.path}/relative", outside=True)
        if table.grad and not self.relative.last:
            t.carried.append(table)
        return ops.dropout(t, p, table, self.relative.dropout)

    def _bias(
        self, t: Tape, p: Profile, core: Core, content: dict[str, Var], kinds: tuple[str, ...], table: Var, named: list[Var]
    ) -> Var:
        """What positions add to the scores: products with content, of which each pair picks the row of its distance. `named`:
        what Python's variables hold meanwhile."""
        made, rows, heads = self.relative, self.relative.used(p), core.shape.heads
        projected = [(kind, self._projected(t, p, kind, table, rows, core.shape.query_size)) for kind in kinds]
        total: Var | None = None
        for kind, positions in projected:
            mine = contiguous(t, ops.cast(t, content[kind], positions.each)) if made.first else content[kind]
            width = Size(token=heads * rows)
            flops = Size(token=2 * core.shape.query_size * rows)
            t.multiply(f"{kind} scores", flops, mine.grad + positions.grad)
            product = t.emit(f"{kind} scores", [mine, positions], width, mine.each, [mine, positions])
            places = Var(Size(pair=1 / p.batch.sequences), INT64, False, f"{t.path}/{kind} places")
            picked = t.emit(f"{kind} picked", [product], Size(pair=heads), product.each, [product, places])
            named = [*named, picked]
            picked = picked if made.first and total else ops.scale(t, picked, f"{kind} scaled")
            named = [*named, picked]
            t.passing.append(t.saved_bytes() + unsaved(t, *named))
            if total is None:  # 0 + it
                total = t.emit("position scores", [picked], picked.elements, picked.each, (), [Step("share")])
            else:  # in place
                total = t.emit("position scores", [total, picked], picked.elements, picked.each, (),
                               [Step("share"), Step("share", source=1)])  # fmt: skip
        assert total is not None
        return total

    def _projected(self, t: Tape, p: Profile, kind: str, table: Var, rows: int, width: int) -> Var:
        """Positions through their matrix, and a copy of the result for every sequence."""
        own, contents = NAMED[kind]
        name, weight = contents if self.relative.shared else own, self.inputs * width
        trained, learns = p.method.trained, p.method.trained or p.adapters.on(contents if self.relative.shared else own)
        t.multiply(f"{own} of positions", Size(fixed=2 * rows * weight), trained * (1 + table.grad))
        inputs = [ops.cast(t, table, p.formats.compute) if p.formats.autocast else table]
        saves: list[Var] = list(inputs) if learns else []
        steps: list[Step] = []
        if trained:
            steps, copies = self._weight_gradient(t, p, name, weight)
            inputs, saves = inputs + copies, saves + copies
        steps.append(Step("input", inputs[0].bytes))
        out = t.emit(own, inputs, Size(fixed=rows * width), p.formats.product, saves, steps, trained=learns)
        out = contiguous(t, out) if not self.relative.first else out
        return t.emit("repeated", [out], out.elements * p.batch.sequences, out.each, (), [Step("input", out.bytes)])

    def _weight_gradient(self, t: Tape, p: Profile, name: str, weight: int) -> tuple[list[Step], list[Var]]:
        """Of a matrix of its own; of content's it is there first, and content adds its own to it."""
        size, casts = Size(fixed=weight), p.formats.autocast and p.formats.weights != p.formats.compute
        if not self.relative.shared:
            if not casts:
                return [Step("weight", size * p.formats.weights)], []
            step = Step("weight", size * p.formats.weights)
            copy = t.emit(f"{name}{WEIGHT_CAST}", [], size, p.formats.compute, (), [step], trained=True)
            return [Step("input", copy.bytes, 1)], [copy]
        if casts:  # autocast casts a weight once for all that read it
            copy = next(
                node.out for node in t.nodes if node.name == f"{name}{WEIGHT_CAST}" and node.out.label.startswith(t.path)
            )
            return [Step("input", copy.bytes, 1)], [copy]
        node: Node = next(node for node in t.nodes if node.name == name and node.out.label.startswith(t.path))
        whole = size * p.formats.weights
        node.steps = tuple(
            added for step in node.steps for added in ((Step("temp", whole),) * 2 if step == Step("weight", whole) else (step,))
        )
        return [Step("weight", whole)], []


def _with_bias(t: Tape, p: Profile, x: Var, size: int) -> Var:
    """x + b: b's gradient is a sum of the one that arrives."""
    steps = [Step("weight", Size(fixed=size * p.formats.weights))] if p.method.trained else []
    steps.append(Step("share") if x.each >= p.formats.weights else Step("input", x.bytes))
    return t.emit("with bias", [x], x.elements, max(x.each, p.formats.weights), (), steps, trained=p.method.trained)


@dataclass(frozen=True)
class RelativeTable(Block, without=("constants", "cache", "state", "traits")):
    """The table [rows, hidden] of relative positions that all layers read, and its norm where there is one."""

    rows: int
    hidden: int
    norm: bool = False
    dropped: bool = True  # each layer reads a copy that a dropout made

    def weights(self) -> tuple[Weight, ...]:
        table = Weight("positions", "position", (self.rows, self.hidden))
        scale, shift = (Weight(f"norm.{name}", "norm", (self.hidden,)) for name in ("scale", "shift"))
        return (table, scale, shift) if self.norm else (table,)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record what all layers read; x passes by."""
        size = Size(fixed=self.rows * self.hidden)
        if not p.method.trained:
            return x
        table = t.emit("positions", [], size, p.formats.weights, (), [Step("weight", size * p.formats.weights)], trained=True)
        if self.norm:
            statistics = [Var(Size(fixed=self.rows), FP32, False, f"{t.path}/statistic {i}") for i in range(2)]
            learned = [Step("weight", Size(fixed=self.hidden * p.formats.weights))] * 2
            table.whole = Var(Size(), FP32, False, f"{t.path}/parameter")  # saving it keeps nothing that is not there
            normed = t.emit("norm", [table], size, p.formats.residual, statistics, [*learned, Step("input", table.bytes)])
            if not self.dropped:
                t.nodes[-1].saves = (*t.nodes[-1].saves, normed)
            table = normed
        t.carried.append(table)
        return x
