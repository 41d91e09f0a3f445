"""NeoMME's layer: its input mixed with the first layer's, and attention that takes each token's own value out of what it read
(transformers modeling_neomme.py, NeoMMEEncoderLayer and NeoMMEExclusiveSelfAttention)."""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import BYTE, FP32, INT64, ZERO, Size, Step, Tape, Var
from memcalc.blocks.attention.core import Core
from memcalc.blocks.attention.kernels import repeated
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight, whole
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class ExclusiveAttention(Attention, without=("state",)):
    """Attention less a learned share of its result's part along the token's own value. `embedded`: values get one of the
    token's own, of a table that few layers read. `between`: such a layer comes after this one."""

    embedded: bool = False
    between: bool = False

    def _extras(self) -> tuple[Weight, ...]:
        return (*super()._extras(), Weight("alpha", "attention", (self.heads,), whole(0, self.heads)))

    def handed(self, p: Profile) -> Size:
        """The embedded values of all tokens."""
        return Size(token=self.key_size * p.formats.weights)

    def _mask(self, p: Profile) -> Size:
        """Bytes of the mask that the model makes for this layer alone."""
        if p.attention == "eager":
            return Size(pair=p.formats.compute)
        return Size(pair=BYTE / p.batch.sequences) if self.mask.applied(p) else ZERO

    def _attend(self, t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var) -> Var:
        own = Var(value.elements, p.formats.weights, p.method.trained, f"{t.path}/embedded values", outside=True)
        if own.grad and self.between:  # a gradient of theirs is on its way
            t.carried.append(own)
        value = ops.add(t, value, own) if self.embedded else value
        if (mask := self._mask(p)) != ZERO:
            t.beyond.append(Var(mask, BYTE, False, f"{t.path}/mask given"))
        return self._without_own(t, p, core, super()._attend(t, p, core, query, key, value), value)

    def _without_own(self, t: Tape, p: Profile, core: Core, mixed: Var, value: Var) -> Var:
        """x − (tanh(α) Σ x u) u, u the value over its length, in fp32 and cast back."""
        heads, size = core.shape.heads, Size(token=core.shape.heads)
        _, value, _ = repeated(t, core, value, value)
        wide = ops.cast(t, value, FP32)
        full = Step("temp", wide.bytes)
        length = t.emit("length", [wide], size, FP32, [wide], [full, Step("input", wide.bytes)])
        if length.grad:
            t.nodes[-1].saves = (wide, length)
        bounded = t.emit("bounded", [length], size, FP32, [length])
        unit = t.emit("unit", [wide, bounded], wide.elements, FP32, [wide, bounded],
                      [Step("input", wide.bytes), full, full, Step("input", bounded.bytes, 1)])  # fmt: skip
        unit = ops.cast(t, unit, mixed.each)
        along = ops.mul(t, mixed, unit)
        along = ops.cast(t, along, FP32) if p.formats.autocast else along  # which sums in fp32
        along = t.emit("along", [along], size, along.each, (), [Step("share")])
        share = [Step("temp", along.bytes), Step("weight", Size(fixed=heads * p.formats.weights))] if p.method.trained else []
        along = t.emit(
            "share", [along], size, along.each, [along], [*share, Step("input", along.bytes)], trained=p.method.trained
        )
        taken = ops.weighted(t, unit, along)
        mine = Step("share") if mixed.each == taken.each else Step("input", mixed.bytes)
        return t.emit("less", [mixed, taken], mixed.elements, taken.each, (), [mine, Step("input", taken.bytes, 1)])


@dataclass(frozen=True)
class Mix(Block, without=("constants", "cache", "state", "traits")):
    """λ₀ x + λ₁ first, both numbers learned. `last`: of a stack, where the backward begins."""

    last: bool = False

    wired = True

    def weights(self) -> tuple[Weight, ...]:
        return (Weight("lambdas", "other", (2,)),)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Keeps x and what the first layer was given, which all layers share."""
        first = Var(x.elements, x.each, x.grad, f"{t.path}/first", outside=True)
        if first.grad and not self.last:
            t.carried.append(first)
        shares = []
        for name, y in (("own share", x), ("first's share", first)):
            steps = [Step("input", y.bytes), Step("temp", y.bytes)] if p.method.trained else [Step("input", y.bytes)]
            saves = [y] if p.method.trained else []
            shares.append(t.emit(name, [y], y.elements, y.each, saves, steps, trained=p.method.trained))
        return ops.add(t, *shares)


@dataclass(frozen=True)
class ValueTable(Block, without=("constants", "cache", "state", "traits")):
    """A table of values for each token of the vocabulary, looked up once."""

    vocabulary: int
    size: int

    def weights(self) -> tuple[Weight, ...]:
        return (Weight("tokens", "embedding", (self.vocabulary, self.size)),)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record what a few layers read; x passes by."""
        ids, each = Var(Size(token=1), INT64, False, f"{t.path}/ids"), p.formats.weights
        learned = [Step("weight", Size(fixed=self.vocabulary * self.size * each))]
        looked = t.emit("tokens", [ids], Size(token=self.size), each, [ids], learned, trained=p.method.trains("embeddings"))
        if looked.grad:
            t.carried.append(looked)
        return x
