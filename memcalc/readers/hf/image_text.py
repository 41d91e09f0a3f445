"""Image-and-text models that differ in what stands between tower and language model: LLaVA's kin, InternVL, Idefics, …

Each is a row: its default tower and language model, how head and embedding are tied, and its projector. Structures follow
transformers src/transformers/models/<family>/.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import pre_norm, rms
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.nested import (
    NOTHING,
    Language,
    assumed_tied,
    joined,
    read_language,
    text_type,
    tied_either,
    tied_outside,
)
from memcalc.readers.hf.towers import tower
from memcalc.readers.hf.vision import table

Projector = Callable[[Config, Config, Language], Named]  # (outer config, vision config, language part)


class Joint(NamedTuple):
    """How a family joins its parts."""

    projector: Projector
    text: str = "llama"
    vision: str = "clip_vision_model"
    towers: tuple[str, ...] = ("vision",)  # names of the parts, each with weights of its own
    no_text: Mapping[str, Any] = NOTHING  # the values where the file leaves the whole object out
    no_vision: Mapping[str, Any] = NOTHING
    fixed: bool = False  # the tower is this one whatever the nested config calls itself
    tied: bool = False  # by default
    resampler: Callable[[Config, Language], Part] | None = None  # layers between projector and language model
    inner_ties: bool = False  # a tie_word_embeddings of the text_config counts as well


def image_text(joint: Joint, c: Config) -> Architecture:
    kind = text_type(c, joint.text)
    absent = NOTHING if c.has("text_config") else joint.no_text
    tied = tied_either(c, kind) if joint.inner_ties else tied_outside(c, joint.tied)
    language = read_language(c, kind, absent, tied=tied)
    part, vision = tower(c, "vision_config", joint.vision, joint.no_vision, fixed=joint.fixed)
    seeing = tuple(replace(part, name=name) for name in joint.towers)
    between: tuple[Part, ...] = (Part("projector", entry=joint.projector(c, vision, language)),)
    if joint.resampler:
        between += (joint.resampler(c, language),)
    return joined(c, language, (*seeing, *between), warnings=assumed_tied(c) if joint.tied else ())


def two_layers(c: Config, inputs: int, language: Language, *, bias: bool | None = None, **traits: Any) -> Named:
    """act(W₁x), then W₂, both of the language model's width."""
    bias = c.flag("multimodal_projector_bias") if bias is None else bias
    up = Projection(inputs, language.hidden, bias=bias, activation=c.text("projector_hidden_act"), cut="outputs", **traits)
    return (("up", up), ("down", Projection(language.hidden, language.hidden, bias=bias, cut="inputs")))


def feature_layers(c: Config) -> int:
    """How many vision layers' outputs are laid side by side before the projector."""
    if isinstance(c.raw("vision_feature_layer"), (list, tuple)):
        count = len(c.entries("vision_feature_layer", of=int))
        if not count:
            raise c.error("vision_feature_layer", "must name at least one layer")
        return count
    return 1


def llava(c: Config, vision: Config, language: Language) -> Named:
    return two_layers(c, vision.integer("hidden_size") * feature_layers(c), language)


def llava_next(c: Config, vision: Config, language: Language) -> Named:
    """Tiles of a large image are laid out in rows, each ended by a learned vector."""
    return (("newline", table("other", (language.hidden,))), *llava(c, vision, language))


def vipllava(c: Config, vision: Config, language: Language) -> Named:
    inputs = vision.integer("hidden_size") * feature_layers(c)
    return (("norm", Norm(inputs, "layer")), *two_layers(c, inputs, language, bias=True))


def internvl(c: Config, vision: Config, language: Language) -> Named:
    """Squares of patches are laid side by side, normalised and projected."""
    side = _shuffle(c, "downsample_ratio")
    inputs = vision.integer("hidden_size") * side**2
    return (("norm", Norm(inputs, "layer")), *two_layers(c, inputs, language, bias=True, merge=side**2))


def idefics3(c: Config, vision: Config, language: Language) -> Named:
    """Pixel shuffle and one matrix."""
    count = c.integer("scale_factor") ** 2
    return (("linear", Projection(vision.integer("hidden_size") * count, language.hidden, merge=count)),)


def idefics2(c: Config, vision: Config, language: Language) -> Named:
    """A gated MLP to the language model's width, and the latents of the perceiver."""
    sampler = c.sub("perceiver_config", IDEFICS2_PERCEIVER)
    inputs, inner = vision.integer("hidden_size"), language.config.integer("intermediate_size")
    return (
        ("gate", Projection(inputs, inner, activation=language.config.text("hidden_act", "silu"), cut="outputs")),
        ("up", Projection(inputs, inner, cut="outputs")),
        ("down", Projection(inner, language.hidden, cut="inputs")),
        ("latents", table("other", (sampler.integer("resampler_n_latents"), language.hidden))),
    )


def idefics2_resampler(c: Config, language: Language) -> Part:
    """Learned latents attend to all patches and to themselves; as wide as the language model, whatever their config says."""
    sampler = c.sub("perceiver_config", IDEFICS2_PERCEIVER)
    hidden, heads = language.hidden, sampler.integer("resampler_n_heads")
    kv_heads = sampler.integer("num_key_value_heads")
    attention = attention_of(hidden, heads, kv_heads, sampler.integer("resampler_head_dim"), causal=False, rotary=False)
    norm = rms(sampler, size=hidden)
    layer = pre_norm(norm, attention, MLP(hidden, 4 * hidden, activation=sampler.text("hidden_act")))
    layer = replace(layer, blocks=(("context_norm", norm), *layer.blocks))
    return Part("resampler", stacks=(Stack.uniform(layer, sampler.layers("resampler_depth")),), exit=(("final_norm", norm),))


