"""Mixture-of-experts decoders with ordinary attention; in `latent` those with latent attention.

What is common to both stands first: the experts, and which layers have them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.experts.mixture import Experts, experts_of
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import (
    WIDE,
    attention,
    biased_attention,
    decoder,
    head_dim,
    head_norms,
    layer_norm,
    layer_windows,
    mlp,
    post_norm,
    pre_norm,
    rms,
    sliding_window,
    windowed,
)
from memcalc.readers.hf.config import MAX_LAYERS, Config, Family
from memcalc.readers.hf.decoders.dense import ERNIE_ROTARY
from memcalc.readers.hf.kinds import layer_kinds, prediction_notes


def experts(c: Config, width: str = "moe_intermediate_size", **traits: Any) -> Experts:
    """Routed experts from the usual keys, `width` naming that of an expert's size; `traits` are Experts' own fields."""
    count = c.integer("num_experts")
    top_k = traits.pop("top_k", 0) or c.integer("num_experts_per_tok")
    if top_k > count:
        raise c.error("num_experts_per_tok", f"({top_k}) exceeds {c.spelling('num_experts')} ({count})")
    if "activation" not in traits:
        traits["activation"] = c.text("hidden_act", "silu")
    traits.setdefault("normalised", c.flag("norm_topk_prob", True))
    hidden = traits.pop("hidden", 0) or c.integer("hidden_size")
    return experts_of(hidden, c.integer(width), count, top_k, **traits)


def corrected_experts(c: Config, width: str = "moe_intermediate_size", **traits: Any) -> Experts:
    """Experts as DeepSeek V3 routes them: a bias, no parameter but a buffer, corrects the load; shared ones beside."""
    traits.setdefault("routing", "sigmoid")
    return experts(c, width, router_bias=True, router_bias_trained=False, **traits)


def shared_experts(c: Config, key: str = "n_shared_experts", **traits: Any) -> MLP | None:
    """The experts that every token passes, which are one feed-forward as wide as all of them."""
    count = c.integer(key, 0, low=0)
    return mlp(c, intermediate=count * c.integer("moe_intermediate_size"), **traits) if count else None


def sparse_after_dense(c: Config, dense: int = 0) -> list[bool]:
    """Which layers have experts, as DeepSeek and its kin say it: by a type or a flag for each, or after the first few.

    `dense`: the library's number of dense layers at the start.
    """
    depth = c.layers()
    if c.has("mlp_layer_types"):
        kinds = layer_kinds(c, ["sparse"] * depth, ("dense", "sparse"), "mlp_layer_types")
        return [kind == "sparse" for kind in kinds]
    if isinstance(c.raw("moe_layer_freq"), list):
        return [bool(flag) for flag in c.entries("moe_layer_freq", length=depth, of=int)]
    first, step = c.integer("first_k_dense_replace", dense, low=0), c.integer("moe_layer_freq", 1)
    return [i >= first and i % step == 0 for i in range(depth)]


def sparse_every_nth(c: Config) -> list[bool]:
    """Which layers have experts in Qwen's models: each n-th, but for those listed as dense."""
    step, dense = c.integer("decoder_sparse_step", 1), set(c.entries("mlp_only_layers", (), of=int))
    routed = c.integer("num_experts", low=0) > 0
    return [routed and i not in dense and (i + 1) % step == 0 for i in range(c.layers())]


def alternating(
    c: Config,
    sparse: Sequence[bool],
    mixers: Block | Sequence[Block],
    routed: Callable[[], Block],
    dense: Callable[[], Block] | None = None,
) -> list[Layer]:
    """One layer a position: experts after the mixer where `sparse`, a dense feed-forward elsewhere.

    Only what occurs is built, so a model with experts in every layer needs no size of the dense ones.
    """
    norm = rms(c)
    each = mixers if isinstance(mixers, Sequence) else [mixers] * len(sparse)

    def layer(kind: tuple[Block, bool]) -> Layer:
        mixer, has_experts = kind
        return pre_norm(norm, mixer, routed() if has_experts else (dense or (lambda: mlp(c)))())

    return windowed(list(zip(each, sparse, strict=True)), layer)


def with_notes(model: Architecture, c: Config, *notes: str) -> Architecture:
    return replace(model, notes=(*model.notes, *prediction_notes(c), *notes))


def mixtral(c: Config) -> Architecture:
    norm = rms(c)
    mixer = attention(c, window=sliding_window(c))
    return decoder(c, pre_norm(norm, mixer, experts(c, "intermediate_size", routing="softmax-fp32")), norm)


def qwen2_moe(c: Config) -> Architecture:
    bias, slides = c.flag("qkv_bias"), c.flag("use_sliding_window")
    last = c.integer("max_window_layers", low=0)
    if not slides:  # the library writes a window of 0 then
        c = c.reread(sliding_window=None)
    window = sliding_window(c)
    default = [window if i % 2 == 0 and i < last else None for i in range(c.layers())]
    mixers = [attention(c, query_bias=bias, window=window) for window in layer_windows(c, default=default)]
    return decoder(c, alternating(c, sparse_every_nth(c), mixers, lambda: _qwen2_experts(c)), rms(c))


