"""Granite and its kin: decoders that multiply embeddings, branches and logits by constants. Hybrids are in `bamba`."""

from collections.abc import Sequence

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.core import SCALED
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.experts.mixture import Experts
from memcalc.blocks.head import Head
from memcalc.readers.hf.common import (
    biased_attention,
    decoder,
    every_nth_sliding,
    layer_windows,
    mlp,
    pre_norm,
    rms,
    sandwich,
    windowed,
)
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.mixtures.experts import experts


def scaled_decoder(c: Config, layers: Layer | Sequence[Layer]) -> Architecture:
    """A decoder that multiplies embeddings and logits by constants."""
    hidden, vocabulary = c.integer("hidden_size"), c.integer("vocab_size")
    tied = c.flag("tie_word_embeddings", False)
    return decoder(
        c,
        layers,
        rms(c),
        tied=tied,
        embedding=Embedding(vocabulary, hidden, scaled=True),
        head=Head(vocabulary, hidden, tied=tied, scaled=True),
    )


def granite(c: Config) -> Architecture:
    return scaled_decoder(c, pre_norm(rms(c), biased_attention(c), _dense(c)))


def hyperclovax(c: Config) -> Architecture:
    """HyperCLOVA X: Granite with a norm after each block, unless switched off."""
    shape = sandwich if c.flag("use_post_norm") else pre_norm
    return scaled_decoder(c, shape(rms(c), biased_attention(c), _dense(c)))


def granitemoe(c: Config) -> Architecture:
    return scaled_decoder(c, pre_norm(rms(c), biased_attention(c), _experts(c)))


def granite_swa(c: Config) -> Architecture:
    return scaled_decoder(c, _windowed_layers(c, _dense(c)))


def granitemoe_swa(c: Config) -> Architecture:
    return scaled_decoder(c, _windowed_layers(c, _experts(c)))


def _windowed_layers(c: Config, feed_forward: Block) -> list[Layer]:
    """Every fourth layer full, from the first; a sink for each head; a rotary base of 0 or null means no positions."""
    norm, windows = rms(c), layer_windows(c, default=every_nth_sliding(c, 4))
    bases = c.entries("layer_rope_theta", length=len(windows)) if c.has("layer_rope_theta") else [1] * len(windows)

    def mixer(window: int | None, rotary: bool) -> Attention:
        return biased_attention(c, window=window, rotary=rotary, sinks=True, scores=SCALED)

    kinds = [(window, bool(base)) for window, base in zip(windows, bases, strict=True)]
    return windowed(kinds, lambda kind: pre_norm(norm, mixer(*kind), feed_forward))


def _dense(c: Config) -> Block:
    return mlp(c, bias=c.flag("mlp_bias", False))


def _experts(c: Config) -> Experts:
    shared = c.integer("shared_intermediate_size", 0, low=0)
    beside = mlp(c, intermediate=shared, fused=True) if shared else None
    return experts(c, "intermediate_size", shared=beside, routing="softmax-chosen")


_WINDOWS = {"sliding_window": 128}

FAMILIES = {
    "granite": Family(granite, {"max_position_embeddings": 2048}),
    "hyperclovax": Family(hyperclovax, {"use_post_norm": True, "max_position_embeddings": 2048}),
    "granite_swa": Family(
        granite_swa,
        {
            **_WINDOWS,
            "num_key_value_heads": 4,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
            "max_position_embeddings": 8192,
        },
    ),
    "granitemoe": Family(granitemoe, {}),
    "granitemoeshared": Family(granitemoe, {}),
    "granitemoe_swa": Family(granitemoe_swa, {**_WINDOWS, "max_position_embeddings": 2048}),
}
