"""Softmax attention as its kernels run it: what each keeps for the backward pass.

flash: query, key, value, output and an fp32 log-sum-exp a head (aten::_scaled_dot_product_flash_attention).
efficient: the same, for fp32 or where a mask is needed (aten::_scaled_dot_product_efficient_attention).
eager: scores, their fp32 softmax, its 16-bit copy, and keys and values repeated for every query head
(transformers eager_attention_forward). The math fallback of sdpa, taken where grouped heads meet fp32, keeps the same.

All take (tape, profile, core, query, key, value) and give the result, heads × v_head_dim a token.
"""

from collections.abc import Callable

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, INT64, HeadsShape, Size, Step, Tape, Var
from memcalc.blocks.attention.core import SCALED, SCORES, WIDE_SINKS, Core, Softmax
from memcalc.blocks.values import revised
from memcalc.frozen import NamedTuple

FLASH_MAX_HEAD = 256  # wider heads fall back (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp)
BLOCK = 512  # bytes; two philox scalars take an allocator block each

Kernel = Callable[[Tape, Profile, Core, Var, Var, Var], Var]


def attend(t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var) -> Var:
    """The attention result, with the keys and values of all context-parallel ranks."""
    t.cacheable += [key, value] if core.mask.causal else []
    if p.degrees.cp == 1:
        return _run(t, p, core, query, key, value)
    from memcalc.autograd.context_parallel import exchanged

    if p.degrees.cp_kind == "all-to-all" and core.shape.kv_heads < p.degrees.cp:
        # a key head for every rank (deepspeed/runtime/sequence_parallel/ulysses_sp.py, kv_replication_factor)
        key, value, core = repeated(t, core, key, value, p.degrees.cp)
    return exchanged(t, p, lambda q, k, v: _run(t, p, core, q, k, v), query, key, value)


def _run(t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var) -> Var:
    """The kernel that PyTorch takes: that of the first row of PATHS whose conditions all hold."""
    if p.kernels.repeats_keys:
        key, value, core = repeated(t, core, key, value)
    conditions = _conditions(p, core, half=query.each == 2 or p.formats.autocast)
    path = next(path for path in PATHS if path.conditions <= conditions)
    if core.by_head and path.fused:
        query, key, value = contiguous(t, query), contiguous(t, key), contiguous(t, value)
    return path.kernel(t, p, core, query, key, value)


def _conditions(p: Profile, core: Core, *, half: bool) -> frozenset[str]:
    """What holds of this attention under this profile. `half`: the kernel gets 16-bit tensors."""
    shape, sdpa, masked = core.shape, p.attention == "sdpa", core.mask.applied(p)
    flash_shape = shape.value_dim == shape.head_dim <= FLASH_MAX_HEAD  # flash kernels want values as wide as keys
    found = {
        p.attention: True,
        "own code": core.softmax.shifted and p.attention != "flash",
        "scaled by sinks": core.softmax.scores == SCALED and p.attention != "flash",
        "core kept": p.core_kept,
        "fused by its library": p.kernels.merged and p.attention != "eager",
        "its library's own": p.kernels.merged,
        # one key head beside many query heads under a mask of the layer's own: no fused kernel
        "one key head": sdpa and core.mask.masked and shape.kv_heads == 1 < shape.heads,
        "unmasked in 16 bit": half and not masked and flash_shape,
        # transformers repeats keys and values itself where grouped heads would keep sdpa from its better kernels
        "repeated": not shape.grouped or masked or not flash_shape,
    }
    return frozenset(name for name, holds in found.items() if holds)


def _flash(t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var) -> Var:
    out = fused_kernel(t, core, *narrowed(t, p, query, key, value))
    # concatenating the rotated and the unrotated part changes the layout: the result is copied once more
    copied = core.by_head or (core.joined and not p.kernels.merged) or (p.batch.one_by_one and p.attention == "sdpa")
    return contiguous(t, out) if copied else out


def efficient(t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var) -> Var:
    """The kernel knows no grouped heads: keys and values are repeated before it."""
    key, value, core = repeated(t, core, key, value)
    out = fused_kernel(t, core, *narrowed(t, p, query, key, value))
    if core.mask.applied(p) and out.grad:  # the additive mask [batch, 1, sequence, sequence], once a layer
        mask = Var(Size(pair=core.mask.heads + core.prefix), out.each, False, f"{t.path}/mask")
        t.nodes[-1].saves = (*t.nodes[-1].saves, mask)
    return out


