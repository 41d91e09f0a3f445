"""Qwen2.5-Omni and Qwen3-Omni: sound, images and text in one model (the thinker); the talker speaks what it writes."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.errors import Unsupported
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal import speech
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


def thinker(kind: str, c: Config) -> Architecture:
    """A whole model without its talker; the talker and what makes sound of its codes are refused."""
    if c.flag("enable_audio_output", True):
        raise Unsupported(f"{c.place}: the talker is not modelled: give the thinker_config alone, or enable_audio_output false")
    read, defaults = THINKERS[kind]
    return read(c.sub("thinker_config", defaults))


THINKERS: Mapping[str, tuple[Callable[[Config], Architecture], Mapping[str, Any]]] = {
    "qwen2_5_omni": (qwen2_5_thinker, {}),
    "qwen3_omni_moe": (qwen3_thinker, {}),
}
FAMILIES: Mapping[str, Family] = {
    **{f"{kind}_thinker": Family(read, defaults) for kind, (read, defaults) in THINKERS.items()},
    **{kind: Family(partial(thinker, kind), {}) for kind in THINKERS},
}
