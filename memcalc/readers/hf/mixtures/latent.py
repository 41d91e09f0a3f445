"""Decoders with multi-head latent attention: DeepSeek V2 to V3.2, Kimi K2, GLM-5, LongCat, MiniCPM3."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.latent import LatentAttention, SparseIndexer
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.experts.mixture import Experts
from memcalc.blocks.head import Head
from memcalc.readers.hf.common import decoder, mlp, pre_norm, rms, windowed
from memcalc.readers.hf.config import MAX_LAYERS, Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import (
    alternating,
    corrected_experts,
    experts,
    shared_experts,
    sparse_after_dense,
    with_notes,
)


def latent_attention(c: Config, **traits: Any) -> LatentAttention:
    """Latent attention from the usual keys; `traits` are LatentAttention's own fields."""
    traits.setdefault("v_head_dim", 0)
    traits["v_head_dim"] = traits["v_head_dim"] or c.integer("v_head_dim")
    return LatentAttention(
        c.integer("hidden_size"),
        c.integer("num_attention_heads"),
        c.integer("kv_lora_rank"),
        c.integer("qk_nope_head_dim"),
        c.integer("qk_rope_head_dim", low=int(traits.get("rotary", True))),
        q_lora_rank=c.integer("q_lora_rank") if c.has("q_lora_rank") else 0,
        bias=c.flag("attention_bias", False),
        dropout=c.number("attention_dropout", 0.0),
        **traits,
    )


def deepseek_v2(c: Config) -> Architecture:
    bias = c.flag("mlp_bias", False)
    # the configuration class leaves the number of chosen experts open, and its model cannot run then
    open_choice = not c.has("num_experts_per_tok")
    top_k = c.integer("num_experts") if open_choice else 0

    def routed() -> Experts:
        return experts(c, top_k=top_k, shared=shared_experts(c, bias=bias), routing="softmax-wide", normalised=False)

    sparse = sparse_after_dense(c)
    layers = alternating(c, sparse, latent_attention(c, complex_rotary=True), routed, lambda: mlp(c, bias=bias))
    model = with_notes(decoder(c, layers, rms(c)), c)
    if not open_choice or not any(sparse):
        return model
    warning = f"num_experts_per_tok is not set: a token is taken to pass through all {top_k} experts"
    return replace(model, warnings=(*model.warnings, warning))


def deepseek_v3(c: Config) -> Architecture:
    def routed() -> Experts:
        return corrected_experts(c, shared=shared_experts(c))

    layers = alternating(c, sparse_after_dense(c), latent_attention(c), routed)
    return with_notes(decoder(c, layers, rms(c)), c)


def glm_moe_dsa(c: Config) -> Architecture:
    """DeepSeek V3.2 and GLM-5: V3 with an indexer that selects the tokens to attend to, in all or some layers."""

    def routed() -> Experts:
        return corrected_experts(c, shared=shared_experts(c))

    layers = alternating(c, sparse_after_dense(c), indexed_attention(c, indexer_kinds(c)), routed)
    return with_notes(decoder(c, layers, rms(c)), c)


def indexed_attention(c: Config, kinds: Sequence[str], **traits: Any) -> list[LatentAttention]:
    """Latent attention, a layer each, with an indexer that selects tokens, or sharing an earlier layer's selection."""
    indexer = SparseIndexer(
        c.integer("hidden_size"),
        c.integer("q_lora_rank"),
        c.integer("index_n_heads"),
        c.integer("index_head_dim"),
        c.integer("index_topk"),
    )

    def mixer(kind: str) -> LatentAttention:
        shares = kind == "shared"
        return latent_attention(c, indexer=None if shares else indexer, shares_selection=shares, **traits)

    return windowed(kinds, mixer)


def indexer_kinds(c: Config) -> list[str]:
    """Full where a layer has an indexer, shared where it reads the selection of the last one (GLM-5.2)."""
    depth, accepted = c.layers(), ("full", "shared")
    step, offset = c.integer("index_topk_freq", 1, low=0), c.integer("index_skip_topk_offset", 2, low=-MAX_LAYERS)
    default = ["shared" if max(i - offset + 1, 0) % max(step, 1) else "full" for i in range(depth)]
    if isinstance(pattern := c.raw("index_topk_pattern"), str):
        if len(pattern) != depth or set(pattern) - {"F", "S"}:
            raise c.error("index_topk_pattern", f"must be {depth} letters F or S, one a layer, not {pattern!r:.60}")
        default = ["full" if letter == "F" else "shared" for letter in pattern]
    elif pattern is not None:
        default = layer_kinds(c, default, accepted, "index_topk_pattern")
    return layer_kinds(c, default, accepted, "indexer_types")


