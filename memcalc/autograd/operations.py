"""PyTorch operations on the tape: what each saves for its backward and what that allocates.

Derivatives as in PyTorch's tools/autograd/derivatives.yaml; shapes are elements per token unless said otherwise.
"""

from memcalc.autograd.profile import LOW, LowPrecision, Profile
from memcalc.autograd.tape import BYTE, FP32, MatrixShape, Size, Step, Tape, Var

WEIGHT_CAST = " weight cast"  # what autocast makes of a weight


def cast(t: Tape, x: Var, each: int) -> Var:
    """`.to(dtype)`: a copy, or the tensor itself when it has the type already. Saves nothing."""
    return x if x.each == each else t.emit("cast", [x], x.elements, each)


def linear(
    t: Tape, p: Profile, name: str, x: Var, width: float, weight: float, *, bias: bool = False, bias_size: float = 0,
    output: int | None = None, used: float = 1.0, trained: bool | None = None, reduced: bool = False, buffered: bool = False,
) -> Var:  # fmt: skip
    """x Wᵀ (+ b): saves its input when W needs a gradient, and W itself (free, unless autocast made a copy).

    width: outputs per token; weight: elements of W, of which a token needs the share `used`. Under autocast the casts of
    input and weight are what is saved. A frozen W saves nothing; where it has low-rank adapters, they save what they need.
    `trained`: whether W has a gradient, where that is not what the method says of all. `reduced`: tensor-parallel ranks add
    their results up; `buffered`: what it gathers lies in a buffer that stands.
    """
    w, x_used, learns = Size(fixed=weight), x, p.method.trained
    trained, learns = (learns, learns) if trained is None else (trained, learns or trained)
    quantised = p.method.quantised and not p.method.trained and (name != "logits" or p.kernels.quantised_head)
    t.multiply(name, Size(token=2 * weight * used), x.grad + trained,
               shape=_matrix(p, x, weight, used, x.grad, trained, reduced=reduced))  # fmt: skip
    if p.method.fake_quantised and trained:
        return _fake_quantised(t, p, name, x, width, w)
    inputs, saves = [x], []
    if p.formats.autocast or (quantised and p.formats.upcast):  # bitsandbytes casts its input, whoever multiplies
        x_used = cast(t, x, p.formats.compute)
        inputs = [x_used]
    low = LOW[p.formats.low] if p.formats.low and trained and name != "logits" else None
    if trained:
        saves.append(_saved_input(t, p, x_used, low))
    if low and low.weight:
        saves.append(Var(w * low.weight, BYTE, False, f"{t.path}/{name} weight in {p.formats.low}"))
    steps = _gathered_again(p, x, width, reduced=reduced, buffered=buffered)
    if low:  # of the input and of the gradient that arrives, for the weight's gradient
        steps.append(Step("temp", (x_used.elements + Size(token=width)) * low.operands))
    if bias and learns:
        steps.append(Step("weight", Size(fixed=bias_size * p.formats.weights)))
    if p.formats.autocast and p.formats.weights != p.formats.compute and not quantised:
        # the cast copy is kept for the backward; its 16-bit gradient is cast back by a node of its own
        backward = [Step("weight", w * p.formats.weights)]
        copy = t.emit(f"{name}{WEIGHT_CAST}", [], w, p.formats.compute, (), backward, trained=trained)
        inputs.append(copy)
        saves.append(copy)
        steps.append(Step("input", copy.bytes, 1))
    elif trained and not p.method.accumulated:
        steps.append(Step("weight", w * p.formats.weights))
    if quantised:  # bitsandbytes MatMul4Bit: the weight is expanded again for the input's gradient
        steps += [Step("temp", w * p.formats.compute)] if p.method.expands else []
        saves += [x_used] if p.kernels.keeps_quantised_inputs or p.method.keeps_inputs else []
    steps.append(Step("input", x_used.bytes, 0))
    each = output or (p.formats.compute if quantised else p.formats.product)
    out = t.emit(name, inputs, Size(token=width), each, saves, steps, trained=learns)
    t.products.append(out)
    if reduced and p.degrees.tp > 1:
        sp = p.degrees.sequence_parallel
        whole = out.bytes * (1 / p.degrees.stream)
        t.send("tp", whole, ("reduce-scatter",) if sp else ("all-reduce",), ("all-gather",) if sp and out.grad else ())
    out = cast(t, out, x.each) if quantised and p.formats.upcast else out  # and casts its result back
    return _adapted(t, p, name, x, out) if name in p.adapters.layers else out


def _matrix(p: Profile, x: Var, weight: float, used: float, grad: bool, trained: bool, *, reduced: bool) -> MatrixShape | None:
    """The shapes of a product. Under sequence parallelism a matrix that is not cut sees a rank's share of the tokens."""
    if not x.elements.token:
        return None
    rows = 1.0 if reduced or x.label.endswith("gathered") else p.degrees.stream
    inputs = x.elements.token / rows
    return MatrixShape(rows * used, weight / inputs, inputs, 1, grad, trained)


