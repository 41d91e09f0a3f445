"""Attention mixed with linear attention and recurrences: Qwen3-Next, Qwen3.5, RecurrentGemma, OLMo Hybrid.

Hybrids of attention and state-space mixers are in `mamba`, `bamba`, `zamba` and `nemotron_h`, those of convolutions in `lfm`.
"""

from collections.abc import Mapping
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Part
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.experts.mixture import Experts
from memcalc.blocks.head import Head
from memcalc.blocks.mixers.gated_delta import GatedDeltaNet
from memcalc.blocks.mixers.recurrent import RGLRU
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import (
    WIDE,
    architecture,
    attention,
    biased_attention,
    decoder,
    decoder_part,
    head_norms,
    mlp,
    post_norm,
    pre_norm,
    rms,
    windowed,
)
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.decoders.post_norm import olmo_attention
from memcalc.readers.hf.kinds import layer_kinds, refuse_unknown
from memcalc.readers.hf.mixtures.experts import experts, sparse_every_nth, with_notes

ZERO_CENTRED = "rms-zero-centred"


def qwen3_next(c: Config) -> Architecture:
    layers = _qwen_layers(c, sparse_every_nth(c), fused=True)
    return with_notes(decoder(c, layers, rms(c, kind=ZERO_CENTRED)), c)


def qwen3_5_text(c: Config) -> Architecture:
    tied = c.flag("tie_word_embeddings", False)
    return with_notes(architecture(c, (qwen3_5_language(c, tied),), tied=tied), c)


def qwen3_5_moe_text(c: Config) -> Architecture:
    tied = c.flag("tie_word_embeddings", False)
    return with_notes(architecture(c, (qwen3_5_moe_language(c, tied),), tied=tied), c)


def qwen3_5_language(c: Config, tied: bool) -> Part:
    """The language model from a text config, at the top or nested."""
    layers = _qwen_layers(c, [False] * c.layers(), fused=False)
    return decoder_part(c, layers, rms(c, kind=ZERO_CENTRED), tied=tied)


def qwen3_5_moe_language(c: Config, tied: bool) -> Part:
    """The language model from a text config, at the top or nested."""
    layers = _qwen_layers(c, [True] * c.layers(), fused=False)
    return decoder_part(c, layers, rms(c, kind=ZERO_CENTRED), tied=tied)


def _qwen_layers(c: Config, sparse: list[bool], *, fused: bool) -> list[Layer]:
    """Three gated delta nets to one gated attention, or as `layer_types` says; experts where `sparse`."""
    interval = c.integer("full_attention_interval", 4)
    default = ["full_attention" if (i + 1) % interval == 0 else "linear_attention" for i in range(len(sparse))]
    kinds = layer_kinds(c, default, ("linear_attention", "full_attention"))
    norm = rms(c, kind=ZERO_CENTRED)

    def layer(kind: tuple[str, bool]) -> Layer:
        mixer, routed = kind
        feed_forward: Block = qwen_experts(c) if routed else mlp(c)
        if mixer == "full_attention":
            return pre_norm(norm, gated_attention(c), feed_forward)
        return pre_norm(norm, gated_delta_net(c, fused=fused), feed_forward, name="linear_attention")

    return windowed(list(zip(kinds, sparse, strict=True)), layer)


def gated_attention(c: Config) -> Attention:
    """Attention whose query projection also gives a gate for each output."""
    plain = head_norms(c, biased_attention(c), kind=ZERO_CENTRED)
    return revised(plain, output_gate=plain.query_size)


def gated_delta_net(c: Config, *, fused: bool) -> GatedDeltaNet:
    keys, values = c.integer("linear_num_key_heads"), c.integer("linear_num_value_heads")
    return _delta_net(c, keys, values, c.integer("linear_key_head_dim"), c.integer("linear_value_head_dim"), fused=fused)


def _delta_net(c: Config, keys: int, values: int, key_dim: int, value_dim: int, **traits: bool) -> GatedDeltaNet:
    if values % keys:
        raise c.error("linear_num_value_heads", f"({values}) is not a multiple of linear_num_key_heads ({keys})")
    return GatedDeltaNet(
        c.integer("hidden_size"),
        keys,
        values,
        key_dim,
        value_dim,
        c.integer("linear_conv_kernel_dim"),
        **traits,
        activation=c.text("hidden_act"),
        state_dtype=c.text("mamba_ssm_dtype", "float32"),
    )


def qwen_experts(c: Config) -> Experts:
    shared = mlp(c, intermediate=c.integer("shared_expert_intermediate_size"))
    return experts(c, shared=shared, shared_gate=True, shared_first=True)


def lara_mini(c: Config) -> Architecture:
    """Delta nets, windows and full attention, experts in every layer; full layers have no positions."""
    depth, window, norm = c.layers(), c.integer("sliding_window"), rms(c, kind=WIDE)
    order = ("linear_attention", "sliding_attention", "linear_attention", "full_attention", "sliding_attention")
    kinds = layer_kinds(c, [order[i % len(order)] for i in range(depth)], order[1:4])
    feed_forward = experts(c, shared=mlp(c, intermediate=c.integer("shared_expert_intermediate_size")))

    def layer(kind: str) -> Layer:
        if kind == "linear_attention":
            return pre_norm(norm, gated_delta_net(c, fused=False), feed_forward, name=kind)
        sliding = kind == "sliding_attention"
        mixer = biased_attention(c, window=window if sliding else None, rotary=sliding)
        return pre_norm(norm, head_norms(c, mixer, WIDE), feed_forward)

    return with_notes(decoder(c, windowed(kinds, layer), norm), c)


