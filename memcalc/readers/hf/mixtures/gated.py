"""Mixtures of experts whose attention a matrix of its own gates: AFMoE, Laguna, Beam."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.experts.mixture import Experts
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.readers.hf.common import (
    WIDE,
    attention,
    biased_attention,
    decoder,
    every_nth_full,
    head_dim,
    head_norms,
    layer_windows,
    mlp,
    optional_number,
    rms,
    rotary_dim_of,
    sandwich,
    sliding_window,
    windowed,
)
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import alternating, corrected_experts, experts, shared_experts, sparse_after_dense


def fixed_correction(c: Config, shared: MLP | None, **traits: Any) -> Experts:
    """Experts whose choice a bias corrects that is a parameter, though no optimizer trains it."""
    correction = Weight("correction", "router", (c.integer("num_experts"),), frozen=True)
    return experts(c, shared=shared, routing="sigmoid, corrected by a parameter", router_extras=(correction,), **traits)


def afmoe(c: Config) -> Architecture:
    """Sliding layers rotate, full ones have no positions; norms before and after each block."""
    norm, first = rms(c), c.integer("num_dense_layers", low=0)
    windows = layer_windows(c, default=every_nth_full(c, c.integer("global_attn_every_n_layers")))
    sliding = [kind == "sliding_attention" for kind in c.entries("layer_types", of=str)] if c.has("layer_types") else None
    rotary = sliding or [window is not None for window in windows]

    def layer(kind: tuple[int | None, bool, bool]) -> Layer:
        window, rotates, sparse = kind
        gate = c.integer("num_attention_heads") * head_dim(c)
        mixer = head_norms(c, biased_attention(c, window=window, rotary=rotates, gate=gate))
        shared = shared_experts(c, "num_shared_experts")
        return sandwich(norm, mixer, fixed_correction(c, shared) if sparse else mlp(c))

    kinds = [(window, rotates, i >= first) for i, (window, rotates) in enumerate(zip(windows, rotary, strict=True))]
    scaled = c.flag("mup_enabled", False)
    embedding = Embedding(c.integer("vocab_size"), c.integer("hidden_size"), scaled=scaled)
    return decoder(c, windowed(kinds, layer), norm, embedding=embedding)


def laguna(c: Config) -> Architecture:
    """Each layer may have a number of query heads of its own."""
    depth = c.layers()
    heads = [c.integer("num_attention_heads")] * depth
    if c.has("num_attention_heads_per_layer"):
        heads = c.entries("num_attention_heads_per_layer", length=depth, of=int)
    kinds = layer_kinds(c, ["full_attention"] * depth, ("full_attention", "sliding_attention"))
    window = sliding_window(c)
    mixers = windowed(list(zip(kinds, heads, strict=True)), lambda kind: _laguna_attention(c, *kind, window))

    def routed() -> Block:
        shared = mlp(c, intermediate=c.integer("shared_expert_intermediate_size"))
        return fixed_correction(c, shared, shared_first=True)

    return decoder(c, alternating(c, sparse_after_dense(c, 1), mixers, routed), rms(c))


def _laguna_attention(c: Config, kind: str, heads: int, window: int | None) -> Attention:
    width, bias = head_dim(c), c.flag("attention_bias", False)
    gating = c.raw("gating", True)
    if not isinstance(gating, bool) and gating not in ("per-head", "per-element"):
        raise c.error("gating", f"must be true, false, per-head or per-element, not {gating!r:.60}")
    gate = heads if gating in (True, "per-head") else heads * width  # a false means one for each number, as in the library
    mixer = attention(
        c.reread(num_attention_heads=heads),
        query_bias=bias,
        output_bias=bias,
        gate=gate,
        gate_activation="softplus",
        rotary_joined=True,
        window=window if kind == "sliding_attention" else None,
        rotary_dim=rotary_dim_of(c, width, kind),
    )
    return head_norms(c, mixer)


def beam(c: Config) -> Architecture:
    """Sliding layers rotate, every sixth and the last are full without positions; residuals scaled by depth."""
    norm, heads = rms(c, kind=WIDE), c.integer("num_attention_heads")
    windows = every_nth_full(c, 6)
    windows = layer_windows(c, default=[*windows[:-1], None])
    positions = c.sub("rope_parameters", {})
    rotary = [window is not None or isinstance(positions.raw("full_attention"), Mapping) for window in windows]
    dense = min(3, c.layers())
    softcap = optional_number(c, "final_logit_softcapping")

    def layer(kind: tuple[int | None, bool, bool]) -> Layer:
        window, rotates, sparse = kind
        mixer = biased_attention(
            c,
            window=window,
            rotary=rotates,
            sharpened=not rotates,
            rotary_tables="fp32",
            rotary_wide=True,
            gate=heads * head_dim(c),
            gate_bias=True,
        )
        feed_forward = corrected_experts(c, routing="sigmoid-fp32-router", wide=True) if sparse else mlp(c, wide=True)
        return replace(sandwich(norm, head_norms(c, mixer, WIDE), feed_forward), wiring="scaled by depth")

    kinds = list(zip(windows, rotary, sparse_after_dense(c, dense), strict=True))
    tied = c.flag("tie_word_embeddings", False)
    head = Head(c.integer("vocab_size"), c.integer("hidden_size"), tied=tied, softcap=softcap, softcap_wide=True)
    return decoder(c, windowed(kinds, layer), norm, tied=tied, head=head)


FAMILIES = {
    "beam": Family(
        beam,
        {
            "num_key_value_heads": 8,
            "head_dim": 128,
            "sliding_window": 512,
            "num_experts_per_tok": 8,
            "final_logit_softcapping": 30.0,
            "max_position_embeddings": 8192,
        },
    ),
    "afmoe": Family(
        afmoe,
        {
            "num_dense_layers": 1,
            "head_dim": 128,
            "rms_norm_eps": 1e-5,
            "num_experts_per_tok": 6,
            "num_shared_experts": 2,
            "global_attn_every_n_layers": 4,
            "sliding_window": 1024,
            "max_position_embeddings": 16384,
        },
    ),
    "laguna": Family(
        laguna,
        {
            "num_key_value_heads": 8,
            "head_dim": 128,
            "sliding_window": 512,
            "num_experts_per_tok": 8,
            "shared_expert_intermediate_size": 512,
            "rope_parameters": {"full_attention": {"partial_rotary_factor": 0.5}, "sliding_attention": {}},
            "max_position_embeddings": 131072,
        },
    ),
}
