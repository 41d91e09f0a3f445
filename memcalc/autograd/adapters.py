"""Adapters beside frozen matrices on the tape, as PEFT and LitGPT run them.

A kind acts on a matrix's input before the product, or adds to its result after it. All but LoRA's are traced module by module
with PEFT 0.21 and PyTorch 2.13.
"""

from math import prod

from memcalc.autograd.adapter_shapes import FEED_FORWARD, oft_block, shapes
from memcalc.autograd.elementary import WEIGHT_CAST, add, cast, dropout, scale
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, MatrixShape, Size, Step, Tape, Var


def before(t: Tape, p: Profile, name: str, x: Var) -> Var:
    """The input of an adapted matrix, where its adapter changes that."""
    if p.adapters.kind == "oft":
        return _rotated(t, p, name, x)
    return _scaled_input(t, name, x) if p.adapters.kind == "ia3" and name in FEED_FORWARD else x


def after(t: Tape, p: Profile, name: str, x: Var, base: Var) -> Var:
    """The result of an adapted matrix: its product with x, and what its adapter makes of that."""
    kind = p.adapters.kind
    if kind in DELTAS:
        return DELTAS[kind](t, p, name, x, base)
    return _scaled_result(t, name, base) if kind == "ia3" and name not in FEED_FORWARD else base


def _inputs(p: Profile, x: Var) -> float:
    """The width of a matrix whose input on this rank is x."""
    share = 1.0 if x.label.endswith("gathered") else p.degrees.stream
    return x.elements.token / share


def _lora(t: Tape, p: Profile, name: str, x: Var, base: Var) -> Var:
    """base(x) + scaling · B(A(x)): PEFT casts the input to the adapters' fp32, the sum back (peft/tuners/lora/layer.py)."""
    rank, each = p.adapters.rank, p.adapters.itemsize
    inputs, outputs = x.elements, base.elements
    wide = cast(t, x, FP32) if p.adapters.upcast else x
    dropped = dropout(t, p, wide, p.adapters.dropout)
    x32 = cast(t, dropped, each)
    a_weight = Size(fixed=rank * (_inputs(p, x) if inputs.token else 0) * FP32)
    low = _low_rank(t, p, f"{name} lora A", x32, Size(token=rank), a_weight, dropped)
    b_weight = Size(fixed=rank * outputs.token * FP32)
    for part, weight in (("lora A", a_weight), ("lora B", b_weight)):
        size = weight.fixed / FP32 / rank
        shape = MatrixShape(1.0, rank, size) if part == "lora A" else MatrixShape(1.0, size, rank)
        t.multiply(f"{name} {part}", Size(token=2 * weight.fixed / FP32), 2, shape=shape)
    high = _low_rank(t, p, f"{name} lora B", low, outputs, b_weight, low)
    # the functions' frames hold their input, and what it was cast to, until they return
    high = t.emit("scaled", [high, wide, x], outputs, each, (), [Step("input", high.bytes)])
    if p.adapters.narrow:  # peft/tuners/lora/bnb.py: cast before it is added
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


def grouped(t: Tape, p: Profile, name: str, x: Var, base: Var, shape: MatrixShape) -> Var:
    """The same beside a grouped product of routed experts, over its rows: two grouped products where each expert has a pair of
    its own, two plain ones where all share one (modelscope/mcore-bridge tuners/lora.py, LoraParallelLinear; Megatron-Bridge
    peft/lora_layers.py, LoRALinear)."""
    rows, outputs, inputs, experts, *_ = shape
    rank, each = p.adapters.rank, p.adapters.itemsize
    pairs = experts if p.adapters.own else 1
    value = cast(t, dropout(t, p, x, p.adapters.dropout), each)
    for part, wide, narrow in (("lora A", rank, inputs), ("lora B", outputs, rank)):
        own = MatrixShape(rows, wide, narrow, pairs)
        t.multiply(f"experts {name} {part}", Size(token=2 * rows * wide * narrow), 2, shape=own)
        weight = [] if p.method.accumulated else [Step("weight", Size(fixed=pairs * wide * narrow * p.formats.weights))]
        value = t.emit(f"{name} {part}", [value], Size(token=rows * wide), each, [value], [*weight, Step("input", value.bytes)],
                       trained=True)  # fmt: skip
    # the function's frame holds its input and the unscaled result until it returns
    high = t.emit("scaled", [value, x], base.elements, each, (), [Step("input", value.bytes)])
    return cast(t, add(t, base, high), base.each)


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


def _vera(t: Tape, p: Profile, name: str, x: Var, base: Var) -> Var:
    """base(x) + b · B(d · A(x)): A and B are frozen, so that their inputs need not be kept; the vectors d and b keep what they
    scale (peft/tuners/vera/layer.py). Autocast's casts of A and B are new for each matrix, for buffers are not cached."""
    rank, each, outputs = p.adapters.rank, p.adapters.itemsize, base.elements
    wide = cast(t, x, FP32)
    dropped = dropout(t, p, wide, p.adapters.dropout)
    low = _shared(t, p, f"{name} vera A", cast(t, dropped, each), Size(token=rank), rank * _inputs(p, x), dropped)
    low = _by_vector(t, f"{name} vera d", low, rank, first=True)
    high = _shared(t, p, f"{name} vera B", cast(t, low, each), outputs, rank * outputs.token, low)
    scaled = _by_vector(t, f"{name} vera b", high, outputs.token, wide, x, first=True)
    return cast(t, add(t, base, scaled), base.each)


