"""Layers whose blocks are not residual branches one after the other: how each such family joins them.

WIRINGS is the table. Each function records one layer: (tape, profile, its blocks by name, its input) → its result.
"""

from collections.abc import Callable, Mapping
from typing import Any

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.blocks.altup import one_of

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


def _by_depth(t: Tape, p: Profile, blocks: Blocks, x: Var) -> Var:
    """Norms around each branch; what it returns and the residual, each times a constant, are added
    (modeling_beam.depth_scaled_residual_add)."""
    for names in (("input_norm", "attention", "post_attention_norm"), ("pre_mlp_norm", "mlp", "post_mlp_norm")):
        y = through(t, p, blocks, x, *names)
        x = ops.add(t, ops.scale(t, y), ops.scale(t, x, "residual scaled"))
    return x


def _gated(t: Tape, p: Profile, blocks: Blocks, x: Var) -> Var:
    """Norms around each branch; α times the residual and β times what it returns are added in fp32, both made of one learned
    vector (modeling_muse_spark.MuseSparkResidualGate)."""
    for gate, *names in (
        ("attention_gate", "input_norm", "attention", "post_attention_norm"),
        ("mlp_gate", "pre_mlp_norm", "mlp", "post_mlp_norm"),
    ):
        y = through(t, p, blocks, x, *names)
        t.path = gate
        alpha, beta = blocks[gate].mixing(t, p)
        x = ops.cast(t, ops.add(t, _by_gate(t, x, alpha), _by_gate(t, y, beta)), x.each)
    return x


def _by_gate(t: Tape, x: Var, gate: Var) -> Var:
    """x times a vector in fp32: the gradients of both are made in it, whole, before one is summed and the other cast."""
    full, saves = Step("temp", x.elements * FP32), [var for var, other in ((x, gate), (gate, x)) if other.grad]
    steps = [Step("input", x.bytes)] if x.each == FP32 else [full, Step("cast", x.bytes)]
    return t.emit(
        "gated", [x, gate], x.elements, FP32, saves, [*([full] if gate.grad else []), *steps, Step("input", gate.bytes, 1)]
    )


def _by_vector(t: Tape, p: Profile, blocks: Blocks, x: Var, name: str) -> Var:
    """x · w: keeps x; its backward makes a full product before summing it to w's gradient."""
    t.path = name
    size = sum(weight.parameters for weight in blocks[name].weights())
    each, trained = max(x.each, p.formats.weights), p.method.trained
    steps = [Step("input", x.elements * each, 0)]
    if trained:
        steps += [Step("temp", x.elements * each), Step("weight", Size(fixed=size * p.formats.weights))]
    return t.emit("scaled", [x], x.elements, each, [x] if trained else [], steps, trained=trained)


def _gemma3n(t: Tape, p: Profile, blocks: Blocks, x: Var) -> Var:
    """All streams are predicted, one of them passes the layer beside a low-rank residual, all are corrected, and those but the
    first get the layer's vectors (modeling_gemma3n.Gemma3nTextDecoderLayer)."""
    altup = blocks["altup"]
    t.path = "altup"
    predictions = altup.forward(t, p, x)
    active = one_of(t, predictions, altup.streams)
    normed = through(t, p, blocks, active, "input_norm")
    laurel = through(t, p, blocks, normed, "laurel")
    attention = through(t, p, blocks, normed, "attention", "post_attention_norm")
    gated = ops.add(t, active, attention)
    y = ops.scale(t, ops.add(t, gated, laurel))
    inner = through(t, p, blocks, y, "pre_mlp_norm", "mlp")
    outer = through(t, p, blocks, inner, "post_mlp_norm")
    z = ops.add(t, y, outer)
    t.path = "altup"
    corrected = altup.correct(t, p, predictions, z)
    vectors = through(t, p, blocks, altup.scaled(t, p, corrected), "per_layer_input")
    x = altup.rest_plus(t, corrected, vectors)
    t.hold(predictions, laurel, attention, gated, y, inner, outer, z)
    return x


def _hyper_connected(t: Tape, p: Profile, blocks: Blocks, x: Var) -> Var:
    """Each block reads the streams collapsed into one, and its result is spread over them (modeling_deepseek_v4 and
    modeling_glm5_next, …DecoderLayer)."""
    mixer = "linear_attention" if "linear_attention" in blocks else "attention"
    for connection, norm, block in (
        ("attention_connection", "input_norm", mixer), ("mlp_connection", "post_attention_norm", "mlp"),
    ):  # fmt: skip
        t.path = connection
        y, coefficients = blocks[connection].enter(t, p, x)
        y = through(t, p, blocks, y, norm, block)
        t.path = connection
        x = blocks[connection].leave(t, p, x, y, coefficients)
    return x


def _convolved_beside(t: Tape, p: Profile, blocks: Blocks, x: Var) -> Var:
    """What two branches with norms of their sums return, and a convolution of the layer's input, under a norm
    (modeling_deberta_v2.DebertaV2Encoder)."""
    y = x
    for block, norm in (("attention", "post_attention_norm"), ("mlp", "post_mlp_norm")):
        y = through(t, p, blocks, ops.add(t, y, through(t, p, blocks, y, block)), norm)
    since = len(t.nodes)
    y = through(t, p, blocks, ops.add(t, y, through(t, p, blocks, x, "convolution")), "convolution_norm")
    t.beyond = list(dict.fromkeys(var for node in t.nodes[since:] for var in node.saves if not var.outside))
    return t.emit("unpadded", [y], y.elements, y.each)


