"""Rotary position embeddings (Su et al. 2021) on the tape."""

from collections.abc import Sequence

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.frozen import NamedTuple


class RotaryTable(NamedTuple):
    """cos and sin of every position, `dims` each."""

    dims: int
    each: int = 0  # bytes of an element; 0: as the residual stream
    learned: bool = False  # made of learned frequencies, whose angles are kept in fp32


def rotate(t: Tape, p: Profile, x: Var, share: float, *, wide: bool = False, tables: Sequence[Var] = ()) -> Var:
    """x cos + rotate_half(x) sin: nothing of x is saved, cos and sin are shared by all layers.

    wide: in fp32, and the result is cast back; tables: cos and sin where a layer lays them out anew.
    """
    if p.kernels.fused_rotary:
        return ops.scale(t, x, "rotary")
    narrow, x = x, ops.cast(t, x, FP32) if wide else x
    part = x.elements * share
    half = part * 0.5
    each = max(x.each, p.formats.residual)  # cos and sin have the residual stream's type: under autocast the products are fp32
    straight = t.emit("x cos", [x], part, each, tables[:1])
    first = t.emit("first half", [x], half, x.each, (), [Step("input", part * x.each)])
    second = t.emit("second half", [x], half, x.each, (), [Step("input", part * x.each)])
    minus = t.emit("negated", [second], half, x.each)
    turned = t.emit("turned", [minus, first], part, x.each, (), [Step("share", source=1), Step("share", source=0)])
    crossed = t.emit("x sin", [turned], part, each, tables[1:])
    rotated = ops.add(t, straight, crossed)
    rotated = ops.cast(t, rotated, narrow.each) if wide else rotated
    rotated = rotated if share == 1 else _with_rest(t, narrow, rotated)
    rotated.label = f"{narrow.label} rotated"
    return rotated


def _with_rest(t: Tape, x: Var, rotated: Var) -> Var:
    """Partial rotation: the rest of the head is concatenated again."""
    steps = [Step("share"), Step("input", x.bytes, 1)]
    return t.emit("joined", [rotated, x], x.elements, rotated.each, (), steps)


def rotate_tail(t: Tape, p: Profile, x: Var, share: float, angles: Size, *, negated: bool = False) -> Var:
    """The last `share` of each head rotated pair by pair in fp32, the rest beside it anew; cos and sin are laid out for every
    number, and kept (modeling_deepseek_v4.apply_rotary_pos_emb). `negated`: back, by −sin."""
    part, each = x.elements * share, x.each
    tail = _view(t, "tail", x, part)
    names = ("cos", "sin back" if negated else "sin")
    tables = [Var(angles, p.formats.residual, False, f"{t.path}/{x.label} {name}") for name in names]
    straight = t.emit("x cos", [ops.cast(t, tail, FP32)], part, FP32, tables[:1])
    odd, even = (_view(t, name, tail, part * 0.5) for name in ("odd", "even"))
    minus = t.emit("negated", [odd], odd.elements, each)
    turned = t.emit("turned", [minus, even], part, each, (), [Step("share", source=1), Step("share", source=0)])
    crossed = t.emit("x sin", [ops.cast(t, turned, FP32)], part, FP32, tables[1:])
    rotated = ops.cast(t, ops.add(t, straight, crossed), each)
    rest = _view(t, "rest", x, x.elements - part)
    return t.emit("rotated", [rest, rotated], x.elements, each, (), [Step("share"), Step("share", source=1)])


def learned_tables(p: Profile, dims: int) -> tuple[Var, Var]:
    """cos and sin of every pair that is rotated, to which gradients flow; all layers share them."""
    cos, sin = (Var(Size(position=dims / 2), p.formats.residual, True, name, outside=True) for name in ("cos", "sin"))
    return cos, sin


def rotate_learned(t: Tape, x: Var, tables: tuple[Var, Var]) -> Var:
    """Both halves of every pair times cos and sin that learn: each of the four products keeps what it rotates
    (modeling_mistral_large4.apply_rotary_pos_emb_interleave)."""
    cos, sin = tables
    first, second = (_view(t, name, x, x.elements * 0.5) for name in ("even", "odd"))
    left = ops.add(t, ops.weighted(t, first, cos), ops.weighted(t, second, sin))
    right = ops.add(t, ops.weighted(t, second, cos), ops.weighted(t, first, sin))
    return t.emit("rotated", [left, right], x.elements, left.each, (), [Step("share"), Step("share", source=1)])


def _view(t: Tape, name: str, x: Var, elements: Size) -> Var:
    """A slice, whose gradient is laid into zeros."""
    view = t.emit(name, [x], elements, x.each, (), [Step("input", x.bytes)])
    view.whole = x.whole or x
    return view
