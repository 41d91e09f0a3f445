"""Language models joined to a vision tower of their own: Mistral 3, Llama 4, Kimi."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.image_sizes import Budgeted
from memcalc.blocks.image_tiles import LeastLost
from memcalc.blocks.images import ImageRule
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import architecture, rms
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.mixtures.interleaved import LLAMA4_NESTED_TEXT
from memcalc.readers.hf.mixtures.latent import DEEPSEEK_V3_NESTED
from memcalc.readers.hf.multimodal.nested import (
    Language,
    assumed_tied,
    joined,
    read_language,
    text_type,
    tied_outside,
)
from memcalc.readers.hf.multimodal.projectors import feature_layers, two_layers
from memcalc.readers.hf.multimodal.towers import tower
from memcalc.readers.hf.multimodal.vision import PIXTRAL, encoder_layer, pair, patches, pixtral, table

NO_DEFAULTS: Mapping[str, Any] = {}


def mistral3(c: Config, kind: str = "mistral", no_text: Mapping[str, Any] = NO_DEFAULTS) -> Architecture:
    """Pixtral's tower; a merger of 2 × 2 patches before the projector. `no_text`: the language model where none is given."""
    absent = NO_DEFAULTS if c.has("text_config") else no_text or _MISTRAL3_TEXT
    language = read_language(c, text_type(c, kind), absent, tied=tied_outside(c, True))
    vision, config = tower(c, "vision_config", "pixtral", _MISTRAL3_VISION)
    return joined(c, language, (_merging(c, vision), _merged_projector(c, config, language)), warnings=assumed_tied(c))


def _merging(c: Config, vision: Part) -> Part:
    """The tower, of whose patches squares become one token."""
    rule = vision.images
    return replace(vision, images=rule._replace(merge=c.integer("spatial_merge_size"))) if rule else vision


def _merged_projector(c: Config, vision: Config, language: Language) -> Part:
    hidden, count = vision.integer("hidden_size"), c.integer("spatial_merge_size") ** 2
    merger: Named = (
        ("norm", rms(language.config, size=hidden)),
        ("merge", Projection(hidden * count, hidden, merge=count)),
    )
    return Part("projector", entry=(*merger, *two_layers(c, hidden * feature_layers(c), language)))


def mistral_large4(c: Config) -> Architecture:
    """The same merger before a sparse decoder of its own."""
    language = read_language(c, "mistral_large4_text", _LARGE4_TEXT, tied=tied_outside(c, False))
    vision = c.sub("vision_config", PIXTRAL if c.has("vision_config") else {**PIXTRAL, **_LARGE4_VISION})
    return joined(c, language, (_merging(c, pixtral(vision)), _merged_projector(c, vision, language)))


def llama4(c: Config) -> Architecture:
    """The head belongs to the inner language model, so the text_config alone says whether it is tied."""
    tied = c.sub("text_config", {}).flag("tie_word_embeddings", False)
    language = read_language(c, "llama4_text", LLAMA4_NESTED_TEXT, tied=tied)
    vision = c.sub("vision_config", _LLAMA4_VISION)
    hidden, norm = vision.integer("hidden_size"), Norm(vision.integer("hidden_size"), "layer", epsilon=1e-5)
    count, convolution = patches(vision, flattened=True)
    inputs, outputs = vision.integer("projector_input_dim"), vision.integer("projector_output_dim")
    ratio = vision.number("pixel_shuffle_ratio")
    if not 0 < ratio <= 1:
        raise vision.error("pixel_shuffle_ratio", f"must be above 0 and at most 1, not {ratio}")
    shuffled = Projection(
        vision.integer("intermediate_size"), inputs, activation="gelu", cut="outputs", merge=round(1 / ratio**2)
    )
    size, patch = pair(vision, "image_size"), pair(vision, "patch_size")
    # 16 tiles at most: preprocessor_config.json says max_patches
    rule = ImageRule(patch, LeastLost(size[0], 16), round(1 / ratio), extra=1) if size[0] == size[1] else None
    seeing = Part(
        "vision",
        images=rule,
        entry=(
            ("patches", convolution),
            ("class", table("other", (hidden,))),
            ("positions", table("other", (count + 1, hidden))),
            ("input_norm", norm),
        ),
        stacks=(Stack.uniform(encoder_layer(vision, norm, rotary=True), vision.layers()),),
        exit=(
            ("final_norm", norm),
            ("adapter_up", shuffled),
            ("adapter_down", Projection(outputs, outputs, activation="gelu", cut="inputs")),
        ),
    )
    projector = Part("projector", entry=(("linear", Projection(vision.integer("vision_output_dim"), language.hidden)),))
    return joined(c, language, (seeing, projector))


def kimi_k25(c: Config) -> Architecture:
    language = _deepseek(c, tied=tied_outside(c, True))
    vision = c.sub("vision_config", _KIMI_VISION)
    height, width = vision.integer("pos_emb_height"), vision.integer("pos_emb_width")
    normed = c.integer("projection_hidden_size")
    parts = _moonvit(vision, language, (height, width), normed, fused=False)
    return joined(c, language, parts, warnings=assumed_tied(c))


