"""Rotary position embeddings (Su et al. 2021) on the tape."""

from collections.abc import Sequence

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Step, Tape, Var
from memcalc.frozen import NamedTuple


class RotaryTable(NamedTuple):
    """cos and sin of every position, `dims` each."""

    dims: int
    each: int = 0  # bytes of an element; 0: as the residual stream


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
