"""Elementary PyTorch operations on the tape: what each saves for its backward and what that allocates.

Derivatives as in PyTorch's tools/autograd/derivatives.yaml; shapes are elements per token unless said otherwise.
"""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import BYTE, FP32, Size, Step, Tape, Var

WEIGHT_CAST = " weight cast"  # what autocast makes of a weight


def cast(t: Tape, x: Var, each: int) -> Var:
    """`.to(dtype)`: a copy, or the tensor itself when it has the type already. Saves nothing."""
    return x if x.each == each else t.emit("cast", [x], x.elements, each)


def add(t: Tape, a: Var, b: Var) -> Var:
    """a + b: saves nothing; the gradient is handed to both without a copy unless their types differ."""
    each = max(a.each, b.each)
    steps = [Step("share", source=i) if var.each == each else Step("input", var.bytes, i) for i, var in enumerate((a, b))]
    return t.emit("add", [a, b], a.elements, each, (), steps)


def mul(t: Tape, a: Var, b: Var) -> Var:
    """a · b: each is saved when the other needs a gradient. Both products of the backward are made in the wider type; the
    narrow one is cast once they are there (engine.cpp, validate_outputs, before what was saved is released)."""
    saves = [x for x, other in ((a, b), (b, a)) if other.grad]
    each = max(a.each, b.each)
    beyond = [Step("temp", x.elements * each) for x in (a, b) if x.grad and x.each < each]
    steps = [*beyond, *(Step("input", x.bytes, i) for i, x in enumerate((a, b)))]
    return t.emit("product", [a, b], a.elements, each, saves, steps)


def scale(t: Tape, x: Var, name: str = "scaled") -> Var:
    """x times a constant, or times a shared table such as cos and sin: saves nothing of x."""
    return t.emit(name, [x], x.elements, x.each)


def scale_by_norm(t: Tape, p: Profile, x: Var, size: float, each: int) -> Var:
    """x · w with a norm's learned vector: saves x; its backward makes a full product before summing it to w's gradient."""
    out, trained = max(x.each, each), p.method.trains("norms")
    steps = [Step("input", x.elements * out, 0)]
    if trained:
        steps += [Step("temp", x.elements * out), Step("weight", Size(fixed=size * each))]
    return t.emit("scaled", [x], x.elements, out, [x] if trained else [], steps, trained=trained)


def dropout(t: Tape, p: Profile, x: Var, probability: float) -> Var:
    """Keeps a mask of one byte an element."""
    if not (p.method.dropout and probability > 0):
        return x
    mask = Var(x.elements, BYTE, False, f"{t.path}/dropout mask")
    return t.emit("dropout", [x], x.elements, x.each, [mask])


ACTIVATIONS = {
    "silu": "input", "swish": "input", "gelu": "input", "gelu_pytorch_tanh": "input", "gelu_fast": "gelu_new",
    "relu": "output", "relu2": "relu2", "gelu_new": "gelu_new", "gelu_python": "input", "gelu_pytorch": "input",
    "xielu": "xielu", "quick_gelu": "quick_gelu",
    "tanh": "output",
}  # fmt: skip


# Backwards that are written out in Python: what lives at their highest point beside the gradient
# (modeling_bloom.bloom_gelu_back).
WRITTEN_OUT_TEMPORARIES = {"gelu_bloom": 4}


def activation(t: Tape, p: Profile, x: Var, name: str) -> Var:
    """An activation function: most save their input, ReLU its output, the composed ones every intermediate."""
    kind = ACTIVATIONS.get(name, "input")
    if kind == "gelu_new" and not (p.kernels.fused_activation or p.kernels.native_gelu):
        return _gelu_new(t, p, x)
    if kind == "quick_gelu" and not p.kernels.fused_activation:  # x · sigmoid(1.702 x), transformers/activations.py
        sigmoid = t.emit("sigmoid", [scale(t, x)], x.elements, x.each)
        if sigmoid.grad:
            t.nodes[-1].saves = (sigmoid,)
        return mul(t, x, sigmoid)
    if kind == "xielu" and not p.kernels.fused_activation:
        return _xielu(t, p, x)
    if kind == "relu2":
        y = t.emit("relu", [x], x.elements, x.each)
        if y.grad:
            t.nodes[-1].saves = (y,)
        return t.emit(
            "square",
            [y],
            x.elements,
            x.each,
            [y],
            [Step("temp", x.bytes), Step("temp", x.bytes), Step("input", x.bytes)],
        )
    temporaries = [Step("temp", x.bytes)] * WRITTEN_OUT_TEMPORARIES.get(name, 0)
    y = t.emit("activation", [x], x.elements, x.each, [] if kind == "output" else [x], [*temporaries, Step("input", x.bytes)])
    if kind == "output" and y.grad:
        t.nodes[-1].saves = (y,)
    return y


CLAMPED_GLU = "swigluoai"  # of gate and up at once (gpt-oss, MiniMax M3)


