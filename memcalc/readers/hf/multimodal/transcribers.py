"""Language models that transcribe: OmniASR, Fun-ASR Nano, MOSS Transcribe, VibeVoice ASR; encoders are in `sound_encoders`."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal import sound_encoders, speech
from memcalc.readers.hf.multimodal.audio_text import Heard, audio_text, two_layers
from memcalc.readers.hf.multimodal.nested import Language, assumed_tied, joined, read_language, text_type, tied_outside


def omniasr(c: Config, encoder: Config, language: Language) -> Named:
    return (("linear", Projection(encoder.integer("hidden_size"), language.hidden, bias=True)),)


def moss(c: Config, encoder: Config, language: Language) -> Named:
    """Frames side by side, two layers, and a norm."""
    layers = two_layers(c, encoder, language, bias=c.flag("projector_bias"), merged="audio_merge_size")
    return (*layers, ("norm", Norm(language.hidden, "layer")))


def fun_asr_nano(c: Config) -> Architecture:
    """Two layers and a small transformer between encoder and language model."""
    language = read_language(c, text_type(c, "qwen3"), {} if c.has("text_config") else _NANO_TEXT, tied=tied_outside(c, True))
    encoder, adaptor = c.sub("audio_config", sound_encoders.FUN_ASR), c.sub("adaptor_config", _ADAPTOR)
    inner, outputs = adaptor.integer("projector_hidden_size"), adaptor.integer("hidden_size")
    up = Projection(encoder.integer("hidden_size"), inner, bias=True, activation=adaptor.text("projector_hidden_act"))
    layer = sound_encoders.fun_asr_layer(adaptor, outputs)
    projector = Part(
        "projector",
        entry=(("up", up), ("down", Projection(inner, outputs, bias=True))),
        stacks=(Stack.uniform(layer, adaptor.layers()),),
    )
    return joined(c, language, (sound_encoders.fun_asr_nano(encoder), projector), warnings=assumed_tied(c))


def vibevoice_asr(c: Config) -> Architecture:
    """Two encoders, of sound and of meaning, each projected through a norm; their sum stands for a frame."""
    language = read_language(c, text_type(c, "qwen2"), tied=False)
    towers: list[Part] = []
    entry: Named = ()
    for kind, width in (("acoustic", 64), ("semantic", 128)):
        encoder = c.sub(f"{kind}_tokenizer_encoder_config", {**sound_encoders.VIBEVOICE, "hidden_size": width})
        towers.append(sound_encoders.vibevoice(encoder, kind))
        entry += (
            (f"{kind}_up", Projection(encoder.integer("hidden_size"), language.hidden, bias=True)),
            (f"{kind}_norm", Norm(language.hidden)),
            (f"{kind}_down", Projection(language.hidden, language.hidden, bias=True)),
        )
    return joined(c, language, (*towers, Part("projector", entry=entry)))


_OMNI_TEXT: Mapping[str, Any] = {
    "vocab_size": 11984, "hidden_size": 4096, "intermediate_size": 2816, "num_hidden_layers": 12, "num_attention_heads": 8,
    "num_key_value_heads": 8, "max_position_embeddings": 8192,
}  # fmt: skip
_NANO_TEXT: Mapping[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "max_position_embeddings": 40960,
}  # fmt: skip
_ADAPTOR: Mapping[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 8, "hidden_act": "relu",
    "projector_hidden_act": "relu", "projector_hidden_size": 2048,
}  # fmt: skip
_MOSS_AUDIO: Mapping[str, Any] = {
    "num_mel_bins": 80, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "activation_function": "gelu", "max_source_positions": 1500,
}  # fmt: skip
_MOSS = Heard(
    partial(speech.whisper, keys=speech.Keys()), _MOSS_AUDIO, moss, "qwen3",
    no_key={**_NANO_TEXT, "max_position_embeddings": 131072}, tied=True,
)  # fmt: skip

FAMILIES = {
    "omniasr": Family(
        partial(audio_text, Heard(sound_encoders.omniasr, sound_encoders.OMNIASR, omniasr, no_text=_OMNI_TEXT)), {}
    ),
    "fun_asr_nano": Family(fun_asr_nano, {}),
    "moss_transcribe_diarize": Family(
        partial(audio_text, _MOSS), {"projector_hidden_act": "silu", "projector_bias": True, "audio_merge_size": 4}
    ),
    "vibevoice_asr": Family(vibevoice_asr, {}),
}
