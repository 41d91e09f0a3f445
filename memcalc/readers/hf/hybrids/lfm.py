"""Liquid's models: short convolutions with attention among them (LFM2, its mixture of experts, LFM3)."""

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block
from memcalc.blocks.mixers.recurrent import ShortConvolution
from memcalc.blocks.norm import Norm
from memcalc.readers.hf.common import (
    attention,
    biased_attention,
    decoder,
    head_dim,
    head_norms,
    mlp,
    pre_norm,
    rotary_dim_of,
    sandwich,
    sliding_window,
    windowed,
)
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import corrected_experts, experts

FULL, SLIDING, CONVOLUTION = "full_attention", "sliding_attention", "conv"


def lfm2(c: Config) -> Architecture:
    """Short convolutions with attention among them."""
    depth = c.layers()
    attending = set(c.entries("full_attn_idxs", of=int)) if c.has("full_attn_idxs") else set(range(depth))
    kinds = layer_kinds(c, [FULL if i in attending else CONVOLUTION for i in range(depth)], (FULL, CONVOLUTION))
    feed_forward = mlp(c, intermediate=_lfm2_width(c), activation="silu")
    return decoder(c, windowed(kinds, lambda kind: _lfm2_layer(c, kind, feed_forward)), _norm(c), tied=_tied(c))


def _lfm2_width(c: Config) -> int:
    """The feed-forward's width: two thirds of what the config says, scaled, rounded up to a multiple."""
    width = c.integer("block_ff_dim") if c.has("block_ff_dim") else c.integer("intermediate_size")
    if not c.flag("block_auto_adjust_ff_dim", True):
        return width
    multiplier = c.number("block_ffn_dim_multiplier", 1.0)
    if not 0 < multiplier <= 1000:
        raise c.error("block_ffn_dim_multiplier", f"must be above 0 and at most 1000, not {multiplier:g}")
    multiple = c.integer("block_multiple_of", 256)
    return -(-int(multiplier * int(2 * width / 3)) // multiple) * multiple


def lfm2_moe(c: Config) -> Architecture:
    """Dense feed-forwards in the first layers, experts after them; the width is what the config says."""
    if not c.has("layer_types"):
        raise c.error("layer_types", "is missing")
    kinds = layer_kinds(c, [FULL] * c.layers(), (FULL, CONVOLUTION))
    first = c.integer("num_dense_layers", low=0)
    biased = c.flag("use_expert_bias")

    def routed() -> Block:
        if biased:
            return corrected_experts(c, activation="silu", routing="sigmoid-narrow")
        return experts(c, activation="silu", routing="sigmoid of all")

    def layer(kind: tuple[str, bool]) -> Layer:
        mixer, dense = kind
        feed_forward = mlp(c, activation="silu") if dense else routed()
        return _lfm2_layer(c, mixer, feed_forward)

    return decoder(c, windowed([(kind, i < first) for i, kind in enumerate(kinds)], layer), _norm(c), tied=_tied(c))


def lfm3(c: Config) -> Architecture:
    """Sliding windows too, a gate for each head, and norms after each block, unless switched off."""
    order = (SLIDING, CONVOLUTION, FULL, CONVOLUTION)
    default = [order[i % 4] if i else CONVOLUTION for i in range(c.layers())]
    kinds = layer_kinds(c, default, (FULL, SLIDING, CONVOLUTION))
    norm, feed_forward = _norm(c), mlp(c, activation="silu")
    shape = sandwich if c.flag("use_sandwich_norm") else pre_norm

    def layer(kind: str) -> Layer:
        if kind == CONVOLUTION:
            return shape(norm, _convolution(c), feed_forward, "convolution")
        return shape(norm, _gated_attention(c, kind), feed_forward)

    return decoder(c, windowed(kinds, layer), norm)


def _gated_attention(c: Config, kind: str) -> Attention:
    return head_norms(
        c,
        biased_attention(
            c,
            window=sliding_window(c) if kind == SLIDING else None,
            gate=c.integer("num_attention_heads") if c.flag("use_attention_gate") else 0,
            rotary_dim=rotary_dim_of(c, head_dim(c), kind),
            rotary_wide=True,
            rotary_tables="fp32",
        ),
    )


def _lfm2_layer(c: Config, kind: str, feed_forward: Block) -> Layer:
    if kind == FULL:
        return pre_norm(_norm(c), head_norms(c, attention(c, dropout=0.0)), feed_forward)
    return pre_norm(_norm(c), _convolution(c), feed_forward, name="convolution")


def _norm(c: Config) -> Norm:
    return Norm(c.integer("hidden_size"), epsilon=c.number("norm_eps", 1e-5))


def _convolution(c: Config) -> ShortConvolution:
    return ShortConvolution(c.integer("hidden_size"), c.integer("conv_L_cache"), c.flag("conv_bias", False))


def _tied(c: Config) -> bool:
    return c.flag("tie_embedding") if c.has("tie_embedding") else c.flag("tie_word_embeddings", True)


FAMILIES = {
    "lfm2": Family(lfm2, {"num_key_value_heads": 8, "conv_L_cache": 3}),
    "lfm2_moe": Family(
        lfm2_moe,
        {"num_key_value_heads": 8, "conv_L_cache": 3, "num_dense_layers": 2, "use_expert_bias": True},
    ),
    "lfm3": Family(
        lfm3,
        {
            "num_key_value_heads": 4,
            "head_dim": 128,
            "conv_L_cache": 7,
            "sliding_window": 256,
            "use_sandwich_norm": True,
            "use_attention_gate": True,
            "tie_word_embeddings": True,
        },
    ),
}
