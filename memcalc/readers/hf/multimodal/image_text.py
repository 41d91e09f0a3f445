"""Image-and-text models that differ in what stands between tower and language model: LLaVA's kin, InternVL, Idefics, …

Each is a row: its default tower and language model, how head and embedding are tied, and its projector. Structures follow
transformers src/transformers/models/<family>/.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from memcalc.blocks.architecture import Architecture, Part
from memcalc.frozen import NamedTuple
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal import image_rules, projectors
from memcalc.readers.hf.multimodal.nested import (
    NOTHING,
    Language,
    assumed_tied,
    joined,
    read_language,
    text_type,
    tied_either,
    tied_outside,
)
from memcalc.readers.hf.multimodal.towers import tower


class Joint(NamedTuple):
    """How a family joins its parts."""

    projector: projectors.Projector
    text: str = "llama"
    vision: str = "clip_vision_model"
    towers: tuple[str, ...] = ("vision",)  # names of the parts, each with weights of its own
    no_text: Mapping[str, Any] = NOTHING  # the values where the file leaves the whole object out
    no_vision: Mapping[str, Any] = NOTHING
    fixed: bool = False  # the tower is this one whatever the nested config calls itself
    tied: bool = False  # by default
    resampler: Callable[[Config, Language], Part] | None = None  # layers between projector and language model
    always: bool | None = None  # tied, or not, whatever the config says
    inner_ties: bool = False  # a tie_word_embeddings of the text_config counts as well
    images: image_rules.Rule | None = None  # how an image becomes tokens; None: not known


def image_text(joint: Joint, c: Config) -> Architecture:
    kind = text_type(c, joint.text)
    absent = NOTHING if c.has("text_config") else joint.no_text
    tied = tied_either(c, kind, joint.tied) if joint.inner_ties else tied_outside(c, joint.tied)
    tied = tied if joint.always is None else joint.always
    language = read_language(c, kind, absent, tied=tied)
    part, vision = tower(c, "vision_config", joint.vision, joint.no_vision, fixed=joint.fixed)
    rule = joint.images(c, part) if joint.images else None
    seeing = tuple(replace(part, name=name, images=rule) for name in joint.towers)
    between: tuple[Part, ...] = (Part("projector", entry=joint.projector(c, vision, language)),)
    if joint.resampler:
        between += (joint.resampler(c, language),)
    return joined(c, language, (*seeing, *between), warnings=assumed_tied(c) if joint.tied else ())


LLAVA_VISION: Mapping[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
_ONEVISION: Mapping[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}
_PALIGEMMA_VISION = {**_ONEVISION, "intermediate_size": 4096, "num_hidden_layers": 27, "image_size": 224}
_PALIGEMMA_TEXT: Mapping[str, Any] = {
    "vocab_size": 257152,
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_hidden_layers": 18,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
}
_GOT_TEXT: Mapping[str, Any] = {
    "vocab_size": 151860,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "max_position_embeddings": 32768,
}
_COHERE2_VISION: Mapping[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 3072,
    "num_hidden_layers": 27,
    "num_attention_heads": 12,
    "image_size": 512,
}
_PROJECTOR: Mapping[str, Any] = {"projector_hidden_act": "gelu", "multimodal_projector_bias": True}

_NEXT = Joint(projectors.llava_next, no_vision=LLAVA_VISION, images=image_rules.anyres)
_CANVASES = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
_NEXT_IMAGES = {**_PROJECTOR, "vision_feature_layer": -2, "image_grid_pinpoints": _CANVASES}
_ONEVISION_IMAGES = {
    **_PROJECTOR,
    "vision_feature_layer": -1,
    "vision_aspect_ratio": "anyres_max_9",
    "image_grid_pinpoints": tuple((384 * high, 384 * wide) for high in range(1, 7) for wide in range(1, 7)),
}
_IDEFICS2 = Joint(projectors.idefics2, "mistral", "idefics2_vision", fixed=True, resampler=projectors.idefics2_resampler)
_VIDEO = Joint(projectors.llava, no_vision={**LLAVA_VISION, "image_size": 224}, towers=("vision", "video"))
_IDEFICS3 = Joint(projectors.idefics3, vision="idefics3_vision", fixed=True, images=image_rules.split)
_QIANFAN = Joint(projectors.internvl, "qwen3", "qianfan_ocr_vision", fixed=True, images=image_rules.internvl)
_PADDLEOCR = Joint(
    projectors.merged, "paddleocr_vl_text", "paddleocr_vl_vision", fixed=True, tied=True, inner_ties=True,
    images=image_rules.paddleocr,
)  # fmt: skip
_MINICPM = Joint(projectors.minicpm, "qwen3_5_text", "minicpm_vision", fixed=True)
_GOT = Joint(projectors.got_ocr2, "qwen2", "got_ocr2_vision", fixed=True, no_text=_GOT_TEXT, tied=True)
_COHERE = Joint(
    projectors.cohere, "cohere2", "siglip_vision_model", no_vision=_COHERE2_VISION, tied=True, images=image_rules.cohere
)
_AYA = _COHERE._replace(projector=partial(projectors.cohere, normed=True), no_vision={**_ONEVISION, "num_attention_heads": 14})
_PALIGEMMA = Joint(
    projectors.linear,
    "gemma",
    "siglip_vision_model",
    no_text=_PALIGEMMA_TEXT,
    no_vision=_PALIGEMMA_VISION,
    tied=True,
    images=image_rules.of_tower,
)
_COSMOS3 = Joint(
    partial(projectors.merged, width="projector_hidden_size"),
    "cosmos3_edge_text",
    "cosmos3_edge_vision",
    fixed=True,
    always=False,
)

_HUNYUAN_VL = Joint(projectors.hunyuan_vl, "hunyuan_vl_text", "hunyuan_vl_vision", fixed=True, tied=True, inner_ties=True)

FAMILIES = {
    name: Family(partial(image_text, joint), defaults)
    for name, joint, defaults in (
        (
            "llava",
            Joint(projectors.llava, no_vision=LLAVA_VISION, inner_ties=True, images=image_rules.of_tower),
            {**_PROJECTOR, "vision_feature_layer": -2},
        ),
        ("llava_next", _NEXT, _NEXT_IMAGES),
        ("llava_next_video", _NEXT._replace(inner_ties=True), _NEXT_IMAGES),
        (
            "vipllava",
            Joint(projectors.vipllava, no_vision=LLAVA_VISION),
            {**_PROJECTOR, "vision_feature_layer": (-2, -5, -8, -11, 6)},
        ),
        ("video_llava", _VIDEO, _PROJECTOR),
        (
            "llava_onevision",
            Joint(
                projectors.llava_next,
                "qwen2",
                "siglip_vision_model",
                no_vision=_ONEVISION,
                inner_ties=True,
                images=image_rules.anyres,
            ),
            _ONEVISION_IMAGES,
        ),
        (
            "internvl",
            Joint(projectors.internvl, "qwen2", "internvl_vision", fixed=True, tied=True, images=image_rules.internvl),
            {**_PROJECTOR, "downsample_ratio": 0.5},
        ),
        ("idefics2", _IDEFICS2, {}),
        ("idefics3", _IDEFICS3, {"scale_factor": 2}),
        ("smolvlm", _IDEFICS3, {"scale_factor": 2}),
        ("paligemma", _PALIGEMMA, {"projection_dim": 2048}),
        ("deepseek_vl", Joint(projectors.plain, "llama", "siglip_vision_model", tied=True, images=image_rules.of_tower), {}),
        ("video_llama_3", Joint(projectors.plain, "qwen2", "video_llama_3_vision", fixed=True, inner_ties=True), {}),
        ("qianfan_ocr", _QIANFAN, {**_PROJECTOR, "downsample_ratio": 0.5}),
        ("paddleocr_vl", _PADDLEOCR, {}),
        ("cosmos3_edge", _COSMOS3, {"projector_hidden_size": 11520}),
        ("minicpmv4_6", _MINICPM, {"merger_times": 1}),
        ("minicpmv4_7", _MINICPM, {"merger_times": 1}),
        ("minicpm_ocr", _MINICPM._replace(tied=True), {"merger_times": 1}),
        (
            "ovis2",
            Joint(projectors.ovis2, "qwen2", "ovis2_vision", fixed=True, tied=True),
            {"hidden_size": 1536, "vocab_size": 151643},
        ),
        (
            "aria",
            Joint(projectors.aria, "aria_text", "idefics3_vision"),
            {"max_value_projector_patch_to_query_dict": 256},
        ),
        ("got_ocr2", _GOT, {}),
        ("hy_v4_vl", Joint(projectors.hunyuan, "hy_v4_vl_text", "hy_v4_vl_vision", fixed=True), {}),
        (
            "lfm3_vl",
            Joint(projectors.lfm3, "lfm3", "lfm3_vl_vision", fixed=True, tied=True),
            {"projector_hidden_act": "gelu", "projector_hidden_size": 4096, "projector_bias": True},
        ),
        ("pp_chart2table", _GOT, {}),
        (
            "granite_docling",
            Joint(projectors.granite_docling, "granite_docling_text", "granite_docling_vision", fixed=True, tied=True),
            {},
        ),
        ("hunyuan_vl", _HUNYUAN_VL, {}),
        (
            "lfm2_vl",
            Joint(projectors.lfm2, "lfm2", "siglip2_vision_model", tied=True, images=image_rules.lfm2),
            {
                "projector_hidden_act": "gelu",
                "projector_hidden_size": 2560,
                "projector_bias": True,
                "projector_use_layernorm": True,
                "downsample_factor": 2,
            },
        ),
        ("cohere2_vision", _COHERE, {"downsample_factor": 2, "alignment_intermediate_size": 36864}),
        ("aya_vision", _AYA, {"downsample_factor": 2, "vision_feature_layer": -1}),
    )
}