def _global_tokens(t: Tape, p: Profile, blocks: Blocks, x: Var) -> Var:
    """Tokens and a few global tokens side by side, through the same matrices (modeling_pegasus_x.PegasusXEncoderLayer)."""
    from memcalc.blocks.attention.global_local import feed_forward, normed

    attention, mlp, norm = blocks["attention"], blocks["mlp"], blocks["post_attention_norm"]
    local, few = attention.rows(p)
    g = Var(few.of(attention.hidden), p.formats.residual, True, "global tokens")
    t.beyond = [g]
    y = through(t, p, blocks, x, "input_norm")
    t.path = "global_norm"
    seen = normed(t, p, blocks["global_norm"], g, shared=False)
    if attention.staggered:
        y = t.emit("padded", [y], local.of(attention.hidden), y.each, (), [Step("input", y.bytes)])
    t.path = "attention"
    y, seen = attention.both(t, p, y, seen)
    if attention.staggered:
        whole, y = y, t.emit("unpadded", [y], x.elements, y.each, (), [Step("input", y.bytes)])
        y.whole = whole
    x = ops.add(t, x, ops.dropout(t, p, y, attention.output_dropout))
    alone = attention.last
    g = g if alone else ops.add(t, g, ops.dropout(t, p, seen, attention.output_dropout))
    y = through(t, p, blocks, x, "post_attention_norm")
    t.path = "mlp"
    x = ops.add(t, x, feed_forward(t, p, mlp, y, local._replace(fixed=0.0), first=alone))
    if alone:
        return x
    t.path = "post_attention_norm"
    seen = normed(t, p, norm, g, shared=True)
    t.path = "mlp"
    g = ops.add(t, g, feed_forward(t, p, mlp, seen, few, first=True))
    t.carried.append(g)
    return x


def _mixed_with_first(t: Tape, p: Profile, blocks: Blocks, x: Var) -> Var:
    """Attention reads a mix of the residual and of what the first layer was given; what branches return is scaled
    (modeling_neomme.NeoMMEEncoderLayer)."""
    x = ops.add(t, x, ops.scale(t, through(t, p, blocks, x, "mix", "input_norm", "attention")))
    return ops.add(t, x, ops.scale(t, through(t, p, blocks, x, "post_attention_norm", "mlp")))


def _convolved(t: Tape, p: Profile, blocks: Blocks, x: Var) -> Var:
    """What each branch returns passes a convolution (modeling_inkling.InklingDecoderLayer)."""
    x = ops.add(t, x, through(t, p, blocks, x, "input_norm", "attention", "attention_convolution"))
    return ops.add(t, x, through(t, p, blocks, x, "post_attention_norm", "mlp", "mlp_convolution"))


def _shared_transformer(t: Tape, p: Profile, blocks: Blocks, x: Var) -> Var:
    """What a transformer block without residuals makes of the residual and the embeddings is added for the mixer alone
    (modeling_zamba.ZambaHybridLayer), which has a checkpoint of its own inside the layer's."""
    y = through(t, p, blocks, x, "shared_input", "shared_input_norm", "shared_attention", "shared_mlp_norm")
    adapters = [name for name in blocks if name.startswith("mlp_adapter")]
    added = [through(t, p, blocks, y, *adapters)] if adapters else []
    t.path = "shared_mlp"
    made = through(t, p, blocks, blocks["shared_mlp"].forward(t, p, y, *added), "shared_output")
    t.beyond = [made]
    return ops.add(t, x, through(t, p, blocks, ops.add(t, x, made), "norm", "state_space"))


def _on_sphere(t: Tape, p: Profile, blocks: Blocks, x: Var) -> Var:
    """The residual itself is normed, and goes some way towards what each branch returns (modeling_dory.DoryDecoderLayer)."""
    x = through(t, p, blocks, x, "loop") if "loop" in blocks else x
    for norm, *branch in (("input_norm", "attention", "post_attention_norm"), ("pre_mlp_norm", "mlp", "post_mlp_norm")):
        x = through(t, p, blocks, x, norm)
        y = through(t, p, blocks, x, *branch)
        t.path = "residual"
        x = blocks["residual"].forward(t, p, x, y)
    return x


def _streams_ahead(t: Tape, p: Profile, blocks: Blocks, x: Var) -> Var:
    """Norms of sums over all streams (modeling_prophetnet.ProphetNetDecoderLayer)."""
    from memcalc.blocks.attention.predicting_streams import feed_forward

    streams, returned = blocks["attention"].streams, []
    for name in ("attention", "cross_attention", "mlp"):
        if name in blocks and not blocks[name].passed:
            t.path = name
            block = blocks[name]
            y = feed_forward(t, p, block, x, streams) if name == "mlp" else block.forward(t, p, x)
            x = ops.add(t, x, y)
            t.path = f"{NORMS[name]}_norm"
            x = blocks[t.path].forward(t, p, x, streams)
            returned.append(y)
    t.hold(*returned)
    return x


NORMS = {"attention": "post_attention", "cross_attention": "cross_attention", "mlp": "post_mlp"}
WIRINGS: dict[str, Wiring] = {
    "hyper-connections": _hyper_connected, "gemma3n": _gemma3n, "gemma4": _gemma4, "scaled": _scaled,
    "scaled by depth": _by_depth, "convolved beside": _convolved_beside, "global tokens": _global_tokens,
    "mixed with the first": _mixed_with_first, "gated residuals": _gated, "convolved": _convolved,
    "shared transformer": _shared_transformer, "on the unit sphere": _on_sphere,
    "streams ahead": _streams_ahead,
}  # fmt: skip