def by_products(t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var, bias: Var | None = None) -> Var:
    """aten::_scaled_dot_product_attention_math, taken by sdpa where grouped heads meet fp32, and in fp32 else too: without
    softcap, which sdpa doesn't know, and without a dropout mask."""
    each = p.formats.product
    query, key, value = (ops.cast(t, x, FP32) for x in narrowed(t, p, query, key, value))
    unfused = p if each == FP32 else revised(p, autocast=False)
    plain = core._replace(softmax=core.softmax._replace(softcap=None, dropout=0.0))
    if not bias:
        return ops.cast(t, written_out(t, unfused, plain, query, key, value), each)
    scaled = ops.scale(t, query)
    out = written_out(t, unfused, plain, scaled, key, value, bias)
    t.hold(query, key, value, scaled)
    return ops.cast(t, out, each)


def written_out(t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var, bias: Var | None = None) -> Var:
    """Scores, to which a bias may be added, and probabilities whole (transformers eager_attention_forward)."""
    keys = keys_per_query(core, query, key)
    pairs, softmax = Size(pair=core.shape.heads * keys), core.softmax
    multiply(t, core, query, keys)
    if p.formats.autocast:
        query, key, value = (ops.cast(t, x, p.formats.compute) for x in (query, key, value))
    copies = core.shape.kv_heads in (1, core.shape.heads)
    key, value, core = repeated(t, core, key, value)  # repeating several heads has copied them already
    many, key = key, ops.scale(t, key) if bias and p.attention == "sdpa" else key  # which scales both, before their product
    made, wide = SCORES[softmax.scores]
    mixed_each = query.each
    if made and not p.formats.autocast:
        query, key = ops.cast(t, query, made), ops.cast(t, key, made)
    else:
        query, key = contiguous(t, query), (contiguous(t, key) if copies else key)
    scores = t.emit("scores", [query, key], pairs, query.each, [query, key])
    scores = ops.scale(t, scores, "scores scaled")
    scores = ops.add(t, scores, bias) if bias else scores
    if softmax.softcap:
        scores = t.emit("softcap", [scores], pairs, scores.each)
        if scores.grad:
            t.nodes[-1].saves = (scores,)
    probabilities = ops.softmax(t, scores, FP32 if p.formats.autocast else wide or scores.each)
    probabilities = ops.cast(t, probabilities, mixed_each)
    probabilities = ops.dropout(t, p, probabilities, softmax.dropout)
    value = contiguous(t, value) if copies else value
    out = t.emit("mixed", [probabilities, value], Size(token=core.shape.output_size), mixed_each,
                 [probabilities, value])  # fmt: skip
    out = t.emit("transposed", [out], out.elements, out.each)
    t.hold(*((many,) if bias else ()))
    return out


def _megatron(t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var) -> Var:
    """Megatron-LM's own: a fused softmax in the scores' type, its gradient written over the one that arrives
    (megatron/core/transformer/dot_product_attention.py; fused_softmax.py)."""
    multiply(t, core, query)
    key, value, core = repeated(t, core, key, value)
    pairs, each = Size(pair=core.shape.heads), query.each
    scores = t.emit("scores", [query, key], pairs, each, [query, key])
    probabilities = t.emit("probabilities", [scores], pairs, each, (), [Step("share")])
    if probabilities.grad:
        t.nodes[-1].saves = (probabilities,)
    probabilities = ops.dropout(t, p, probabilities, core.softmax.dropout)
    out = t.emit("mixed", [probabilities, value], Size(token=core.shape.output_size), each, [probabilities, value])
    return t.emit("transposed", [out], out.elements, out.each)


def _shifted(t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var) -> Var:
    """Scores shifted by their maximum, and softmax in the type that they have; with sinks one more column, each head's
    (modeling_gpt_oss.eager_attention_forward, modeling_mimo_v2_flash.eager_attention_forward)."""
    multiply(t, core, query)
    if p.formats.autocast:
        query, key, value = (ops.cast(t, x, p.formats.compute) for x in (query, key, value))
    key, value, core = repeated(t, core, key, value)
    query = contiguous(t, query)
    each = query.each
    scores = t.emit("scores", [query, key], Size(pair=core.shape.heads), each, [query, key])
    scores = masked(t, p, ops.scale(t, scores, "scores scaled"))
    sinks = FP32 if core.softmax.scores == WIDE_SINKS else 0
    kept = shifted_probabilities(t, p, core.softmax, core.shape.heads, scores, sinks)
    out = t.emit("mixed", [kept, value], Size(token=core.shape.output_size), each, [kept, value])
    return t.emit("transposed", [out], out.elements, out.each)


