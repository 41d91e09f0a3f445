"""GLM-4.1V, 4.5V, 4.6V and GLM-OCR: a rotary ViT, a strided convolution that merges patches, a gated MLP as merger."""

from collections.abc import Mapping
from typing import Any

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.image_sizes import Bounded
from memcalc.blocks.images import ImageRule
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import pre_norm, rms
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal.nested import (
    Language,
    floored_head_dim,
    joined,
    read_language,
    text_type,
    tied_either,
    tied_outside,
)
from memcalc.readers.hf.multimodal.vision import full_attention, table, video_patches


def glm4v(c: Config) -> Architecture:
    return joined(c, _language(c, "glm4v_text", tied=tied_either(c)), glm4v_parts(c.sub("vision_config", GLM4V_VISION)))


def glm46v(c: Config) -> Architecture:
    """The language model may be either; what the text_config says of tying does not count."""
    kind = text_type(c, "glm4v_text")
    language = _language(c, kind, tied=tied_outside(c, False))
    return joined(c, language, glm4v_parts(c.sub("vision_config", GLM4V_VISION)))


def glm4v_moe(c: Config) -> Architecture:
    return joined(c, _language(c, "glm4v_moe_text", tied=tied_either(c)), glm4v_parts(c.sub("vision_config", GLM4V_VISION)))


def glm_ocr(c: Config) -> Architecture:
    """Norms of queries and keys, biases everywhere or nowhere, no learned positions."""
    language = _language(c, "glm_ocr_text", tied=tied_either(c))
    vision = c.sub("vision_config", GLM_OCR_VISION)
    hidden, norm, bias = vision.integer("hidden_size"), rms(vision), vision.flag("attention_bias")
    attention = full_attention(vision, heads="num_heads", fused=True, rotary=True, bias=bias)
    head_norm = rms(vision, size=attention.head_dim)
    attention = revised(attention, query_norm=head_norm, key_norm=head_norm)
    feed_forward = MLP(hidden, vision.integer("intermediate_size"), bias=bias, activation=vision.text("hidden_act"))
    inner = vision.integer("out_hidden_size") * vision.integer("in_channels")
    tower = Part(
        "vision",
        images=_images(vision),
        entry=(("patches", video_patches(vision, hidden, bias=True)),),
        stacks=(Stack.uniform(pre_norm(norm, attention, feed_forward), vision.layers("depth"), "blocks"),),
        exit=(("final_norm", norm),),
    )
    return joined(c, language, (tower, Part("projector", entry=_merger(vision, inner))))


def glm4v_parts(vision: Config) -> tuple[Part, Part]:
    """Feed-forwards as wide as the output, the merger's as `intermediate_size` says."""
    hidden, norm = vision.integer("hidden_size"), rms(vision)
    side = vision.integer("image_size") // vision.integer("patch_size")
    attention = full_attention(
        vision, heads="num_heads", fused=True, rotary=True, bias=False, query_bias=vision.flag("attention_bias")
    )
    feed_forward = MLP(hidden, vision.integer("out_hidden_size"), activation=vision.text("hidden_act"))
    tower = Part(
        "vision",
        images=_images(vision),
        entry=(
            ("patches", video_patches(vision, hidden, bias=True)),
            ("input_norm", norm),
            ("positions", table("position", (side * side, hidden))),
        ),
        stacks=(Stack.uniform(pre_norm(norm, attention, feed_forward), vision.layers("depth"), "blocks"),),
        exit=(("final_norm", norm),),
    )
    return tower, Part("projector", entry=_merger(vision, vision.integer("intermediate_size")))


def _images(vision: Config) -> ImageRule:
    """An image is two equal frames, of which both count (models/glm4v/image_processing_glm4v.py, smart_resize)."""
    patch, merge = vision.integer("patch_size"), vision.integer("spatial_merge_size")
    return ImageRule((patch, patch), Bounded(112 * 112 // 2, 28 * 28 * 15000 // 2), merge)


def _merger(vision: Config, inner: int) -> Named:
    hidden, outputs, side = (vision.integer(key) for key in ("hidden_size", "out_hidden_size", "spatial_merge_size"))
    return (
        ("downsample", Convolution(hidden, outputs, (side, side), bias=True, role="projector")),
        ("linear", Projection(outputs, outputs)),
        ("norm", Norm(outputs, "layer")),
        ("gate", Projection(outputs, inner, activation=vision.text("hidden_act"), cut="outputs")),
        ("up", Projection(outputs, inner, cut="outputs")),
        ("down", Projection(inner, outputs, cut="inputs")),
    )


def _language(c: Config, kind: str, *, tied: bool) -> Language:
    defaults = floored_head_dim(c, kind) if kind == "glm4v_moe_text" else {}
    return read_language(c, kind, defaults, tied=tied)


GLM4V_VISION: Mapping[str, Any] = {
    "depth": 24,
    "hidden_size": 1536,
    "hidden_act": "silu",
    "attention_bias": False,
    "num_heads": 12,
    "in_channels": 3,
    "image_size": 336,
    "patch_size": 14,
    "rms_norm_eps": 1e-5,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 4096,
    "intermediate_size": 13696,
}
GLM_OCR_VISION: Mapping[str, Any] = {
    **GLM4V_VISION,
    "hidden_size": 1024,
    "attention_bias": True,
    "num_heads": 16,
    "out_hidden_size": 1536,
    "intermediate_size": 4096,
}

FAMILIES = {
    "glm4v": Family(glm4v, {}),
    "glm46v": Family(glm46v, {}),
    "glm4v_moe": Family(glm4v_moe, {}),
    "glm_ocr": Family(glm_ocr, {}),
}
