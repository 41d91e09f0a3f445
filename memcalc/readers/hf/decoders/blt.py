"""Byte Latent Transformer: bytes are gathered into patches for a large transformer and spread out again."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import architecture, attention, even_head_dim, mlp, pre_norm, rms
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.tasks import task


def blt(c: Config) -> Architecture:
    """Local layers keep keys and values of every byte; the large transformer runs anew over all patches for each, and keeps
    none (modeling_blt.py). A small frozen model says where patches end.
    """
    encoder, decoder = (
        _sized(c.sub(f"{side}_config", defaults)) for side, defaults in (("encoder", _LOCAL), ("decoder", _DECODER))
    )
    large = _sized(c.sub("global_config", _GLOBAL))
    hidden, sizes = encoder.integer("hidden_size"), c.entries("encoder_hash_byte_group_size", of=int)
    rows = c.integer("encoder_hash_byte_group_vocab") * c.integer("encoder_hash_byte_group_nb_functions") * len(sizes)
    tied = c.flag("tie_word_embeddings") and task(c) != "Model"  # the head holds the matrix
    gathered = encoder.integer("cross_attn_k") * hidden
    into: Named = ()
    if (given := hidden * c.integer("cross_attn_k")) != large.integer("hidden_size"):  # whatever global_config says
        into = (("input", Projection(given, large.integer("hidden_size"))),)
    first = Part(
        "encoder",
        entry=(
            ("embedding", Embedding(encoder.integer("vocab_size"), hidden, tied=tied)),
            ("hashes", Plain((Weight("table", "embedding", (rows, hidden)),))),
            ("patches", Projection(hidden, gathered)),
        ),
        stacks=(_local(encoder),),
    )
    middle = Part("global", into, (Stack.uniform(_layer(large, keeps=False), large.layers()),))
    if tied and (encoder.integer("vocab_size"), hidden) != (c.integer("vocab_size"), decoder.integer("hidden_size")):
        raise c.error("tie_word_embeddings", "ties a head to a table of another size")
    width, wide = decoder.integer("hidden_size"), decoder.integer("hidden_size_global")
    last = Part(
        "language",
        entry=(("patches", Projection(wide, width * decoder.integer("cross_attn_k"))),),
        stacks=(_local(decoder),),
        exit=(("final_norm", rms(decoder)), ("head", Head(c.integer("vocab_size"), width))),
    )
    patcher = (_patcher(_sized(c.sub("patcher_config", _PATCHER))),) if c.flag("patch_in_forward") else ()
    return architecture(c, (first, middle, last, *patcher), tied=False, text=decoder.reread(vocab_size=c.integer("vocab_size")))


def _sized(c: Config) -> Config:
    """Heads split the width evenly, and a feed-forward that is not said is 8/3 as wide."""
    heads = c.integer("num_attention_heads")
    inner = c.integer("intermediate_size") if c.has("intermediate_size") else 8 * c.integer("hidden_size") // 3
    shared = c.integer("num_key_value_heads") if c.has("num_key_value_heads") else heads
    return c.reread(head_dim=even_head_dim(c), intermediate_size=inner, num_key_value_heads=shared)


def _layer(c: Config, *, keeps: bool = True) -> Layer:
    return pre_norm(rms(c), attention(c, causal=keeps), mlp(c))


def _local(c: Config) -> Stack:
    """Bytes and patches attend to each other after every layer, or after the last alone."""
    norm, depth, layer = rms(c), c.layers(), _layer(c)
    crossing: Attention = revised(attention(c, causal=False, rotary=False), query_norm=norm, key_norm=norm)
    crossed = replace(layer, blocks=(*layer.blocks, ("patch_attention", crossing)))
    return Stack.of([crossed] * depth if c.flag("cross_attn_all_layers") else [layer] * (depth - 1) + [crossed])


def _patcher(c: Config) -> Part:
    """Never trained."""
    depth, hidden, table = c.layers(), c.integer("hidden_size"), (c.integer("vocab_size"), c.integer("hidden_size"))
    each = tuple(w._replace(tensors=depth, frozen=True) for w in _layer(c).weights)
    outside = (Weight("tokens", "embedding", table, frozen=True), Weight("norm", "norm", (hidden,), frozen=True),
               Weight("head", "head", table, frozen=True))  # fmt: skip
    return Part("patcher", (("patcher", Plain((*each, *outside))),))


_GLOBAL: Mapping[str, Any] = {
    "hidden_size": 2048, "num_attention_heads": 16, "num_hidden_layers": 25, "intermediate_size": 5632, "hidden_act": "silu",
    "max_position_embeddings": 4096,
}  # fmt: skip
_LOCAL: Mapping[str, Any] = {
    "vocab_size": 260, "cross_attn_all_layers": False, "cross_attn_k": 2, "hidden_size": 1024, "num_attention_heads": 16,
    "num_hidden_layers": 1, "hidden_act": "silu",
}  # fmt: skip
_DECODER: Mapping[str, Any] = {
    **_LOCAL, "cross_attn_all_layers": True, "num_hidden_layers": 9, "intermediate_size": 2816, "hidden_size_global": 2048,
    "max_position_embeddings": 24576,
}  # fmt: skip
_PATCHER: Mapping[str, Any] = {
    "vocab_size": 260, "hidden_size": 768, "num_hidden_layers": 14, "num_attention_heads": 12, "intermediate_size": 2048,
}  # fmt: skip

FAMILIES = {
    "blt": Family(
        blt,
        {
            "vocab_size": 260, "patch_in_forward": True, "cross_attn_k": 2, "tie_word_embeddings": False,
            "encoder_hash_byte_group_size": [3, 4, 5, 6, 7, 8],
            "encoder_hash_byte_group_vocab": 500002, "encoder_hash_byte_group_nb_functions": 1,
        },
    )
}  # fmt: skip