def _scaled_by_sinks(t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var) -> Var:
    """Softmax in fp32, and each head's result times σ(log-sum-exp of its scores − its sink)
    (modeling_granite_swa.eager_attention_forward)."""
    multiply(t, core, query)
    if p.formats.autocast:
        query, key, value = (ops.cast(t, x, p.formats.compute) for x in (query, key, value))
    key, value, core = repeated(t, core, key, value)
    pairs, heads, each = Size(pair=core.shape.heads), Size(token=core.shape.heads), query.each
    query = contiguous(t, query)
    scores = ops.scale(t, t.emit("scores", [query, key], pairs, each, [query, key]), "scores scaled")
    scores = masked(t, p, scores)
    full = Step("temp", scores.bytes)
    sums = t.emit("log-sum-exp", [scores], heads, scores.each, [scores], [full, full, Step("input", scores.bytes)])
    if sums.grad:
        t.nodes[-1].saves = (scores, sums)
    scale = ops.sigmoid(t, ops.cast(t, t.emit("less sinks", [sums], heads, max(sums.each, p.formats.weights)), FP32))
    probabilities = ops.cast(t, ops.softmax(t, scores, FP32), each)
    probabilities = ops.dropout(t, p, probabilities, core.softmax.dropout)
    out = t.emit("mixed", [probabilities, value], Size(token=core.shape.output_size), each, [probabilities, value])
    out = ops.weighted(t, out, ops.cast(t, scale, each))
    return t.emit("transposed", [out], out.elements, out.each)


def masked(t: Tape, p: Profile, scores: Var) -> Var:
    """scores + mask, which has the residual stream's type: under autocast the sum is fp32."""
    each = max(scores.each, p.formats.residual)
    steps = [Step("share") if each == scores.each else Step("input", scores.bytes)]
    return t.emit("masked", [scores], scores.elements, each, (), steps)


def shifted_probabilities(t: Tape, p: Profile, softmax: Softmax, heads: int, scores: Var, sinks: int = 0) -> Var:
    """Softmax of scores less their maximum, in the type that joining sinks of so many bytes an element gives them, and without
    the sinks' column in the scores' type."""
    joined, each = scores, max(scores.each, sinks)
    if softmax.sinks:
        steps = [Step("share") if each == scores.each else Step("input", scores.bytes)]
        joined = t.emit("with sinks", [scores], scores.elements + Size(token=heads), each, (), steps)
    where, full = Var(Size(token=heads), INT64, False, f"{t.path}/where the maximum is"), joined.bytes
    highest = t.emit("maximum", [joined], where.elements, each, [where], [Step("temp", full), Step("input", full)])
    steps = [Step("share"), Step("temp", full), Step("input", highest.bytes, 1)]
    shifted = t.emit("shifted", [joined, highest], joined.elements, each, (), steps)
    kept = probabilities = ops.softmax(t, shifted, FP32 if p.formats.autocast else each)
    if softmax.sinks:
        steps = [Step("input", probabilities.bytes)]
        kept = t.emit("without sinks", [probabilities], scores.elements, probabilities.each, (), steps)
        kept.whole = probabilities
    return ops.cast(t, ops.dropout(t, p, kept, softmax.dropout), p.formats.compute)


def _recomputed(t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var) -> Var:
    """Megatron's selective recomputation: only query, key and value are kept, scores are made again
    (Korthikanti et al. 2022, section 5)."""
    multiply(t, core, query, keys_per_query(core, query, key), again=1)
    again = [Step("temp", Size(pair=core.shape.heads * query.each)) for _ in range(3)]
    steps = [*again, *(Step("input", x.bytes, i) for i, x in enumerate((query, key, value)))]
    return t.emit(
        "attention core", [query, key, value], Size(token=core.shape.output_size), query.each, [query, key, value], steps
    )