def gathered(t: Tape, p: Profile, x: Var) -> Var:
    """A sequence-parallel rank's share of the tokens becomes all of them before matrices that are cut by outputs.

    PyTorch's DTensor keeps the whole for the backward; Transformer Engine keeps the share, of which this is a view, and
    gathers again (transformer_engine/pytorch/module/layernorm_linear.py, ln_out_needs_gather). The gradient is whole, and
    scattered into shares.
    """
    if not p.degrees.sequence_parallel:
        if p.degrees.tp > 1:
            t.send("tp", x.bytes, (), ("all-reduce",) if x.grad else ())
        return x
    again = ("all-gather",) if p.kernels.gathers_again and p.method.trained else ()
    t.send("tp", x.bytes * p.degrees.tp, ("all-gather",), (*again, "reduce-scatter") if x.grad else again)
    whole = t.emit("gathered", [x], x.elements * p.degrees.tp, x.each, (), [Step("input", x.bytes)])
    whole.whole = x if p.kernels.gathers_again else None
    return whole


def _gathered_again(p: Profile, x: Var, width: float, *, reduced: bool, buffered: bool) -> list[Step]:
    """What a matrix product's backward gathers under sequence parallelism: its input for the weight's gradient where only a
    share was kept, and the gradient of a result that was scattered."""
    if not p.degrees.sequence_parallel:
        return []
    if reduced:
        return [Step("temp", Size(token=width * p.degrees.tp * p.formats.compute))]
    again = x.whole is not None and x.whole.elements != x.elements and p.method.trained and not buffered
    return [Step("temp", x.bytes)] if again else []


def _saved_input(t: Tape, p: Profile, x: Var, low: LowPrecision | None = None) -> Var:
    """The input as a matrix product saves it: itself, or its copy in few bits (Transformer Engine)."""
    x = x.whole or x
    if low and low.input:
        made = Var(x.elements * low.input, BYTE, False, f"{x.label} in nvfp4")
        # Transformer Engine's fused modules multiply by several matrices at once: one copy for all of them
        return t.copies.setdefault(x, made) if p.kernels.name == "te" else made
    if not p.formats.saved_input or p.formats.saved_input == x.each:
        return x
    return Var(x.elements, p.formats.saved_input, False, f"{x.label} in fp8")


def _adapted(t: Tape, p: Profile, name: str, x: Var, base: Var) -> Var:
    """base(x) + scaling · B(A(x)): PEFT casts the input to the adapters' fp32, the sum back (peft/tuners/lora/layer.py)."""
    rank, each = p.adapters.rank, p.adapters.itemsize
    inputs, outputs = x.elements, base.elements
    wide = cast(t, x, FP32) if p.adapters.upcast else x
    dropped = dropout(t, p, wide, p.adapters.dropout)
    x32 = cast(t, dropped, each)
    share = 1.0 if x.label.endswith("gathered") else p.degrees.stream
    a_weight = Size(fixed=rank * (inputs.token / share if inputs.token else 0) * FP32)
    low = _low_rank(t, p, f"{name} lora A", x32, Size(token=rank), a_weight, dropped)
    b_weight = Size(fixed=rank * outputs.token * FP32)
    for part, weight in (("lora A", a_weight), ("lora B", b_weight)):
        size = weight.fixed / FP32 / rank
        shape = MatrixShape(1.0, rank, size) if part == "lora A" else MatrixShape(1.0, size, rank)
        t.multiply(f"{name} {part}", Size(token=2 * weight.fixed / FP32), 2, shape=shape)
    high = _low_rank(t, p, f"{name} lora B", low, outputs, b_weight, low)
    # the functions' frames hold their input, and what it was cast to, until they return
    high = t.emit("scaled", [high, wide, x], outputs, each, (), [Step("input", high.bytes)])
    if p.method.quantised and not p.adapters.autocast:  # peft/tuners/lora/bnb.py: cast before it is added
        high = cast(t, high, base.each)
    if p.adapters.magnitude:
        base, high = _scaled_by_magnitude(t, name, base, high, inputs, outputs)
    return cast(t, add(t, base, high), base.each)


def _low_rank(t: Tape, p: Profile, name: str, x: Var, outputs: Size, weight: Size, given: Var) -> Var:
    """A product with one matrix of a pair, whose gradient has so many bytes. Autocast makes a copy of the matrix, kept for the
    input's gradient, and the matrix's 16-bit gradient is cast back by a node of its own. `given`: what autocast cast to x."""
    each = p.adapters.itemsize
    if not p.adapters.autocast:
        return t.emit(name, [x], outputs, each, [x], [Step("weight", weight), Step("input", x.bytes)], trained=True)
    copy = t.emit(f"{name}{WEIGHT_CAST}", [], weight * (1 / FP32), each, (), [Step("weight", weight)], trained=True)
    steps = [Step("input", copy.bytes, 1), Step("input", x.bytes)]
    return t.emit(name, [x, copy, given], outputs, each, [x, copy] if x.grad else [x], steps, trained=True)


