"""Step 3.7: a rotary ViT, two strided convolutions and a mixture whose attention a matrix of its own gates a head."""

from collections.abc import Iterator, Mapping
from typing import Any

from memcalc.blocks.architecture import Architecture, Part, Stack
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.experts.mixture import Experts
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import attention, decoder, head_norms, mlp, rms, sliding_window, windowed
from memcalc.readers.hf.config import MAX_SIZE, Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import alternating, corrected_experts
from memcalc.readers.hf.multimodal.nested import joined, read_language, tied_outside
from memcalc.readers.hf.multimodal.towers import scaled_layer
from memcalc.readers.hf.multimodal.vision import full_attention, patches, table


def step3p7(c: Config) -> Architecture:
    language = read_language(c, "step3p5", tied=tied_outside(c, False))
    vision = c.sub("vision_config", _VISION)
    hidden, norm = vision.integer("hidden_size"), Norm(vision.integer("hidden_size"), "layer")
    inner = int(hidden * vision.number("mlp_ratio"))  # whatever intermediate_size says
    if not 1 <= inner <= MAX_SIZE:
        raise vision.error("mlp_ratio", f"gives an intermediate size of {inner}")
    _, convolution = patches(vision)
    count = (vision.integer("image_size") // vision.integer("patch_size")) ** 2
    feed_forward = MLP(hidden, inner, gated=False, bias=True, activation=vision.text("hidden_act"))
    layer = scaled_layer(norm, full_attention(vision, rotary=True), feed_forward)
    strided: dict[str, Any] = {"kernel": (3, 3), "stride": (2, 2), "bias": True}
    tower = Part(
        "vision",
        entry=(("patches", convolution), ("positions", table("position", (count, hidden))), ("input_norm", norm)),
        stacks=(Stack.uniform(layer, vision.layers()),),
        exit=(
            ("downsample1", Convolution(hidden, 2 * hidden, **strided)),
            ("downsample2", Convolution(2 * hidden, 4 * hidden, **strided)),
        ),
    )
    linear = Projection(4 * hidden, language.hidden, bias=c.flag("projector_bias"))
    return joined(c, language, (tower, Part("projector", entry=(("linear", linear),))))


def step3p5(c: Config) -> Architecture:
    """Sliding layers may have a number of query heads of their own."""
    depth, heads, window = c.layers(), c.integer("num_attention_heads"), sliding_window(c)
    kinds = layer_kinds(c, ["full_attention"] * depth, ("full_attention", "sliding_attention"))
    sparse = layer_kinds(c, ["dense"] * min(3, depth) + ["sparse"] * max(0, depth - 3), ("dense", "sparse"), "mlp_layer_types")
    near = c.integer("num_sliding_attention_heads", heads)
    own_heads = [near if kind == "sliding_attention" else heads for kind in kinds]
    for i, count in _overrides(c, depth):
        own_heads[i] = count

    def mixer(kind: tuple[str, int]) -> Attention:
        own, reach = kind[1], window if kind[0] == "sliding_attention" else None
        alike = c.flag("attention_bias")
        made = attention(c.reread(num_attention_heads=own), query_bias=alike, output_bias=alike, gate=own, window=reach)
        return head_norms(c, made)

    def routed() -> Experts:
        return corrected_experts(c, shared=mlp(c, intermediate=c.integer("share_expert_dim"), bias=bias))

    bias = c.flag("mlp_bias")
    layers = alternating(
        c,
        [kind == "sparse" for kind in sparse],
        windowed(list(zip(kinds, own_heads, strict=True)), mixer),
        routed,
        lambda: mlp(c, bias=bias),
    )
    return decoder(c, layers, rms(c))


def _overrides(c: Config, depth: int) -> Iterator[tuple[int, int]]:
    """Layers, and their numbers of query heads, that per_layer_config names."""
    per_layer = c.sub("per_layer_config", {})
    for key in c.raw("per_layer_config", {}):
        if not str(key).isdecimal() or int(key) >= depth:
            raise c.error("per_layer_config", f"has no layer {key!r:.60}")
        yield int(key), per_layer.sub(key, {}).integer("num_attention_heads")


_VISION: Mapping[str, Any] = {
    "hidden_size": 1536,
    "num_hidden_layers": 47,
    "num_attention_heads": 16,
    "num_channels": 3,
    "image_size": 728,
    "patch_size": 14,
    "hidden_act": "quick_gelu",
    "mlp_ratio": 8960 / 1536,
}
_TEXT: Mapping[str, Any] = {
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 128000,
    "num_experts_per_tok": 8,
    "n_routed_experts": 288,
    "moe_intermediate_size": 1280,
    "share_expert_dim": 1280,
    "attention_bias": False,
    "mlp_bias": False,
}

FAMILIES = {
    "step3p7": Family(step3p7, {"projector_bias": False}),
    "step3p5": Family(step3p5, _TEXT),
}
