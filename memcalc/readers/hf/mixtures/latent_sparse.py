"""Latent attention under indexers of another make: Mistral Large 4 and GLM-5 Next.

Structures follow transformers src/transformers/models/{mistral_large4,glm5_next}/.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named
from memcalc.blocks.attention.latent import LatentAttention, SparseIndexer, sharpness
from memcalc.blocks.block import Block
from memcalc.blocks.head import Head
from memcalc.blocks.hyper_connection import HyperConnection, Streams
from memcalc.blocks.learned_frequencies import LearnedFrequencies
from memcalc.blocks.ledger import Weight, prefixed
from memcalc.blocks.mixers.kimi_delta import KimiDeltaAttention
from memcalc.blocks.norm import Norm
from memcalc.readers.hf.common import decoder, mlp, optional_number, pre_norm, rms, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import corrected_experts, experts, shared_experts, sparse_after_dense, with_notes
from memcalc.readers.hf.mixtures.latent import indexer_kinds, latent_attention


def mistral_large4_text(c: Config) -> Architecture:
    """Queries from one full projection; every fourth layer knows no positions; layers may share an earlier one's latents."""
    depth, norm = c.layers(), rms(c)
    rotary, sources = _no_rope_layers(c), c.entries("kv_source_layers", list(range(depth)), length=depth, of=int)
    if any(not 0 <= source <= i or sources[source] != source for i, source in enumerate(sources)):
        raise c.error("kv_source_layers", "must name for each layer itself or an earlier one that has latents of its own")
    shares = [source != i for i, source in enumerate(sources)]
    indexed = indexer_kinds(c)
    given = [kind == "full" for kind in ("", *indexed[:-1])]  # a selection that the layer before has made itself
    kinds = list(zip(rotary, shares, indexed, given, sparse_after_dense(c, 1), strict=True))

    def layer(kind: tuple[bool, bool, str, bool, bool]) -> Layer:
        rotates, shared, indexed, given, sparse = kind
        feed_forward: Block = _large4_experts(c) if sparse else mlp(c)
        return pre_norm(norm, _large4_attention(c, rotates, shared, indexed, given), feed_forward)

    tied, softcap = c.flag("tie_word_embeddings", False), optional_number(c, "final_logit_softcapping")
    head = Head(c.integer("vocab_size"), c.integer("hidden_size"), tied=tied, softcap=softcap)
    frequencies = LearnedFrequencies(-(-c.integer("qk_rope_head_dim") // 2))
    start: Named = (("rotary_scale", frequencies),)
    return with_notes(decoder(c, windowed(kinds, layer), norm, head=head, after_embedding=start), c)


def _large4_experts(c: Config) -> Block:
    return experts(c, shared=shared_experts(c), routing="softmax-fp32-router")


def _large4_attention(c: Config, rotates: bool, shared: bool, indexed: str, given: bool) -> LatentAttention:
    """A scale and a bias for each head make the softmax sharper with the position, of the indexer's heads too."""
    hidden, heads = c.integer("hidden_size"), c.integer("index_n_heads")
    queries = (*prefixed("q_norm", Norm(hidden, "layer").weights()), *sharpness(heads))
    indexer = SparseIndexer(hidden, hidden, heads, c.integer("index_head_dim"), c.integer("index_topk"), extras=queries)
    nope, rope = c.integer("qk_nope_head_dim"), c.integer("qk_rope_head_dim")
    skips = indexed == "shared"
    made = latent_attention(
        c.reread(q_lora_rank=None),
        indexer=None if skips else indexer,
        shares_selection=skips,
        shares_latent=shared,
        given_selection=given * c.integer("index_topk"),
        sharpened=True,
        learned_rotary=True,
    )
    return made if rotates else replace(made, nope_head_dim=nope + rope, rope_head_dim=0, rotary=False)


def _no_rope_layers(c: Config) -> list[bool]:
    """Layers with rotary positions, whose key's name says the opposite of its ones (SmolLM 3's convention)."""
    depth, period = c.layers(), c.integer("no_rope_layer_interval", 4)
    default = [int((i + 1) % period != 0) for i in range(depth)]
    return [bool(flag) for flag in c.entries("no_rope_layers", default, length=depth, of=int)]


def glm5_next_text(c: Config) -> Architecture:
    """Kimi's delta attention, and among it latent attention without positions, whose indexer scores pools of tokens; several
    residual streams."""
    norm, depth, hidden = rms(c), c.layers(), c.integer("hidden_size")
    delta, sparse = "linear_attention", "indexed_attention"
    names = ("full_attention", sparse, delta)
    kinds = layer_kinds(c, [delta if i % 4 != 3 else sparse for i in range(depth)], names)
    linear = c.sub("linear_attn_config", {})
    mixer = KimiDeltaAttention(
        hidden,
        linear.integer("num_heads", c.integer("linear_num_heads")),
        linear.integer("head_dim", c.integer("linear_head_dim")),
        linear.integer("short_conv_kernel_size", c.integer("linear_conv_kernel_dim")),
        bounded=not c.null("linear_lower_bound"),
        wide_convolution=True,
        activation=c.text("hidden_act", "silu"),
    )
    streams = c.integer("hc_mult")
    connection = HyperConnection(hidden, streams, iterations=c.integer("hc_sinkhorn_iters", 20), narrow=True)
    traits = list(zip(kinds, indexer_kinds(c), sparse_after_dense(c, 3), strict=True))

    def layer(kind: tuple[str, str, bool]) -> Layer:
        attention, indexed, routed = kind
        feed_forward: Block = _glm5_experts(c) if routed else mlp(c, bounded=True)
        block: Block = mixer if attention == delta else _glm5_attention(c, indexed)
        first = ("linear_attention" if attention == delta else "attention", block)
        before: Named = (("attention_connection", connection), ("input_norm", norm), first)
        after: Named = (("mlp_connection", connection), ("post_attention_norm", norm), ("mlp", feed_forward))
        return Layer((*before, *after), wiring="hyper-connections")

    copies, mean = (("streams", Streams(streams)),), ("streams_averaged", Streams(streams, averages=True))
    part = decoder(c, windowed(traits, layer), None, after_embedding=copies, before_head=(mean, ("final_norm", norm)))
    return with_notes(part, c)


def _glm5_experts(c: Config) -> Block:
    shared = shared_experts(c, bounded=True)
    return corrected_experts(c, shared=shared, routing="sigmoid-fp32-router", bounded=True)


def _glm5_attention(c: Config, indexed: str) -> LatentAttention:
    """The indexer caches a key, the gates of its pooling and a mark for each token."""
    if c.integer("qk_rope_head_dim", low=0):
        raise c.error("qk_rope_head_dim", "must be 0: this attention knows no positions")
    hidden, size = c.integer("hidden_size"), c.integer("index_head_dim")
    pooling = (
        Weight("pool_positions", "attention", (c.integer("index_kpool"), size)),
        Weight("pool_gate", "attention", (size, hidden)),
    )
    indexer = SparseIndexer(
        hidden, c.integer("q_lora_rank"), c.integer("index_n_heads"), size, c.integer("index_topk"), 2 * size + 1, pooling,
        c.integer("index_kpool"),
    )  # fmt: skip
    skips = indexed == "shared"
    return latent_attention(c, indexer=None if skips else indexer, shares_selection=skips, rotary=False)


_LARGE4: Mapping[str, Any] = {
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 64,
    "v_head_dim": 128,
    "index_topk": 2048,
    "index_head_dim": 128,
    "index_n_heads": 32,
    "n_shared_experts": 1,
    "num_experts_per_tok": 4,
    "final_logit_softcapping": 30.0,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 1048576,
}
_GLM5: Mapping[str, Any] = {
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 0,
    "qk_nope_head_dim": 256,
    "v_head_dim": 256,
    "index_topk": 2048,
    "index_head_dim": 128,
    "index_n_heads": 32,
    "index_kpool": 16,
    "linear_head_dim": 128,
    "linear_num_heads": 64,
    "linear_conv_kernel_dim": 4,
    "hc_mult": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 1048576,
}

FAMILIES = {
    "mistral_large4_text": Family(mistral_large4_text, _LARGE4),
    "glm5_next_text": Family(glm5_next_text, _GLM5),
}
