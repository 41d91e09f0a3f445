"""T5's attention: a learned bias for each distance and head is added to scores that are not scaled.

The bias [1, heads, sequence, sequence] is looked up once, in the first layer of a stack, and all its layers read it. Cross
attention adds zeros of that shape. With sdpa the bias is the mask, so that the kernel keeps it and makes its gradient for every
sequence (transformers integrations/sdpa_attention.py, create_position_bias_mask).
"""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import BYTE, FP32, INT64, Size, Step, Tape, Var
from memcalc.blocks.attention.core import LATER, Core, Relative
from memcalc.blocks.attention.kernels import contiguous, fused_kernel, keys_per_query, multiply, narrowed


def attend_relative(t: Tape, p: Profile, core: Core, relative: Relative, query: Var, key: Var, value: Var) -> Var:
    """The attention result, heads × head_dim a token."""
    heads, bias = core.shape.heads, _bias(t, p, core, relative)
    if p.attention != "eager":
        return _masked(t, p, core, query, key, value, bias)
    keys = keys_per_query(core, query, key)
    multiply(t, core, query, keys)
    query, key = contiguous(t, query), contiguous(t, key)
    scores = t.emit("scores", [query, key], Size(pair=heads * keys), query.each, [query, key])
    scores = ops.scale(t, scores, "scores scaled")
    steps = [Step("share") if scores.each == max(scores.each, bias.each) else Step("input", scores.bytes)]
    steps += [Step("input", bias.bytes, 1)] if p.batch.sequences > 1 else [Step("share", source=1)]
    scores = t.emit("biased", [scores, bias], scores.elements, max(scores.each, bias.each), (), steps)
    if core.mask.causal:
        scores = t.emit("masked", [scores], scores.elements, scores.each, (), [Step("share")])
    probabilities = ops.softmax(t, scores, FP32 if p.formats.autocast else scores.each)
    probabilities = ops.dropout(t, p, probabilities, core.softmax.dropout)
    probabilities = ops.cast(t, probabilities, value.each)
    value = contiguous(t, value)
    out = t.emit("mixed", [probabilities, value], Size(token=core.shape.output_size), value.each, [probabilities, value])
    return t.emit("transposed", [out], out.elements, out.each)


def _masked(t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var, bias: Var) -> Var:
    """The memory-efficient kernel with the bias, and where it is causal the causal mask in it, as its mask."""
    mask = bias
    if core.mask.causal:
        kept = Var(_square(p, 1), BYTE, False, f"{t.path}/causal mask")
        mask = t.emit("causal bias", [bias], bias.elements, bias.each, [kept])
    mask = ops.cast(t, mask, query.each)
    wide = t.emit("expanded", [mask], Size(pair=core.shape.heads * keys_per_query(core, query, key)), mask.each)
    wide.whole = mask
    out = fused_kernel(t, core, *narrowed(t, p, query, key, value))
    node = t.nodes[-1]
    node.inputs, node.saves = (*node.inputs, wide), (*node.saves, *(() if mask.outside else (mask,)))
    if wide.grad:
        node.steps = (*node.steps, Step("input", wide.bytes, 3))
    return out


def _bias(t: Tape, p: Profile, core: Core, relative: Relative) -> Var:
    """The stack's bias: made here, or made by an earlier layer, which counts it."""
    elements = _square(p, core.shape.heads * (p.batch.source if core.cross else 1))
    if core.cross:  # zeros
        return Var(elements, p.formats.compute, False, f"{t.path}/bias", outside=relative.layer == LATER)
    if relative.layer == LATER:
        bias = Var(elements, p.formats.weights, p.method.trained, f"{t.path}/bias", outside=True)
    else:
        buckets = Var(_square(p, 1), INT64, False, f"{t.path}/buckets")
        steps = [Step("weight", Size(fixed=relative.buckets * core.shape.heads * p.formats.weights))]
        bias = t.emit("bias", [buckets], elements, p.formats.weights, [buckets], steps, trained=p.method.trained)
    if bias.grad:
        t.carried.append(bias)
    return bias


def _square(p: Profile, count: float) -> Size:
    """`count` elements for each pair of positions, the same for every sequence."""
    return Size(pair=count / p.batch.sequences)
