"""Nemotron 3.5 Transcribe: an encoder of words and one of speakers in front of a Nemotron-H, and a head that times words."""

from collections.abc import Mapping
from typing import Any

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import attention, pre_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal.nested import joined, read_language, text_type
from memcalc.readers.hf.multimodal.vision import plain_mlp, table
from memcalc.readers.hf.tasks import task


def nemo_speechlm(c: Config) -> Architecture:
    """What is said and who speaks are added, each normalised (modeling_nemotron3_5_transcribe.py). The head that times words
    reads the encoder; the bare model has that encoder, not its classes.
    """
    language = read_language(
        c, text_type(c, "nemotron_h"), _TEXT, tied=c.sub("text_config", {}).flag("tie_word_embeddings", False)
    )
    audio = c.sub("audio_config", {})
    words, diarization = audio.sub("asr_config", _WORDS), audio.sub("diarization_config", {})
    speakers, head = diarization.sub("audio_config", _SPEAKERS), diarization.sub("head_config", _SPEAKER_HEAD)
    hidden, count, size = words.integer("hidden_size"), head.integer("num_speakers"), head.integer("hidden_size")
    times = c.sub("word_timestamp_config", _TIMES)
    width, factor = times.integer("hidden_size"), times.integer("upsampling_factor")
    upsampled = size * head.integer("subsampling_factor")
    told: Named = (
        ("silence", table("other", (speakers.integer("hidden_size"),))),
        ("projection", Projection(head.integer("audio_hidden_size"), size, bias=True)),
        ("upsampling", Convolution(size, upsampled, (3,), (1,), bias=True)),
        ("dense", Projection(size, size, bias=True, activation="relu")),
        ("classifier", Projection(size, count, bias=True)),
    )
    into: Named = (
        ("words_norm", Norm(hidden, "layer")),
        ("speakers_norm", Norm(count, "layer")),
        ("linear", Projection(hidden, language.hidden, bias=True)),
    )
    upsampling: Named = (("upsampling", Convolution(width, width, (factor,), bias=True)),)
    classes: Named = (("classes", Convolution(width, times.integer("vocab_size"), (1,), bias=True)),)
    parts = (
        _encoder(words, "audio", _stacked(words), normed=True),
        _encoder(speakers, "speakers", _stacked(speakers), after=told),
        Part("projector", entry=into),
        _encoder(times, "word_times", upsampling, normed=True, after=classes if task(c) != "Model" else ()),
    )
    return joined(c, language, parts)


def _stacked(c: Config) -> Named:
    """Frames of the spectrogram side by side."""
    return (("frames", Projection(c.integer("subsampling_factor") * c.integer("num_mel_bins"), c.integer("hidden_size"))),)


def _encoder(c: Config, name: str, entry: Named, *, normed: bool = False, after: Named = ()) -> Part:
    """Rotary layers with norms before each block; `normed`: and over each query and key head."""
    hidden, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    if c.integer("num_key_value_heads", heads) != heads:
        raise c.error("num_key_value_heads", f"must be num_attention_heads ({heads}): values of fewer heads are not modelled")
    norm, mixer = Norm(hidden, "layer"), attention(c, causal=False, output_bias=True)
    if normed:
        each = Norm(mixer.head_dim, "layer")
        mixer = revised(mixer, query_norm=each, key_norm=each)
    layer = pre_norm(norm, mixer, plain_mlp(c))
    return Part(
        name, (*entry, ("input_norm", norm)), (Stack.uniform(layer, c.layers()),), (("final_norm", norm), *after)
    )  # fmt: skip


_WORDS: Mapping[str, Any] = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 10,
    "hidden_act": "gelu", "num_mel_bins": 128, "subsampling_factor": 8,
}  # fmt: skip
_SPEAKERS: Mapping[str, Any] = {
    **_WORDS, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 31, "num_attention_heads": 8
}  # fmt: skip
_SPEAKER_HEAD: Mapping[str, Any] = {"hidden_size": 192, "num_speakers": 8, "audio_hidden_size": 512, "subsampling_factor": 8}
_TIMES: Mapping[str, Any] = {
    "hidden_size": 1280, "intermediate_size": 640, "num_hidden_layers": 2, "num_attention_heads": 16, "hidden_act": "gelu",
    "vocab_size": 23863, "upsampling_factor": 2,
}  # fmt: skip
_TEXT: Mapping[str, Any] = {
    "vocab_size": 131072, "hidden_size": 2688, "intermediate_size": 1856, "num_attention_heads": 32, "num_key_value_heads": 2,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", "mamba_num_heads": 64,
    "max_position_embeddings": 262144, "moe_intermediate_size": 1856, "moe_shared_expert_intermediate_size": 3712,
    "n_routed_experts": 128, "num_experts_per_tok": 6,
}  # fmt: skip

FAMILIES = {"nemo_speechlm": Family(nemo_speechlm, {})}
