"""What stands between a vision tower and a language model: the projectors of the families in `image_text`.

Each takes the outer config, the tower's config and the language part, and gives named blocks.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Named, Part, Stack
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import pre_norm, rms
from memcalc.readers.hf.config import Config
from memcalc.readers.hf.multimodal.nested import Language
from memcalc.readers.hf.multimodal.vision import full_attention, table
from memcalc.readers.hf.tasks import task

Projector = Callable[[Config, Config, Language], Named]


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
    side = pixel_shuffle_side(c, "downsample_ratio")
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


def pixel_shuffle_side(c: Config, key: str) -> int:
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


def gelu_mlp(inputs: int, inner: int, outputs: int, *, bias: bool = True, activation: str = "gelu", **traits: Any) -> Named:
    up = Projection(inputs, inner, bias=bias, activation=activation, cut="outputs", **traits)
    return (("up", up), ("down", Projection(inner, outputs, bias=bias, cut="inputs")))


def plain(c: Config, vision: Config, language: Language) -> Named:
    """Two layers with biases and a GELU, whatever the config says (DeepSeek-VL, VideoLLaMA 3)."""
    return gelu_mlp(vision.integer("hidden_size"), language.hidden, language.hidden)


def merged(c: Config, vision: Config, language: Language, *, width: str = "") -> Named:
    """A norm of each patch, then two layers over squares of them; `width`: the outer key of the first one's outputs."""
    hidden, count = vision.integer("hidden_size"), vision.integer("spatial_merge_size") ** 2
    inner = c.integer(width) if width else hidden * count
    return (("norm", Norm(hidden, "layer")), *gelu_mlp(hidden * count, inner, language.hidden, merge=count))


def minicpm(c: Config, vision: Config, language: Language) -> Named:
    """`merger_times` merges of 2 × 2 patches, the last to the language model's width."""
    hidden, times = vision.integer("hidden_size"), c.layers("merger_times")
    return tuple(
        (f"merger{i}/{name}", block)
        for i in range(times)
        for name, block in (
            ("norm", Norm(4 * hidden, "layer")),
            *gelu_mlp(4 * hidden, 4 * hidden, language.hidden if i == times - 1 else hidden, merge=4),
        )
    )


def ovis2(c: Config, vision: Config, language: Language) -> Named:
    """Each merged patch gives weights over a vocabulary of visual words, whose embeddings are averaged."""
    words, marks = vision.integer("vocab_size"), vision.integer("num_visual_indicator_tokens")
    if marks >= words:
        raise vision.error("num_visual_indicator_tokens", f"({marks}) must be fewer than vocab_size ({words})")
    for key in ("hidden_size", "vocab_size"):  # the library sizes a head of its own by the outer config
        if task(c) != "Model" and not language.tied and c.integer(key) != language.config.integer(key):
            raise c.error(key, f"({c.integer(key)}) must be that of the text_config where tie_word_embeddings is false")
    count = vision.integer("hidden_stride") ** 2
    return (
        ("words", Projection(vision.integer("hidden_size") * count, words - marks, merge=count)),
        ("norm", Norm(words - marks, "layer")),
        ("embedding", table("projector", (words, c.integer("hidden_size")))),
    )


def aria(c: Config, vision: Config, language: Language) -> Named:
    """Learned queries attend to all patches, through projections of their own before those of the attention."""
    hidden, norm = vision.integer("hidden_size"), Norm(vision.integer("hidden_size"), "layer")
    linear = Projection(hidden, hidden)
    return (
        ("queries", table("other", (c.integer("max_value_projector_patch_to_query_dict"), hidden))),
        ("q", linear),
        ("k", linear),
        ("v", linear),
        ("attention", full_attention(vision, fused=True)),
        ("output", replace(linear, bias=True)),
        ("attention_norm", norm),
        ("kv_norm", norm),
        ("norm", norm),
        *gelu_mlp(hidden, language.hidden, language.hidden, bias=False, activation="gelu_new"),
    )


