"""PEGASUS-X's encoder layer: tokens read their block and a few global tokens, these read everything, and all pass the same
matrices (Phang et al. 2022; transformers modeling_pegasus_x.py). In every second layer blocks are staggered, which pads each
sequence by one block. Scores are written out.
"""

from memcalc.autograd import operations as ops
from memcalc.autograd.elementary import WEIGHT_CAST
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, INT64, Size, Step, Tape, Var
from memcalc.blocks.attention.kernels import contiguous
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.errors import Unsupported
from memcalc.frozen import NamedTuple, dataclass


class Rows(NamedTuple):
    """Tokens that a product is of: all of the sequences, so many more, or the global ones alone."""

    token: float
    fixed: float

    def of(self, each: float) -> Size:
        return Size(token=self.token * each, fixed=self.fixed * each)


@dataclass(frozen=True)
class GlobalLocalAttention(Attention, without=("state",)):
    """Attention of tokens in blocks beside global tokens. Its layer has a wiring of its own."""

    block: int = 512
    tokens: int = 32  # global ones
    staggered: bool = False
    last: bool = False  # of a stack: nothing reads the global tokens that it returns

    wired = True

    def rows(self, p: Profile) -> tuple[Rows, Rows]:
        """Tokens as the layer pads them, and global tokens."""
        pad = self.block * self.staggered
        return Rows(1.0, pad * p.batch.sequences), Rows(0.0, self.tokens * p.batch.sequences)

    def both(self, t: Tape, p: Profile, x: Var, g: Var) -> tuple[Var, Var]:
        """What tokens and global tokens read."""
        if p.degrees.tp > 1 or p.adapters.layers:
            raise Unsupported("attention to global tokens with adapters or divided over ranks is not modelled")
        local, few = self.rows(p)
        size, heads, block, tokens = self.query_size, self.heads, self.block, self.tokens
        alone = self.last  # nothing refers to what global tokens would make: the library makes it, and drops it with its graph
        q, k, v = (self._projected(t, p, name, x, local, first=alone and name == "q") for name in ("q", "k", "v"))
        few_of = {name: self._projected(t, p, name, g, few, first=True) for name in ("q", "k", "v") if name != "q" or not alone}
        gk, gv = few_of["k"], few_of["v"]
        t.multiply("attention", local.of(4 * size * (block + 2 * tokens)), 2.0)
        glob = g
        if not alone:
            both = Rows(1.0, local.fixed + few.fixed)
            keys, values = (t.emit("joined", [a, b], both.of(size), a.each) for a, b in ((gk, k), (gv, v)))
            weights = self._probabilities(t, p, [self._scores(t, few_of["q"], keys, both.of(heads * tokens))])
            glob = self._mixed(t, weights, values, few.of(size))
        scores = [self._scores(t, q, gk, local.of(heads * tokens)), self._scores(t, q, k, local.of(heads * block))]
        weights = self._probabilities(t, p, scores)
        parts = []
        for width, y in ((tokens, gv), (block, v)):
            part = t.emit("part", [weights], local.of(heads * width), weights.each)
            part.whole = weights
            parts.append(self._mixed(t, ops.cast(t, part, y.each), y, local.of(size)))
        out = ops.add(t, *parts)
        if not alone:
            glob = shared_product(t, p, "output", contiguous(t, glob), few, size, self.hidden, first=False)
        out = shared_product(t, p, "output", contiguous(t, out), local, size, self.hidden, first=True)
        return out, glob

    def _projected(self, t: Tape, p: Profile, name: str, x: Var, rows: Rows, *, first: bool) -> Var:
        out = shared_product(t, p, name, x, rows, self.hidden, self.query_size, first=first)
        return contiguous(t, ops.scale(t, out) if name == "q" else out)

    @staticmethod
    def _scores(t: Tape, query: Var, key: Var, size: Size) -> Var:
        return t.emit("scores", [query, key], size, query.each, [query, key])

    @staticmethod
    def _mixed(t: Tape, weights: Var, value: Var, size: Size) -> Var:
        weights = ops.cast(t, weights, value.each)
        return t.emit("mixed", [weights, value], size, value.each, [weights, value])

    def _probabilities(self, t: Tape, p: Profile, scores: list[Var]) -> Var:
        """Of all scores of a query side by side, under a mask of the residual stream's type."""
        joined = scores[0]
        if len(scores) > 1:
            steps = [Step("share", source=i) for i in range(len(scores))]
            size = Size()
            for part in scores:
                size = size + part.elements
            joined = t.emit("joined", scores, size, joined.each, (), steps)
        each = max(joined.each, p.formats.residual)
        step = Step("share") if joined.each == each else Step("input", joined.bytes)
        masked = t.emit("masked", [joined], joined.elements, each, (), [step])
        return ops.dropout(t, p, ops.softmax(t, masked, each), self.softmax.dropout)


