"""Multimodal configs: a language config nested in one that says how the towers are joined to it."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from memcalc.blocks.architecture import Architecture, Part
from memcalc.errors import Unsupported
from memcalc.frozen import NamedTuple
from memcalc.readers.hf.common import architecture
from memcalc.readers.hf.config import Config
from memcalc.readers.hf.families import MODULES, family
from memcalc.readers.hf.tasks import task

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Language(NamedTuple):
    """The language part of a multimodal model, and the nested config it was read from."""

    part: Part
    config: Config
    tied: bool
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def hidden(self) -> int:
        return self.config.integer("hidden_size")


def read_language(
    c: Config,
    model_type: str,
    defaults: Mapping[str, Any] = NOTHING,
    *,
    tied: bool,
    nested: Config | None = None,
    sized: bool = True,
) -> Language:
    """The part that the family `model_type` reads from `text_config`, tied as the outer config decides.

    `defaults`: the nested configuration class's own values where they are not the family's, sizes included.
    `nested`: the language config itself where it is not under that key; `sized`: its sizes have defaults.
    """
    if model_type not in MODULES:
        raise Unsupported(f"{c.place}: the language model {model_type!r:.60} inside text_config is not modelled")
    reader = family(model_type)
    sizes = SIZES.get(model_type, NOTHING) if sized else NOTHING
    text = nested or c.sub("text_config", {})
    text = text.reread({**sizes, **reader.defaults, **defaults}, tie_word_embeddings=tied)
    read = reader.read(text)
    if len(read.parts) != 1:
        raise Unsupported(f"{c.place}: {model_type!r:.60} inside text_config is not a language model alone")
    return Language(replace(read.parts[0], name="language"), text, tied, read.warnings, read.notes)


def text_type(c: Config, default: str) -> str:
    """The model type that the text_config names."""
    return c.sub("text_config", {}).text("model_type", default)


def floored_head_dim(c: Config, model_type: str) -> Mapping[str, Any]:
    """The head size of a text_config without one, where the library rounds hidden / heads down."""
    text = c.sub("text_config", SIZES[model_type])
    return {"head_dim": max(1, text.integer("hidden_size") // text.integer("num_attention_heads"))}


def tied_outside(c: Config, default: bool) -> bool:
    """`tie_word_embeddings` of the outer config alone: what the text_config says of it does not count."""
    return c.flag("tie_word_embeddings", default)


def tied_either(c: Config, model_type: str = "", default: bool = False) -> bool:
    """Tied where the outer config or the text_config says so, the latter by the default of its `model_type` too."""
    inner = family(model_type).defaults.get("tie_word_embeddings", False) if model_type in MODULES else False
    return c.flag("tie_word_embeddings", default) or c.sub("text_config", {}).flag("tie_word_embeddings", inner)


def assumed_tied(c: Config) -> tuple[str, ...]:
    """A warning where transformers ties embedding and head by its own default, unless the text_config agrees.

    Files written before that default was there mean a head of their own, and their checkpoints hold one.
    """
    if task(c) == "Model" or c.has("tie_word_embeddings") or c.sub("text_config", {}).flag("tie_word_embeddings", False):
        return ()
    return (
        "tie_word_embeddings is not in the outer config: embedding and head are counted as one matrix, as transformers "
        "builds them; a checkpoint that holds a head of its own has that matrix more",
    )


def joined(
    c: Config,
    language: Language,
    parts: tuple[Part, ...],
    *,
    warnings: tuple[str, ...] = (),
) -> Architecture:
    """The whole model: the language part first, then its towers and projectors."""
    whole = architecture(c, (language.part, *parts), tied=language.tied, text=language.config)
    return replace(whole, warnings=(*language.warnings, *warnings), notes=language.notes)


def _sizes(vocabulary: int, hidden: int, intermediate: int, layers: int, heads: int) -> Mapping[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


# The sizes of the library's configuration classes: a nested config that is saved leaves out what equals them.
SIZES: Mapping[str, Mapping[str, Any]] = {
    "llama": _sizes(32000, 4096, 11008, 32, 32),
    "mistral": _sizes(32000, 4096, 14336, 32, 32),
    "ministral3": _sizes(131072, 4096, 14336, 34, 32),
    "mixtral": _sizes(32000, 4096, 14336, 32, 32),
    "qwen2": _sizes(151936, 4096, 22016, 32, 32),
    "qwen3": _sizes(151936, 4096, 22016, 32, 32),
    "gemma": _sizes(256000, 3072, 24576, 28, 16),
    "gemma2": _sizes(256000, 2304, 9216, 26, 8),
    "gemma3_text": _sizes(262208, 2304, 9216, 26, 8),
    "gemma4_text": _sizes(262144, 2304, 9216, 30, 8),
    "gemma4_unified_text": _sizes(262144, 2304, 9216, 30, 8),
    "phi3": _sizes(32064, 3072, 8192, 32, 32),
    "cohere": _sizes(256000, 8192, 22528, 40, 64),
    "cohere2": _sizes(256000, 8192, 22528, 40, 64),
    "granite": _sizes(32000, 4096, 11008, 32, 32),
    "granite4_vision_text": _sizes(32000, 4096, 11008, 32, 32),
    "granite_docling_text": _sizes(133800, 1024, 2048, 28, 16),
    "hunyuan_vl_text": _sizes(290943, 4096, 11008, 32, 32),
    "cohere_compass_text": _sizes(256000, 8192, 22528, 40, 64),
    "dots3_note_text": {**_sizes(152064, 5120, 13824, 46, 128), "moe_intermediate_size": 1536, "n_routed_experts": 256},
    "qwen4_exp_text": {"vocab_size": 248320, "hidden_size": 2048, "num_hidden_layers": 40, "num_attention_heads": 16},
    "lfm2": _sizes(65536, 2560, 12288, 32, 32),
    "hyperclovax": _sizes(32000, 4096, 11008, 32, 32),
    "exaone4": _sizes(102400, 4096, 16384, 32, 32),
    "ernie4_5_vl_moe_text": _sizes(103424, 2560, 12288, 28, 20),
    "molmo2_text": _sizes(151936, 4096, 12288, 36, 32),
    "lfm3": _sizes(128000, 2048, 7680, 24, 16),
    "hy_v4_vl_text": _sizes(120832, 6144, 18432, 78, 64),
    "step3p5": _sizes(128815, 4096, 11264, 45, 64),
    "opt": _sizes(50272, 768, 3072, 12, 12),
    "paddleocr_vl_text": _sizes(103424, 1024, 3072, 18, 16),
    "cosmos3_edge_text": _sizes(131072, 2048, 9216, 28, 16),
    "qwen3_5_text": _sizes(248320, 4096, 12288, 32, 16),
    "aria_text": _sizes(32000, 4096, 4096, 32, 32),
    "qwen2_5_omni_text": _sizes(152064, 3584, 18944, 28, 28),
    "qwen3_omni_moe_text": {**_sizes(3584, 2048, 18944, 28, 28), "moe_intermediate_size": 768},
    "voxtral_realtime_text": _sizes(32000, 4096, 14336, 32, 32),
    "glm4v_text": _sizes(151552, 4096, 13696, 40, 32),
    "glm4v_moe_text": {**_sizes(151424, 4096, 10944, 46, 96), "moe_intermediate_size": 1408, "n_routed_experts": 128},
    "glm_ocr_text": _sizes(59392, 1024, 4096, 16, 16),
}
