"""DeepSeek V4: compressed attention, hyper-connections instead of plain residuals, experts in every layer."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.compressed import CompressedAttention, CompressedIndexer, Compressor
from memcalc.blocks.hyper_connection import HyperConnection, Streams
from memcalc.readers.hf.common import decoder, mlp, rms, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import corrected_experts, experts, with_notes

SLIDING, SPARSE, HEAVY = "sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"
# kind → the key of its rate in older configs, its rate, which older configs write as the layer's kind
RATES = {SPARSE: ("compress_rate_csa", 4), HEAVY: ("compress_rate_hca", 128)}


def deepseek_v4(c: Config) -> Architecture:
    norm, hidden, streams = rms(c, kind="rms-wide"), c.integer("hidden_size"), c.integer("hc_mult")
    connection = HyperConnection(hidden, streams, iterations=c.integer("hc_sinkhorn_iters", 20))
    # one expert beside the routed ones, whatever n_shared_experts says
    shared = mlp(c, intermediate=c.integer("moe_intermediate_size"), bias=c.flag("mlp_bias", False), bounded=True)

    def layer(kind: tuple[str, str]) -> Layer:
        attention_kind, router = kind
        hashed = router == "hash_moe"
        make = partial(experts, router_hashed=True) if hashed else corrected_experts
        feed_forward = make(c, shared=shared, routing="sqrtsoftplus", bounded=True)
        return Layer(
            (
                ("attention_connection", connection),
                ("input_norm", norm),
                ("attention", _attention(c, attention_kind)),
                ("mlp_connection", connection),
                ("post_attention_norm", norm),
                ("mlp", feed_forward),
            ),
            wiring="hyper-connections",
        )

    kinds = list(zip(_attention_kinds(c), _router_kinds(c), strict=True))
    before_norm = (("stream_collapse", HyperConnection(hidden, streams, collapses=True)),)
    copies = (("streams", Streams(streams)),)
    layers = windowed(kinds, layer)
    return with_notes(decoder(c, layers, None, after_embedding=copies, before_head=(*before_norm, ("final_norm", norm))), c)


def _attention_kinds(c: Config) -> list[str]:
    depth = c.layers()
    default = [SPARSE if i % 2 and i >= 2 else HEAVY for i in range(depth)]
    if c.has("compress_ratios"):  # one a layer, and one for each prediction layer
        ratios = c.entries("compress_ratios", of=int)
        names = {0: SLIDING, **{rate: kind for kind, (_, rate) in RATES.items()}}
        if len(ratios) < depth or set(ratios) - set(names):
            raise c.error("compress_ratios", f"must hold {depth} numbers, each of {', '.join(map(str, names))}")
        default = [names[ratio] for ratio in ratios[:depth]]
    return layer_kinds(c, default, (SLIDING, SPARSE, HEAVY))


def _router_kinds(c: Config) -> list[str]:
    """The first layers look a token's experts up in a table."""
    depth, hashed = c.layers(), c.integer("num_hash_layers", 3, low=0)
    default = ["hash_moe" if i < hashed else "moe" for i in range(depth)]
    return layer_kinds(c, default, ("hash_moe", "moe"), "mlp_layer_types")


def _attention(c: Config, kind: str) -> CompressedAttention:
    hidden, heads, head_dim = c.integer("hidden_size"), c.integer("num_attention_heads"), c.integer("head_dim")
    rank, groups = c.integer("q_lora_rank"), c.integer("o_groups")
    if heads * head_dim % groups:
        raise c.error("o_groups", f"({groups}) does not divide num_attention_heads × head_dim ({heads * head_dim})")
    compressor = indexer = None
    if kind != SLIDING:
        rate = _rate(c, kind)
        compressor = Compressor(hidden, head_dim, rate, overlapping=kind == SPARSE)
    if kind == SPARSE:
        keys = Compressor(hidden, c.integer("index_head_dim"), rate, overlapping=True)
        indexer = CompressedIndexer(hidden, rank, c.integer("index_n_heads"), keys, c.integer("index_topk"))
    return CompressedAttention(
        hidden,
        heads,
        head_dim,
        rope_head_dim=_rotary(c, head_dim),
        q_lora_rank=rank,
        output_groups=groups,
        output_rank=c.integer("o_lora_rank"),
        window=c.integer("sliding_window"),
        compressor=compressor,
        indexer=indexer,
        dropout=c.number("attention_dropout", 0.0),
    )


def _rate(c: Config, kind: str) -> int:
    older_key, default = RATES[kind]
    if c.has(older_key):
        return c.integer(older_key)
    rates = c.sub("compress_rates", {kind: default})
    return rates.integer(kind)


def _rotary(c: Config, head_dim: int) -> int:
    """Rotated dimensions of a head, from the key of older configs or as a fraction."""
    if not c.has("partial_rotary_factor"):
        return c.integer("qk_rope_head_dim", head_dim // 8)
    fraction = c.number("partial_rotary_factor")
    if not 0 <= fraction <= 1:
        raise c.error("partial_rotary_factor", f"must be between 0 and 1, not {fraction}")
    return int(head_dim * fraction)


_DEFAULTS: Mapping[str, Any] = {
    "head_dim": 512,
    "q_lora_rank": 1024,
    "o_groups": 8,
    "o_lora_rank": 1024,
    "hc_mult": 4,
    "sliding_window": 128,
    "index_n_heads": 64,
    "index_head_dim": 128,
    "index_topk": 512,
}

FAMILIES = {"deepseek_v4": Family(deepseek_v4, _DEFAULTS)}
