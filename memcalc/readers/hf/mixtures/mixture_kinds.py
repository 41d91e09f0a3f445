"""Mixtures of experts with windows, parallel blocks or transposed experts: EXAONE MoE, Hunyuan 3, Cohere 2 MoE, Aria,
Kolibri and Flint.
"""

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.block import Block
from memcalc.readers.hf.common import (
    attention,
    biased_attention,
    decoder,
    every_nth_full,
    head_norms,
    layer_windows,
    mlp,
    parallel,
    pre_norm,
    rms,
    sandwich,
    sliding_window,
    windowed,
)
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.decoders.layer_norm import scaled_head, written_out
from memcalc.readers.hf.decoders.post_norm import exaone4_windows
from memcalc.readers.hf.mixtures.experts import (
    alternating,
    corrected_experts,
    experts,
    shared_experts,
    sparse_after_dense,
    sparse_every_nth,
    with_notes,
)


def exaone_moe(c: Config) -> Architecture:
    """Full layers have no rotary positions, unless there are no sliding ones."""
    hybrid = sliding_window(c) is not None
    mixers = [
        head_norms(c, attention(c, window=window, rotary=window is not None or not hybrid))
        for window in layer_windows(c, default=exaone4_windows(c))
    ]

    def routed() -> Block:
        return corrected_experts(c, shared=shared_experts(c, "num_shared_experts"))

    return with_notes(decoder(c, alternating(c, sparse_after_dense(c, 1), mixers, routed), rms(c)), c)


def hy_v3(c: Config) -> Architecture:
    bias = c.flag("mlp_bias", False)
    # no shared expert: the library builds one of the dense width
    width = c.integer("num_shared_experts", low=0) * c.integer("moe_intermediate_size") or c.integer("intermediate_size")

    def routed() -> Block:
        return corrected_experts(c, shared=mlp(c, intermediate=width, bias=bias))

    mixer = head_norms(c, biased_attention(c))
    layers = alternating(c, sparse_after_dense(c, 1), mixer, routed, lambda: mlp(c, bias=bias))
    return with_notes(decoder(c, layers, rms(c)), c)


def cohere2_moe(c: Config) -> Architecture:
    """Cohere 2 with experts after the first few layers, which may have windows by a pattern of their own."""
    norm = rms(c) if c.has("rms_norm_eps") else written_out(c)
    dense = [not sparse for sparse in sparse_after_dense(c)]
    windows = layer_windows(c, default=_cohere2_windows(c))
    positions = c.integer("prefix_dense_sliding_window_pattern") == 1

    def layer(kind: tuple[int | None, bool]) -> Layer:
        window, is_dense = kind
        rotary = window is not None or (is_dense and positions)
        mixer = biased_attention(c, window=window, rotary=rotary, rotary_wide=True)
        return parallel(norm, mixer, _cohere2_dense(c) if is_dense else _cohere2_experts(c))

    tied = c.flag("tie_word_embeddings")
    layers = windowed(list(zip(windows, dense, strict=True)), layer)
    return decoder(c, layers, norm, tied=tied, head=scaled_head(c, tied))


def _cohere2_windows(c: Config) -> list[int | None]:
    window, first = sliding_window(c), c.integer("first_k_dense_replace", 0, low=0)
    prefix, period = c.integer("prefix_dense_sliding_window_pattern"), c.integer("sliding_window_pattern")
    counted = [(i, prefix) if i < first else (i - first, period) for i in range(c.layers())]
    return [window if (i + 1) % every else None for i, every in counted]


def _cohere2_dense(c: Config) -> Block:
    key = "prefix_dense_intermediate_size"
    return mlp(c, intermediate=c.integer(key) if c.has(key) else 0)


def _cohere2_experts(c: Config) -> Block:
    count = c.integer("num_shared_experts", low=0)
    shared = mlp(c, intermediate=count * c.integer("intermediate_size")) if count else None
    chosen = {"softmax": "softmax-chosen", "sigmoid": "sigmoid-chosen"}
    scores = c.text("expert_selection_fn")
    if scores not in chosen:
        raise c.error("expert_selection_fn", f"must be softmax or sigmoid, not {scores!r:.60}")
    return experts(c, "intermediate_size", shared=shared, routing=chosen[scores])


