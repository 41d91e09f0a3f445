"""Decoders with the llama's keys but LayerNorm: OLMo 1, Cohere, Nemotron, StableLM, StarCoder 2."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.norm import Norm
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import (
    attention,
    biased_attention,
    decoder,
    even_head_dim,
    every_nth_full,
    layer_norm,
    layer_windows,
    mlp,
    parallel,
    pre_norm,
    sliding_window,
    windowed,
)
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds

WRITTEN_OUT = "layer-wide"


def olmo(c: Config) -> Architecture:
    """OLMo 1: norms without scale and shift."""
    norm = replace(layer_norm(c), kind="layer-upcast", affine=False)
    return decoder(c, pre_norm(norm, biased_attention(c, rotary_wide=True, rotary_tables="fp32"), mlp(c)), norm)


def cohere(c: Config) -> Architecture:
    """Command R: attention and feed-forward in parallel; R+ has query and key norms with a scale a head."""
    norm, block = written_out(c), biased_attention(c, rotary_wide=True)
    if c.flag("use_qk_norm", False):
        block = revised(
            block,
            query_norm=Norm(block.head_dim, WRITTEN_OUT, bias=False, heads=block.heads),
            key_norm=Norm(block.head_dim, WRITTEN_OUT, bias=False, heads=block.kv_heads),
        )
    return _cohere(c, parallel(norm, block, mlp(c)), norm)


def cohere2(c: Config) -> Architecture:
    """Command R7B and A: sliding layers rotate, full layers have no positions."""
    norm = written_out(c)
    windows = layer_windows(c, default=every_nth_full(c, c.integer("sliding_window_pattern", 4)))
    layers = windowed(
        windows,
        lambda window: parallel(norm, biased_attention(c, window=window, rotary=window is not None, rotary_wide=True), mlp(c)),
    )
    return _cohere(c, layers, norm)


def cohere_compass_text(c: Config) -> Architecture:
    """Cohere 2's layers, all full unless `layer_types` says otherwise; the kinds with a rotary entry rotate."""
    norm, positions = written_out(c), c.sub("rope_parameters", {})
    depth, full, sliding = c.layers(), "full_attention", "sliding_attention"
    kinds = layer_kinds(c, [full] * depth, (full, sliding))
    by_kind, reach = positions.has(full) or positions.has(sliding), sliding_window(c)

    def layer(kind: str) -> Layer:
        window = reach if kind == sliding else None
        rotary = positions.has(kind) or not by_kind
        mixer = biased_attention(c, window=window, rotary=rotary, rotary_wide=True)
        return parallel(norm, mixer, mlp(c))

    tied = c.flag("tie_word_embeddings")
    head = Head(c.integer("vocab_size"), c.integer("hidden_size"), tied=tied, scaled=c.has("logit_scale"))
    return decoder(c, windowed(kinds, layer), norm, tied=tied, head=head)


def written_out(c: Config) -> Norm:
    return replace(layer_norm(c, bias=False), kind=WRITTEN_OUT)


def _cohere(c: Config, layers: Layer | list[Layer], norm: Norm) -> Architecture:
    tied = c.flag("tie_word_embeddings")
    return decoder(c, layers, norm, tied=tied, head=scaled_head(c, tied))


def scaled_head(c: Config, tied: bool) -> Head:
    """Its logits are multiplied by a constant."""
    return Head(c.integer("vocab_size"), c.integer("hidden_size"), tied=tied, scaled=True)


def nemotron(c: Config) -> Architecture:
    """Nemotron 3 and 4 (2024): LayerNorm around 1, squared ReLU without a gate."""
    norm = replace(layer_norm(c), kind="layer-around-1")
    feed_forward = mlp(c, gated=False, bias=c.flag("mlp_bias", False))
    return decoder(c, pre_norm(norm, biased_attention(c), feed_forward), norm)


def stablelm(c: Config) -> Architecture:
    norm = layer_norm(c)
    block = attention(c, head_dim=even_head_dim(c), query_bias=c.flag("use_qkv_bias", False))
    if c.flag("qk_layernorm", False):
        block = _apart_head_norms(block)
    feed_forward = mlp(c, dropout=c.number("hidden_dropout", 0.0))
    shape = parallel if c.flag("use_parallel_residual", False) else pre_norm
    return decoder(c, shape(norm, block, feed_forward), norm)


def _apart_head_norms(block: Attention) -> Attention:
    """A norm of its own for every query and every key head."""
    norm = Norm(block.head_dim, "layer", bias=False, apart=True)
    return revised(block, query_norm=replace(norm, heads=block.heads), key_norm=replace(norm, heads=block.kv_heads))


def starcoder2(c: Config) -> Architecture:
    norm, dropout = layer_norm(c), c.number("residual_dropout", 0.0)
    layer = pre_norm(
        norm,
        biased_attention(c, "use_bias", window=sliding_window(c), output_dropout=dropout),
        mlp(c, gated=False, bias=c.flag("use_bias"), dropout=dropout),
    )
    embedding = Embedding(c.integer("vocab_size"), c.integer("hidden_size"), dropout=c.number("embedding_dropout", 0.0))
    return decoder(c, layer, norm, embedding=embedding)


FAMILIES = {
    "olmo": Family(olmo, {"max_position_embeddings": 2048}),
    "cohere": Family(cohere, {"tie_word_embeddings": True, "max_position_embeddings": 8192}),
    "cohere2": Family(cohere2, {"tie_word_embeddings": True, "sliding_window": 4096, "max_position_embeddings": 8192}),
    "cohere_compass_text": Family(
        cohere_compass_text, {"tie_word_embeddings": True, "sliding_window": 4096, "max_position_embeddings": 8192}
    ),
    "nemotron": Family(nemotron, {"hidden_act": "relu2", "partial_rotary_factor": 0.5, "max_position_embeddings": 4096}),
    "stablelm": Family(stablelm, {"num_key_value_heads": 32, "partial_rotary_factor": 0.25, "max_position_embeddings": 4096}),
    "starcoder2": Family(
        starcoder2,
        {
            "num_key_value_heads": 2,
            "use_bias": True,
            "hidden_act": "gelu_pytorch_tanh",
            "tie_word_embeddings": True,
            "max_position_embeddings": 4096,
        },
    ),
}