def _qwen2_experts(c: Config) -> Experts:
    size = c.integer("shared_expert_intermediate_size", low=0)
    return experts(c, shared=mlp(c, intermediate=size) if size else None, shared_gate=True, shared_first=True)


def qwen3_moe(c: Config) -> Architecture:
    window = sliding_window(c) if c.flag("use_sliding_window", False) else None
    mixer = head_norms(c, biased_attention(c, window=window))
    return decoder(c, alternating(c, sparse_every_nth(c), mixer, lambda: experts(c)), rms(c))


def mellum(c: Config) -> Architecture:
    """Qwen 3's mixture with windows where `layer_types` says so."""
    mixers = windowed(layer_windows(c), lambda window: head_norms(c, biased_attention(c, window=window)))
    return with_notes(decoder(c, alternating(c, sparse_after_dense(c), mixers, lambda: experts(c)), rms(c)), c)


def olmoe(c: Config) -> Architecture:
    norm = rms(c)
    mixer = _whole_norms(c, biased_attention(c))
    return decoder(c, pre_norm(norm, mixer, experts(c, "intermediate_size")), norm)


def flex_olmo(c: Config) -> Architecture:
    norm = rms(c, kind=WIDE)
    mixer = _whole_norms(c, biased_attention(c), WIDE)
    return decoder(c, post_norm(norm, mixer, experts(c, "intermediate_size")), norm)


def minimax_m2(c: Config) -> Architecture:
    norm = rms(c)
    rotated = {"rotary_dim": c.integer("rotary_dim")} if c.has("rotary_dim") else {}
    mixer = _whole_norms(c, attention(c, **rotated))
    feed_forward = corrected_experts(c, "intermediate_size", routing="sigmoid-narrow")
    return with_notes(decoder(c, pre_norm(norm, mixer, feed_forward), norm), c)


def _whole_norms(c: Config, attention: Attention, kind: str = "rms") -> Attention:
    """The same attention with one norm over all its queries and one over all its keys."""
    query_norm, key_norm = (rms(c, size=size, kind=kind) for size in (attention.query_size, attention.key_size))
    return revised(attention, query_norm=query_norm, key_norm=key_norm)


def phimoe(c: Config) -> Architecture:
    norm = layer_norm(c)
    mixer = biased_attention(c, window=sliding_window(c))
    tied = c.flag("tie_word_embeddings", False)
    head = Head(c.integer("vocab_size"), c.integer("hidden_size"), tied=tied, bias=c.flag("lm_head_bias", False))
    feed_forward = experts(c, "intermediate_size", routing="sparse-mixer")
    return decoder(c, pre_norm(norm, mixer, feed_forward), norm, tied=tied, head=head)


def dbrx(c: Config) -> Architecture:
    norm, dropout = layer_norm(c, bias=False), c.number("resid_pdrop", 0.0)
    attn, ffn = c.sub("attn_config", {"kv_n_heads": 1}), c.sub("ffn_config", _DBRX_FFN)
    mixer = attention(
        c,
        kv_heads=attn.integer("kv_n_heads"),
        fused=True,
        dropout=attn.number("attn_pdrop", 0.0),
        output_dropout=dropout,
        clamped=True,
    )
    activation = ffn.sub("ffn_act_fn", {}).text("name", "silu")
    feed_forward = experts(
        ffn, "ffn_hidden_size", hidden=c.integer("hidden_size"), activation=activation, flat=True, routing="softmax-16"
    )
    embedding = Embedding(c.integer("vocab_size"), c.integer("hidden_size"), dropout=c.number("emb_pdrop", 0.0))
    return decoder(c, pre_norm(norm, mixer, feed_forward), norm, embedding=embedding)


def gpt_oss(c: Config) -> Architecture:
    norm, window = rms(c, kind=WIDE), sliding_window(c)
    default = [window if i % 2 == 0 else None for i in range(c.layers())]
    traits: dict[str, Any] = {"routing": "softmax-chosen-16", "clamped": True}
    feed_forward = experts(c, "intermediate_size", bias=True, router_bias=True, transposed=True, **traits)
    layers = windowed(
        layer_windows(c, default=default),
        lambda window: pre_norm(norm, biased_attention(c, window=window, sinks=True, rotary_tables="halves"), feed_forward),
    )
    return decoder(c, layers, norm)


