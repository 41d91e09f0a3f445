"""Dia: an encoder of bytes, and a decoder of nine sound codes at once."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.norm import Norm
from memcalc.readers.hf.common import architecture, attention, mlp, pre_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.seq2seq import GENERATION
from memcalc.readers.hf.tasks import task, uncounted


def dia(c: Config) -> Architecture:
    """Every channel has a table and a head of its own, each stored as one matrix (modeling_dia.py)."""
    text, sound, kind = c.sub("encoder_config", _TEXT), c.sub("decoder_config", _SOUND), task(c)
    width, hidden = text.integer("hidden_size"), sound.integer("hidden_size")
    heard = Norm(width)
    layer = pre_norm(heard, attention(text, causal=False), mlp(text, fused=True))
    encoder = Part(
        "encoder",
        (("embedding", Embedding(text.integer("vocab_size"), width)),),
        (Stack.uniform(replace(layer, source=True), text.layers()),),
        (("final_norm", heard),),
    )
    norm, codes = Norm(hidden), sound.integer("num_channels") * sound.integer("vocab_size")
    heads, kv_heads = sound.integer("cross_num_attention_heads"), sound.integer("cross_num_key_value_heads")
    if heads % kv_heads:
        raise sound.error("cross_num_key_value_heads", f"({kv_heads}) does not divide cross_num_attention_heads ({heads})")
    crossing = attention_of(
        hidden, heads, kv_heads, sound.integer("cross_head_dim"), cross=True, causal=False,
        kv_inputs=sound.integer("cross_hidden_size"),
    )  # fmt: skip
    layer = pre_norm(norm, attention(sound), mlp(sound, fused=True))
    cross: Named = (("cross_attention_norm", norm), ("cross_attention", crossing))
    layer = replace(layer, blocks=layer.blocks[:2] + cross + layer.blocks[2:])
    head: Named = (("head", Head(codes, hidden, upcast=False)),) if kind in GENERATION else ()
    decoder = Part(
        "decoder",
        (("embedding", Embedding(codes, hidden)),),
        (Stack.uniform(layer, sound.layers()),),
        (("final_norm", norm), *head),
    )
    model = architecture(c, (encoder, decoder), tied=False, text=sound)
    return replace(model, warnings=() if head or kind == "Model" else uncounted(c))


_TEXT: Mapping[str, Any] = {
    "vocab_size": 256, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 12, "num_attention_heads": 16,
    "num_key_value_heads": 16, "head_dim": 128, "hidden_act": "silu", "max_position_embeddings": 1024,
}  # fmt: skip
_SOUND: Mapping[str, Any] = {
    **_TEXT, "vocab_size": 1028, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 18,
    "num_key_value_heads": 4, "max_position_embeddings": 3072, "num_channels": 9, "cross_num_attention_heads": 16,
    "cross_head_dim": 128, "cross_num_key_value_heads": 16, "cross_hidden_size": 1024,
}  # fmt: skip

FAMILIES = {"dia": Family(dia, {})}