def fused_kernel(t: Tape, core: Core, query: Var, key: Var, value: Var) -> Var:
    """One kernel for scores, softmax and mixing, which makes the scores again in its backward."""
    multiply(t, core, query, keys_per_query(core, query, key), again=1)
    lse = Var(Size(token=core.shape.heads), FP32, False, f"{t.path}/log-sum-exp")
    seeds = [Var(Size(fixed=BLOCK / INT64), INT64, False, f"{t.path}/philox {i}") for i in range(2)]
    steps = [Step("input", x.bytes, i) for i, x in enumerate((query, key, value))]
    saves = [query, key, value, lse, *seeds]
    out = t.emit("attention", [query, key, value], Size(token=core.shape.output_size), query.each, saves, steps)
    if out.grad:
        t.nodes[-1].saves = (*t.nodes[-1].saves, out)
    t.attended += [out, lse]
    return out


def multiply(t: Tape, core: Core, query: Var, keys: float = 1, again: int = 0) -> None:
    """Scores and mixing, each 2 FLOP a pair and dimension. Backward twice that, and `again` times the scores made anew
    (torch/utils/flop_counter.py, sdpa_backward_flop_count). `keys`: how many there are for each query of a sequence."""
    shape, mask = core.shape, core.mask
    scores, mixing = Size(pair=2 * shape.heads * keys * shape.head_dim), Size(pair=2 * shape.heads * keys * shape.value_dim)
    backward = scores * (2 + again) + mixing * 2 if query.grad else Size()
    heads = HeadsShape(shape.heads, shape.kv_heads, shape.head_dim, shape.value_dim, query.grad, again == 1)
    t.multiply("attention", scores + mixing, backward, causal=mask.causal, window=mask.window, chunked=mask.chunked,
               shape=heads)  # fmt: skip


def keys_per_query(core: Core, query: Var, key: Var) -> float:
    """Keys for each query of a sequence: cross-attention, whose heads are not grouped, may read a longer one."""
    return key.elements.token / query.elements.token if core.cross else 1 + core.prefix


def repeated(t: Tape, core: Core, key: Var, value: Var, heads: int = 0) -> tuple[Var, Var, Core]:
    """Keys and values for every query head, or for so many, and what kernels then see: copies, but views where one head is
    repeated."""
    shape = core.shape
    if not shape.grouped:
        return key, value, core
    heads = heads or shape.heads
    made = []
    for x in (key, value):
        made.append(t.emit("repeated", [x], x.elements * (heads / shape.kv_heads), x.each, (), [Step("input", x.bytes)]))
        made[-1].whole = x if shape.kv_heads == 1 else None
    return made[0], made[1], core._replace(shape=shape._replace(kv_heads=heads))


def narrowed(t: Tape, p: Profile, query: Var, key: Var, value: Var) -> tuple[Var, Var, Var]:
    """Autocast hands the fused kernels 16-bit tensors, and so does what calls flash-attention
    (transformers/modeling_flash_attention_utils.py, fa_peft_integration_check)."""
    if not (p.formats.autocast or (p.formats.kbit and p.attention == "flash")):
        return query, key, value
    return ops.cast(t, query, p.formats.compute), ops.cast(t, key, p.formats.compute), ops.cast(t, value, p.formats.compute)


def contiguous(t: Tape, x: Var) -> Var:
    """bmm works on a contiguous copy of transposed heads."""
    return t.emit("contiguous", [x], x.elements, x.each)


class Path(NamedTuple):
    """A kernel, and the conditions under which it is taken."""

    kernel: Kernel
    conditions: frozenset[str]
    fused: bool = True  # called as sdpa or flash-attention


# The first whose conditions hold is taken (sdp_utils.cpp; transformers integrations/sdpa_attention.py).
PATHS = (
    Path(_flash, frozenset({"fused by its library"})),
    Path(_megatron, frozenset({"its library's own", "core kept"}), fused=False),
    Path(_scaled_by_sinks, frozenset({"scaled by sinks"}), fused=False),
    Path(_shifted, frozenset({"own code"}), fused=False),
    Path(written_out, frozenset({"eager", "core kept"}), fused=False),
    Path(_recomputed, frozenset({"eager"}), fused=False),
    Path(by_products, frozenset({"one key head"})),
    Path(_flash, frozenset({"flash"})),
    Path(_flash, frozenset({"unmasked in 16 bit"})),
    Path(efficient, frozenset({"repeated"})),
    Path(by_products, frozenset()),
)