def ernie4_5_moe(c: Config) -> Architecture:
    bias, depth = c.flag("use_bias"), c.layers()
    first, step = c.integer("moe_layer_start_index", low=0), c.integer("moe_layer_interval")
    last = c.integer("moe_layer_end_index", low=-MAX_LAYERS)
    last = depth - 1 if last == -1 else last
    sparse = [(i + 1) % step == 0 and first <= i <= last for i in range(depth)]
    mixer = biased_attention(c, "use_bias", dropout=0.0, **ERNIE_ROTARY)

    def routed() -> Experts:
        correction = Weight("correction_bias", "router", (1, c.integer("num_experts")))  # here a parameter, but frozen
        shared = shared_experts(c, "moe_num_shared_experts", bias=bias)
        return experts(c, router_extras=(correction,), shared=shared, shared_first=True, routing="softmax-corrected")

    tied = c.flag("tie_word_embeddings")
    head = Head(c.integer("vocab_size"), c.integer("hidden_size"), tied=tied, bias=bias)
    layers = alternating(c, sparse, mixer, routed, lambda: mlp(c, bias=bias))
    return with_notes(decoder(c, layers, rms(c), tied=tied, head=head), c)


def hunyuan_v1_moe(c: Config) -> Architecture:
    norm, depth = rms(c), c.layers()
    mixer = head_norms(c, biased_attention(c, norms_after_rotary=True))
    listed = isinstance(c.raw("num_experts_per_tok"), list)
    top_ks = c.entries("num_experts_per_tok", of=int, length=depth) if listed else [c.integer("num_experts_per_tok")] * depth
    if min(top_ks) < 1:
        raise c.error("num_experts_per_tok", "must hold numbers of at least 1")
    traits: dict[str, Any] = {"shared_first": True, "routing": "softmax-fp32-router"}
    layers = windowed(
        top_ks,
        lambda top_k: pre_norm(norm, mixer, experts(c, "intermediate_size", top_k=top_k, shared=mlp(c), **traits)),
    )
    return decoder(c, layers, norm)


def glm4_moe(c: Config) -> Architecture:
    # without a head size the library rounds down: 4096 / 96 heads is 42
    size = head_dim(c) if c.has("head_dim") else c.integer("hidden_size") // c.integer("num_attention_heads")
    mixer = attention(c, head_dim=size, query_bias=c.flag("attention_bias", False))
    if c.flag("use_qk_norm", False):
        mixer = head_norms(c, mixer)
    layers = alternating(c, sparse_after_dense(c, 1), mixer, lambda: corrected_experts(c, shared=shared_experts(c)))
    return with_notes(decoder(c, layers, rms(c)), c)


def dots1(c: Config) -> Architecture:
    window, first = sliding_window(c), c.integer("max_window_layers", low=0)
    windows = layer_windows(c, default=[window if i >= first else None for i in range(c.layers())])
    mixers = windowed(windows, lambda window: head_norms(c, biased_attention(c, window=window)))
    layers = alternating(c, sparse_after_dense(c), mixers, lambda: corrected_experts(c, shared=shared_experts(c)))
    return decoder(c, layers, rms(c))


_DBRX_FFN: Mapping[str, Any] = {"ffn_hidden_size": 3584, "moe_num_experts": 4, "moe_top_k": 1}

FAMILIES = {
    "mixtral": Family(mixtral, {"num_key_value_heads": 8, "rms_norm_eps": 1e-5}),
    "qwen2_moe": Family(
        qwen2_moe,
        {
            "num_key_value_heads": 16,
            "qkv_bias": True,
            "use_sliding_window": False,
            "sliding_window": 4096,
            "max_window_layers": 28,
            "shared_expert_intermediate_size": 5632,
            "norm_topk_prob": False,
        },
    ),
    "qwen3_moe": Family(qwen3_moe, {"num_key_value_heads": 4, "sliding_window": 4096, "norm_topk_prob": False}),
    "mellum": Family(mellum, {"num_key_value_heads": 4, "sliding_window": 1024}),
    "olmoe": Family(olmoe, {"rms_norm_eps": 1e-5, "norm_topk_prob": False}),
    "flex_olmo": Family(flex_olmo, {"norm_topk_prob": False}),
    "minimax_m2": Family(minimax_m2, {"num_key_value_heads": 8, "head_dim": 128}),
    "phimoe": Family(phimoe, {"num_key_value_heads": 8, "rms_norm_eps": 1e-5}),
    "dbrx": Family(dbrx, {}),
    "gpt_oss": Family(
        gpt_oss,
        {"num_key_value_heads": 8, "head_dim": 64, "attention_bias": True, "sliding_window": 128, "rms_norm_eps": 1e-5},
    ),
    "ernie4_5_moe": Family(
        ernie4_5_moe,
        {
            "num_key_value_heads": 4,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
            "use_bias": False,
            "moe_num_shared_experts": 2,
            "moe_layer_start_index": 1,
            "moe_layer_end_index": -1,
            "moe_layer_interval": 1,
        },
    ),
    "hunyuan_v1_moe": Family(hunyuan_v1_moe, {"rms_norm_eps": 1e-5}),
    "glm4_moe": Family(
        glm4_moe,
        {"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "n_shared_experts": 1, "partial_rotary_factor": 0.5},
    ),
    "dots1": Family(
        dots1,
        {"num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 62, "norm_topk_prob": False},
    ),
}