def shared_product(
    t: Tape, p: Profile, name: str, x: Var, rows: Rows, width: int, outputs: int, *, bias: bool = False, first: bool
) -> Var:
    """A product with a matrix that another product of the layer reads too. `first`: of the two in the backward, so that the
    other adds its gradient to this one's."""
    weight, trained, casts = width * outputs, p.method.trained, p.formats.autocast and p.formats.weights != p.formats.compute
    whole = Size(fixed=weight * p.formats.weights)
    used = ops.cast(t, x, p.formats.compute) if p.formats.autocast else x
    t.multiply(name, rows.of(2 * weight), 1 + trained)
    inputs, steps = [used], [Step("weight", Size(fixed=outputs * p.formats.weights))] if bias and trained else []
    if casts and trained:
        label = f"{t.path}/{name}{WEIGHT_CAST}"
        copy = next((node.out for node in t.nodes if node.out.label == label), None)
        copy = copy or t.emit(
            f"{name}{WEIGHT_CAST}", [], Size(fixed=weight), p.formats.compute, (), [Step("weight", whole)], trained=True
        )
        inputs, steps = [used, copy], [*steps, Step("input", copy.bytes, 1)]
    elif trained:
        steps += [Step("weight", whole)] if first else [Step("temp", whole), Step("temp", whole)]
    steps.append(Step("input", used.bytes))
    return t.emit(name, inputs, rows.of(outputs), p.formats.product, inputs if trained else [], steps, trained=trained)


def normed(t: Tape, p: Profile, norm: Norm, x: Var, *, shared: bool) -> Var:
    """A LayerNorm of global tokens; `shared`: its gradients are there first, for tokens pass it too."""
    x = ops.cast(t, x, FP32) if p.formats.autocast else x
    learned = [Step("weight" if not shared else "temp", Size(fixed=norm.size * p.formats.norms))] * 2
    statistics = [Var(x.elements * (1 / norm.size), FP32, False, f"{t.path}/statistic {i}") for i in range(2)]
    return t.emit("norm", [x], x.elements, x.each, [x, *statistics], [Step("input", x.bytes), *learned], trained=True)


def feed_forward(t: Tape, p: Profile, mlp: MLP, x: Var, rows: Rows, *, first: bool) -> Var:
    """The layer's feed-forward over tokens or global tokens."""
    up = shared_product(t, p, "up", x, rows, mlp.hidden, mlp.intermediate, bias=True, first=first)
    acted = ops.dropout(t, p, ops.activation(t, p, up, mlp.activation), mlp.inner_dropout)
    down = shared_product(t, p, "down", acted, rows, mlp.intermediate, mlp.hidden, bias=True, first=first)
    return ops.dropout(t, p, down, mlp.dropout)


@dataclass(frozen=True)
class GlobalTokens(Block, without=("constants", "cache", "state", "traits")):
    """The table of global tokens, looked up for every sequence."""

    tokens: int
    hidden: int

    def weights(self) -> tuple[Weight, ...]:
        return (Weight("tokens", "other", (self.tokens, self.hidden)),)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record what the first layer reads; x passes by."""
        size, each = self.tokens * self.hidden, p.formats.weights
        ids = Var(Size(fixed=self.tokens * p.batch.sequences), INT64, False, f"{t.path}/ids")
        looked = t.emit("tokens", [ids], Size(fixed=size * p.batch.sequences), each, [ids],
                        [Step("weight", Size(fixed=size * each))], trained=p.method.trained)  # fmt: skip
        if looked.grad:
            t.carried.append(looked)
        return x