def aria_text(c: Config) -> Architecture:
    """A llama with experts; the shared ones are as wide as so many of them."""
    norm, count = rms(c), c.integer("moe_num_shared_experts")
    shared = mlp(c, intermediate=count * c.integer("intermediate_size"), bias=c.flag("mlp_bias", False))
    feed_forward = experts(
        c, "intermediate_size", shared=shared, transposed=True, activation="silu", routing="softmax-chosen-16"
    )
    return decoder(c, pre_norm(norm, biased_attention(c), feed_forward), norm)


def kolibri1(c: Config) -> Architecture:
    """Norms before and after each block; full layers without positions, unless there are no sliding ones."""
    norm, hybrid = rms(c), sliding_window(c) is not None
    shared = mlp(c, intermediate=c.integer("shared_expert_intermediate_size"))
    feed_forward = corrected_experts(c, shared=shared, routing="sigmoid of corrected logits")

    def layer(window: int | None) -> Layer:
        mixer = head_norms(c, attention(c, window=window, rotary=window is not None or not hybrid))
        return sandwich(norm, mixer, feed_forward)

    return decoder(c, windowed(layer_windows(c, default=every_nth_full(c, 5)), layer), norm)


def flint(c: Config) -> Architecture:
    """Qwen 3's mixture with sinks and a shared expert; full layers have no positions."""
    depth, window = c.layers(), sliding_window(c)
    default = [None if i < 2 or i % 4 == 1 or i == depth - 1 else window for i in range(depth)]
    mixers = [
        head_norms(c, biased_attention(c, window=window, rotary=window is not None, sinks=True, scores="in fp32"))
        for window in layer_windows(c, default=default)
    ]
    shared = mlp(c, intermediate=c.integer("shared_expert_intermediate_size"))
    layers = alternating(c, sparse_every_nth(c), mixers, lambda: experts(c, shared=shared))
    return decoder(c, layers, rms(c))


FAMILIES = {
    "kolibri1": Family(
        kolibri1,
        {
            "num_key_value_heads": 4,
            "head_dim": 128,
            "sliding_window": 513,
            "shared_expert_intermediate_size": 512,
            "num_experts_per_tok": 6,
            "norm_topk_prob": False,
            "max_position_embeddings": 262144,
        },
    ),
    "flint": Family(
        flint,
        {
            "num_key_value_heads": 4,
            "head_dim": 128,
            "sliding_window": 513,
            "shared_expert_intermediate_size": 1024,
            "num_experts_per_tok": 6,
            "mlp_only_layers": [0, 1],
            "max_position_embeddings": 262144,
        },
    ),
    "exaone_moe": Family(
        exaone_moe,
        {
            "num_key_value_heads": 32,
            "sliding_window": 4096,
            "rms_norm_eps": 1e-5,
            "num_shared_experts": 1,
            "first_k_dense_replace": 1,
            "max_position_embeddings": 2048,
        },
    ),
    "hy_v3": Family(
        hy_v3,
        {
            "num_key_value_heads": 8,
            "head_dim": 128,
            "rms_norm_eps": 1e-5,
            "num_shared_experts": 1,
            "max_position_embeddings": 131072,
        },
    ),
    "cohere2_moe": Family(
        cohere2_moe,
        {
            "head_dim": 128,
            "sliding_window": 4096,
            "sliding_window_pattern": 4,
            "prefix_dense_sliding_window_pattern": 1,
            "num_experts_per_tok": 2,
            "num_experts": 8,
            "num_shared_experts": 0,
            "expert_selection_fn": "softmax",
            "tie_word_embeddings": True,
            "max_position_embeddings": 8192,
        },
    ),
    "aria_text": Family(
        aria_text, {"moe_num_experts": 8, "moe_topk": 2, "moe_num_shared_experts": 2, "max_position_embeddings": 2048}
    ),
}
