"""Fast conformers that a small decoder reads (Canary, Cohere Transcribe), or whose frames are words themselves (Parakeet)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.projection import Projection
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import architecture, biased_attention, layer_norm, mlp, pre_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.seq2seq import GENERATION
from memcalc.readers.hf.multimodal.speech import PARAKEET, parakeet
from memcalc.readers.hf.tasks import task, uncounted


def canary(c: Config) -> Architecture:
    """The decoder's sines are not stored; its head is tied by default."""
    encoder = c.sub("encoder_config", {**PARAKEET, "num_hidden_layers": 32, "num_mel_bins": 128})
    decoder = c.sub("decoder_config", _DECODER)
    if (outer := c.integer("vocab_size")) != decoder.integer("vocab_size"):
        raise c.error("vocab_size", f"({outer}) must be that of decoder_config ({decoder.integer('vocab_size')})")
    return _transcriber(c, encoder, decoder)


def cohere_asr(c: Config) -> Architecture:
    """The decoder has learned positions and reads the encoder through a projection."""
    encoder = c.sub("encoder_config", _COHERE_ENCODER)
    hidden = c.integer("hidden_size")
    into: Named = (("projection", Projection(encoder.integer("hidden_size"), hidden, bias=True)),)
    return _transcriber(c, encoder, c, positions=c.integer("max_position_embeddings"), into=into)


def _transcriber(c: Config, encoder: Config, decoder: Config, *, positions: int = 0, into: Named = ()) -> Architecture:
    hidden, vocabulary, kind, tied = (
        decoder.integer("hidden_size"),
        decoder.integer("vocab_size"),
        task(c),
        c.flag("tie_word_embeddings"),
    )
    norm = layer_norm(decoder)
    mixer = biased_attention(decoder, rotary=False)
    layer = pre_norm(norm, mixer, mlp(decoder, gated=False, bias=True))
    cross: Named = (("cross_attention_norm", norm), ("cross_attention", revised(mixer, cross=True, causal=False)))
    layer = replace(layer, blocks=layer.blocks[:2] + cross + layer.blocks[2:])
    generates = kind in GENERATION
    head: Named = (("head", Head(vocabulary, hidden, tied=tied, bias=True, upcast=False)),) if generates else ()
    part = Part(
        "decoder",
        (("embedding", Embedding(vocabulary, hidden, position=positions)), ("embedding_norm", norm)),
        (Stack.uniform(layer, decoder.layers()),),
        (("final_norm", norm), *head),
    )
    heard = replace(parakeet(encoder), name="encoder")
    model = architecture(c, (replace(heard, exit=heard.exit + into), part), tied=generates and tied, text=decoder)
    return replace(model, warnings=() if generates or kind == "Model" else uncounted(c))


def parakeet_ctc(c: Config) -> Architecture:
    """One word piece, or none, for each frame of the encoder."""
    encoder = c.sub("encoder_config", PARAKEET)
    heard, hidden = parakeet(encoder), encoder.integer("hidden_size")
    words: Named = (("head", Convolution(hidden, c.integer("vocab_size"), (1,), bias=True, role="head")),)
    model = architecture(c, (replace(heard, exit=heard.exit + words),), tied=False, text=encoder, vocabulary=0)
    return replace(model, warnings=() if task(c) in ("", "CTC") else uncounted(c))


_DECODER: Mapping[str, Any] = {
    "vocab_size": 16384,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "hidden_act": "relu",
    "max_position_embeddings": 1024,
    "attention_bias": True,
}
_COHERE_ENCODER = {**PARAKEET, "hidden_size": 1280, "num_hidden_layers": 48, "intermediate_size": 5120, "num_mel_bins": 128}

FAMILIES = {
    "canary": Family(canary, {"vocab_size": 16384, "tie_word_embeddings": True}),
    "cohere_asr": Family(cohere_asr, {**_DECODER, "tie_word_embeddings": False}),
    "parakeet_ctc": Family(parakeet_ctc, {"vocab_size": 1025}),
}
