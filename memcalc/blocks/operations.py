"""PyTorch operations on the tape: what each saves for its backward and what that allocates.

Derivatives as in PyTorch's tools/autograd/derivatives.yaml; shapes are elements per token unless said otherwise.
"""

from memcalc.blocks.profile import Profile
from memcalc.blocks.tape import BYTE, FP32, Size, Step, Tape, Var


def cast(t: Tape, x: Var, each: int) -> Var:
    """`.to(dtype)`: a copy, or the tensor itself when it has the type already. Saves nothing."""
    return x if x.each == each else t.emit("cast", [x], x.elements, each)


def linear(
    t: Tape, p: Profile, name: str, x: Var, width: float, weight: float, *, bias: bool = False, bias_size: float = 0,
    trained: bool | None = None, output: int | None = None,
) -> Var:  # fmt: skip
    """x Wᵀ (+ b): saves its input when W needs a gradient, and W itself (free, unless autocast made a copy).

    width: outputs per token; weight: elements of W. Under autocast the input's and the weight's casts are what is saved.
    """
    is_trained = p.trained if trained is None else trained
    w, x_used = Size(fixed=weight), x
    inputs, saves = [x], []
    if p.autocast:
        x_used = cast(t, x, p.compute)
        inputs = [x_used]
    if is_trained:
        saves.append(x_used)
    steps: list[Step] = []
    if bias and is_trained:
        steps.append(Step("weight", Size(fixed=bias_size * p.weights)))
    if p.autocast and p.weights != p.compute:
        # the cast copy is kept for the backward; its 16-bit gradient is cast back by a node of its own
        copy = t.emit(f"{name} weight cast", [], w, p.compute, (), [Step("weight", w * p.weights)], trained=is_trained)
        inputs.append(copy)
        saves.append(copy)
        steps.append(Step("input", copy.bytes, 1))
    elif is_trained:
        steps.append(Step("weight", w * p.weights))
    steps.append(Step("input", x_used.bytes, 0))
    return t.emit(name, inputs, Size(token=width), output or p.compute, saves, steps, trained=is_trained)


def add(t: Tape, a: Var, b: Var) -> Var:
    """a + b: saves nothing; the gradient is handed to both without a copy unless their types differ."""
    each = max(a.each, b.each)
    steps = [
        Step("share", index=i) if var.each == each else Step("input", var.bytes, i) for i, var in enumerate((a, b))
    ]
    return t.emit("add", [a, b], a.elements, each, (), steps)


def mul(t: Tape, a: Var, b: Var) -> Var:
    """a · b: each is saved when the other needs a gradient."""
    saves = [x for x, other in ((a, b), (b, a)) if other.grad]
    return t.emit("product", [a, b], a.elements, max(a.each, b.each), saves)


def scale(t: Tape, x: Var, name: str = "scaled") -> Var:
    """x times a constant, or times a shared table such as cos and sin: saves nothing of x."""
    return t.emit(name, [x], x.elements, x.each)


def scale_by_weight(t: Tape, p: Profile, x: Var, size: float, each: int) -> Var:
    """x · w with a learned vector: saves x; its backward makes a full product before summing it to w's gradient."""
    out = max(x.each, each)
    steps = [Step("input", x.elements * out, 0)]
    if p.trained:
        steps += [Step("temp", x.elements * out), Step("weight", Size(fixed=size * each))]
    return t.emit("scaled", [x], x.elements, out, [x] if p.trained else [], steps, trained=p.trained)


def dropout(t: Tape, p: Profile, x: Var, probability: float) -> Var:
    """Keeps a mask of one byte an element."""
    if not (p.dropout and probability > 0):
        return x
    mask = Var(x.elements, BYTE, False, f"{t.path}/dropout mask")
    return t.emit("dropout", [x], x.elements, x.each, [mask])


ACTIVATIONS = {
    "silu": "input", "swish": "input", "gelu": "input", "gelu_pytorch_tanh": "input", "gelu_fast": "gelu_new",
    "relu": "output", "relu2": "relu2", "gelu_new": "gelu_new", "gelu_python": "input", "gelu_pytorch": "input",
}  # fmt: skip


# silu's backward as PyTorch composes it, grad · (σ · (1 + x · (1 − σ))): σ, 1 − σ, x · (1 − σ), 1 + … and their product
# live until the expression ends (ATen/native/Activation.cpp, math_silu_backward). Traces under fake tensors count them;
# CUDA's own kernel needs none, so on a GPU this is an upper bound, for one layer at a time.
COMPOSITE_TEMPORARIES = {"silu": 5, "swish": 5}


def activation(t: Tape, p: Profile, x: Var, name: str) -> Var:
    """An activation function: most save their input, ReLU its output, the composed ones every intermediate."""
    kind = ACTIVATIONS.get(name, "input")
    if kind == "gelu_new":
        return _gelu_new(t, p, x)
    if kind == "relu2":
        y = t.emit("relu", [x], x.elements, x.each)
        t.nodes[-1].saves = (y,) if y.grad else ()
        return t.emit("square", [y], x.elements, x.each, [y], [Step("temp", x.bytes), Step("temp", x.bytes), Step("input", x.bytes)])
    temporaries = [Step("temp", x.bytes)] * COMPOSITE_TEMPORARIES.get(name, 0)
    y = t.emit("activation", [x], x.elements, x.each, [x] if kind == "input" else [], [*temporaries, Step("input", x.bytes)])
    if kind == "output" and y.grad:
        t.nodes[-1].saves = (y,)
    return y


def _gelu_new(t: Tape, p: Profile, x: Var) -> Var:
    """0.5 x (1 + tanh(√(2/π)(x + 0.044715 x³))), written out (transformers/activations.py NewGELUActivation).

    Under autocast pow runs in fp32, so all that follows it does.
    """
    wide = FP32 if p.autocast else x.each
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


def softmax(t: Tape, x: Var, each: int) -> Var:
    """Softmax in the given type: saves its output."""
    x = cast(t, x, each)
    y = t.emit("softmax", [x], x.elements, each)
    if y.grad:
        t.nodes[-1].saves = (y,)
    return y
