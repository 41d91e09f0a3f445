"""Gemma 3 and 4, and what Gemma 3n shares with them. The text model of Gemma 3 is in `post_norm`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.image_sizes import Enlarged
from memcalc.blocks.images import ImageRule
from memcalc.blocks.ledger import Weight
from memcalc.blocks.norm import Norm
from memcalc.blocks.per_layer_embedding import PerLayerEmbedding, PerLayerInput
from memcalc.blocks.projection import Projection
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import (
    attention,
    biased_attention,
    decoder,
    mlp,
    optional_number,
    rms,
    sandwich,
    windowed,
)
from memcalc.readers.hf.config import MAX_LAYERS, Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import experts
from memcalc.readers.hf.multimodal.audio import GEMMA4_AUDIO, gemma4_audio
from memcalc.readers.hf.multimodal.nested import Language, joined, read_language, tied_outside
from memcalc.readers.hf.multimodal.vision import SIGLIP, siglip, table

KINDS = ("sliding_attention", "full_attention")


def gemma3(c: Config) -> Architecture:
    language = read_language(c, "gemma3_text", tied=tied_outside(c, True))
    vision = c.sub("vision_config", SIGLIP)
    hidden = vision.integer("hidden_size")
    projector = Part(
        "projector",
        entry=(
            ("norm", Norm(hidden, "rms-zero-centred")),
            ("linear", Projection(hidden, language.hidden, transposed=True)),
        ),
    )
    tower = siglip(vision)
    assert tower.images
    pooled = tower.images._replace(tokens=c.integer("mm_tokens_per_image", 256))
    return joined(c, language, (replace(tower, images=pooled), projector))


def gemma4(c: Config) -> Architecture:
    language = read_language(c, "gemma4_text", tied=tied_outside(c, True))
    return joined(c, language, gemma4_towers(c, language))


def gemma4_towers(c: Config, language: Language) -> tuple[Part, ...]:
    """Vision and audio towers are there where the config has their objects, empty ones too; each is projected."""
    towers: list[Part] = []
    projections: Named = ()
    if c.has("vision_config"):
        vision = c.sub("vision_config", _GEMMA4_VISION)
        towers.append(_gemma4_vision(vision, vision.integer("pooling_kernel_size")))
        projections += _normed_projection("vision", vision.integer("hidden_size"), language)
    if c.has("audio_config"):
        audio = c.sub("audio_config", GEMMA4_AUDIO)
        towers.append(gemma4_audio(audio))
        projections += _normed_projection("audio", audio.integer("output_proj_dims"), language)
    return (*towers, *((Part("projector", entry=projections),) if projections else ()))


def _normed_projection(name: str, inputs: int, language: Language) -> Named:
    """A norm without weights and one matrix (modeling_gemma4.Gemma4MultimodalEmbedder)."""
    norm = Norm(inputs, GEMMA4_NORM, affine=False)
    return ((f"{name}/norm", norm), (f"{name}/linear", Projection(inputs, language.hidden)))


def gemma4_unified(c: Config) -> Architecture:
    """No towers: patches and frames of sound are projected straight into the language model, where the config has them."""
    language = read_language(c, "gemma4_unified_text", tied=tied_outside(c, True))
    parts: list[Part] = []
    if c.has("vision_config"):
        vision = c.sub("vision_config", _UNIFIED_VISION)
        pixels = 3 * (vision.integer("patch_size") * vision.integer("pooling_kernel_size")) ** 2
        width = vision.integer("mm_embed_dim")
        norm = Norm(width, "layer")
        entry: Named = (
            ("patch_norm", Norm(pixels, "layer")),
            ("patches", Projection(pixels, width, bias=True)),
            ("embedding_norm", norm),
            ("positions", table("other", (vision.integer("mm_posemb_size"), 2, width))),
            ("position_norm", norm),
            ("projection", Projection(vision.integer("output_proj_dims"), language.hidden)),
        )
        parts.append(Part("vision", entry=entry))
    if c.has("audio_config"):
        audio = c.sub("audio_config", _UNIFIED_AUDIO)
        projection = Projection(audio.integer("audio_embed_dim"), language.hidden)
        parts.append(Part("audio", entry=(("projection", projection),)))
    return joined(c, language, tuple(parts))


GEMMA4_NORM = "rms-fp32"


def gemma4_text(c: Config) -> Architecture:
    depth = c.layers()
    default = [KINDS[(i + 1) % 6 == 0] for i in range(depth)]
    kinds = layer_kinds(c, default, KINDS)
    kinds[-1] = "full_attention"  # the library insists
    first_shared = depth - c.integer("num_kv_shared_layers", low=0)
    if first_shared < 0:
        raise c.error("num_kv_shared_layers", f"must be at most the layers ({depth})")
    shared = [i >= first_shared >= 0 for i in range(depth)]
    widened = c.flag("use_double_wide_mlp")
    wide = [widened and reads for reads in shared]
    layers = windowed(
        list(zip(kinds, shared, wide, sizes_by_layer(c, kinds), strict=True)), lambda kind: _gemma4_layer(c, *kind)
    )
    return decoder(
        c,
        layers,
        rms(c, kind=GEMMA4_NORM),
        embedding=Embedding(c.integer("vocab_size"), c.integer("hidden_size"), scaled=True),
        head=capped_head(c),
        after_embedding=per_layer_embedding(c),
    )


def _gemma4_layer(c: Config, kind: str, shared: bool, wide: bool, sizes: tuple[int, int]) -> Layer:
    norm, sliding = rms(c, kind=GEMMA4_NORM), kind == "sliding_attention"
    head_dim, kv_heads = sizes
    causal, window = c.raw("use_bidirectional_attention") != "all", c.integer("sliding_window")
    if not causal:  # the half to each side, and the token itself
        window = window // 2 + 1
    mixer = biased_attention(
        c,
        head_dim=head_dim,
        kv_heads=kv_heads,
        window=window if sliding else None,
        causal=causal,
        values_are_keys=c.flag("attention_k_eq_v") and not sliding,
    )
    mixer = normed_heads(c, mixer, shared=shared, kind=GEMMA4_NORM)
    feed_forward = mlp(c, intermediate=c.integer("intermediate_size") * (2 if wide else 1))
    blocks = sandwich(norm, mixer, feed_forward).blocks
    if c.flag("enable_moe_block"):  # beside the dense feed-forward, from the same residual
        blocks = (*blocks[:-1], *_gemma4_experts(c, norm), blocks[-1])
    return Layer((*blocks, *per_layer_input(c)), wiring="gemma4")


def _gemma4_experts(c: Config, norm: Norm) -> Named:
    hidden, count = c.integer("hidden_size"), c.integer("num_experts")
    scales = (Weight("router_scale", "router", (hidden,)), Weight("expert_scale", "router", (count,)))
    return (
        ("post_mlp_norm_1", norm),
        ("pre_experts_norm", norm),
        ("experts", experts(c, top_k=_top_k(c, count), router_extras=scales, routing="gemma4")),
        ("post_experts_norm", norm),
    )


def _top_k(c: Config, count: int) -> int:
    top_k = c.integer("top_k_experts")
    if top_k > count:
        raise c.error("top_k_experts", f"({top_k}) exceeds num_experts ({count})")
    return top_k


def sizes_by_layer(c: Config, kinds: list[str]) -> list[tuple[int, int]]:
    """Head size and key-value heads of each layer: full layers have their own, in newer files under each layer."""
    local = (c.integer("head_dim"), c.integer("num_key_value_heads"))
    saved = c.raw("per_layer_config")
    if c.null("per_layer_config"):
        return [local] * len(kinds)
    if saved is None:
        own_heads = c.flag("attention_k_eq_v") and c.has("num_global_key_value_heads")
        full = (c.integer("global_head_dim"), c.integer("num_global_key_value_heads") if own_heads else local[1])
        return [local if kind == "sliding_attention" else full for kind in kinds]
    sizes = [local] * len(kinds)
    per_layer = c.sub("per_layer_config", {})
    if len(saved) > MAX_LAYERS:
        raise c.error("per_layer_config", "has more entries than a model has layers")
    for key in saved:
        if not str(key).isdecimal() or int(key) >= len(kinds):
            raise c.error("per_layer_config", f"has no layer {key!r:.60}")
        layer = per_layer.sub(key, {"head_dim": local[0], "num_key_value_heads": local[1]})
        sizes[int(key)] = (layer.integer("head_dim"), layer.integer("num_key_value_heads"))
    return sizes


def _gemma4_vision(c: Config, pooled: int) -> Part:
    """Of every image as many patches as the largest would have, most of them empty (image_processing_gemma4.py, padded)."""
    hidden, patch = c.integer("hidden_size"), c.integer("patch_size")
    mixer = normed_heads(c, attention(c, causal=False), shared=False, kind=GEMMA4_NORM)
    layer = sandwich(rms(c, kind=GEMMA4_NORM), mixer, mlp(c))
    return Part(
        "vision",
        images=ImageRule((patch, patch), Enlarged(280), pooled, padded=280 * pooled**2),
        entry=(
            ("patches", Convolution(3, hidden, (patch, patch), flattened=True)),
            ("positions", table("other", (2, c.integer("position_embedding_size"), hidden))),
        ),
        stacks=(Stack.uniform(layer, c.layers()),),
    )


def normed_heads(c: Config, mixer: Attention, *, shared: bool, kind: str = "rms") -> Attention:
    """Norms over query, key and value heads, the last without a scale; `shared`: with an earlier layer's keys."""
    norm = rms(c, size=mixer.head_dim, kind=kind)
    if shared:
        return revised(mixer, query_norm=norm, shares_cache=True)
    return revised(mixer, query_norm=norm, key_norm=norm, value_norm=replace(norm, affine=False))


