"""Latent attention in layers of another shape: A.X K1 and K2, Hunyuan 4."""

from collections.abc import Mapping
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.latent import LatentAttention
from memcalc.blocks.block import Block
from memcalc.blocks.hyper_connection import HyperConnection
from memcalc.blocks.norm import GatedNorm
from memcalc.readers.hf.common import decoder, mlp, pre_norm, rms, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.latent import indexed_attention, latent_attention
from memcalc.readers.hf.mixture import corrected_experts, shared_experts, sparse_after_dense, with_notes


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
