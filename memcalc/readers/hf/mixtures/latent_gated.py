"""Latent attention in layers of another shape: A.X K1 and K2, Hunyuan 4, dots3."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.latent import LatentAttention
from memcalc.blocks.block import Block
from memcalc.blocks.hyper_connection import HyperConnection
from memcalc.blocks.norm import GatedNorm
from memcalc.readers.hf.common import decoder, mlp, pre_norm, rms, sliding_window, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import alternating, corrected_experts, shared_experts, sparse_after_dense, with_notes
from memcalc.readers.hf.mixtures.latent import indexed_attention, latent_attention


def _experts(c: Config) -> Block:
    return corrected_experts(c, shared=shared_experts(c))


def axk1(c: Config) -> Architecture:
    """DeepSeek V3 with a norm after the experts."""
    norm, mixer = rms(c), latent_attention(c)

    def layer(sparse: bool) -> Layer:
        if not sparse:
            return pre_norm(norm, mixer, mlp(c))
        plain = pre_norm(norm, mixer, _experts(c))
        return Layer((*plain.blocks, ("post_mlp_norm", norm)))

    return with_notes(decoder(c, windowed(sparse_after_dense(c, 1), layer), norm), c)


def axk2(c: Config) -> Architecture:
    """DeepSeek V3.2 whose attention is gated, and whose norms are, but for those before a dense feed-forward."""
    norm = rms(c)
    gated = GatedNorm(norm, c.integer("gated_norm_rank"))
    mixers = indexed_attention(c, ["full"] * c.layers(), query_gate=True)

    def layer(kind: tuple[LatentAttention, bool]) -> Layer:
        mixer, sparse = kind
        second: Block = gated if sparse else norm
        feed_forward = _experts(c) if sparse else mlp(c)
        return Layer((("input_norm", gated), ("attention", mixer), ("post_attention_norm", second), ("mlp", feed_forward)))

    kinds = list(zip(mixers, sparse_after_dense(c, 1), strict=True))
    return with_notes(decoder(c, windowed(kinds, layer), norm), c)


def hy_v4(c: Config) -> Architecture:
    """Gated latent attention with sinks under an indexer, and several residual streams that stay apart."""
    norm, hidden, streams = rms(c), c.integer("hidden_size"), c.integer("hc_mult")
    depth, heads = c.layers(), c.integer("num_attention_heads")
    connection = HyperConnection(hidden, streams, mixes=False)
    default = ["full" if i == 0 or i % 4 == 1 else "shared" for i in range(depth)]
    kinds = layer_kinds(c, default, ("full", "shared"), "indexer_types")
    mixers = indexed_attention(c, kinds, gate=heads * c.integer("v_head_dim"), sinks=True)

    def layer(kind: tuple[LatentAttention, bool]) -> Layer:
        mixer, sparse = kind
        return Layer(
            (
                ("attention_connection", connection),
                ("input_norm", norm),
                ("attention", mixer),
                ("mlp_connection", connection),
                ("post_attention_norm", norm),
                ("mlp", _experts(c) if sparse else mlp(c)),
            )
        )

    before_norm = (("stream_collapse", HyperConnection(hidden, streams, collapses=True)),)
    layers = windowed(list(zip(mixers, sparse_after_dense(c, 1), strict=True)), layer)
    return with_notes(decoder(c, layers, norm, before_head=before_norm), c)


def dots3_note_text(c: Config) -> Architecture:
    """Sliding layers have heads, latents and head sizes of their own; the others an indexer, or see everything."""
    norm, kinds = rms(c), _dots3_kinds(c)
    key = "moe_shared_expert_intermediate_size"
    width = c.integer("n_shared_experts") * c.integer(key if c.has(key) else "shared_experts_intermediate_size")
    mixers = [_dots3_attention(layer, kind) for layer, kind in zip(_dots3_configs(c, kinds), kinds, strict=True)]

    def routed() -> Block:
        return corrected_experts(c, shared=mlp(c, intermediate=width), routing="sigmoid-fp32-router")

    return with_notes(decoder(c, alternating(c, sparse_after_dense(c, 1), mixers, routed), norm), c)


def _dots3_attention(c: Config, kind: str) -> LatentAttention:
    traits: dict[str, Any] = {"gate": c.integer("num_attention_heads"), "key_norm": True, "latents_scaled": True}
    if kind == "indexed_attention":
        (mixer,) = indexed_attention(c, ["full"], **traits)
        assert mixer.indexer  # as its kind is full
        return replace(mixer, indexer=replace(mixer.indexer, key_format="fp32"))  # the rotation leaves it so
    return latent_attention(c, window=sliding_window(c) if kind == "sliding_attention" else None, **traits)


def _dots3_kinds(c: Config) -> list[str]:
    """Older files say full where an indexer is meant, unless they switch it off."""
    full, indexed = "full_attention", "indexed_attention"
    use_dsa = c.flag("use_dsa", True) if c.has("use_dsa") or not c.has("per_layer_config") else None
    slides = c.flag("use_sliding_window", True)
    default = [indexed if not slides or i < 2 or i % 4 == 1 else "sliding_attention" for i in range(c.layers())]
    kinds = layer_kinds(c, default, (full, indexed, "sliding_attention"))
    if use_dsa is None:
        return kinds
    old, new = (full, indexed) if use_dsa else (indexed, full)
    return [new if kind == old else kind for kind in kinds]


def _dots3_configs(c: Config, kinds: list[str]) -> list[Config]:
    """The config of each layer: sizes under `per_layer_config`, in older files those of sliding layers behind swa_."""
    if not c.has("per_layer_config"):
        own: dict[str, Any] = {name: c.integer(f"swa_{name}", default) for name, default in _DOTS3_SLIDING.items()}
        own["qk_rope_head_dim"] = c.integer("swa_qk_rope_head_dim", c.integer("swa_head_dim", 256) - own["qk_nope_head_dim"])
        return [c.reread(**own) if kind == "sliding_attention" else c for kind in kinds]
    saved = c.sub("per_layer_config", {})
    by_number = {int(key): key for key in c.raw("per_layer_config") if str(key).isdecimal()}
    if len(by_number) != len(c.raw("per_layer_config")) or any(number >= len(kinds) for number in by_number):
        raise c.error("per_layer_config", f"must have keys from 0 to {len(kinds) - 1}")
    made = []
    for number in range(len(kinds)):
        layer = saved.sub(by_number[number], {}) if number in by_number else None
        changes: dict[str, Any] = {name: layer.integer(name) for name in _DOTS3_OWN if layer.has(name)} if layer else {}
        made.append(c.reread(**changes))
    return made


_DOTS3_SLIDING: Mapping[str, int] = {
    "num_attention_heads": 64,
    "q_lora_rank": 1024,
    "kv_lora_rank": 1024,
    "qk_nope_head_dim": 192,
    "v_head_dim": 128,
}
_DOTS3_OWN = (*_DOTS3_SLIDING, "qk_rope_head_dim")

_EXPERTS: Mapping[str, Any] = {"n_shared_experts": 1, "num_experts_per_tok": 8}

FAMILIES = {
    "axk1": Family(
        axk1,
        {
            **_EXPERTS,
            "kv_lora_rank": 512,
            "q_lora_rank": 1536,
            "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64,
            "v_head_dim": 128,
            "max_position_embeddings": 32768,
        },
    ),
    "axk2": Family(
        axk2,
        {
            **_EXPERTS,
            "kv_lora_rank": 128,
            "q_lora_rank": 384,
            "qk_nope_head_dim": 64,
            "qk_rope_head_dim": 32,
            "v_head_dim": 64,
            "index_topk": 2048,
            "index_head_dim": 128,
            "index_n_heads": 16,
            "gated_norm_rank": 16,
            "max_position_embeddings": 131072,
        },
    ),
    "dots3_note_text": Family(
        dots3_note_text,
        {
            **_EXPERTS,
            "kv_lora_rank": 512,
            "q_lora_rank": 1024,
            "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64,
            "v_head_dim": 128,
            "index_topk": 2048,
            "index_head_dim": 128,
            "index_n_heads": 64,
            "shared_experts_intermediate_size": 1536,
            "sliding_window": 512,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 524288,
        },
    ),
    "hy_v4": Family(
        hy_v4,
        {
            **_EXPERTS,
            "kv_lora_rank": 512,
            "q_lora_rank": 1536,
            "qk_nope_head_dim": 192,
            "qk_rope_head_dim": 64,
            "v_head_dim": 256,
            "index_topk": 2048,
            "index_head_dim": 128,
            "index_n_heads": 16,
            "hc_mult": 4,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 262144,
        },
    ),
}
