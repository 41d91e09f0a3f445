"""Mixture-of-experts decoders whose layers alternate between two kinds of attention: Llama 4, MiMo V2, MiniMax."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.core import SHIFTED
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block
from memcalc.blocks.mixers.lightning import LightningAttention
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import (
    attention,
    biased_attention,
    decoder,
    head_dim,
    mlp,
    pre_norm,
    rms,
    sliding_window,
    windowed,
)
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import (
    alternating,
    corrected_experts,
    experts,
    shared_experts,
    sparse_after_dense,
    with_notes,
)


def llama4_text(c: Config) -> Architecture:
    """Rotary layers attend within aligned chunks; each n-th has no positions and attends to everything."""
    depth, interval = c.layers(), c.integer("no_rope_layer_interval")
    rotary = [(i + 1) % interval != 0 for i in range(depth)]
    if c.raw("no_rope_layers"):  # names the opposite of what it holds: 1 where there are rotary positions
        rotary = [bool(flag) for flag in c.entries("no_rope_layers", length=depth, of=int)]
    default = ["chunked_attention" if rotates else "full_attention" for rotates in rotary]
    kinds = layer_kinds(c, default, ("chunked_attention", "full_attention"))
    mixers = windowed(list(zip(rotary, kinds, strict=True)), lambda kind: _llama4_attention(c, *kind))

    def routed() -> Block:
        return experts(c, "intermediate_size", transposed=True, shared=mlp(c), routing="sigmoid-chosen", dense=True)

    dense = c.integer("intermediate_size_mlp")
    layers = alternating(c, _llama4_sparse(c), mixers, routed, lambda: mlp(c, intermediate=dense))
    return decoder(c, layers, rms(c))


def _llama4_sparse(c: Config) -> list[bool]:
    if c.has("moe_layers"):
        listed = set(c.entries("moe_layers", of=int))
        return [i in listed for i in range(c.layers())]
    step = c.integer("interleave_moe_layer_step")
    return [(i + 1) % step == 0 for i in range(c.layers())]


def _llama4_attention(c: Config, rotary: bool, kind: str) -> Attention:
    chunk = c.integer("attention_chunk_size") if c.has("attention_chunk_size") else None
    chunked = kind == "chunked_attention" and chunk is not None
    traits: dict[str, Any] = {"scores": "as computed", "rotary_wide": True, "rotary_tables": "complex"}
    mixer = biased_attention(c, rotary=rotary, window=chunk if chunked else None, chunked=chunked, **traits)
    if not (rotary and c.flag("use_qk_norm")):
        return mixer
    norm = replace(rms(c, size=mixer.head_dim), affine=False)
    return revised(mixer, query_norm=norm, key_norm=norm, norms_after_rotary=True)


def mimo_v2_flash(c: Config) -> Architecture:
    """Sliding layers have key-value heads, head sizes and a sink of their own."""
    depth = c.layers()
    default = ["full_attention" if i == 0 or (i + 1) % 6 == 0 else "sliding_attention" for i in range(depth)]
    if c.has("hybrid_layer_pattern"):  # as the published config says it
        flags = c.entries("hybrid_layer_pattern", length=depth, of=int)
        default = ["sliding_attention" if flag else "full_attention" for flag in flags]
    kinds = layer_kinds(c, default, ("full_attention", "sliding_attention"))
    mixers = windowed(kinds, lambda kind: _mimo_attention(c, sliding=kind == "sliding_attention"))

    def routed() -> Block:
        return corrected_experts(c, shared=shared_experts(c))

    return with_notes(decoder(c, alternating(c, sparse_after_dense(c, 1), mixers, routed), rms(c)), c)


def _mimo_attention(c: Config, *, sliding: bool) -> Attention:
    prefix = "swa_" if sliding else ""
    kv_heads = c.integer("num_key_value_heads") * (2 if sliding else 1)
    return attention(
        c,
        kv_heads=c.integer(f"{prefix}num_key_value_heads", kv_heads),
        head_dim=c.integer(f"{prefix}head_dim", c.integer("head_dim")),
        v_head_dim=c.integer(f"{prefix}v_head_dim", c.integer("v_head_dim")),
        query_bias=c.flag("attention_bias", False),
        sinks=c.flag("add_swa_attention_sink_bias", True) if sliding else c.flag("add_full_attention_sink_bias", False),
        window=sliding_window(c) if sliding else None,
        scores=SHIFTED,
    )


def minimax(c: Config) -> Architecture:
    norm = rms(c)
    default = ["linear_attention" if i % 2 else "full_attention" for i in range(c.layers())]
    kinds = layer_kinds(c, default, ("full_attention", "linear_attention"))
    feed_forward = experts(c, "intermediate_size", routing="softmax-fp32")

    def layer(kind: str) -> Layer:
        if kind == "full_attention":
            return pre_norm(norm, attention(c, window=sliding_window(c), keeps_all=True), feed_forward)
        mixer = LightningAttention(
            c.integer("hidden_size"),
            c.integer("num_attention_heads"),
            head_dim(c),
            chunk=c.integer("block_size"),
            activation=c.text("hidden_act", "silu"),
        )
        return pre_norm(norm, mixer, feed_forward, name="linear_attention")

    return decoder(c, windowed(kinds, layer), norm)


LLAMA4_TEXT: Mapping[str, Any] = {
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size_mlp": 16384,
    "rms_norm_eps": 1e-5,
    "interleave_moe_layer_step": 1,
    "no_rope_layer_interval": 4,
    "attention_chunk_size": 8192,
    "use_qk_norm": True,
}
# The whole defaults of the text configuration, for configs that nest it and leave out what equals these.
LLAMA4_NESTED_TEXT: Mapping[str, Any] = {
    **LLAMA4_TEXT,
    "vocab_size": 202048,
    "hidden_size": 5120,
    "intermediate_size": 8192,
    "num_hidden_layers": 48,
    "num_attention_heads": 40,
    "num_experts_per_tok": 1,
    "num_local_experts": 16,
}

FAMILIES = {
    "llama4_text": Family(llama4_text, LLAMA4_TEXT),
    "minimax": Family(minimax, {"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "block_size": 256}),
    "mimo_v2_flash": Family(
        mimo_v2_flash,
        {
            "num_key_value_heads": 4,
            "head_dim": 192,
            "v_head_dim": 128,
            "rms_norm_eps": 1e-5,
            "sliding_window": 128,
            "partial_rotary_factor": 0.334,
        },
    ),
}