def linear(c: Config, vision: Config, language: Language) -> Named:
    """One matrix with a bias, to `projection_dim` (PaliGemma)."""
    return (("linear", Projection(vision.integer("hidden_size"), c.integer("projection_dim"), bias=True)),)


def lfm2(c: Config, vision: Config, language: Language) -> Named:
    count = c.integer("downsample_factor") ** 2
    inputs, inner, bias = vision.integer("hidden_size") * count, c.integer("projector_hidden_size"), c.flag("projector_bias")
    up = Projection(inputs, inner, bias=bias, activation=c.text("projector_hidden_act"), cut="outputs", merge=count)
    down = ("down", Projection(inner, language.hidden, bias=bias, cut="inputs"))
    norm: Named = (("norm", Norm(inputs, "layer")),) if c.flag("projector_use_layernorm") else ()
    return (*norm, ("up", up), down)


def cohere(c: Config, vision: Config, language: Language, *, normed: bool = False) -> Named:
    """SwiGLU over squares of patches: half of the first product gates the other."""
    count = c.integer("downsample_factor") ** 2
    inputs = vision.integer("hidden_size") * count
    inner = c.integer("alignment_intermediate_size", language.hidden)
    norm: Named = (("norm", Norm(inputs, "layer")),) if normed else ()
    up = Projection(inputs, inner, bias=True, activation="silu", cut="outputs", merge=count)
    return (*norm, ("up", up), ("down", Projection(inner // 2, language.hidden, bias=True, cut="inputs")))


def _shuffle(c: Config, key: str) -> int:
    """How many patches lie on one side of a merged square, from the share of the sides that is left."""
    ratio = c.number(key)
    if not 0 < ratio <= 1:
        raise c.error(key, f"must be above 0 and at most 1, not {ratio}")
    return int(1 / ratio)


IDEFICS2_PERCEIVER: Mapping[str, Any] = {
    "hidden_act": "silu",
    "resampler_n_latents": 64,
    "resampler_depth": 3,
    "resampler_n_heads": 16,
    "resampler_head_dim": 96,
    "num_key_value_heads": 4,
}
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
_COHERE2_VISION: Mapping[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 3072,
    "num_hidden_layers": 27,
    "num_attention_heads": 12,
    "image_size": 512,
}
_PROJECTOR: Mapping[str, Any] = {"projector_hidden_act": "gelu", "multimodal_projector_bias": True}

_NEXT = Joint(llava_next, no_vision=LLAVA_VISION)
_IDEFICS2 = Joint(idefics2, "mistral", "idefics2_vision", fixed=True, resampler=idefics2_resampler)
_VIDEO = Joint(llava, no_vision={**LLAVA_VISION, "image_size": 224}, towers=("vision", "video"))
_IDEFICS3 = Joint(idefics3, vision="idefics3_vision", fixed=True)
_COHERE = Joint(cohere, text="cohere2", vision="siglip_vision_model", no_vision=_COHERE2_VISION, tied=True)

FAMILIES = {
    name: Family(partial(image_text, joint), defaults)
    for name, joint, defaults in (
        ("llava", Joint(llava, no_vision=LLAVA_VISION, inner_ties=True), _PROJECTOR),
        ("llava_next", _NEXT, _PROJECTOR),
        ("llava_next_video", _NEXT._replace(inner_ties=True), _PROJECTOR),
        ("vipllava", Joint(vipllava, no_vision=LLAVA_VISION), {**_PROJECTOR, "vision_feature_layer": (-2, -5, -8, -11, 6)}),
        ("video_llava", _VIDEO, _PROJECTOR),
        (
            "llava_onevision",
            Joint(llava_next, text="qwen2", vision="siglip_vision_model", no_vision=_ONEVISION, inner_ties=True),
            _PROJECTOR,
        ),
        (
            "internvl",
            Joint(internvl, text="qwen2", vision="internvl_vision", fixed=True, tied=True),
            {**_PROJECTOR, "downsample_ratio": 0.5},
        ),
        ("idefics2", _IDEFICS2, {}),
        ("idefics3", _IDEFICS3, {"scale_factor": 2}),
        ("smolvlm", _IDEFICS3, {"scale_factor": 2}),
        (
            "paligemma",
            Joint(linear, "gemma", "siglip_vision_model", no_text=_PALIGEMMA_TEXT, no_vision=_PALIGEMMA_VISION, tied=True),
            {"projection_dim": 2048},
        ),
        (
            "lfm2_vl",
            Joint(lfm2, text="lfm2", vision="siglip2_vision_model", tied=True),
            {
                "projector_hidden_act": "gelu",
                "projector_hidden_size": 2560,
                "projector_bias": True,
                "projector_use_layernorm": True,
                "downsample_factor": 2,
            },
        ),
        ("cohere2_vision", _COHERE, {"downsample_factor": 2, "alignment_intermediate_size": 36864}),
        (
            "aya_vision",
            _COHERE._replace(projector=partial(cohere, normed=True), no_vision={**_ONEVISION, "num_attention_heads": 14}),
            {"downsample_factor": 2},
        ),
    )
}