def padded_adapters(t: Tape, p: Profile, x: Var, base: Var, widths: dict[str, int]) -> Var:
    """base(x) + the adapters of some of query, key and value, widened to all three (litgpt/lora.py, LoRAQKVLinear).

    One A for all of them; their results are copied into zeros of the full width, and index_copy's derivative keeps what it
    copied.
    """
    adapted = {name: width for name, width in widths.items() if name in p.adapters.layers}
    if not adapted:
        return base
    each, rank = base.each, p.adapters.rank * len(adapted)
    x = dropout(t, p, x, p.adapters.dropout)
    a_weight, b_weight = Size(fixed=rank * x.elements.token * each), Size(fixed=p.adapters.rank * sum(adapted.values()) * each)
    low = t.emit("lora A", [x], Size(token=rank), each, [x], [Step("weight", a_weight), Step("input", x.bytes)], trained=True)
    high = t.emit("lora B", [low], Size(token=sum(adapted.values())), each, [low],
                  [Step("weight", b_weight), Step("input", low.bytes)], trained=True)  # fmt: skip
    for part, weight in (("lora A", a_weight), ("lora B", b_weight)):
        size = weight.fixed / each / rank
        shape = MatrixShape(1.0, rank, size) if part == "lora A" else MatrixShape(1.0, size, rank)
        t.multiply(part, Size(token=2 * weight.fixed / each), 2, shape=shape)
    wide = t.emit("padded", [high], base.elements, each, [high] if len(adapted) < len(widths) else [])
    return add(t, base, scale(t, wide))


def _scaled_by_magnitude(t: Tape, name: str, base: Var, high: Var, inputs: Size, outputs: Size) -> tuple[Var, Var]:
    """DoRA: (m / |W + BA| - 1) base + m / |W + BA| B(A(x)); both factors' operands are kept, and the norm needs W + BA in
    fp32 for a moment (peft/tuners/lora/dora.py)."""
    merged = Step("temp", Size(fixed=inputs.token * outputs.token * FP32))
    magnitude = Step("weight", Size(fixed=outputs.token * FP32))
    scaled = t.emit(f"{name} base by magnitude", [base], outputs, base.each, [base],
                    [merged, merged, Step("input", base.bytes)], trained=True)  # fmt: skip
    return scaled, t.emit(f"{name} lora by magnitude", [high], outputs, high.each, [high],
                          [magnitude, Step("input", high.bytes)], trained=True)  # fmt: skip


def _fake_quantised(t: Tape, p: Profile, name: str, x: Var, width: float, w: Size) -> Var:
    """Quantisation-aware training: input and weight pass a straight-through quantiser that keeps a mask of one byte a
    value, and the product keeps their quantised copies (torchao/quantization/qat, _GenericFakeQuantize)."""
    x_mask = Var(x.elements, BYTE, False, f"{name} input mask")
    x_quantised = t.emit(f"{name} input quantised", [x], x.elements, p.formats.compute, [x_mask])
    w_mask = Var(w, BYTE, False, f"{name} weight mask")
    w_quantised = t.emit(
        f"{name} weight quantised", [], w, p.formats.compute, [w_mask], [Step("weight", w * p.formats.weights)], trained=True
    )
    steps = [Step("input", w_quantised.bytes, 1), Step("input", x_quantised.bytes)]
    return t.emit(
        name, [x_quantised, w_quantised], Size(token=width), p.formats.compute, [x_quantised, w_quantised], steps, trained=True
    )


def add(t: Tape, a: Var, b: Var) -> Var:
    """a + b: saves nothing; the gradient is handed to both without a copy unless their types differ."""
    each = max(a.each, b.each)
    steps = [Step("share", source=i) if var.each == each else Step("input", var.bytes, i) for i, var in enumerate((a, b))]
    return t.emit("add", [a, b], a.elements, each, (), steps)


def mul(t: Tape, a: Var, b: Var) -> Var:
    """a · b: each is saved when the other needs a gradient."""
    saves = [x for x, other in ((a, b), (b, a)) if other.grad]
    return t.emit("product", [a, b], a.elements, max(a.each, b.each), saves)


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
        t.nodes[-1].saves = (y,) if y.grad else ()
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
    """Vectors x, each times its own number w: w's gradient is summed from a full product, made in the wider type."""
    each = max(x.each, w.each)
    full = x.elements * each
    steps = [Step("temp", full)] * (1 if x.each == each else 2)
    return t.emit(
        "weighted", [x, w], x.elements, each, _factors(x, w), [*steps, Step("input", x.bytes), Step("input", w.bytes, 1)]
    )


def _factors(a: Var, b: Var) -> list[Var]:
    """What a product saves: each factor whose fellow needs a gradient."""
    return [x for x, other in ((a, b), (b, a)) if other.grad]


def halves(t: Tape, both: Var) -> tuple[Var, Var]:
    """chunk(2): two views, whose gradients are joined in one copy."""
    first, second = (t.emit(name, [both], both.elements * 0.5, both.each, (), [Step("share")]) for name in ("gate", "up"))
    first.whole = second.whole = both
    return first, second