def per_layer_embedding(c: Config) -> Named:
    size = c.integer("hidden_size_per_layer_input", low=0)
    if not size:
        return ()
    vocabulary, hidden = c.integer("vocab_size_per_layer_input"), c.integer("hidden_size")
    return (("per_layer_embedding", PerLayerEmbedding(vocabulary, c.layers(), size, hidden)),)


def per_layer_input(c: Config) -> Named:
    size = c.integer("hidden_size_per_layer_input", low=0)
    if not size:
        return ()
    return (("per_layer_input", PerLayerInput(c.integer("hidden_size"), size, c.layers(), c.text("hidden_act"))),)


def capped_head(c: Config) -> Head:
    softcap = optional_number(c, "final_logit_softcapping")
    return Head(c.integer("vocab_size"), c.integer("hidden_size"), c.flag("tie_word_embeddings"), softcap=softcap)


_GEMMA4_TEXT: Mapping[str, Any] = {
    "num_key_value_heads": 4,
    "head_dim": 256,
    "global_head_dim": 512,
    "hidden_act": "gelu_pytorch_tanh",
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
    "sliding_window": 512,
    "vocab_size_per_layer_input": 262144,
    "hidden_size_per_layer_input": 256,
    "attention_k_eq_v": False,
    "num_kv_shared_layers": 0,
    "enable_moe_block": False,
    "use_double_wide_mlp": False,
}
_GEMMA4_VISION: Mapping[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 16,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "head_dim": 64,
    "hidden_act": "gelu_pytorch_tanh",
    "patch_size": 16,
    "pooling_kernel_size": 3,
    "position_embedding_size": 10240,
}
_UNIFIED_VISION: Mapping[str, Any] = {
    "patch_size": 16,
    "pooling_kernel_size": 3,
    "mm_embed_dim": 3840,
    "mm_posemb_size": 1120,
    "output_proj_dims": 3840,
}
_UNIFIED_AUDIO: Mapping[str, Any] = {"audio_embed_dim": 640}

FAMILIES = {
    "gemma4_unified": Family(gemma4_unified, {}),
    "gemma3": Family(gemma3, {}),
    "gemma4": Family(gemma4, {}),
    "gemma4_text": Family(gemma4_text, _GEMMA4_TEXT),
}