def longcat_flash(c: Config) -> Architecture:
    """Layers of two attentions and two dense feed-forwards; experts beside them, from the first half to the last."""
    # published configs count these layers; transformers' own `num_hidden_layers` counts attentions, two a layer
    depth = c.layers("num_layers") if c.has("num_layers") else max(c.layers() // 2, 1)
    identity = c.integer("zero_expert_num", 0, low=0) if c.has("zero_expert_num") else 0
    feed_forward = corrected_experts(c, identity_experts=identity)
    if c.flag("router_bias", False):
        feed_forward = experts(c, identity_experts=identity, router_bias=True)
    norm, mixer, dense = rms(c), latent_attention(c), mlp(c)
    if c.integer("qk_head_dim", mixer.head_dim) != mixer.head_dim:  # the library's queries would not fit its keys
        raise c.error("qk_head_dim", f"must be qk_nope_head_dim + qk_rope_head_dim ({mixer.head_dim})")
    first, second = (((f"input_norm_{i}", norm), (f"attention_{i}", mixer), (f"post_attention_norm_{i}", norm)) for i in (0, 1))
    layer = Layer((*first, ("experts", feed_forward), ("mlp_0", dense), *second, ("mlp_1", dense)))
    model = with_notes(decoder(c, [layer] * depth, norm), c)
    if not identity:
        return model
    unread = identity * 2 * feed_forward.intermediate * feed_forward.hidden * depth
    warning = (
        f"{unread:,} of the parameters are gate and up matrices that transformers allocates for the {identity} experts "
        "that only return their input; nothing reads them and no checkpoint has them"
    )
    return replace(model, warnings=(*model.warnings, warning))


def minicpm3(c: Config) -> Architecture:
    norm, hidden, vocabulary = rms(c), c.integer("hidden_size"), c.integer("vocab_size")
    heads, tied = c.integer("num_attention_heads"), c.flag("tie_word_embeddings")
    if not c.has("v_head_dim") and hidden % heads:
        raise c.error("hidden_size", f"({hidden}) is not a multiple of {c.spelling('num_attention_heads')} ({heads})")
    mixer = latent_attention(c, v_head_dim=c.integer("v_head_dim", hidden // heads))
    return decoder(
        c,
        pre_norm(norm, mixer, mlp(c, bias=c.flag("mlp_bias", False))),
        norm,
        tied=tied,
        embedding=Embedding(vocabulary, hidden, scaled=True),
        head=Head(vocabulary, hidden, tied=tied, scaled=True),
    )


_HEADS: Mapping[str, Any] = {
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}
DEEPSEEK_V3: Mapping[str, Any] = {**_HEADS, "n_shared_experts": 1, "first_k_dense_replace": 3}
# The whole defaults, for configs that nest one of these and leave out what equals them.
DEEPSEEK_V3_NESTED: Mapping[str, Any] = {
    **DEEPSEEK_V3,
    "vocab_size": 129280,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
}
_INDEXER: Mapping[str, Any] = {"index_topk": 2048, "index_head_dim": 128}
_GLM_HEADS: Mapping[str, Any] = {**_HEADS, "qk_nope_head_dim": 192, "v_head_dim": 256, "rms_norm_eps": 1e-5}

FAMILIES = {
    "deepseek_v2": Family(deepseek_v2, {**_HEADS, "n_shared_experts": 2, "first_k_dense_replace": 0}),
    "deepseek_v3": Family(deepseek_v3, DEEPSEEK_V3),
    "kimi_k2": Family(deepseek_v3, DEEPSEEK_V3),
    "deepseek_v32": Family(glm_moe_dsa, {**DEEPSEEK_V3, **_INDEXER, "index_n_heads": 64}),
    "glm_moe_dsa": Family(
        glm_moe_dsa,
        {
            **_GLM_HEADS,
            **_INDEXER,
            "q_lora_rank": 2048,
            "index_n_heads": 32,
            "n_shared_experts": 1,
            "first_k_dense_replace": 3,
        },
    ),
    "glm4_moe_lite": Family(deepseek_v3, {**_GLM_HEADS, "q_lora_rank": 768, "n_shared_experts": 1, "first_k_dense_replace": 1}),
    "longcat_flash": Family(longcat_flash, {**_HEADS, "rms_norm_eps": 1e-5, "zero_expert_num": 256}),
    "minicpm3": Family(
        minicpm3,
        {
            "kv_lora_rank": 256,
            "q_lora_rank": 768,
            "qk_nope_head_dim": 64,
            "qk_rope_head_dim": 32,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
        },
    ),
}
