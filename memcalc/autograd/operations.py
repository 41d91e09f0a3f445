"""PyTorch operations on the tape: what each saves for its backward and what that allocates.

Derivatives as in PyTorch's tools/autograd/derivatives.yaml; shapes are elements per token unless said otherwise.
"""

from memcalc.autograd.elementary import ACTIVATIONS as ACTIVATIONS
from memcalc.autograd.elementary import CLAMPED_GLU as CLAMPED_GLU
from memcalc.autograd.elementary import WEIGHT_CAST as WEIGHT_CAST
from memcalc.autograd.elementary import activation as activation
from memcalc.autograd.elementary import add as add
from memcalc.autograd.elementary import cast as cast
from memcalc.autograd.elementary import clamped_glu as clamped_glu
from memcalc.autograd.elementary import dropout as dropout
from memcalc.autograd.elementary import halves as halves
from memcalc.autograd.elementary import mul as mul
from memcalc.autograd.elementary import scale as scale
from memcalc.autograd.elementary import scale_by_norm as scale_by_norm
from memcalc.autograd.elementary import sigmoid as sigmoid
from memcalc.autograd.elementary import softmax as softmax
from memcalc.autograd.elementary import weighted as weighted
from memcalc.autograd.elementary import wide_glu as wide_glu
from memcalc.autograd.profile import LOW, LowPrecision, Profile
from memcalc.autograd.tape import BYTE, MatrixShape, Size, Step, Tape, Var
from memcalc.frozen import NamedTuple


class Matrix(NamedTuple):
    """A linear layer as one rank has it."""

    name: str
    width: float  # outputs of a token
    weight: float  # elements
    bias: float = 0  # elements; 0: none
    used: float = 1.0  # share of the weight that a token needs
    trained: bool | None = None  # whether it has a gradient, where that is not what the method says of all
    reduced: bool = False  # tensor-parallel ranks add their results up
    buffered: bool = False  # what it gathers lies in a buffer that stands
    merged: float = 1.0  # rows of a token: a quarter where squares of four patches are one row


def linear(t: Tape, p: Profile, x: Var, matrix: Matrix) -> Var:
    """x Wᵀ (+ b): saves its input when W needs a gradient, and W itself (free, unless autocast made a copy).

    Under autocast the casts of input and weight are what is saved. A frozen W saves nothing; where it has low-rank adapters,
    they save what they need.
    """
    name, width, weight, bias, used, trained, reduced, buffered, merged = matrix
    if p.adapters.on(name):
        from memcalc.autograd import adapters

        given, x = x, adapters.before(t, p, name, x)
    w, x_used, learns = Size(fixed=weight), x, p.method.trained
    trained, learns = (learns, learns) if trained is None else (trained, learns or trained)
    quantised = p.method.quantised and not p.method.trained and (name != "logits" or p.kernels.quantised_head)
    t.multiply(name, Size(token=2 * weight * used * merged), x.grad + trained,
               shape=_matrix(p, x, weight, used, merged, x.grad, trained, reduced=reduced))  # fmt: skip
    if p.method.fake_quantised and trained:
        return _fake_quantised(t, p, name, x, width, w)
    inputs, saves = [x], []
    casts = p.method.casts and p.formats.kbit if quantised else p.formats.autocast
    if casts:  # bitsandbytes' Linear4bit casts its input, whoever multiplies
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
        steps.append(Step("weight", Size(fixed=bias * p.formats.weights)))
    if p.formats.autocast and p.formats.weights != p.formats.compute and not quantised:
        # the cast copy is kept for the backward; its 16-bit gradient is cast back by a node of its own
        backward = [Step("weight", w * p.formats.weights)]
        copy = t.emit(f"{name}{WEIGHT_CAST}", [], w, p.formats.compute, (), backward, trained=trained)
        inputs.append(copy)
        saves.append(copy)
        steps.append(Step("input", copy.bytes, 1))
    elif trained and not p.method.accumulated:
        steps.append(Step("weight", w * p.formats.weights))
    if quantised:
        steps += _expanded(t, p, w * x_used.each)
        saves += _attached(t, p, x_used)
    steps.append(Step("input", x_used.bytes, 0))
    each = x_used.each if quantised else p.formats.product
    out = t.emit(name, inputs, Size(token=width), each, saves, steps, trained=learns)
    t.products.append(out)
    if reduced and p.degrees.tp > 1:
        sp = p.degrees.sequence_parallel
        whole = out.bytes * (1 / p.degrees.stream)
        t.send("tp", whole, ("reduce-scatter",) if sp else ("all-reduce",), ("all-gather",) if sp and out.grad else ())
    out = cast(t, out, x.each) if quantised and p.formats.kbit else out  # and casts its result back
    return adapters.after(t, p, name, given, out) if p.adapters.on(name) else out


def _attached(t: Tape, p: Profile, x: Var) -> list[Var]:
    """The input of a quantised product where its function holds it, as an attribute (bitsandbytes/autograd/_functions.py,
    ctx.tensors)."""
    if not (p.kernels.keeps_quantised_inputs or p.method.keeps_inputs):
        return []
    t.attached.append(x.whole or x)
    return [x]


def _expanded(t: Tape, p: Profile, size: Size) -> list[Step]:
    """A quantised matrix of so many bytes once it is whole: for its product and again for the input's gradient, before that is
    there (bitsandbytes/autograd/_functions.py, MatMul4Bit; what was quantised from another 16-bit type is cast from it)."""
    if not p.method.expands:
        return []
    again = p.kernels.quantised_from_half
    t.expanded = size * (1 + again)
    return [*([Step("passing", size)] if again else []), Step("temp", size)]


def _matrix(
    p: Profile, x: Var, weight: float, used: float, merged: float, grad: bool, trained: bool, *, reduced: bool
) -> MatrixShape | None:
    """The shapes of a product. Under sequence parallelism a matrix that is not cut sees a rank's share of the tokens."""
    if not x.elements.token:
        return None
    rows = merged * (1.0 if reduced or x.label.endswith("gathered") else p.degrees.stream)
    inputs = x.elements.token / (rows * max(1.0, used))  # an encoder's tokens may be more than the decoder's
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
        return t.copies.setdefault(x, made) if p.kernels.own_products else made
    if not p.formats.saved_input or p.formats.saved_input == x.each:
        return x
    return Var(x.elements, p.formats.saved_input, False, f"{x.label} in fp8")


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
