"""Unsloth's functions over adapted matrices, which keep inputs only and write their gradients over what they kept.

LoRA_MLP keeps its input, gate and up; LoRA_QKV and LoRA_W keep their input (unsloth/kernels/fast_lora.py). A frozen matrix in 4
bits is expanded for each product, one at a time (unsloth/kernels/utils.py, fast_dequantize). Adapters compute in the
input's type, their gradients are the adapters' own.
"""

from collections.abc import Mapping

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, MatrixShape, Size, Step, Tape, Var


def mlp(t: Tape, p: Profile, x: Var, hidden: int, width: int) -> Var:
    """down(act(gate(x)) · up(x)). The backward makes the product's gradient, writes those of gate and up over them, x's over
    x (LoRA_MLP.backward, swiglu_DWf_DW_dfg_kernel)."""
    gate, up = (Var(Size(token=width), p.formats.compute, False, f"{t.path}/{name}") for name in ("gate", "up"))
    steps = [Step("temp", gate.bytes), _expanded(p, hidden * width)]
    for name, inputs, outputs in (("down", width, hidden), ("up", hidden, width), ("gate", hidden, width)):
        steps += _adapters(t, p, name, inputs, outputs, x.grad)
    return t.emit("mlp", [x], Size(token=hidden * p.degrees.stream), p.formats.compute, [x, gate, up],
                  [step for step in steps if step.bytes != Size()] + [Step("over", x.bytes)], trained=True)  # fmt: skip


def projections(t: Tape, p: Profile, x: Var, widths: Mapping[str, int], inputs: int) -> list[Var]:
    """Query, key and value. x's gradient is written over x once those of all three are there: with the first of them here,
    whose backward runs last (LoRA_QKV.backward)."""
    out = []
    for index, (name, width) in enumerate(widths.items()):
        steps = [_expanded(p, inputs * width), *_adapters(t, p, name, inputs, width, x.grad)]
        steps = [step for step in steps if step.bytes != Size()] + ([] if index else [Step("over", x.bytes)])
        out.append(t.emit(name, [x], Size(token=width), p.formats.compute, [x], steps, trained=True))
    return out


def projection(t: Tape, p: Profile, name: str, x: Var, width: int, inputs: int) -> Var:
    """One adapted matrix: keeps its input, whose gradient is new (LoRA_W)."""
    steps = [_expanded(p, inputs * width), *_adapters(t, p, name, inputs, width, x.grad)]
    steps = [step for step in steps if step.bytes != Size()] + [Step("input", x.bytes)]
    return t.emit(name, [x], Size(token=width * p.degrees.stream), p.formats.compute, [x], steps, trained=True)


def _expanded(p: Profile, weight: int) -> Step:
    """A quantised matrix as it is multiplied with."""
    return Step("temp", Size(fixed=weight * p.formats.compute if p.method.quantised and p.method.expands else 0))


def _adapters(t: Tape, p: Profile, name: str, inputs: int, outputs: int, needs: bool) -> list[Step]:
    """A matrix and its pair of adapters: their work, and the gradients of the pair."""
    t.multiply(name, Size(token=2 * inputs * outputs), int(needs), shape=MatrixShape(1.0, outputs, inputs, 1, needs, False))
    rank = p.adapters.rank
    for part, size in (("lora A", inputs), ("lora B", outputs)):
        shape = MatrixShape(1.0, rank, size) if part == "lora A" else MatrixShape(1.0, size, rank)
        t.multiply(f"{name} {part}", Size(token=2 * rank * size), 2, shape=shape)
    return [Step("weight", Size(fixed=rank * size * FP32)) for size in (inputs, outputs)]
