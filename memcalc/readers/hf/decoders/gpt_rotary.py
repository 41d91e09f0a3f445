"""The GPT line with rotary positions, mostly attention and feed-forward in parallel: GPT-J, GPT-NeoX, Phi, Falcon."""

from memcalc.autograd.tape import FP32
from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Buffer
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import (
    attention,
    decoder,
    even_head_dim,
    kv_head_count,
    layer_norm,
    mlp,
    parallel,
    pre_norm,
    windowed,
)
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.decoders.gpt import full_attention, plain_mlp


def gptj(c: Config) -> Architecture:
    return _gptj(c, fused=False)


def codegen(c: Config) -> Architecture:
    return _gptj(c, fused=True)


def _gptj(c: Config, *, fused: bool) -> Architecture:
    """Attention without biases; a head with one."""
    norm, dropout = layer_norm(c), c.number("resid_pdrop", 0.0)
    rotary_dim = c.integer("rotary_dim", low=0)
    block = full_attention(
        c,
        fused=fused,
        rotary_dim=rotary_dim,
        buffers=(Buffer(c.integer("max_position_embeddings") * (rotary_dim or c.integer("hidden_size")), FP32),),  # sines
        scores="in fp32",
        dropout=c.number("attn_pdrop", 0.0),
        output_dropout=dropout,
    )
    layer = parallel(norm, block, plain_mlp(c, dropout=dropout))
    return decoder(c, layer, norm, embedding=_embedding(c, c.number("embd_pdrop", 0.0)), head=_biased_head(c))


def gpt_neox(c: Config) -> Architecture:
    """GPT-NeoX and Pythia: attention and feed-forward each behind a norm of its own."""
    norm, bias, dropout = layer_norm(c), c.flag("attention_bias"), c.number("hidden_dropout", 0.0)
    block = full_attention(c, query_bias=bias, output_bias=bias, fused=True, output_dropout=dropout)
    feed_forward = mlp(c, gated=False, bias=True, dropout=dropout)
    if c.flag("use_parallel_residual"):
        layer = parallel(norm, block, feed_forward, mlp_norm=norm)
    else:
        layer = pre_norm(norm, block, feed_forward)
    return decoder(c, layer, norm, embedding=_embedding(c, dropout))


def gpt_neox_japanese(c: Config) -> Architecture:
    """No biases but that of the last layer's output projection."""
    norm, dropout, hidden = layer_norm(c), c.number("hidden_dropout", 0.0), c.integer("hidden_size")
    width = c.integer("intermediate_multiple_size") * hidden

    def layer(last: bool) -> Layer:
        block = full_attention(c, output_bias=last, fused=True, output_dropout=dropout)
        return pre_norm(norm, block, mlp(c, intermediate=width, gated=False, dropout=dropout))

    depth = c.layers()
    return decoder(c, windowed([i == depth - 1 for i in range(depth)], layer), norm, embedding=_embedding(c, 0.0))


def phi(c: Config) -> Architecture:
    """Phi 1 to 2: biases everywhere."""
    norm, dropout = layer_norm(c), c.number("resid_pdrop", 0.0)
    block = _head_layer_norms(c, attention(c, query_bias=True, output_bias=True, output_dropout=dropout))
    layer = parallel(norm, block, mlp(c, gated=False, bias=True, dropout=dropout))
    return decoder(c, layer, norm, embedding=_embedding(c, c.number("embd_pdrop", 0.0)), head=_biased_head(c))


def persimmon(c: Config) -> Architecture:
    """Attention and feed-forward one after the other."""
    norm = layer_norm(c)
    block = _head_layer_norms(c, full_attention(c, query_bias=True, output_bias=True, fused=True))
    feed_forward = mlp(c, gated=False, bias=True, dropout=c.number("hidden_dropout", 0.0))
    return decoder(c, pre_norm(norm, block, feed_forward), norm)


def _head_layer_norms(c: Config, block: Attention) -> Attention:
    if not c.flag("qk_layernorm"):
        return block
    norm = layer_norm(c, size=even_head_dim(c))
    return revised(block, query_norm=norm, key_norm=norm)


def falcon(c: Config) -> Architecture:
    """Falcon 7B (one key-value head, one norm), 40B and 180B (grouped, two norms), RW (ALiBi, one after the other)."""
    norm, bias, alibi = layer_norm(c), c.flag("bias"), c.flag("alibi")
    side_by_side, dropout = c.flag("parallel_attn"), c.number("hidden_dropout", 0.0)
    block = full_attention(
        c,
        kv_heads=_falcon_kv_heads(c),
        query_bias=bias,
        output_bias=bias,
        fused=True,
        rotary=not alibi,
        alibi="falcon" if alibi else "",
        broadcast=c.flag("new_decoder_architecture"),
        masked=not alibi,
        scores="as computed",
        output_dropout=0.0 if side_by_side else c.number("attention_dropout", 0.0),
    )
    feed_forward = plain_mlp(c, bias=bias, dropout=dropout)
    if not side_by_side:
        return decoder(c, pre_norm(norm, block, feed_forward), norm)
    norms = c.integer("num_ln_in_parallel_attn", 2 if c.flag("new_decoder_architecture") else 1)
    return decoder(c, parallel(norm, block, feed_forward, mlp_norm=norm if norms == 2 else None), norm)


def _falcon_kv_heads(c: Config) -> int:
    """Grouping belongs to the new architecture; the old one has one key-value head, or as many as query heads (0)."""
    if c.flag("new_decoder_architecture"):
        return kv_head_count(c)
    return 1 if c.flag("multi_query") else 0


def _embedding(c: Config, dropout: float) -> Embedding:
    return Embedding(c.integer("vocab_size"), c.integer("hidden_size"), dropout=dropout)


def _biased_head(c: Config) -> Head:
    tied = c.flag("tie_word_embeddings", False)
    return Head(c.integer("vocab_size"), c.integer("hidden_size"), tied=tied, bias=True)


_GPTJ = {"n_positions": 2048, "rotary_dim": 64, "activation_function": "gelu_new"}

FAMILIES = {
    "gptj": Family(gptj, _GPTJ),
    "codegen": Family(codegen, _GPTJ),
    "gpt_neox": Family(
        gpt_neox,
        {
            "attention_bias": True,
            "use_parallel_residual": True,
            "hidden_act": "gelu",
            "partial_rotary_factor": 0.25,
            "max_position_embeddings": 2048,
        },
    ),
    "gpt_neox_japanese": Family(
        gpt_neox_japanese,
        {
            "intermediate_multiple_size": 4,
            "hidden_act": "gelu",
            "attention_dropout": 0.1,
            "tie_word_embeddings": True,
            "max_position_embeddings": 2048,
        },
    ),
    "phi": Family(
        phi,
        {
            "hidden_act": "gelu_new",
            "qk_layernorm": False,
            "partial_rotary_factor": 0.5,
            "max_position_embeddings": 2048,
        },
    ),
    "persimmon": Family(
        persimmon,
        {"hidden_act": "relu2", "qk_layernorm": True, "partial_rotary_factor": 0.5, "max_position_embeddings": 16384},
    ),
    "falcon": Family(
        falcon,
        {
            "multi_query": True,
            "parallel_attn": True,
            "new_decoder_architecture": False,
            "alibi": False,
            "bias": False,
            "activation": "gelu",
            "tie_word_embeddings": True,
            "max_position_embeddings": 2048,
        },
    ),
}
