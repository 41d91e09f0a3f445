"""Operations that recurrent mixers share: short convolution, gated norm, exponentials, products of matrices by head.

The mixers are recorded as transformers' own PyTorch code computes them (`torch_…` functions, `slow_forward`), which is what
runs where the kernels of fla, mamba_ssm and causal_conv1d are not installed, and what a model without them keeps.
"""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Formats, Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.blocks.norm import Norm
from memcalc.blocks.values import revised


def learned(t: Tape, p: Profile, name: str, size: float, each: int = 0) -> Var:
    """A small parameter as a tensor of its own, in fp32 where `each` says so; free in the parameters' type."""
    bytes_each = each or p.formats.weights
    steps = [Step("weight", Size(fixed=size * p.formats.weights))] if p.method.trained else []
    return t.emit(name, [], Size(fixed=size), bytes_each, (), steps, trained=p.method.trained)


def exponential(t: Tape, x: Var, name: str = "exp") -> Var:
    """exp: saves its output."""
    y = t.emit(name, [x], x.elements, x.each)
    if y.grad:
        t.nodes[-1].saves = (y,)
    return y


def softplus(t: Tape, x: Var) -> Var:
    """softplus: saves its input."""
    return t.emit("softplus", [x], x.elements, x.each, [x])


def clamped(t: Tape, x: Var) -> Var:
    """clamp: saves its input."""
    return t.emit("clamped", [x], x.elements, x.each, [x])


def copied(t: Tape, x: Var, each: int = 0, *, name: str = "copied") -> Var:
    """A contiguous copy, in another type if `each` says so."""
    return t.emit(name, [x], x.elements, each or x.each)


def padded(t: Tape, x: Var, times: float) -> Var:
    """A copy with rows of zeros at the end, `times` as large; PyTorch copies even where nothing is added."""
    return t.emit("padded", [x], x.elements * times, x.each, (), [Step("input", x.bytes)])


def joined(t: Tape, *parts: Var, name: str = "joined") -> Var:
    """cat: a copy of all parts, whose gradients are views of its own."""
    each = max(part.each for part in parts)
    elements = Size(token=sum(part.elements.token for part in parts))
    return t.emit(name, parts, elements, each, (), [Step("share", source=number) for number in range(len(parts))])


def view(t: Tape, x: Var, elements: Size, name: str = "part") -> Var:
    """A part of x that shares its memory; the parts' gradients are joined in one copy."""
    part = t.emit(name, [x], elements, x.each, (), [Step("share")])
    part.whole = x.whole or x
    return part


def plus_weight(t: Tape, p: Profile, x: Var, name: str, size: float, each: int) -> Var:
    """x + a learned vector: saves nothing; the vector's gradient is a sum."""
    steps = [Step("share")] if x.each == each else [Step("input", x.bytes)]
    if p.method.trained:
        steps.append(Step("weight", Size(fixed=size * p.formats.weights)))
    return t.emit(name, [x], x.elements, each, (), steps, trained=p.method.trained)


def times_weight(t: Tape, p: Profile, x: Var, name: str, size: float) -> Var:
    """x · a learned fp32 vector: saves x; the vector's gradient is summed from a full product."""
    full = x.elements * FP32
    steps = [Step("temp", full)] * (x.each != FP32)
    if p.method.trained:
        steps += [Step("temp", full), Step("weight", Size(fixed=size * p.formats.weights))]
    saves = [x] if p.method.trained else []
    return t.emit(name, [x], x.elements, FP32, saves, [*steps, Step("input", x.bytes)], trained=p.method.trained)


def outer(t: Tape, a: Var, b: Var, elements: Size) -> Var:
    """a · b, both spread over more dimensions: saves both; each gradient is summed from a full product."""
    each = max(a.each, b.each)
    full = Step("temp", elements * each)
    steps = [
        step
        for i, x in enumerate((a, b))
        for step in ([full, Step("input", x.bytes, i)] if x.bytes != elements * each else [Step("input", x.bytes, i)])
    ]
    return t.emit("outer", [a, b], elements, each, select_factors(a, b), steps)


