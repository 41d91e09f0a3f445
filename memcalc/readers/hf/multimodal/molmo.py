"""Molmo 2: features of two layers of a ViT, pooled by attention, before a Qwen 3 with a few tokens more to read."""

from collections.abc import Mapping
from typing import Any

from memcalc.blocks.architecture import Architecture, Part, Stack
from memcalc.blocks.attention.softmax import Attention, attention_of
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import attention, decoder, head_norms, mlp, post_norm, pre_norm, rms
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal.nested import joined, read_language, tied_outside
from memcalc.readers.hf.multimodal.vision import plain_mlp, table


def molmo2(c: Config) -> Architecture:
    language = read_language(c, "molmo2_text", tied=tied_outside(c, False))
    vision, adapter = c.sub("vision_config", _VISION), c.sub("adapter_config", _ADAPTER)
    hidden, norm, patch = (
        vision.integer("hidden_size"),
        Norm(vision.integer("hidden_size"), "layer"),
        vision.integer("patch_size"),
    )
    pixels = patch * patch * vision.integer("num_channels")
    tower = Part(
        "vision",
        entry=(
            ("patches", Projection(pixels, hidden, bias=True, role="other")),
            ("positions", table("position", (vision.integer("num_position_embeddings"), hidden))),
        ),
        stacks=(Stack.uniform(pre_norm(norm, _attention(vision, hidden), plain_mlp(vision)), vision.layers()),),
    )
    width, inner = adapter.integer("hidden_size"), adapter.integer("intermediate_size")
    outputs, bias = adapter.integer("text_hidden_size"), adapter.flag("mlp_bias")
    features = width * len(adapter.entries("vision_feature_layer", of=int))
    projector = Part(
        "projector",
        entry=(
            ("pooling", _attention(adapter, features)),
            ("gate", Projection(width, inner, bias=bias, activation=adapter.text("hidden_act"), cut="outputs")),
            ("up", Projection(width, inner, bias=bias, cut="outputs")),
            ("down", Projection(inner, outputs, cut="inputs")),
        ),
    )
    return joined(c, language, (tower, projector))


def molmo2_text(c: Config) -> Architecture:
    """`additional_vocab_size` tokens can be read but not written; norms before or after the blocks."""
    norm, tied = rms(c), c.flag("tie_word_embeddings", False)
    mixer, kind = attention(c, query_bias=c.flag("attention_bias")), c.text("qk_norm_type")
    if kind not in ("qwen3", "olmo"):
        raise c.error("qk_norm_type", f"must be qwen3 or olmo, not {kind!r:.60}")
    if kind == "qwen3":
        mixer = head_norms(c, mixer)
    else:
        mixer = revised(mixer, query_norm=rms(c, size=mixer.query_size), key_norm=rms(c, size=mixer.key_size))
    more = c.integer("additional_vocab_size", low=0)
    if tied and more:
        raise c.error("tie_word_embeddings", "must be false where additional_vocab_size is not 0")
    embedding = Embedding(c.integer("vocab_size") + more, c.integer("hidden_size"))
    layer = (post_norm if c.flag("norm_after") else pre_norm)(norm, mixer, mlp(c))
    return decoder(c, layer, norm, tied=tied, embedding=embedding)


def _attention(c: Config, inputs: int) -> Attention:
    hidden, heads, bias = c.integer("hidden_size"), c.integer("num_attention_heads"), c.flag("attention_bias")
    kv_heads = c.integer("num_key_value_heads")
    if heads % kv_heads:
        raise c.error("num_key_value_heads", f"({kv_heads}) does not divide num_attention_heads ({heads})")
    size = c.integer("head_dim", max(1, hidden // heads))
    return attention_of(
        hidden, heads, kv_heads, size, query_bias=bias, output_bias=bias, causal=False, rotary=False, inputs=inputs
    )


_VISION: Mapping[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 25,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 72,
    "hidden_act": "gelu_pytorch_tanh",
    "patch_size": 14,
    "num_position_embeddings": 729,
    "num_channels": 3,
    "attention_bias": True,
}
_ADAPTER: Mapping[str, Any] = {
    "vision_feature_layer": (24, 18),
    "hidden_size": 1152,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 72,
    "attention_bias": True,
    "hidden_act": "silu",
    "intermediate_size": 18944,
    "text_hidden_size": 3584,
    "mlp_bias": False,
}
_TEXT: Mapping[str, Any] = {
    "num_key_value_heads": 8,
    "head_dim": 128,
    "additional_vocab_size": 128,
    "attention_bias": False,
    "qk_norm_type": "qwen3",
    "hidden_act": "silu",
    "norm_after": False,
}

FAMILIES = {"molmo2": Family(molmo2, {}), "molmo2_text": Family(molmo2_text, _TEXT)}