def got_ocr2(c: Config, vision: Config, language: Language) -> Named:
    """Two strided convolutions and a matrix."""
    channels, width = vision.integer("output_channels"), language.hidden
    traits: dict[str, Any] = {"stride": (2, 2), "role": "projector"}
    return (
        ("convolution1", Convolution(channels, 2 * channels, (3, 3), **traits)),
        ("convolution2", Convolution(2 * channels, width, (3, 3), **traits)),
        ("linear", Projection(width, width, bias=True)),
    )


def lfm3(c: Config, vision: Config, language: Language) -> Named:
    """As `merged`, with a width, a bias and an activation of its own."""
    hidden, count, bias = vision.integer("hidden_size"), vision.integer("spatial_merge_size") ** 2, c.flag("projector_bias")
    inner, activation = c.integer("projector_hidden_size"), c.text("projector_hidden_act")
    layers = gelu_mlp(hidden * count, inner, language.hidden, bias=bias, activation=activation, merge=count)
    return (("norm", Norm(hidden, "layer")), *layers)


def hunyuan(c: Config, vision: Config, language: Language) -> Named:
    """A convolution merges squares of patches, another brings them to the language model's width; a mark ends each row."""
    hidden, side, outputs = (vision.integer(key) for key in ("hidden_size", "spatial_merge_size", "out_hidden_size"))
    wide = hidden * side * side
    return (
        ("norm", Norm(hidden)),
        ("merge", Convolution(hidden, wide, (side, side), bias=True, role="projector")),
        ("linear", Convolution(wide, outputs, (1, 1), bias=True, role="projector")),
        ("newline", table("other", (outputs,))),
    )


def hunyuan_vl(c: Config, vision: Config, language: Language) -> Named:
    """Two convolutions and a matrix between norms; marks around an image, between images and after each row."""
    hidden, side, outputs = vision.integer("hidden_size"), vision.integer("spatial_merge_size"), language.hidden
    return (
        ("norm", Norm(hidden)),
        ("merge", Convolution(hidden, 2 * hidden, (side, side), bias=True, role="projector")),
        ("up", Convolution(2 * hidden, 4 * hidden, (1, 1), bias=True, role="projector")),
        ("newline", table("other", (4 * hidden,))),
        ("linear", Projection(4 * hidden, outputs, bias=True)),
        *((f"{mark}_mark", table("other", (outputs,))) for mark in ("begin", "end", "separator")),
        ("output_norm", Norm(outputs)),
    )


def granite_docling(c: Config, vision: Config, language: Language) -> Named:
    """A coarse and a fine pixel shuffle, each with mergers of earlier vision layers' outputs; a router chooses between them."""
    hidden, outputs = vision.integer("hidden_size"), vision.integer("out_hidden_size")
    factor, width = vision.integer("scale_factor"), c.raw("density_router_hidden_size")
    routes: Named = _docling_route(vision, factor, "coarse")
    if vision.flag("use_fine_route"):
        routes += _docling_route(vision, max(1, factor // 2), "fine")
    router: Named = ()
    if width is not None:
        inner = c.integer("density_router_hidden_size")
        router = (
            ("router_weights", Projection(hidden, 1, bias=True)),
            ("router_norm", Norm(hidden, "layer")),
            ("router_up", Projection(hidden, inner, bias=True)),
            ("router_down", Projection(inner, 1, bias=True)),
        )
    norm = Norm(outputs, "layer")
    middle: Named = (("middle_norm", norm), ("linear", Projection(outputs, outputs)), ("output_norm", norm))
    return (("norm", Norm(hidden, "layer")), *routes, *middle, *router)


def _docling_route(vision: Config, factor: int, name: str) -> Named:
    count, outputs = factor**2, vision.integer("out_hidden_size")
    wide = vision.integer("hidden_size") * count
    mergers = tuple(
        (f"{name}/deepstack{i}/{path}", block)
        for i in vision.entries("deepstack_visual_indexes", of=int)
        for path, block in (("norm", Norm(wide, "layer")), *gelu_mlp(wide, outputs, outputs, merge=count))
    )
    return ((f"{name}/linear", Projection(wide, outputs, merge=count)), *mergers)
