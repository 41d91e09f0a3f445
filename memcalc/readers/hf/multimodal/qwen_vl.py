"""The Qwen vision-language models, 2 to 3.5: a video-capable ViT, a merger of 2 × 2 patches, a Qwen language model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.image_sizes import Bounded
from memcalc.blocks.images import ImageRule
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import pre_norm, windowed
from memcalc.readers.hf.config import MAX_SIZE, Config, Family
from memcalc.readers.hf.multimodal.nested import (
    Language,
    assumed_tied,
    joined,
    read_language,
    text_type,
    tied_either,
    tied_outside,
)
from memcalc.readers.hf.multimodal.vision import full_attention, plain_mlp, table, video_patches

SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def qwen2_vl(c: Config) -> Architecture:
    vision = c.sub("vision_config", _QWEN2_VISION)
    hidden = vision.integer("embed_dim")
    norm = Norm(hidden, "layer")
    attention = full_attention(vision, size="embed_dim", heads="num_heads", fused=True, rotary=True)
    inner = vision.number("mlp_ratio") * hidden
    if not 1 <= inner <= MAX_SIZE:
        raise vision.error("mlp_ratio", f"gives an intermediate size of {inner}")
    feed_forward = MLP(hidden, int(inner), gated=False, bias=True, activation=vision.text("hidden_act"))
    layer = pre_norm(norm, attention, feed_forward)
    tower = Part(
        "vision",
        entry=(("patches", video_patches(vision, hidden, bias=False)),),
        stacks=(Stack.uniform(layer, vision.layers("depth"), "blocks"),),
        images=_images(vision, 4),
    )
    projector = Part("projector", entry=_merger(vision, hidden, vision.integer("hidden_size"), norm))
    return joined(c, _qwen2_language(c), (tower, projector))


def qwen2_5_vl(c: Config) -> Architecture:
    return joined(c, _qwen2_language(c), qwen2_5_tower(c.sub("vision_config", QWEN2_5_VISION)))


def qwen2_5_tower(vision: Config, kv_heads: str = "") -> tuple[Part, Part]:
    """Most vision layers attend within windows of `window_size` pixels, those of `fullatt_block_indexes` to all."""
    hidden, depth = vision.integer("hidden_size"), vision.layers("depth")
    norm = Norm(hidden)
    full = set(vision.entries("fullatt_block_indexes", of=int))
    side = max(1, vision.integer("window_size") // vision.integer("patch_size"))

    def layer(window: int | None) -> Layer:
        attention: Attention = full_attention(
            vision, heads="num_heads", kv_heads=kv_heads, fused=True, rotary=True, window=window, chunked=window is not None
        )
        feed_forward = MLP(hidden, vision.integer("intermediate_size"), bias=True, activation=vision.text("hidden_act"))
        return pre_norm(norm, attention, feed_forward)

    tower = Part(
        "vision",
        entry=(("patches", video_patches(vision, hidden, bias=False)),),
        stacks=(Stack.of(windowed([None if i in full else side * side for i in range(depth)], layer), "blocks"),),
        images=_images(vision, 4),
    )
    projector = Part("projector", entry=_merger(vision, hidden, vision.integer("out_hidden_size"), norm))
    return tower, projector


def _images(vision: Config, least: int) -> ImageRule:
    """At least `least` and at most 16,384 tokens of merged patches (the models' preprocessor_config.json)."""
    patch, merge = vision.integer("patch_size"), vision.integer("spatial_merge_size")
    square = (patch * merge) ** 2
    return ImageRule((patch, patch), Bounded(least * square, 16384 * square), merge)


def exaone4_5(c: Config) -> Architecture:
    """Exaone 4 behind Qwen2.5-VL's tower, whose keys and values are shared by several heads."""
    kind = text_type(c, "exaone4")
    language = read_language(c, kind, tied=tied_outside(c, False))
    vision = c.sub("vision_config", {**QWEN2_5_VISION, "num_key_value_heads": 8})
    return joined(c, language, qwen2_5_tower(vision, "num_key_value_heads"))


def hyperclovax_v2(c: Config) -> Architecture:
    """HyperCLOVA X behind Qwen2.5-VL's tower, and one matrix more between them."""
    kind = text_type(c, "hyperclovax")
    language = read_language(c, kind, tied=tied_outside(c, True))
    vision = c.sub("vision_config", QWEN2_5_VISION)
    tower, merger = qwen2_5_tower(vision)
    linear = Projection(vision.integer("out_hidden_size"), language.hidden, bias=True)
    between = replace(merger, exit=(("linear", linear),))
    return joined(c, language, (tower, between), warnings=assumed_tied(c))


def qwen3_vl(c: Config) -> Architecture:
    return _qwen3(c, read_language(c, "qwen3", _QWEN3_TEXT, tied=tied_outside(c, False)), deepstack=True)


def qwen3_vl_moe(c: Config) -> Architecture:
    """Its text slides wherever it has a window: its configuration class knows no switch for that (cache_utils.DynamicCache)."""
    slides = c.sub("text_config", {}).has("sliding_window")
    defaults = {**_QWEN3_MOE_TEXT, "use_sliding_window": slides, "sliding_window": None}
    return _qwen3(c, read_language(c, "qwen3_moe", defaults, tied=tied_outside(c, False)), deepstack=True)


def qwen3_5(c: Config) -> Architecture:
    return _qwen3(c, read_language(c, "qwen3_5_text", _QWEN3_5_TEXT, tied=tied_outside(c, False)))


def qwen4_exp(c: Config) -> Architecture:
    return _qwen3(c, read_language(c, "qwen4_exp_text", tied=tied_outside(c, False)))


def qwen3_5_moe(c: Config) -> Architecture:
    return _qwen3(c, read_language(c, "qwen3_5_moe_text", _QWEN3_5_MOE_TEXT, tied=tied_outside(c, False)))


def cohere_compass(c: Config) -> Architecture:
    """Cohere's decoder behind Qwen3-VL's tower."""
    kind = text_type(c, "cohere_compass_text")
    return _qwen3(c, read_language(c, kind, tied=tied_outside(c, False)), deepstack=True)


def _qwen2_language(c: Config) -> Language:
    """Older files keep the language keys at the top level, beside the vision_config: then their sizes must be there."""
    if c.has("text_config") or not any(c.has(key) for key in SIZES):
        return read_language(c, "qwen2", _QWEN2_TEXT, tied=tied_either(c))
    defaults = {key: value for key, value in _QWEN2_TEXT.items() if key not in SIZES}
    return read_language(c, "qwen2", defaults, tied=c.flag("tie_word_embeddings", False), nested=c, sized=False)


def _qwen3(c: Config, language: Language, *, deepstack: bool = False) -> Architecture:
    return joined(c, language, qwen3_tower(c.sub("vision_config", QWEN3_VISION), deepstack=deepstack))


def qwen3_tower(vision: Config, *, deepstack: bool = False) -> tuple[Part, Part]:
    """`deepstack`: further mergers bring the output of earlier vision layers into the first language layers."""
    hidden, outputs = vision.integer("hidden_size"), vision.integer("out_hidden_size")
    norm = Norm(hidden, "layer")
    layer = pre_norm(norm, full_attention(vision, heads="num_heads", fused=True, rotary=True), plain_mlp(vision))
    positions = table("other", (vision.integer("num_position_embeddings"), hidden))
    tower = Part(
        "vision",
        entry=(("patches", video_patches(vision, hidden, bias=True)), ("positions", positions)),
        stacks=(Stack.uniform(layer, vision.layers("depth"), "blocks"),),
        images=_images(vision, 64),
    )
    mergers = _merger(vision, hidden, outputs, norm)
    if deepstack:
        wide = replace(norm, size=hidden * vision.integer("spatial_merge_size") ** 2)
        for i in vision.entries("deepstack_visual_indexes", of=int):
            blocks = _merger(vision, hidden, outputs, wide)
            mergers += tuple((f"deepstack{i}/{path}", block) for path, block in blocks)
    return tower, Part("projector", entry=mergers)


def _merger(c: Config, hidden: int, outputs: int, norm: Norm) -> Named:
    """Each square of patches is concatenated and brought to the language model's width by a two-layer MLP."""
    count = c.integer("spatial_merge_size") ** 2
    width = hidden * count
    return (
        ("norm", norm),
        ("up", Projection(width, width, bias=True, activation="gelu", cut="outputs", merge=count)),
        ("down", Projection(width, outputs, bias=True, cut="inputs")),
    )


_QWEN2_VISION = {
    "depth": 32,
    "embed_dim": 1280,
    "hidden_size": 3584,
    "hidden_act": "quick_gelu",
    "mlp_ratio": 4,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
QWEN2_5_VISION = {
    "depth": 32,
    "hidden_size": 3584,
    "hidden_act": "silu",
    "intermediate_size": 3420,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "out_hidden_size": 3584,
    "fullatt_block_indexes": (7, 15, 23, 31),
}
QWEN3_VISION = {
    "depth": 27,
    "hidden_size": 1152,
    "hidden_act": "gelu_pytorch_tanh",
    "intermediate_size": 4304,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 3584,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": (8, 16, 24),
}
_QWEN2_TEXT: Mapping[str, Any] = {
    "vocab_size": 152064,
    "hidden_size": 8192,
    "intermediate_size": 29568,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "max_window_layers": 80,
    "rms_norm_eps": 1e-5,
}
_QWEN3_TEXT: Mapping[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "head_dim": 128,
    "max_position_embeddings": 128000,
}
_QWEN3_MOE_TEXT: Mapping[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "moe_intermediate_size": 1408,
    "num_experts_per_tok": 4,
    "num_experts": 60,
    "decoder_sparse_step": 1,
    "max_position_embeddings": 128000,
}
_QWEN3_5_TEXT: Mapping[str, Any] = {
    "vocab_size": 248320,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "max_position_embeddings": 32768,
}
_QWEN3_5_MOE_TEXT: Mapping[str, Any] = {
    "vocab_size": 248320,
    "hidden_size": 2048,
    "num_hidden_layers": 40,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "num_experts_per_tok": 8,
    "num_experts": 256,
    "max_position_embeddings": 32768,
}

FAMILIES = {
    "qwen2_vl": Family(qwen2_vl, {}),
    "qwen2_5_vl": Family(qwen2_5_vl, {}),
    "exaone4_5": Family(exaone4_5, {}),
    "hyperclovax_vision_v2": Family(hyperclovax_v2, {}),
    "cohere_compass": Family(cohere_compass, {}),
    "qwen3_vl": Family(qwen3_vl, {}),
    "qwen3_vl_moe": Family(qwen3_vl_moe, {}),
    "qwen3_5": Family(qwen3_5, {}),
    "qwen4_exp": Family(qwen4_exp, {}),
    "qwen3_5_moe": Family(qwen3_5_moe, {}),
}
