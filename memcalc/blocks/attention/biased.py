"""Attention whose scores get a linear bias for each head (ALiBi, Press et al. 2022), as the three families that have it add it.

All write scores and probabilities out unless sdpa takes the bias as a mask. What is added needs no gradient, so it costs
nothing a layer; a mask or bias that the backward reads again is one tensor that all layers share.
"""

from collections.abc import Callable

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import BYTE, FP32, ZERO, Size, Tape, Var
from memcalc.blocks.attention.core import Core
from memcalc.blocks.attention.kernels import contiguous, efficient, multiply
from memcalc.frozen import NamedTuple


class Alibi(NamedTuple):
    """How one modeling file adds the bias."""

    scores: Callable[[Tape, Profile, Var], Var]  # from the product of query and key to what softmax takes
    wide: bool = True  # softmax in fp32
    sdpa: bool = False  # with sdpa, bias and causal mask are one mask, which its backward reads; it has all heads
    mask_each: int = 0  # bytes of a mask's element that masked_fill's backward reads; 0: added, so not read again


def _bloom(t: Tape, p: Profile, scores: Var) -> Var:
    """baddbmm adds the bias and scales at once; the causal mask is added after it, in the residual stream's type."""
    return _plus(t, scores, max(scores.each, p.formats.residual), "masked")


def _falcon(t: Tape, p: Profile, scores: Var) -> Var:
    """In fp32: + bias, scaled in place, + causal mask."""
    scores = ops.cast(t, scores, FP32)
    return _plus(t, ops.scale(t, _plus(t, scores, FP32, "biased"), "scores scaled"), FP32, "masked")


def _mpt(t: Tape, p: Profile, scores: Var) -> Var:
    """Scaled, + an fp32 bias, masked_fill."""
    scores = _plus(t, ops.scale(t, scores, "scores scaled"), FP32, "biased")
    return t.emit("masked", [scores], scores.elements, FP32)


def _plus(t: Tape, x: Var, each: int, name: str) -> Var:
    """x + a tensor without gradient."""
    return ops.scale(t, x, name) if x.each == each else t.emit(name, [x], x.elements, each)


ALIBI = {
    "bloom": Alibi(_bloom),
    "falcon": Alibi(_falcon, wide=False, sdpa=True),
    "mpt": Alibi(_mpt, mask_each=BYTE),
}


def shared_mask(alibi: str, heads: int, p: Profile, *, passed: bool) -> Size:
    """Bytes of the mask, of so many heads in all, that layers read in their backward.

    `passed`: it is kept as an argument of their recomputation, whether or not the backward reads it.
    """
    row = ALIBI[alibi]
    read = row.mask_each or (row.sdpa and p.attention != "eager" and not p.formats.autocast)
    shown = -(-heads // p.degrees.tp) if row.sdpa else 1
    return Size(pair=shown * (row.mask_each or p.formats.residual)) if read or passed else ZERO


def attend_with_bias(t: Tape, p: Profile, core: Core, alibi: str, query: Var, key: Var, value: Var) -> Var:
    """The attention result, heads × head_dim a token."""
    row, heads = ALIBI[alibi], core.shape.heads
    if row.sdpa and p.attention != "eager":
        out = efficient(t, p, core._replace(shape=core.shape.repeated()), query, key, value)
        if p.formats.autocast and out.grad:  # autocast casts the mask too, for each layer anew
            t.nodes[-1].saves = (*t.nodes[-1].saves, Var(Size(pair=heads), p.formats.compute, False, f"{t.path}/mask"))
        return out
    multiply(t, core, query)
    query, key = contiguous(t, query), contiguous(t, key)
    scores = t.emit("scores", [query, key], Size(pair=heads), query.each, [query, key])
    scores = row.scores(t, p, scores)
    probabilities = ops.softmax(t, scores, FP32 if row.wide or p.formats.autocast else p.formats.compute)
    probabilities = ops.dropout(t, p, ops.cast(t, probabilities, value.each), core.softmax.dropout)
    value = contiguous(t, value)
    out = t.emit("mixed", [probabilities, value], Size(token=core.shape.output_size), value.each, [probabilities, value])
    return t.emit("transposed", [out], out.elements, out.each)
