"""Layers whose blocks are not residual branches one after the other: how each such family joins them.

WIRINGS is the table. Each function records one layer: (tape, profile, its blocks by name, its input) → its result.
"""

from collections.abc import Callable, Mapping
from typing import Any

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Size, Step, Tape, Var

Blocks = Mapping[str, Any]
Wiring = Callable[[Tape, Profile, Blocks, Var], Var]


def through(t: Tape, p: Profile, blocks: Blocks, x: Var, *names: str) -> Var:
    """x through these blocks, one after the other."""
    for name in names:
        t.path = name
        x = blocks[name].forward(t, p, x)
    return x


def _gemma4(t: Tape, p: Profile, blocks: Blocks, x: Var) -> Var:
    """Norms around each branch; the experts, where there are some, read the same residual as the dense feed-forward; all of it
    times a constant in the end, in place (modeling_gemma4.Gemma4TextDecoderLayer)."""
    x = ops.add(t, x, through(t, p, blocks, x, "input_norm", "attention", "post_attention_norm"))
    y = through(t, p, blocks, x, "pre_mlp_norm", "mlp")
    if "experts" in blocks:
        y = through(t, p, blocks, y, "post_mlp_norm_1")
        t.path = "experts"
        weights = blocks["experts"].choose(t, p, x)
        routed = through(t, p, blocks, x, "pre_experts_norm")
        t.path = "experts"
        routed = blocks["experts"].forward(t, p, routed, weights)
        y = ops.add(t, y, through(t, p, blocks, routed, "post_experts_norm"))
    x = ops.add(t, x, through(t, p, blocks, y, "post_mlp_norm"))
    if "per_layer_input" in blocks:
        x = ops.add(t, x, through(t, p, blocks, x, "per_layer_input"))
    return ops.scale(t, x, "layer's constant")


def _scaled(t: Tape, p: Profile, blocks: Blocks, x: Var) -> Var:
    """What each branch returns times a learned vector (CaiT's LayerScale; modeling_internvl.InternVLVisionLayer)."""
    x = ops.add(t, x, _by_vector(t, p, blocks, through(t, p, blocks, x, "input_norm", "attention"), "attention_scale"))
    return ops.add(t, x, _by_vector(t, p, blocks, through(t, p, blocks, x, "post_attention_norm", "mlp"), "mlp_scale"))


def _by_vector(t: Tape, p: Profile, blocks: Blocks, x: Var, name: str) -> Var:
    """x · w: keeps x; its backward makes a full product before summing it to w's gradient."""
    t.path = name
    size = sum(weight.parameters for weight in blocks[name].weights())
    each, trained = max(x.each, p.formats.weights), p.method.trained
    steps = [Step("input", x.elements * each, 0)]
    if trained:
        steps += [Step("temp", x.elements * each), Step("weight", Size(fixed=size * p.formats.weights))]
    return t.emit("scaled", [x], x.elements, each, [x] if trained else [], steps, trained=trained)


WIRINGS: dict[str, Wiring] = {"gemma4": _gemma4, "scaled": _scaled}
