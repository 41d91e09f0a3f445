"""Hugging Face `config.json` → Architecture.

`families` says which module reads which `model_type`.
Structures and default values follow the model classes of transformers 5.18 (src/transformers/models/<family>/).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.errors import InputError, nearest
from memcalc.readers.hf.config import QUANTIZATION_KEYS
from memcalc.readers.hf.doubts import check_size, check_values
from memcalc.readers.hf.families import MODULES, family
from memcalc.readers.hf.tasks import headed
from memcalc.readers.hf.unread import foreign, unread_sizes

GATES = ("silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "swiglu")
LLAMA_KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")


def read_config(values: Mapping[str, Any], place: str = "config.json", *, translated: bool = False) -> Architecture:
    """The architecture that a config.json describes; an InputError names the key when it cannot be read.

    `translated`: the keys are those that a translator of another format wrote, more than a family has.
    """
    doubts = check_values(values, place)
    architecture = _read(values, place, translated)
    check_size(architecture.parameters, place)
    if doubts:
        architecture = replace(architecture, warnings=(*architecture.warnings, *doubts))
    nested = values.get("text_config")
    if not any(key in v for v in (values, nested) if isinstance(v, Mapping) for key in QUANTIZATION_KEYS):
        return architecture
    from memcalc.readers.hf.quantization import read_quantization

    return replace(architecture, quantization=read_quantization(values, architecture, place))


def _read(values: Mapping[str, Any], place: str, translated: bool) -> Architecture:
    model_type = values.get("model_type")
    if model_type is not None and not isinstance(model_type, str):
        raise InputError(f"model_type must be a string, not {model_type!r:.60}", place=place)
    if model_type in MODULES:
        reader = family(model_type)
        config = reader.config(values, place)
        model = headed(config, reader.read(config))
        unread = () if translated else unread_sizes(config, MODULES[model_type])
        return replace(model, warnings=(*model.warnings, *unread)) if unread else model
    return _read_as_llama(values, model_type, place)


def _read_as_llama(values: Mapping[str, Any], model_type: str | None, place: str) -> Architecture:
    """An unknown model type whose keys are all those of a llama, read as one and said so."""
    reader = family("llama")
    config = reader.config(values, place)
    missing = [key for key in LLAMA_KEYS if not config.has(key)]
    what = f"unknown model_type {model_type!r:.80}" if model_type else "no model_type"
    hint = nearest(model_type, MODULES) if model_type else ""
    if missing:
        raise InputError(f"{what}, and it cannot be read as a llama: {', '.join(missing)} missing{hint}", place=place)
    model = headed(config, reader.read(config))
    if (activation := config.text("hidden_act", "silu")) not in GATES:
        raise InputError(f"{what}, and it cannot be read as a llama: hidden_act {activation!r:.40} gates nothing", place=place)
    if other := foreign(config):
        raise InputError(f"{what}, and it cannot be read as a llama, which has no {other}{hint}", place=place)
    warning = f"{what}: read as a llama (gated MLP, RMSNorm, grouped attention); counts may differ from the real model"
    return replace(model, warnings=(*model.warnings, warning), model_type=model_type or "", guessed=warning)
