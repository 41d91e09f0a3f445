"""dots3 Note and GLM-5 Next: towers of their own in front of latent attention.

Structures follow transformers src/transformers/models/{dots3_note,glm5_next}/.
"""

from collections.abc import Mapping
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.image_sizes import WholeSquares
from memcalc.blocks.images import ImageRule
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import mlp, pre_norm, rms, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import corrected_experts
from memcalc.readers.hf.multimodal.nested import joined, read_language, tied_outside
from memcalc.readers.hf.multimodal.projectors import gelu_mlp
from memcalc.readers.hf.multimodal.vision import full_attention, video_patches


def dots3_note(c: Config) -> Architecture:
    language = read_language(c, "dots3_note_text", tied=tied_outside(c, False))
    parts = (*_dots3_vision(c.sub("vision_config", _DOTS3_VISION)), _dots3_audio(c.sub("audio_config", _DOTS3_AUDIO)))
    return joined(c, language, parts)


def _dots3_vision(c: Config) -> tuple[Part, Part]:
    """Ever more experts from layer to layer; norms of queries and keys; then a merger of squares of patches."""
    hidden, norm, bias = c.integer("hidden_size"), rms(c), c.flag("attention_bias")
    depth, tail = c.layers(), [*range(4, 65, 4), 64]
    default = ["dense"] * (depth - len(tail)) + ["sparse"] * min(depth, len(tail))
    sparse = layer_kinds(c, default, ("dense", "sparse"), "mlp_layer_types")
    counts = _dots3_experts(c, sparse, tail)
    mixer = normed_heads(c, full_attention(c, bias=bias, fused=True, rotary=True))

    def layer(experts: int) -> Layer:
        routed = c.reread(num_local_experts=experts, num_experts_per_tok=min(c.integer("num_experts_per_tok"), experts))
        feed_forward: Block = corrected_experts(routed) if experts else mlp(c, bias=c.flag("mlp_bias"))
        return pre_norm(norm, mixer, feed_forward)

    convolution = Convolution(c.integer("num_channels"), hidden, (c.integer("patch_size"),) * 2, bias=True)
    tower = Part(
        "vision",
        entry=(("patches", convolution), ("input_norm", norm)),
        stacks=(Stack.of(windowed(counts, layer), "blocks"),),
        exit=(("final_norm", norm),),
    )
    inputs, count = c.integer("adapter_in_dim"), c.integer("adapter_merge_size") ** 2
    wide = inputs * count
    merger: Named = (("norm", Norm(inputs, "layer")), *gelu_mlp(wide, wide, c.integer("adapter_out_dim"), merge=count))
    return tower, Part("projector", entry=merger)


def _dots3_experts(c: Config, sparse: list[str], tail: list[int]) -> list[int]:
    """Experts of each layer, 0 where it is dense: under `per_layer_config`, or the library's own pyramid."""
    if not c.has("mlp_layer_types") and len(sparse) != len(tail) + 25:
        raise c.error("mlp_layer_types", "is missing")
    if not c.has("mlp_layer_types"):
        return [0] * 25 + tail
    layers = c.sub("per_layer_config", {})
    numbered = {int(key): key for key in c.raw("per_layer_config", {}) if str(key).isdecimal()}
    common = c.integer("num_local_experts")
    counts = []
    for number, kind in enumerate(sparse):
        own = layers.sub(numbered[number], {}) if number in numbered else None
        counts.append(0 if kind == "dense" else own.integer("num_local_experts", common) if own else common)
    return counts


