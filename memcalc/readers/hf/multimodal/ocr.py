"""DeepSeek's readers of documents: Segment Anything's encoder in front of, or beside, another one.

Structures follow transformers src/transformers/models/{deepseek_vl_hybrid,deepseek_ocr2,unlimited_ocr}/.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import attention, biased_attention, decoder, even_head_dim, mlp, pre_norm, rms
from memcalc.readers.hf.config import MAX_SIZE, Config, Family
from memcalc.readers.hf.mixtures.experts import alternating, experts, shared_experts, sparse_after_dense
from memcalc.readers.hf.multimodal.nested import assumed_tied, joined, read_language, tied_outside
from memcalc.readers.hf.multimodal.towers import SAM, sam
from memcalc.readers.hf.multimodal.vision import CLIP, SIGLIP, clip, siglip, table


def deepseek_vl_hybrid(c: Config) -> Architecture:
    """SigLIP for small images and SAM for large ones; half of what the language model reads comes from each."""
    language = read_language(c, "llama", tied=tied_outside(c, True))
    low, high = c.sub("vision_config", SIGLIP), c.sub("high_res_vision_config", _SAM)
    if language.hidden % 2:
        raise language.config.error("hidden_size", f"({language.hidden}) must be even")
    part, channels, half = sam(high), high.integer("output_channels"), language.hidden // 2
    again = tuple((f"second_{name}", block) for name, block in part.exit)
    fine = (("alpha", table("other", (1,))), *_downsampling(channels, [2 * channels, 4 * channels]))
    projector: Named = (
        ("linear", Projection(low.integer("hidden_size"), half, bias=True)),
        ("high_resolution_linear", Projection(4 * channels, half, bias=True)),
        ("output", Projection(language.hidden, language.hidden, bias=True)),
    )
    large = replace(part, name="high-resolution vision", exit=(*part.exit, *again, *fine))
    return joined(c, language, (siglip(low), large, Part("projector", entry=projector)), warnings=assumed_tied(c))


def unlimited_ocr(c: Config) -> Architecture:
    """SAM's output, downsampled, is laid beside that of CLIP's layers, which read it in place of patches."""
    language = read_language(c, "unlimited_ocr_text", _UNLIMITED_TEXT, tied=tied_outside(c, False))
    vision = c.sub("vision_config", {})
    segments, encoder = vision.sub("sam_config", _SAM), vision.sub("encoder_config", _UNLIMITED_ENCODER)
    large, channels = _shrunk(segments, [512, 1024])
    layers = clip(encoder)
    layers = replace(layers, entry=tuple(pair for pair in layers.entry if pair[0] != "patches"), exit=())
    marks: Named = tuple((name, table("other", (language.hidden,))) for name in ("view_separator", "newline"))
    linear = Projection(channels + encoder.integer("hidden_size"), language.hidden, bias=True)
    return joined(c, language, (large, layers, Part("projector", entry=(*marks, ("linear", linear)))))


def deepseek_ocr2(c: Config) -> Architecture:
    """SAM's output, downsampled, is read by layers of Qwen 2, with a learned query for each token that they give."""
    language = read_language(c, "deepseek_ocr2_text", _OCR2_TEXT, tied=tied_outside(c, False))
    vision = c.sub("vision_config", {})
    large, _ = _shrunk(vision.sub("sam_config", _SAM), [512, 896])
    encoder = vision.sub("encoder_config", _OCR2_ENCODER)
    hidden, norm = encoder.integer("hidden_size"), rms(encoder)
    layer = pre_norm(norm, attention(encoder, query_bias=True, causal=False), mlp(encoder))
    queries: Named = tuple((f"queries{count}", table("other", (count, hidden))) for count in (144, 256))
    layers = Part("vision", entry=queries, stacks=(Stack.uniform(layer, encoder.layers()),), exit=(("final_norm", norm),))
    separator = ("view_separator", table("other", (language.hidden,)))
    linear = Projection(hidden, language.hidden, bias=True)
    return joined(c, language, (large, layers, Part("projector", entry=(separator, ("linear", linear)))))


def ocr_text(c: Config) -> Architecture:
    """DeepSeek V2's experts behind ordinary attention; Unlimited-OCR keeps the whole prompt, so no window is counted."""
    bias = c.flag("mlp_bias", False)
    layers = alternating(
        c,
        sparse_after_dense(c, 1),
        biased_attention(c, head_dim=even_head_dim(c)),  # the library overwrites the head size of the file
        lambda: experts(c, shared=shared_experts(c, bias=bias), routing="softmax-wide", normalised=False),
        lambda: mlp(c, bias=bias),
    )
    return decoder(c, layers, rms(c))


def _shrunk(c: Config, default: list[int]) -> tuple[Part, int]:
    """SAM's encoder with strided convolutions after it, and the channels that leave them."""
    part = sam(c)
    channels = c.entries("downsample_channels", default, of=int)
    if len(channels) != 2 or not all(0 < count <= MAX_SIZE for count in channels):
        raise c.error("downsample_channels", "must hold two positive whole numbers")
    down = _downsampling(c.integer("output_channels"), channels)
    return replace(part, name="high-resolution vision", exit=(*part.exit, *down)), channels[-1]


def _downsampling(inputs: int, channels: list[int]) -> Named:
    """3 × 3 convolutions, each halving both sides."""
    widths = [inputs, *channels]
    return tuple(
        (f"downsampling{i}", Convolution(widths[i], widths[i + 1], (3, 3), (2, 2), role="projector"))
        for i in range(len(channels))
    )


_SAM: Mapping[str, Any] = {**SAM, "mlp_dim": None, "mlp_ratio": 4.0}
_UNLIMITED_ENCODER: Mapping[str, Any] = {
    **CLIP,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}
_OCR2_ENCODER: Mapping[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "hidden_act": "silu",
}
_UNLIMITED_TEXT: Mapping[str, Any] = {
    "vocab_size": 129280,
    "hidden_size": 1280,
    "intermediate_size": 6848,
    "moe_intermediate_size": 896,
    "num_hidden_layers": 12,
    "num_attention_heads": 10,
    "num_key_value_heads": 10,
    "n_routed_experts": 64,
    "num_experts_per_tok": 6,
    "n_shared_experts": 2,
    "max_position_embeddings": 32768,
}
_OCR2_TEXT: Mapping[str, Any] = {
    "vocab_size": 102400,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "moe_intermediate_size": 1407,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "max_position_embeddings": 2048,
}

FAMILIES = {
    "deepseek_vl_hybrid": Family(deepseek_vl_hybrid, {}),
    "unlimited_ocr": Family(unlimited_ocr, {}),
    "unlimited_ocr_text": Family(ocr_text, {"n_shared_experts": 2}),
    "deepseek_ocr2": Family(deepseek_ocr2, {}),
    "deepseek_ocr2_text": Family(ocr_text, {"n_shared_experts": 2}),
}
