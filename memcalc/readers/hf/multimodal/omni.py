"""Qwen2.5-Omni and Qwen3-Omni: sound, images and text in one model (the thinker); the talker speaks what it writes."""

from collections.abc import Mapping
from dataclasses import replace

from memcalc.blocks.architecture import Architecture
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal import speech, talkers
from memcalc.readers.hf.multimodal.nested import floored_head_dim, joined, read_language, tied_outside
from memcalc.readers.hf.multimodal.qwen_vl import QWEN2_5_VISION, QWEN3_VISION, qwen2_5_tower, qwen3_tower


def qwen2_5_thinker(c: Config) -> Architecture:
    language = read_language(c, "qwen2_5_omni_text", tied=tied_outside(c, False))
    hearing = speech.qwen2_5_omni(c.sub("audio_config", speech.QWEN2_5_OMNI))
    return joined(c, language, (*qwen2_5_tower(c.sub("vision_config", QWEN2_5_VISION)), hearing))


def qwen3_thinker(c: Config) -> Architecture:
    kind = "qwen3_omni_moe_text"
    language = read_language(c, kind, floored_head_dim(c, kind), tied=tied_outside(c, False))
    hearing = speech.qwen3_omni(c.sub("audio_config", speech.QWEN3_OMNI))
    return joined(c, language, (*qwen3_tower(c.sub("vision_config", QWEN3_VISION), deepstack=True), hearing))


def qwen2_5_omni(c: Config) -> Architecture:
    """The talker and what makes sound of its codes are built unless `enable_audio_output` is false."""
    whole = qwen2_5_thinker(c.sub("thinker_config", {}))
    if not c.flag("enable_audio_output", True):
        return whole
    speaking = talkers.qwen2_5_talker(c.sub("talker_config", talkers.TALKER))
    return replace(whole, parts=(*whole.parts, speaking, *talkers.qwen2_5_sound(c.sub("token2wav_config", {}))))


def qwen3_omni(c: Config) -> Architecture:
    whole = qwen3_thinker(c.sub("thinker_config", {}))
    if not c.flag("enable_audio_output", True):
        return whole
    talker = c.sub("talker_config", {"thinker_hidden_size": 2048})
    sound = talkers.qwen3_sound(c.sub("code2wav_config", talkers.CODE2WAV))
    return replace(whole, parts=(*whole.parts, *talkers.qwen3_talker(talker), sound))


FAMILIES: Mapping[str, Family] = {
    "qwen2_5_omni_thinker": Family(qwen2_5_thinker, {}),
    "qwen3_omni_moe_thinker": Family(qwen3_thinker, {}),
    "qwen2_5_omni": Family(qwen2_5_omni, {}),
    "qwen3_omni_moe": Family(qwen3_omni, {}),
}
