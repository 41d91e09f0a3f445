"""Decoders whose attention or residuals learn further numbers: DiffLlama, Doge."""

from math import isqrt

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.differential import DifferentialAttention
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight, linear
from memcalc.blocks.plain import Plain
from memcalc.blocks.values import facts_of, revised
from memcalc.readers.hf.common import attention, biased_attention, decoder, head_norms, mlp, pre_norm, rms
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.mixtures.experts import experts


def diffllama(c: Config) -> Architecture:
    """The difference of two attentions, weighted by four learned vectors; its norm has no scale."""
    norm = rms(c)
    return decoder(c, pre_norm(norm, DifferentialAttention(**facts_of(biased_attention(c))), mlp(c)), norm)


def doge(c: Config) -> Architecture:
    """A learned mask from the values, and a scale for each number of the residual; the experts are rows of two tables."""
    norm, bias = rms(c), c.flag("attention_bias", False)
    size = c.integer("head_dim") if c.has("head_dim") else c.integer("hidden_size") // c.integer("num_attention_heads")
    block = attention(c, head_dim=size, query_bias=bias, output_bias=bias)
    mask = (Weight("A", "attention", (block.kv_heads,)), *linear("dt", "attention", block.key_size, block.kv_heads, bias=bias))
    block = head_norms(c, revised(block, extras=mask))
    scale = Plain((Weight("scale", "other", (c.integer("hidden_size"),)),))
    made = pre_norm(norm, block, _doge_experts(c) if c.flag("is_moe") else mlp(c, bias=c.flag("mlp_bias", False)))
    return decoder(c, Layer((*made.blocks[:2], ("input_residual", scale), *made.blocks[2:], ("mlp_residual", scale))), norm)


def _doge_experts(c: Config) -> Block:
    """Each expert one row of either table; the router scores two halves of a key."""
    shared = mlp(c, bias=c.flag("mlp_bias", False))
    keys = 2 * isqrt(c.integer("num_experts"))
    one_each = c.reread(moe_intermediate_size=1)
    return experts(one_each, gated=False, shared=shared, router_width=keys, routing="product keys")


FAMILIES = {
    "diffllama": Family(diffllama, {"rms_norm_eps": 1e-5, "max_position_embeddings": 2048}),
    "doge": Family(
        doge,
        {
            "num_experts": 16384,
            "num_experts_per_tok": 64,
            "norm_topk_prob": False,
            "is_moe": False,
            "max_position_embeddings": 2048,
        },
    ),
}