def select_factors(a: Var, b: Var) -> list[Var]:
    """What a product saves: each factor whose fellow needs a gradient."""
    return [x for x, other in ((a, b), (b, a)) if other.grad]


def product(t: Tape, p: Profile, a: Var, b: Var, elements: Size, depth: Size, name: str = "matrix product") -> Var:
    """a @ b, each element a sum over `depth` (of the sequence where it has a token part): saves both; autocast casts them."""
    t.multiply(name, _work(elements, depth), a.grad + b.grad)
    if p.formats.autocast:
        a, b = ops.cast(t, a, p.formats.compute), ops.cast(t, b, p.formats.compute)
    each = max(a.each, b.each)
    return t.emit(name, [a, b], elements, each, select_factors(a, b))


def _work(elements: Size, depth: Size) -> Size:
    """2 × elements × depth, a pair being a token of a sequence with another."""
    return Size(2 * elements.token * depth.fixed, 2 * elements.token * depth.token)


def contraction(t: Tape, p: Profile, a: Var, b: Var, elements: Size, depth: float, name: str = "contraction") -> Var:
    """einsum over permuted dimensions: its matrix product works on contiguous copies of both."""
    each = p.formats.compute if p.formats.autocast else 0
    return product(t, p, copied(t, a, each), copied(t, b, each), elements, Size(fixed=depth), name)


def convolution(
    t: Tape, p: Profile, x: Var, kernel: int, channels: int, activation: str, *, bias: bool = False, wide: bool = False,
) -> Var:  # fmt: skip
    """A causal depthwise convolution and its activation (modeling_qwen3_next.causal_conv1d_fn).

    The padded result is cut to the sequence, so what is kept is a view of all of it; the padding itself, kernel − 1
    columns a sequence, is left out here. `wide`: the weight is fp32 whatever the model's type.
    """
    if wide and not p.formats.autocast:
        p = revised(p, compute=FP32, weights=FP32)
        x, given = ops.cast(t, x, FP32), x
        return ops.cast(t, convolution(t, p, x, kernel, channels, activation, bias=bias), given.each)

    # the code casts to the weight's type, autocast back from it: a contiguous copy either way
    x_used = ops.cast(t, ops.cast(t, x, p.formats.weights), p.formats.compute) if p.formats.autocast else x
    t.multiply("convolution", Size(token=2 * kernel * channels), x.grad + p.method.trained)
    steps = [Step("input", x_used.bytes)]
    if p.method.trained:
        steps += [Step("weight", Size(fixed=size * p.formats.weights)) for size in (channels * kernel, channels * bias) if size]
    saves = [x_used] if p.method.trained else []
    if p.formats.autocast and p.formats.weights != p.formats.compute:
        saves.append(Var(Size(fixed=channels * kernel), p.formats.compute, False, f"{t.path}/convolution weight cast"))
    padded = t.emit("convolution", [x_used], x.elements, x_used.each, saves, steps, trained=p.method.trained)
    cut = t.emit("cut", [padded], padded.elements, padded.each)
    cut.whole = padded
    return ops.cast(t, ops.activation(t, p, cut, activation), x.each) if activation else cut


def root_mean_square(t: Tape, x32: Var, groups: float) -> Var:
    """x / √mean(x²) over `groups` vectors a token, in fp32: keeps x and the reciprocal roots."""
    return Norm(0, affine=False).forward(t, Profile(formats=Formats(FP32, FP32)), x32, groups)


def unit_length(t: Tape, x32: Var, groups: float) -> Var:
    """x / √Σx² (modeling_qwen3_next.l2norm): keeps the same as a norm without scale."""
    return root_mean_square(t, x32, groups)