def olmo_hybrid(c: Config) -> Architecture:
    """Delta nets after a norm; each fourth layer OLMo 3's attention, normalised after its blocks."""
    depth = c.layers()
    default = ["linear_attention" if i % 4 != 3 else "full_attention" for i in range(depth)]
    if "full_attention" not in default:
        default[-1] = "full_attention"
    kinds = layer_kinds(c, default, ("linear_attention", "full_attention"))
    if len(set(kinds)) == 1:
        raise c.error("layer_types", "must have layers of both kinds, linear_attention and full_attention")
    norm, feed_forward = rms(c, kind=WIDE), mlp(c)

    def layer(kind: str) -> Layer:
        if kind == "full_attention":
            return post_norm(norm, olmo_attention(c, rotary=_has_base(c)), feed_forward)
        return pre_norm(norm, _olmo_delta_net(c), feed_forward, name="linear_attention")

    return decoder(c, windowed(kinds, layer), norm)


def _has_base(c: Config) -> bool:
    """Without a rotary base there are no positions."""
    parameters = c.raw("rope_parameters")
    return not (isinstance(parameters, Mapping) and "rope_theta" in parameters and parameters["rope_theta"] is None)


def _olmo_delta_net(c: Config) -> GatedDeltaNet:
    hidden, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    keys = c.integer("linear_num_key_heads", heads)
    key_dim = c.integer("linear_key_head_dim", int(0.75 * hidden / keys))
    return _delta_net(
        c,
        keys,
        c.integer("linear_num_value_heads", heads),
        key_dim,
        c.integer("linear_value_head_dim", 2 * key_dim),
        apart=True,
    )


def recurrent_gemma(c: Config) -> Architecture:
    pattern = c.entries("block_types", of=str)
    if not pattern:
        raise c.error("block_types", "must not be empty")
    refuse_unknown(c, "block_types", pattern, ("recurrent", "attention"))
    repeated = [pattern[i % len(pattern)] for i in range(c.layers())]
    norm = rms(c, kind=ZERO_CENTRED)
    # the config counts gate and up together
    feed_forward = mlp(c, intermediate=c.integer("intermediate_size", low=2) // 2, bias=True)

    def layer(kind: str) -> Layer:
        if kind == "recurrent":
            return pre_norm(norm, _rg_lru(c), feed_forward, name="recurrent")
        local = attention(
            c,
            query_bias=c.flag("attention_bias", False),
            output_bias=True,
            window=c.integer("attention_window_size"),
        )
        return pre_norm(norm, local, feed_forward)

    hidden, vocabulary = c.integer("hidden_size"), c.integer("vocab_size")
    tied = c.flag("tie_word_embeddings")
    softcap = c.number("logits_soft_cap")
    return decoder(
        c,
        windowed(repeated, layer),
        norm,
        tied=tied,
        embedding=Embedding(vocabulary, hidden, scaled=True),
        head=Head(vocabulary, hidden, tied=tied, softcap=softcap),
    )


def _rg_lru(c: Config) -> RGLRU:
    hidden, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    width = c.integer("lru_width", hidden)
    if width % heads:
        raise c.error("lru_width", f"({width}) is not a multiple of {c.spelling('num_attention_heads')} ({heads})")
    return RGLRU(hidden, width, heads, c.integer("conv1d_width"), activation=c.text("hidden_act"))


_QWEN: Mapping[str, Any] = {
    "head_dim": 256,
    "partial_rotary_factor": 0.25,
    "hidden_act": "silu",
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}
_QWEN3_5: Mapping[str, Any] = {**_QWEN, "num_key_value_heads": 4}
_QWEN3_5_MOE: Mapping[str, Any] = {**_QWEN, "num_key_value_heads": 2, "shared_expert_intermediate_size": 512}

FAMILIES = {
    "qwen3_next": Family(
        qwen3_next,
        {**_QWEN, "num_key_value_heads": 2, "shared_expert_intermediate_size": 512},
    ),
    "qwen3_5_text": Family(qwen3_5_text, _QWEN3_5),
    "qwen3_5_moe_text": Family(qwen3_5_moe_text, _QWEN3_5_MOE),
    "lara_mini": Family(
        lara_mini,
        {
            **_QWEN,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "partial_rotary_factor": 1.0,
            "linear_num_key_heads": 8,
            "linear_num_value_heads": 16,
            "shared_expert_intermediate_size": 512,
            "num_experts_per_tok": 4,
            "sliding_window": 512,
            "tie_word_embeddings": True,
            "max_position_embeddings": 131072,
        },
    ),
    "olmo_hybrid": Family(olmo_hybrid, {"hidden_act": "silu", "linear_conv_kernel_dim": 4, "max_position_embeddings": 65536}),
    "recurrent_gemma": Family(
        recurrent_gemma,
        {
            "block_types": ("recurrent", "recurrent", "attention"),
            "attention_window_size": 2048,
            "conv1d_width": 4,
            "logits_soft_cap": 30.0,
            "partial_rotary_factor": 0.5,
            "hidden_act": "gelu_pytorch_tanh",
            "tie_word_embeddings": True,
        },
    ),
}
