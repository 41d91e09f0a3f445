"""The encoder that BERT began: embeddings with a norm, then layers of full attention and a feed-forward."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import Attention, attention_of
from memcalc.blocks.block import Block
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.ledger import Weight
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.unread import Unread
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import even_head_dim, layer_norm, mlp, norm_of_sum, pre_norm, windowed
from memcalc.readers.hf.config import Config

# BertConfig's own values, which the configuration classes of its kin repeat.
BERT_SIZES: Mapping[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "tie_word_embeddings": True,
}


def bert_but(**changes: Any) -> dict[str, Any]:
    """BERT's values, some of them others."""
    return {**BERT_SIZES, **changes}


# Attention that is no softmax over all keys, or that reads more than queries, keys and values: its weights are the usual
# ones, what autograd keeps of it is not known.
UNRECORDED: Named = (("approximation", Plain(())),)


def body(
    c: Config,
    *,
    attention: Attention | Sequence[Attention] | None = None,
    feed_forward: Block | None = None,
    pre: bool = False,
    entry: Named | None = None,
    beside: Named = (),
    within: Named = (),
    final: bool | None = None,
    norm: Norm | None = None,
) -> Part:
    """Layers alike but for their attention, where that is a list.

    `pre`: norms stand before each block, and one after all layers (`final`), not after each sum. `entry`: instead of the usual
    embedding; `beside`: blocks after it; `within`: blocks of each layer beside the usual ones; `norm`: instead of a LayerNorm.
    """
    each = attention or self_attention(c)
    mixers = [each] * c.layers() if isinstance(each, Attention) else each
    layers = windowed(
        mixers, lambda mixer: encoder_layer(c, mixer, feed_forward or bert_mlp(c), pre=pre, within=within, norm=norm)
    )
    last: Named = (("final_norm", layer_norm(c)),) if (pre if final is None else final) else ()
    entry = embedded(c) if entry is None else entry
    if entry and isinstance(entry[-1][1], Projection):
        layers = [replace(layers[0], narrow=True), *layers[1:]]
    return Part("encoder", (*entry, *beside), (Stack.of(layers),), last)


def encoder_layer(
    c: Config, attention: Attention, feed_forward: Block, *, pre: bool = False, within: Named = (), norm: Norm | None = None
) -> Layer:
    """One layer; a decoder with `add_cross_attention` reads an encoder's tokens between attention and feed-forward."""
    norm = norm or layer_norm(c)
    layer = (pre_norm if pre else norm_of_sum)(norm, attention, feed_forward)
    if c.flag("add_cross_attention", False):
        crossing = ("cross_attention", revised(attention, cross=True, causal=False))
        cross: Named = (crossing, ("cross_attention_norm", norm))
        layer = replace(layer, blocks=layer.blocks[:2] + (cross[::-1] if pre else cross) + layer.blocks[2:])
    return replace(layer, blocks=layer.blocks + within)


def self_attention(c: Config, *, rotary: bool = False, bias: bool = True) -> Attention:
    hidden, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    return attention_of(
        hidden, heads, heads, even_head_dim(c), query_bias=bias, output_bias=True, causal=c.flag("is_decoder", False),
        rotary=rotary, dropout=c.number("attention_probs_dropout_prob"), output_dropout=c.number("hidden_dropout_prob"),
        scores="as computed",
    )  # fmt: skip


def bert_mlp(c: Config) -> Block:
    return mlp(c, gated=False, bias=True, dropout=c.number("hidden_dropout_prob"), names_product=True)


def embedded(
    c: Config, *, width: int = 0, position: int | None = None, segments: int | None = None, norm: bool = True,
    projected: bool | None = None,
) -> Named:  # fmt: skip
    """Tokens, positions and segments, and their norm. `width`: of them where they are then projected to hidden_size."""
    hidden = c.integer("hidden_size")
    width = width or hidden
    tables = Embedding(
        c.integer("vocab_size"),
        width,
        position=c.integer("max_position_embeddings") if position is None else position,
        segments=c.integer("type_vocab_size", low=0) if segments is None else segments,
        dropout=c.number("hidden_dropout_prob"),
    )
    normed: Named = (("embedding_norm", layer_norm(c, size=width)),) if norm else ()
    into: Named = (("embedding_projection", Projection(width, hidden, bias=True)),)
    return (("embedding", tables), *normed, *(into if (width != hidden if projected is None else projected) else ()))


def tables(*named: tuple[str, int, int]) -> Plain:
    """More lookup tables: (name, rows, width)."""
    return Plain(tuple(Weight(name, "other", (rows, width)) for name, rows, width in named))


def unread(blocks: Named) -> Named:
    """These as text alone leaves them: stored."""
    return tuple((name, Unread(block.weights())) for name, block in blocks)
