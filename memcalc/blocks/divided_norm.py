"""LayerNorm as DeBERTa 1 writes it out: in fp32, divided by the deviation (modeling_deberta.DebertaLayerNorm)."""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var


def divided(t: Tape, p: Profile, x: Var, groups: float, size: int) -> Var:
    """(x − mean) / √(variance + ε) in fp32, cast back, then scaled and shifted."""
    elements, wide = x.elements, x.elements * FP32
    x32 = ops.cast(t, x, FP32)
    spread = [Step("input", wide)]
    mean = t.emit("mean", [x32], Size(token=groups), FP32, (), spread)
    squared, centred = (
        t.emit("centred", [x32, mean], elements, FP32, (), [Step("share"), Step("temp", wide)]) for _ in range(2)
    )
    variance = t.emit("square", [squared], elements, FP32, [squared], [Step("temp", wide), Step("temp", wide), *spread])
    variance = t.emit("mean", [variance], Size(token=groups), FP32, (), spread)
    deviation = t.emit("deviation", [variance], Size(token=groups), FP32)
    if deviation.grad:
        t.nodes[-1].saves = (deviation,)
    # of the divisor: − gradient · ((dividend / divisor) / divisor)
    steps = [*spread, Step("temp", wide), Step("temp", wide), Step("input", deviation.bytes, 1)]
    normed = t.emit("normalised", [centred, deviation], elements, FP32, [centred, deviation], steps)
    scaled = ops.scale_by_norm(t, p, ops.cast(t, normed, x.each), size, p.formats.norms)
    steps = [Step("weight", Size(fixed=size * p.formats.norms))] if p.method.trains("norms") else []
    return t.emit("shifted", [scaled], elements, scaled.each, (), [*steps, Step("share")], trained=p.method.trains("norms"))