def _shared(t: Tape, p: Profile, name: str, x: Var, outputs: Size, elements: float, given: Var) -> Var:
    """A product with a frozen fp32 matrix of so many elements."""
    t.multiply(name, Size(token=2 * elements), 1,
               shape=MatrixShape(1.0, outputs.token, elements / outputs.token, weight_grad=False))  # fmt: skip
    copy = [Var(Size(fixed=elements), p.adapters.itemsize, False, f"{t.path}/{name} cast")] if p.adapters.autocast else []
    return t.emit(name, [x, given], outputs, p.adapters.itemsize, copy, [Step("input", x.bytes)])


def _by_vector(t: Tape, name: str, x: Var, size: float, *frame: Var, first: bool = False) -> Var:
    """x times a learned fp32 vector: keeps x. The backward makes both whole products; `first`: the vector's is summed before
    that of x is cast."""
    full = x.elements * FP32
    steps = [Step("temp", full), Step("weight", Size(fixed=size * FP32))]
    if x.each != FP32:
        steps.append(Step("temp", full - x.bytes if first else full))
    steps.append(Step("input", x.bytes))
    return t.emit(name, [x, *frame], x.elements, FP32, [x], steps, trained=True)


def _scaled_result(t: Tape, name: str, base: Var) -> Var:
    """IA3: the result times a learned fp32 vector, cast back (peft/tuners/ia3/layer.py)."""
    return cast(t, _by_vector(t, f"{name} ia3", base, base.elements.token), base.each)


def _scaled_input(t: Tape, name: str, x: Var) -> Var:
    """IA3 before a feed-forward's last matrix: the input in fp32 times a learned vector, cast back."""
    return cast(t, _by_vector(t, f"{name} ia3", cast(t, x, FP32), x.elements.token), x.each)


def _whole_delta(t: Tape, p: Profile, name: str, x: Var, base: Var) -> Var:
    """base(x) + Δ x, Δ as large as the frozen matrix and kept for the input's gradient (peft/tuners/loha/layer.py, HadaWeight;
    lokr/layer.py, make_kron). Under autocast Δ is 16 bit, its factors' gradients fp32 all the same."""
    each, kind = p.adapters.itemsize, p.adapters.kind
    elements = Size(fixed=_inputs(p, x) * base.elements.token)
    factors = sum(prod(shape) for _, shape in shapes(kind, int(_inputs(p, x)), int(base.elements.token), p.adapters.rank))
    wide = elements * FP32
    # LoHa: the gradient scaled, the other product, and two products of them; LoKr: both factors' products with the gradient
    made = [elements * each, wide, wide, wide] if kind == "loha" else [wide, wide]
    steps = [*(Step("temp", size) for size in made), Step("weight", Size(fixed=factors * FP32))]
    own = each if kind == "loha" else FP32  # a Kronecker product is no matrix product to autocast
    made_of = t.emit(f"{name} {kind} matrix", [], elements, own, (), steps, trained=True)
    delta = cast(t, made_of, each)
    t.multiply(f"{name} {kind}", Size(token=2 * elements.fixed), 2,
               shape=MatrixShape(1.0, base.elements.token, _inputs(p, x)))  # fmt: skip
    wide_x = cast(t, x, own)
    x_used = cast(t, wide_x, each)
    saves = [x_used, delta] if x.grad else [x_used]
    added = t.emit(f"{name} {kind}", [x_used, delta, x, wide_x, made_of], base.elements, each, saves,
                   [Step("input", delta.bytes, 1), Step("input", x_used.bytes)], trained=True)  # fmt: skip
    return cast(t, add(t, base, added), base.each)


def _rotated(t: Tape, p: Profile, name: str, x: Var) -> Var:
    """R x by blocks, R from a skew-symmetric matrix by the Cayley transform's Neumann series (peft/tuners/oft/layer.py): its
    powers are kept, and the fp32 input, or under autocast their 16-bit casts."""
    width = _inputs(p, x)
    block = oft_block(int(width))
    blocks, each = Size(fixed=width * block), p.adapters.itemsize
    wide = cast(t, x, FP32)
    if p.adapters.autocast:  # laid out anew by the cast, and back again
        blocks_of = t.emit(f"{name} by blocks", [wide], x.elements, FP32)
        blocks_of.whole = wide.whole or wide
        wide = blocks_of
    kept = [Var(blocks, each, False, f"{t.path}/{name} oft block {i}") for i in range(7 if p.adapters.autocast else 4)]
    learned = Size(fixed=width / block * block * (block - 1) / 2 * FP32)
    steps = [*(Step("temp", blocks * FP32) for _ in range(4)), Step("weight", learned)]
    t.emit(f"{name} oft rotation", [], blocks, each, kept, steps, trained=True)
    t.multiply(f"{name} oft", Size(token=2 * x.elements.token * block), 2, shape=MatrixShape(width / block, block, block))
    x_used = cast(t, wide, each)
    back = [Step("temp", x_used.bytes), Step("input", x_used.bytes)]
    rotated = t.emit(f"{name} oft", [x_used], x.elements, each, [x_used], back, trained=True)
    laid = t.emit(f"{name} by tokens", [rotated, wide], x.elements, each, (), [Step("share")])
    if each != FP32:  # back to the type that the rotation was given, which the caller's variable still holds
        laid = t.emit("cast", [laid, wide, rotated], x.elements, FP32, (), [Step("input", x_used.bytes)])
    return cast(t, laid, x.each)


DELTAS = {"lora": _lora, "vera": _vera, "loha": _whole_delta, "lokr": _whole_delta}
