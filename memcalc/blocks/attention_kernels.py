"""Softmax attention as its kernels run it: what each keeps for the backward pass.

flash: query, key, value, output and an fp32 log-sum-exp a head (aten::_scaled_dot_product_flash_attention).
efficient: the same, for fp32 or where a mask is needed (aten::_scaled_dot_product_efficient_attention).
eager: scores, their fp32 softmax, its 16-bit copy, and keys and values repeated for every query head
(transformers eager_attention_forward). The math fallback of sdpa, taken where grouped heads meet fp32, keeps the same.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from memcalc.blocks import operations as ops
from memcalc.blocks.context_parallel import exchanged
from memcalc.blocks.profile import Profile
from memcalc.blocks.tape import FP32, INT64, Size, Step, Tape, Var

if TYPE_CHECKING:
    from memcalc.blocks.attention import Attention

# Eager attention's scores: (type they are made in, type of their softmax); 0 is that of queries and keys.
SHIFTED = "less their maximum"
SCORES = {
    "softmax in fp32": (0, FP32),
    "as computed": (0, 0),  # GPT-2, Falcon, Llama 4
    "in fp32": (FP32, FP32),  # GPT-J, GPT-Neo: queries and keys are cast
    SHIFTED: (0, 0),  # gpt-oss, MiMo V2 Flash
}

FLASH_MAX_HEAD = 256  # wider heads fall back (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp)
BLOCK = 512  # bytes; two philox scalars take an allocator block each


class Table(NamedTuple):
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
    each = max(x.each, p.residual)  # cos and sin have the residual stream's type: under autocast the products are fp32
    straight = t.emit("x cos", [x], part, each, tables[:1])
    first = t.emit("first half", [x], half, x.each, (), [Step("input", part * x.each)])
    second = t.emit("second half", [x], half, x.each, (), [Step("input", part * x.each)])
    minus = t.emit("negated", [second], half, x.each)
    turned = t.emit("turned", [minus, first], part, x.each, (), [Step("share", source=1), Step("share", source=0)])
    crossed = t.emit("x sin", [turned], part, each, tables[1:])
    rotated = ops.add(t, straight, crossed)
    rotated = ops.cast(t, rotated, narrow.each) if wide else rotated
    return rotated if share == 1 else _with_rest(t, narrow, rotated)


def _with_rest(t: Tape, x: Var, rotated: Var) -> Var:
    """Partial rotation: the rest of the head is concatenated again."""
    steps = [Step("share"), Step("input", x.bytes, 1)]
    return t.emit("joined", [rotated, x], x.elements, rotated.each, (), steps)


def attend(t: Tape, p: Profile, a: "Attention", query: Var, key: Var, value: Var, heads: int, kv_heads: int) -> Var:
    """The attention result, heads × v_head_dim a token."""
    return exchanged(t, p, lambda q, k, v: _kernel(t, p, a, q, k, v, heads, kv_heads), query, key, value)


def _kernel(t: Tape, p: Profile, a: "Attention", query: Var, key: Var, value: Var, heads: int, kv_heads: int) -> Var:
    if p.kernels.repeats_keys and heads != kv_heads:
        key, value = repeat(t, key, heads, kv_heads), repeat(t, value, heads, kv_heads)
        kv_heads = heads
    is_masked = (a.window is not None and p.masked) or a.masked
    drops = p.dropout and a.dropout > 0
    if (a.sinks or a.scores == SHIFTED) and p.attention != "flash":  # sdpa knows neither: transformers has its own code
        return _shifted(t, p, a, query, key, value, heads, kv_heads, drops)
    if p.attention == "eager":
        return (
            _eager(t, p, a, query, key, value, heads, kv_heads, drops)
            if p.core_kept
            else _recomputed(t, a, query, key, value, heads)
        )
    if a.by_head:
        query, key, value = contiguous(t, query), contiguous(t, key), contiguous(t, value)
    fused = query.each == 2 or p.autocast
    if a.masked and p.attention == "sdpa" and kv_heads == 1 < heads:  # one key head beside many query heads: no kernel
        return _math(t, p, a, query, key, value, heads, kv_heads)
    even = a.v_head_dim in (0, a.head_dim)  # flash kernels want values as wide as keys
    if p.attention == "flash" or (fused and not is_masked and even and a.head_dim <= FLASH_MAX_HEAD):
        out = fused_kernel(t, a, *narrowed(t, p, query, key, value), heads)
        # concatenating the rotated and the unrotated part changes the layout: the result is copied once more
        return contiguous(t, out) if a.by_head or (a.rotary and (a.rotary_dim or a.rotary_joined)) else out
    # transformers repeats keys and values itself where grouped heads would keep sdpa from its better kernels
    if heads == kv_heads or is_masked or not even or a.head_dim > FLASH_MAX_HEAD:
        return efficient(t, p, a, query, key, value, heads, kv_heads, is_masked)
    return _math(t, p, a, query, key, value, heads, kv_heads)


def narrowed(t: Tape, p: Profile, query: Var, key: Var, value: Var) -> tuple[Var, Var, Var]:
    """Autocast hands the fused kernels 16-bit tensors."""
    if not p.autocast:
        return query, key, value
    return ops.cast(t, query, p.compute), ops.cast(t, key, p.compute), ops.cast(t, value, p.compute)


def multiply(t: Tape, a: "Attention", query: Var, heads: int, keys: float = 1, again: int = 0) -> None:
    """Scores and mixing, each 2 FLOP a pair and dimension. Backward twice that, and `again` times the scores made anew
    (torch/utils/flop_counter.py, sdpa_backward_flop_count). `keys`: how many there are for each query of a sequence."""
    heads_keys = 2 * heads * keys
    scores, mixing = Size(pair=heads_keys * a.head_dim), Size(pair=heads_keys * (a.v_head_dim or a.head_dim))
    backward = scores * (2 + again) + mixing * 2 if query.grad else Size()
    t.multiply("attention", scores + mixing, backward, causal=a.causal, window=a.window, chunked=a.chunked)


def keys_per_query(a: "Attention", query: Var, key: Var) -> float:
    """Keys for each query of a sequence: cross-attention, whose heads are not grouped, may read a longer one."""
    return key.elements.token / query.elements.token if a.cross else 1.0


def fused_kernel(t: Tape, a: "Attention", query: Var, key: Var, value: Var, heads: int) -> Var:
    width = heads * (a.v_head_dim or a.head_dim)
    multiply(t, a, query, heads, keys_per_query(a, query, key), again=1)
    lse = Var(Size(token=heads), FP32, False, f"{t.path}/log-sum-exp")
    seeds = [Var(Size(fixed=BLOCK / INT64), INT64, False, f"{t.path}/philox {i}") for i in range(2)]
    steps = [Step("input", x.bytes, i) for i, x in enumerate((query, key, value))]
    saves = [query, key, value, lse, *seeds]
    out = t.emit("attention", [query, key, value], Size(token=width), query.each, saves, steps)
    if out.grad:
        t.nodes[-1].saves = (*t.nodes[-1].saves, out)
    t.attended += [out, lse]
    return out


def _recomputed(t: Tape, a: "Attention", query: Var, key: Var, value: Var, heads: int) -> Var:
    """Megatron's selective recomputation: only query, key and value are kept, scores are made again
    (Korthikanti et al. 2022, section 5)."""
    width, pairs = heads * (a.v_head_dim or a.head_dim), Size(pair=heads)
    multiply(t, a, query, heads, keys_per_query(a, query, key), again=1)
    again = [Step("temp", pairs * query.each) for _ in range(3)]
    steps = [*again, *(Step("input", x.bytes, i) for i, x in enumerate((query, key, value)))]
    return t.emit("attention core", [query, key, value], Size(token=width), query.each, [query, key, value], steps)


def efficient(
    t: Tape, p: Profile, a: "Attention", query: Var, key: Var, value: Var, heads: int, kv_heads: int, is_masked: bool
) -> Var:
    if heads != kv_heads:  # the kernel knows no grouped heads: keys and values are repeated before it
        key, value = (repeat(t, x, heads, kv_heads) for x in (key, value))
    out = fused_kernel(t, a, *narrowed(t, p, query, key, value), heads)
    if is_masked and out.grad:  # the additive mask [batch, 1, sequence, sequence], once a layer
        mask = Var(Size(pair=1), out.each, False, f"{t.path}/mask")
        t.nodes[-1].saves = (*t.nodes[-1].saves, mask)
    return out


def repeat(t: Tape, x: Var, heads: int, kv_heads: int) -> Var:
    """Keys or values for every query head: a copy, but a view where there is only one head to repeat."""
    if heads == kv_heads:
        return x
    wide = x.elements * (heads / kv_heads)
    out = t.emit("repeated", [x], wide, x.each, (), [Step("input", x.bytes)])
    out.whole = x if kv_heads == 1 else None
    return out


def _eager(
    t: Tape, p: Profile, a: "Attention", query: Var, key: Var, value: Var, heads: int, kv_heads: int, drops: bool,
    *, capped: bool = True,
) -> Var:  # fmt: skip
    """Scores and probabilities whole (transformers eager_attention_forward)."""
    keys = keys_per_query(a, query, key)
    pairs = Size(pair=heads * keys)
    multiply(t, a, query, heads, keys)
    if p.autocast:
        query, key, value = (ops.cast(t, x, p.compute) for x in (query, key, value))
    key, value = (repeat(t, x, heads, kv_heads) for x in (key, value))
    copies = kv_heads in (1, heads)  # repeating several heads has copied them already
    made, wide = SCORES[a.scores]
    mixed_each = query.each
    if made and not p.autocast:
        query, key = ops.cast(t, query, made), ops.cast(t, key, made)
    else:
        query, key = contiguous(t, query), (contiguous(t, key) if copies else key)
    scores = t.emit("scores", [query, key], pairs, query.each, [query, key])
    scores = ops.scale(t, scores, "scores scaled")
    if a.softcap and capped:  # sdpa knows no softcap and leaves it out
        scores = t.emit("softcap", [scores], pairs, scores.each)
        if scores.grad:
            t.nodes[-1].saves = (scores,)
    probabilities = ops.softmax(t, scores, FP32 if p.autocast else wide or scores.each)
    probabilities = ops.cast(t, probabilities, mixed_each)
    if drops:
        probabilities = ops.dropout(t, p, probabilities, a.dropout)
    value = contiguous(t, value) if copies else value
    out = t.emit("mixed", [probabilities, value], Size(token=heads * (a.v_head_dim or a.head_dim)), mixed_each,
                 [probabilities, value])  # fmt: skip
    return t.emit("transposed", [out], out.elements, out.each)


def _shifted(
    t: Tape, p: Profile, a: "Attention", query: Var, key: Var, value: Var, heads: int, kv_heads: int, drops: bool
) -> Var:
    """Scores shifted by their maximum, and softmax in the type that they have; with sinks one more column, each head's
    (modeling_gpt_oss.eager_attention_forward, modeling_mimo_v2_flash.eager_attention_forward)."""
    multiply(t, a, query, heads)
    if p.autocast:
        query, key, value = (ops.cast(t, x, p.compute) for x in (query, key, value))
    key, value = (repeat(t, x, heads, kv_heads) for x in (key, value))
    query = contiguous(t, query)
    each = query.each
    scores = ops.scale(t, t.emit("scores", [query, key], Size(pair=heads), each, [query, key]), "scores scaled")
    joined = scores
    if a.sinks:
        joined = t.emit("with sinks", [scores], Size(token=heads, pair=heads), each, (), [Step("share")])
    where, full = Var(Size(token=heads), INT64, False, f"{t.path}/where the maximum is"), joined.bytes
    highest = t.emit("maximum", [joined], where.elements, each, [where], [Step("temp", full), Step("input", full)])
    steps = [Step("share"), Step("temp", full), Step("input", highest.bytes, 1)]
    shifted = t.emit("shifted", [joined, highest], joined.elements, each, (), steps)
    kept = probabilities = ops.softmax(t, shifted, FP32 if p.autocast else each)
    if a.sinks:
        steps = [Step("input", probabilities.bytes)]
        kept = t.emit("without sinks", [probabilities], scores.elements, probabilities.each, (), steps)
        kept.whole = probabilities
    kept = ops.cast(t, ops.dropout(t, p, kept, a.dropout) if drops else kept, each)
    out = t.emit("mixed", [kept, value], Size(token=heads * (a.v_head_dim or a.head_dim)), each, [kept, value])
    return t.emit("transposed", [out], out.elements, out.each)


def contiguous(t: Tape, x: Var) -> Var:
    """bmm works on a contiguous copy of transposed heads."""
    return t.emit("contiguous", [x], x.elements, x.each)


def _math(t: Tape, p: Profile, a: "Attention", query: Var, key: Var, value: Var, heads: int, kv_heads: int) -> Var:
    """aten::_scaled_dot_product_attention_math, taken by sdpa where grouped heads meet fp32, and in fp32 else too."""
    each = p.compute
    query, key, value = (ops.cast(t, x, FP32) for x in narrowed(t, p, query, key, value))
    unfused = p if each == FP32 else p._replace(autocast=False)
    out = _eager(t, unfused, a, query, key, value, heads, kv_heads, drops=False, capped=False)
    return ops.cast(t, out, each)