def clamped_glu(t: Tape, gate: Var, up: Var) -> Var:
    """(up + 1) · gate · σ(α gate), both clamped (modeling_gpt_oss.GptOssExperts._apply_gate)."""
    gate, up = (t.emit(f"{name} clamped", [x], x.elements, x.each, [x]) for name, x in (("gate", gate), ("up", up)))
    glu = mul(t, gate, sigmoid(t, scale(t, gate)))
    return mul(t, t.emit("plus one", [up], up.elements, up.each, (), [Step("share")]), glu)


def wide_glu(t: Tape, p: Profile, gate: Var, up: Var, name: str) -> Var:
    """act(gate) · up in fp32, cast back (modeling_beam.BeamMLP)."""
    acted = activation(t, p, cast(t, gate, FP32), name)
    return cast(t, mul(t, acted, cast(t, up, FP32)), gate.each)


def _gelu_new(t: Tape, p: Profile, x: Var) -> Var:
    """0.5 x (1 + tanh(√(2/π)(x + 0.044715 x³))), written out (transformers/activations.py NewGELUActivation).

    Under autocast pow runs in fp32, so all that follows it does.
    """
    wide = FP32 if p.formats.autocast else x.each
    half = t.emit("half", [x], x.elements, x.each)
    x32 = cast(t, x, wide)
    size = x32.bytes
    cubed = t.emit("cube", [x32], x.elements, wide, [x32], [Step("temp", size), Step("temp", size), Step("input", size)])
    cubed = t.emit("scaled", [cubed], x.elements, wide)
    inner = add(t, x, cubed)
    inner = t.emit("scaled", [inner], x.elements, wide)
    tanh = t.emit("tanh", [inner], x.elements, wide)
    if tanh.grad:
        t.nodes[-1].saves = (tanh,)
    one = t.emit("plus one", [tanh], x.elements, wide, (), [Step("share")])
    return mul(t, half, one)


def _xielu(t: Tape, p: Profile, x: Var) -> Var:
    """Where x > 0: α x² + β x, else (eˣ − 1 − x) α + β x, written out (transformers/activations.py XIELUActivation).

    Under autocast the learned α is fp32, and so is all that meets it.
    """
    wide = FP32 if p.formats.autocast else x.each
    full = x.elements * wide
    learned = [Step("temp", full)] if p.method.trained else []
    linear_part = t.emit("beta x", [x], x.elements, x.each)
    scaled = t.emit("alpha x", [x], x.elements, wide, [x] if p.method.trained else [], [*learned, Step("input", x.bytes)])
    upper = add(t, t.emit("alpha x²", [scaled, x], x.elements, wide, [scaled, x]), linear_part)
    below = t.emit("smaller than 0", [x], x.elements, x.each, [x], [Step("temp", x.elements), Step("input", x.bytes)])
    power = t.emit("expm1", [cast(t, below, wide)], x.elements, wide)
    if power.grad:
        t.nodes[-1].saves = (power,)
    less = t.emit("less x", [power, x], x.elements, wide, (), [Step("share"), Step("input", x.bytes, 1)])
    lower = t.emit("alpha less", [less], x.elements, wide, [less] if p.method.trained else [], [*learned, Step("input", full)])
    lower = add(t, lower, t.emit("beta x", [x], x.elements, x.each))
    side = Var(x.elements, BYTE, False, f"{t.path}/x > 0")
    return t.emit("where", [upper, lower], x.elements, wide, [side], [Step("input", full, 0), Step("input", full, 1)])


def softmax(t: Tape, x: Var, each: int) -> Var:
    """Softmax in the given type: saves its output."""
    x = cast(t, x, each)
    y = t.emit("softmax", [x], x.elements, each)
    if y.grad:
        t.nodes[-1].saves = (y,)
    return y


def sigmoid(t: Tape, x: Var) -> Var:
    """Sigmoid: saves its output."""
    y = t.emit("sigmoid", [x], x.elements, x.each)
    if y.grad:
        t.nodes[-1].saves = (y,)
    return y


def weighted(t: Tape, x: Var, w: Var) -> Var:
    """Vectors x, each times its own number w: w's gradient is summed from a full product, made in the wider type; so is x's,
    and cast once both are there."""
    each = max(x.each, w.each)
    full = Step("temp", x.elements * each)
    steps = [full, Step("input", x.bytes)] if x.each == each else [full, full, Step("cast", x.bytes)]
    return t.emit("weighted", [x, w], x.elements, each, _factors(x, w), [*steps, Step("input", w.bytes, 1)])


def _factors(a: Var, b: Var) -> list[Var]:
    """What a product saves: each factor whose fellow needs a gradient."""
    return [x for x, other in ((a, b), (b, a)) if other.grad]


def halves(t: Tape, both: Var) -> tuple[Var, Var]:
    """chunk(2): two views, whose gradients are joined in one copy."""
    first, second = (t.emit(name, [both], both.elements * 0.5, both.each, (), [Step("share")]) for name in ("gate", "up"))
    first.whole = second.whole = both
    return first, second
