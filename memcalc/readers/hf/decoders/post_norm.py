"""Dense decoders that normalise what a block returns: Gemma 2 and 3, GLM-4-0414, OLMo 2 and 3, EXAONE 4."""

from collections.abc import Callable
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.norm import Norm
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import (
    WIDE,
    attention,
    biased_attention,
    decoder,
    every_nth_full,
    head_norms,
    layer_windows,
    mlp,
    optional_number,
    post_norm,
    pre_norm,
    rms,
    sandwich,
    sliding_window,
    windowed,
)
from memcalc.readers.hf.config import Config, Family


def gemma2(c: Config) -> Architecture:
    return _gemma(c, period=2, norms=False)


def gemma3(c: Config) -> Architecture:
    """Gemma 3's text model. Older files give the period of full layers as a number instead of `layer_types`."""
    return _gemma(c, period=c.integer("sliding_window_pattern", 6), norms=True)


def vaultgemma(c: Config) -> Architecture:
    """Gemma 2 without norms after its blocks."""
    return _gemma(c, period=2, norms=False, shape=pre_norm)


def _gemma(c: Config, *, period: int, norms: bool, shape: Callable[[Norm, Block, Block], Layer] = sandwich) -> Architecture:
    norm, softcap = rms(c, kind="rms-zero-centred"), optional_number(c, "attn_logit_softcapping")
    causal = not c.flag("use_bidirectional_attention", False)

    def mixer(window: int | None) -> Attention:
        if norms and not causal and window is not None:  # Gemma 3 counts the half to each side, and the token itself
            window = window // 2 + 1
        block = biased_attention(c, window=window, softcap=softcap, causal=causal)
        return head_norms(c, block, norm.kind) if norms else block

    windows = layer_windows(c, default=every_nth_full(c, period))
    layers = windowed(windows, lambda window: shape(norm, mixer(window), mlp(c)))
    hidden, vocabulary, tied = c.integer("hidden_size"), c.integer("vocab_size"), c.flag("tie_word_embeddings")
    head = Head(vocabulary, hidden, tied=tied, softcap=optional_number(c, "final_logit_softcapping"))
    return decoder(c, layers, norm, tied=tied, embedding=Embedding(vocabulary, hidden, scaled=True), head=head)


def glm4(c: Config) -> Architecture:
    norm = rms(c)
    return decoder(
        c, sandwich(norm, attention(c, query_bias=c.flag("attention_bias"), rotary_tables="copied"), mlp(c, fused=True)), norm
    )


def olmo2(c: Config) -> Architecture:
    return _olmo(c, [None] * c.layers())


def olmo3(c: Config) -> Architecture:
    return _olmo(c, layer_windows(c, default=every_nth_full(c, 4)))


def _olmo(c: Config, windows: list[int | None]) -> Architecture:
    """Norms after both blocks, and over all query heads together, all key heads together."""
    norm = rms(c, kind=WIDE)
    return decoder(c, windowed(windows, lambda window: post_norm(norm, olmo_attention(c, window=window), mlp(c))), norm)


def olmo_attention(c: Config, **traits: Any) -> Attention:
    block = biased_attention(c, rotary_tables="fp32", **traits)
    query_norm, key_norm = (rms(c, size=size, kind=WIDE) for size in (block.query_size, block.key_size))
    return revised(block, query_norm=query_norm, key_norm=key_norm)


def exaone4(c: Config) -> Architecture:
    """Full layers have no rotary positions, unless all layers are full."""
    norm, hybrid = rms(c), sliding_window(c) is not None
    layers = windowed(
        layer_windows(c, default=exaone4_windows(c)),
        lambda window: post_norm(
            norm, head_norms(c, attention(c, window=window, rotary=window is not None or not hybrid)), mlp(c)
        ),
    )
    return decoder(c, layers, norm)


def exaone4_windows(c: Config) -> list[int | None]:
    """`sliding_window_pattern`: the period of full layers, or a string of L (local) and G (global) that repeats."""
    pattern = c.raw("sliding_window_pattern", 4)
    if isinstance(pattern, str):
        if not pattern or set(pattern) - set("LG"):
            raise c.error("sliding_window_pattern", f"must be a number or a string of L and G, not {pattern!r:.60}")
        window = sliding_window(c)
        return [window if pattern[i % len(pattern)] == "L" else None for i in range(c.layers())]
    return every_nth_full(c, c.integer("sliding_window_pattern", 4))


_GEMMA = {
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "sliding_window": 4096,
}
_OLMO = {"rms_norm_eps": 1e-5, "max_position_embeddings": 2048}

_GEMMA2 = {**_GEMMA, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "max_position_embeddings": 8192}

FAMILIES = {
    "gemma2": Family(gemma2, _GEMMA2),
    "vaultgemma": Family(vaultgemma, _GEMMA2),
    "gemma3_text": Family(gemma3, {**_GEMMA, "max_position_embeddings": 131072}),
    "glm4": Family(
        glm4,
        {
            "num_key_value_heads": 2,
            "head_dim": 128,
            "attention_bias": True,
            "partial_rotary_factor": 0.5,
            "rms_norm_eps": 1.5625e-7,
            "max_position_embeddings": 131072,
        },
    ),
    "olmo2": Family(olmo2, _OLMO),
    "olmo3": Family(olmo3, {**_OLMO, "sliding_window": 4096}),
    "exaone4": Family(
        exaone4,
        {"num_key_value_heads": 32, "sliding_window": 4096, "rms_norm_eps": 1e-5, "max_position_embeddings": 2048},
    ),
}
