"""Models that read sound and text: an encoder of sound, a projector, a language model. Each is a row.

Structures follow transformers src/transformers/models/<family>/.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from memcalc.blocks.architecture import Architecture, Named, Part
from memcalc.blocks.ledger import Weight
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.frozen import NamedTuple
from memcalc.readers.hf.common import attention, decoder, mlp, pre_norm, rms, sliding_window
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal import speech
from memcalc.readers.hf.multimodal.nested import NOTHING, Language, assumed_tied, joined, read_language, text_type, tied_outside


class Heard(NamedTuple):
    """How a family joins its parts."""

    encoder: Callable[[Config], Part]
    encoder_defaults: Mapping[str, Any]
    projector: Callable[[Config, Config, Language], Named]  # (outer config, encoder's config, language part)
    text: str = "llama"
    no_text: Mapping[str, Any] = NOTHING  # the values where the file leaves the whole object out
    no_key: Mapping[str, Any] = NOTHING  # the values of keys that a text_config leaves out
    tied: bool | None = None  # by default; None: never, as the library has no rule for it


def audio_text(heard: Heard, c: Config) -> Architecture:
    kind = text_type(c, heard.text)
    absent = {**heard.no_key, **({} if c.has("text_config") else heard.no_text)}
    tied = heard.tied is not None and tied_outside(c, heard.tied)
    language = read_language(c, kind, absent, tied=tied)
    encoder = c.sub("audio_config", heard.encoder_defaults)
    projector = Part("projector", entry=heard.projector(c, encoder, language))
    return joined(c, language, (heard.encoder(encoder), projector), warnings=assumed_tied(c) if heard.tied else ())


def linear(c: Config, encoder: Config, language: Language) -> Named:
    return (("linear", Projection(encoder.integer("d_model"), language.hidden, bias=True)),)


def two_layers(
    c: Config,
    encoder: Config,
    language: Language,
    *,
    reads: str = "hidden_size",
    bias: bool = False,
    widened: int = 1,
    merged: str = "",
) -> Named:
    """act(W₁x), then W₂, x as wide as the encoder's `reads`.

    `merged`: the key of how many frames lie side by side; `widened`: W₁ gives so many times the language model's width.
    """
    count = c.integer(merged) if merged else 1
    inner = language.hidden * widened
    up = Projection(encoder.integer(reads) * count, inner, bias=bias, activation=c.text("projector_hidden_act"), cut="outputs")
    return (("up", up), ("down", Projection(inner, language.hidden, bias=bias, cut="inputs")))


def flamingo(c: Config, encoder: Config, language: Language) -> Named:
    return two_layers(c, encoder, language, bias=c.flag("projector_bias"))


def qwen3_asr(c: Config, encoder: Config, language: Language) -> Named:
    hidden, activation = encoder.integer("d_model"), encoder.text("activation_function")
    up = Projection(hidden, hidden, bias=True, activation=activation, cut="outputs")
    return (("up", up), ("down", Projection(hidden, encoder.integer("output_dim"), bias=True, cut="inputs")))


def voxtral_realtime_text(c: Config) -> Architecture:
    """Mistral's decoder; a low-rank map of how long it may wait scales what each feed-forward reads."""
    norm, hidden = rms(c), c.integer("hidden_size")
    delay = Plain((Weight("down", "other", (DELAY_RANK, hidden)), Weight("up", "other", (hidden, DELAY_RANK))))
    layer = pre_norm(norm, attention(c, window=sliding_window(c)), mlp(c))
    return decoder(c, replace(layer, blocks=(*layer.blocks[:3], ("delay", delay), layer.blocks[3])), norm)


DELAY_RANK = 32  # transformers modeling_voxtral_realtime.py
_VOXTRAL_TEXT: Mapping[str, Any] = {
    "vocab_size": 131072,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 30,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131072,
}
_GLM_TEXT: Mapping[str, Any] = {
    "vocab_size": 59264,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 8192,
}
_REALTIME_TEXT: Mapping[str, Any] = {
    **_VOXTRAL_TEXT,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 32,
    "sliding_window": 8192,
}
_QWEN3_ASR_TEXT: Mapping[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 65536,
}
_VOXTRAL = partial(speech.whisper, keys=speech.Keys())
_STACKED = partial(two_layers, reads="intermediate_size")  # frames side by side, as wide as the encoder's feed-forward
_FLAMINGO = Heard(_VOXTRAL, speech.VOXTRAL, flamingo, text="qwen2")
_QWEN3_ASR = Heard(speech.qwen3_asr, speech.QWEN3_ASR, qwen3_asr, "qwen3", _QWEN3_ASR_TEXT, tied=True)
_GELU: Mapping[str, Any] = {"projector_hidden_act": "gelu"}

FAMILIES = {
    name: Family(partial(audio_text, heard), defaults)
    for name, heard, defaults in (
        ("qwen2_audio", Heard(speech.whisper, speech.QWEN2_AUDIO, linear, text="qwen2"), {}),
        ("voxtral", Heard(_VOXTRAL, speech.VOXTRAL, _STACKED, no_key=_VOXTRAL_TEXT), _GELU),
        ("audioflamingo3", _FLAMINGO, {**_GELU, "projector_bias": True}),
        ("musicflamingo", _FLAMINGO, {**_GELU, "projector_bias": True}),
        (
            "glmasr",
            Heard(speech.glm, speech.GLM_ASR, partial(_STACKED, bias=True, widened=2), no_key=_GLM_TEXT, tied=True),
            _GELU,
        ),
        (
            "qwen3_asr",
            Heard(speech.qwen3_asr, speech.QWEN3_ASR, qwen3_asr, "qwen3", _QWEN3_ASR_TEXT, tied=True),
            {"token_classification_bias": False},
        ),
        (
            "voxtral_realtime",
            Heard(
                speech.voxtral_realtime,
                speech.VOXTRAL_REALTIME,
                partial(two_layers, merged="downsample_factor"),
                "voxtral_realtime_text",
                no_key=_REALTIME_TEXT,
                tied=True,
            ),
            {**_GELU, "downsample_factor": 4},
        ),
    )
}
FAMILIES["voxtral_realtime_text"] = Family(
    voxtral_realtime_text, {"num_key_value_heads": 8, "sliding_window": 4096, "max_position_embeddings": 131072}
)
