"""Qwen 4 Exp: gated delta nets and block-sparse attention between gated residual streams, experts in every layer.

Structure follows transformers src/transformers/models/qwen4_exp/.
"""

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.block_indexer import BlockIndexer
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight, linear
from memcalc.blocks.plain import Plain
from memcalc.blocks.values import revised
from memcalc.errors import Unsupported
from memcalc.readers.hf.common import decoder, rms, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.hybrids.gated_delta import ZERO_CENTRED, gated_attention, gated_delta_net, qwen_experts
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import with_notes

LINEAR, INDEXED = "linear_attention", "indexed_attention"


def qwen4_exp_text(c: Config) -> Architecture:
    """Neither layers nor the end have norms of their own: the streams are normalised where they are mixed."""
    if c.has("ple_layer_ids") and c.entries("ple_layer_ids"):
        raise Unsupported(f"{c.place}: embeddings of n-grams (ple_layer_ids) are not modelled")
    default = [LINEAR if (i + 1) % 4 else INDEXED for i in range(c.layers())]
    kinds = [
        INDEXED if kind == "full_attention" else kind for kind in layer_kinds(c, default, (LINEAR, INDEXED, "full_attention"))
    ]

    def layer(kind: str) -> Layer:
        mixer: Block = gated_delta_net(c, fused=False) if kind == LINEAR else _attention(c)
        name = kind if kind == LINEAR else "attention"
        return Layer(
            (
                ("attention_connection", _connection(c)),
                (name, mixer),
                ("mlp_connection", _connection(c)),
                ("mlp", qwen_experts(c)),
            )
        )

    mixed = (("stream_collapse", _connection(c, injects=False)),)
    return with_notes(decoder(c, windowed(kinds, layer), None, before_head=mixed), c)


def _connection(c: Config, *, injects: bool = True) -> Plain:
    """Streams side by side, normalised, pass a bottleneck that weighs them, and one number each that injects the result."""
    streams, rank = c.integer("hc_count"), c.integer("hc_lowrank")
    wide = streams * c.integer("hidden_size")
    weights = (
        Weight("norm/scale", "norm", (wide,)),
        *linear("mix_down", "other", wide, rank),
        *linear("mix_up", "other", rank, wide),
    )
    return Plain((*weights, *linear("inject", "other", wide, streams)) if injects else weights)


def _attention(c: Config) -> Block:
    """Gated attention to the blocks of keys that an indexer picks, the last one always."""
    plain, block = gated_attention(c), c.integer("indexer_compress_ratio")
    if c.integer("indexer_kv_heads") != 1:
        raise c.error("indexer_kv_heads", "must be 1")
    heads, size, picked = c.integer("indexer_n_heads"), c.integer("indexer_head_dim"), c.integer("indexer_budget") // block
    norm = rms(c, size=size, kind=ZERO_CENTRED)
    return revised(plain, indexer=BlockIndexer(c.integer("hidden_size"), heads, size, block, max(1, picked), 1, norm))


FAMILIES = {
    "qwen4_exp_text": Family(
        qwen4_exp_text,
        {
            "num_key_value_heads": 2,
            "head_dim": 256,
            "hidden_act": "silu",
            "hc_count": 4,
            "hc_lowrank": 320,
            "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 32,
            "moe_intermediate_size": 512,
            "shared_expert_intermediate_size": 512,
            "num_experts_per_tok": 10,
            "num_experts": 512,
            "max_position_embeddings": 32768,
        },
    ),
}
