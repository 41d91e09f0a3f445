"""Gemma 3n: several residual streams (AltUp), a low-rank residual (Laurel), per-layer embeddings, shared caches."""

from collections.abc import Mapping
from typing import Any

from memcalc.blocks.altup import AltUp, AltUpProjections, Laurel
from memcalc.blocks.architecture import Architecture, Layer, Named, Part
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.ledger import Weight
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import biased_attention, decoder, mlp, rms, sandwich, windowed
from memcalc.readers.hf.config import MAX_SIZE, Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.multimodal.audio import GEMMA3N_AUDIO, gemma3n_audio
from memcalc.readers.hf.multimodal.gemma import (
    GEMMA4_NORM,
    KINDS,
    capped_head,
    normed_heads,
    per_layer_embedding,
    per_layer_input,
)
from memcalc.readers.hf.multimodal.mobilenet import NAME, mobilenet_v5_300m
from memcalc.readers.hf.multimodal.nested import joined, read_language, tied_outside


def gemma3n(c: Config) -> Architecture:
    language = read_language(c, "gemma3n_text", _SIZES, tied=tied_outside(c, True))
    vision, audio = c.sub("vision_config", _VISION), c.sub("audio_config", GEMMA3N_AUDIO)
    tower = vision.text("architecture")
    warnings: tuple[str, ...] = ()
    seeing: tuple[Part, ...] = ()
    if tower == NAME and not vision.has("model_args"):
        seeing = (mobilenet_v5_300m(),)
    else:
        warnings = (f"the vision tower (timm's {tower:.60}) is not counted: only {NAME} as it is built by default is",)
    projector = Part(
        "projector",
        entry=(*_embedder(vision, "vision", language.hidden), *_embedder(audio, "audio", language.hidden)),
    )
    return joined(c, language, (*seeing, gemma3n_audio(audio), projector), warnings=warnings)


def gemma3n_text(c: Config) -> Architecture:
    depth, hidden, streams = c.layers(), c.integer("hidden_size"), c.integer("altup_num_inputs")
    kinds = layer_kinds(c, [KINDS[(i + 1) % 5 == 0] for i in range(depth)], KINDS)
    first_shared = depth - c.integer("num_kv_shared_layers", low=0)
    shared = [i >= first_shared > 0 for i in range(depth)]
    layers = windowed(list(zip(kinds, shared, _intermediates(c), _sparsities(c), strict=True)), lambda kind: _layer(c, *kind))
    return decoder(
        c,
        layers,
        None,
        embedding=Embedding(c.integer("vocab_size"), hidden, scaled=True),
        head=capped_head(c),
        after_embedding=(*per_layer_embedding(c), ("altup_projections", AltUpProjections(hidden, streams))),
        before_head=(
            ("altup_unembed_projections", AltUpProjections(hidden, streams, back=True)),
            ("final_norm", rms(c, kind=GEMMA4_NORM)),
        ),
    )


def _layer(c: Config, kind: str, shared: bool, intermediate: int, sparsity: float) -> Layer:
    hidden = c.integer("hidden_size")
    window = c.integer("sliding_window") if kind == "sliding_attention" else None
    mixer = normed_heads(c, biased_attention(c, window=window), shared=shared, kind=GEMMA4_NORM)
    feed_forward = mlp(c, intermediate=intermediate, cuts=sparsity > 0)
    return Layer(
        (
            ("altup", AltUp(hidden, c.integer("altup_num_inputs"))),
            ("laurel", Laurel(hidden, c.integer("laurel_rank"))),
            *sandwich(rms(c, kind=GEMMA4_NORM), mixer, feed_forward).blocks,
            *per_layer_input(c),
        ),
        wiring="gemma3n",
    )


def _intermediates(c: Config) -> list[int]:
    """The feed-forward's size in each layer: one number for all, or one a layer."""
    if not isinstance(c.raw("intermediate_size"), (list, tuple)):
        return [c.integer("intermediate_size")] * c.layers()
    sizes = c.entries("intermediate_size", length=c.layers(), of=int)
    if not all(0 < size <= MAX_SIZE for size in sizes):
        raise c.error("intermediate_size", "must hold positive sizes")
    return sizes


def _sparsities(c: Config) -> list[float]:
    """The share of the feed-forward's gate that each layer sets to zero: by default 0.95 in the first ten of more."""
    depth = c.layers()
    if c.raw("activation_sparsity_pattern") is None:
        sparse = 10 if depth > 10 else 0
        return [0.95] * sparse + [0.0] * (depth - sparse)
    shares = c.entries("activation_sparsity_pattern", length=depth)
    if not all(isinstance(share, (int, float)) and 0 <= share < 1 for share in shares):
        raise c.error("activation_sparsity_pattern", "must hold shares from 0 to less than 1")
    return [float(share) for share in shares]


def _embedder(c: Config, name: str, outputs: int) -> Named:
    """Special tokens of one modality, and the projection of its features into the language model's space."""
    hidden, norm = c.integer("hidden_size"), Norm(c.integer("hidden_size"))
    return (
        (f"{name}_tokens", Plain((Weight("tokens", "other", (c.integer("vocab_size"), hidden)),))),
        (f"{name}_tokens_norm", norm),
        (f"{name}_norm", norm),
        (name, Projection(hidden, outputs)),
    )


_TEXT: Mapping[str, Any] = {
    "num_key_value_heads": 2,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
    "sliding_window": 512,
    "final_logit_softcapping": 30.0,
    "vocab_size_per_layer_input": 262144,
    "hidden_size_per_layer_input": 256,
    "altup_num_inputs": 4,
    "num_kv_shared_layers": 15,
    "laurel_rank": 64,
}
_SIZES: Mapping[str, Any] = {
    "vocab_size": 262400,
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_hidden_layers": 35,
    "num_attention_heads": 8,
}
_VISION: Mapping[str, Any] = {"architecture": NAME, "hidden_size": 2048, "vocab_size": 128}

FAMILIES = {
    "gemma3n": Family(gemma3n, {}),
    "gemma3n_text": Family(gemma3n_text, _TEXT),
}