def _dots3_audio(c: Config) -> Part:
    """Three strided convolutions, layers with rotary positions, an adapter to the language model's width."""
    hidden, norm, bias = c.integer("hidden_size"), Norm(c.integer("hidden_size")), c.flag("attention_bias")
    width = c.integer("downsample_hidden_size")
    # saved files repeat what leaves the convolutions, and the library takes theirs
    features = c.integer("conv_output_size", width * ((c.integer("feature_size") + 7) // 8))
    convolutions = tuple(
        (f"convolution{i + 1}", Convolution(width if i else 1, width, (3, 3), (2, 2), bias=True)) for i in range(3)
    )
    mixer = full_attention(c, bias=bias, key_bias=False, rotary=True)
    feed_forward = MLP(hidden, c.integer("intermediate_size"), fused=True, bias=True, activation=c.text("hidden_act"))
    inputs, outputs = c.integer("adapter_input_size"), c.integer("adapter_out_dim")
    adapter = tuple((f"adapter_{name}", block) for name, block in gelu_mlp(inputs, outputs, outputs))
    return Part(
        "audio",
        entry=(*convolutions, ("input", Projection(features, hidden))),
        stacks=(Stack.uniform(pre_norm(norm, mixer, feed_forward), c.layers()),),
        exit=(("final_norm", norm), ("adapter_norm", Norm(inputs, "layer")), *adapter),
    )


def glm5_next(c: Config) -> Architecture:
    """Norms of queries and keys; squares of patches are merged by a convolution, then a gated feed-forward."""
    language = read_language(c, "glm5_next_text", _GLM5_TEXT, tied=tied_outside(c, False))
    vision = c.sub("vision_config", _GLM5_VISION)
    hidden, outputs, norm = vision.integer("hidden_size"), vision.integer("out_hidden_size"), rms(vision)
    bias, activation = vision.flag("attention_bias"), vision.text("hidden_act")
    mixer = normed_heads(vision, full_attention(vision, heads="num_heads", bias=bias, fused=True, rotary=True))
    feed_forward = MLP(hidden, vision.integer("intermediate_size"), bias=bias, activation=activation, bounded=True)
    side, patch = vision.integer("spatial_merge_size"), vision.integer("patch_size")
    tower = Part(
        "vision",
        images=ImageRule((patch, patch), WholeSquares(16, 8000), side),  # models/glm5_next/image_processing_glm5_next.py
        entry=(("patches", video_patches(vision, hidden, bias=True)),),
        stacks=(Stack.uniform(pre_norm(norm, mixer, feed_forward), vision.layers("depth"), "blocks"),),
        exit=(("final_norm", norm),),
    )
    inner = vision.integer("projection_intermediate_size")
    merger: Named = (
        ("downsample", Convolution(hidden, outputs, (side, side), bias=True, role="projector")),
        ("linear", Projection(outputs, outputs)),
        ("norm", Norm(outputs, "layer")),
        ("clamped_gate", Projection(outputs, inner, activation=activation, cut="outputs")),
        ("clamped_up", Projection(outputs, inner, cut="outputs")),
        ("down", Projection(inner, outputs, cut="inputs")),
    )
    return joined(c, language, (tower, Part("projector", entry=merger)))


def normed_heads(c: Config, attention: Attention) -> Attention:
    norm = rms(c, size=attention.head_dim)
    return revised(attention, query_norm=norm, key_norm=norm)


_DOTS3_VISION: Mapping[str, Any] = {
    "hidden_size": 1536,
    "intermediate_size": 4224,
    "num_hidden_layers": 42,
    "num_attention_heads": 24,
    "num_channels": 3,
    "patch_size": 14,
    "hidden_act": "silu",
    "moe_intermediate_size": 2112,
    "rms_norm_eps": 1e-5,
    "attention_bias": False,
    "mlp_bias": False,
    "num_local_experts": 64,
    "num_experts_per_tok": 2,
    "adapter_in_dim": 1536,
    "adapter_out_dim": 5120,
    "adapter_merge_size": 2,
}
_DOTS3_AUDIO: Mapping[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "silu",
    "feature_size": 128,
    "downsample_hidden_size": 480,
    "attention_bias": True,
    "adapter_input_size": 1280,
    "adapter_out_dim": 5120,
}
_GLM5_VISION: Mapping[str, Any] = {
    "depth": 24,
    "hidden_size": 1024,
    "hidden_act": "silu",
    "attention_bias": True,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 14,
    "rms_norm_eps": 1e-5,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 1536,
    "intermediate_size": 4096,
    "projection_intermediate_size": 10240,
}
_GLM5_TEXT: Mapping[str, Any] = {
    "vocab_size": 154880,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 45,
    "num_attention_heads": 64,
    "n_routed_experts": 288,
}

FAMILIES = {"dots3_note": Family(dots3_note, {}), "glm5_next": Family(glm5_next, {})}