def kimi_vl(c: Config) -> Architecture:
    """Not in transformers: the modules of the published modeling_kimi_vl.py."""
    language = _deepseek(c, tied=c.sub("text_config", {}).flag("tie_word_embeddings", False))
    vision = c.sub("vision_config", _KIMI_VISION)
    height, width = vision.integer("init_pos_emb_height"), vision.integer("init_pos_emb_width")
    return joined(c, language, _moonvit(vision, language, (height, width), vision.integer("hidden_size"), fused=True))


def pixtral_tower(c: Config) -> Architecture:
    return architecture(c, (pixtral(c),), tied=False, vocabulary=0)


def _deepseek(c: Config, *, tied: bool) -> Language:
    kind = text_type(c, "deepseek_v3")
    if kind in ("deepseek_v3", "kimi_k2"):
        return read_language(c, "deepseek_v3", DEEPSEEK_V3_NESTED, tied=tied)
    return read_language(c, kind, tied=tied)


def _moonvit(vision: Config, language: Language, grid: tuple[int, int], normed: int, *, fused: bool) -> tuple[Part, Part]:
    """A ViT of any image size, its learned grid of positions stretched to fit; then a merger of 2 × 2 patches."""
    hidden, norm = vision.integer("hidden_size"), Norm(vision.integer("hidden_size"), "layer", epsilon=1e-5)
    patch, merge = pair(vision, "patch_size"), pair(vision, "merge_kernel_size")
    seeing = Part(
        "vision",
        images=ImageRule(patch, Budgeted(patch[0], 16384, 512), merge[0]) if merge[0] == merge[1] else None,
        entry=(
            ("patches", Convolution(3, hidden, patch, bias=True)),
            ("positions", table("position", (*grid, hidden))),
        ),
        stacks=(Stack.uniform(encoder_layer(vision, norm, rotary=True, fused=fused), vision.layers()),),
        exit=(("final_norm", norm),),
    )
    height, width = merge
    merged = hidden * height * width
    projector = Part(
        "projector",
        entry=(
            ("norm", replace(norm, size=normed)),
            ("up", Projection(merged, merged, bias=True, activation="gelu", cut="outputs", merge=height * width)),
            ("down", Projection(merged, language.hidden, bias=True, cut="inputs")),
        ),
    )
    return seeing, projector


SIZE_KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_MISTRAL3_VISION: Mapping[str, Any] = {"image_size": 1540, "patch_size": 14}
_MISTRAL3_TEXT: Mapping[str, Any] = {
    "vocab_size": 131072,
    "hidden_size": 5120,
    "intermediate_size": 32768,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "sliding_window": None,
}
_PROJECTOR: Mapping[str, Any] = {
    "multimodal_projector_bias": False,
    "projector_hidden_act": "gelu",
    "spatial_merge_size": 2,
}
_LIGHTON_TEXT: Mapping[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
}
_LARGE4_VISION: Mapping[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 30,
    "image_size": 1540,
    "patch_size": 14,
    "hidden_act": "silu",
}
_LARGE4_TEXT: Mapping[str, Any] = {
    "vocab_size": 204800,
    "hidden_size": 6144,
    "intermediate_size": 24576,
    "moe_intermediate_size": 6144,
    "num_hidden_layers": 72,
    "num_attention_heads": 64,
    "n_routed_experts": 128,
}
_LLAMA4_VISION: Mapping[str, Any] = {
    "hidden_size": 768,
    "hidden_act": "gelu",
    "num_hidden_layers": 34,
    "num_attention_heads": 16,
    "num_channels": 3,
    "intermediate_size": 5632,
    "vision_output_dim": 7680,
    "image_size": 448,
    "patch_size": 14,
    "pixel_shuffle_ratio": 0.5,
    "projector_input_dim": 4096,
    "projector_output_dim": 4096,
}
_KIMI_VISION: Mapping[str, Any] = {
    "patch_size": 14,
    "pos_emb_height": 64,
    "pos_emb_width": 64,
    "init_pos_emb_height": 64,
    "init_pos_emb_width": 64,
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "hidden_act": "gelu_pytorch_tanh",
    "merge_kernel_size": (2, 2),
}

FAMILIES = {
    "mistral3": Family(mistral3, _PROJECTOR),
    "lighton_ocr": Family(partial(mistral3, kind="qwen3", no_text=_LIGHTON_TEXT), _PROJECTOR),
    "mistral_large4": Family(mistral_large4, _PROJECTOR),
    "llama4": Family(llama4, {}),
    "kimi_k25": Family(kimi_k25, {"projection_hidden_size": 1152}),
    "kimi_vl": Family(kimi_vl, {}),
    "pixtral": Family(pixtral_tower, {key: value for key, value in PIXTRAL.items() if key not in SIZE_KEYS}),
}
