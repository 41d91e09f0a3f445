"""MODEL on the command line → an architecture: a preset, a config.json, a folder holding one, or a parameter count."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.errors import InputError, Unsupported
from memcalc.readers.catalogue import read_preset
from memcalc.readers.files import read_json_object
from memcalc.readers.hf import read_config
from memcalc.units import parse_count

_COUNT = re.compile(r"[\d.,_]+(e[+-]?\d+)?\s*[kKmMbBgGtT]?$")
MAX_PARAMETERS = 10**18


class Model(NamedTuple):
    """What was asked for: an architecture, or nothing but a parameter count."""

    name: str
    architecture: Architecture | None
    parameters: int
    origin: str  # "preset", "config" or "count"
    source: str = ""


def read_model(text: str, folders: Sequence[str] = ()) -> Model:
    """Find and read a model; an InputError says what was looked for when nothing is found."""
    if _looks_like_path(text):
        return _from_path(text)
    if _COUNT.match(text):
        parameters = parse_count(text)
        if not 1 <= parameters <= MAX_PARAMETERS:
            raise InputError(f"{text!r:.40} parameters: between 1 and 1e18 are accepted", place="MODEL")
        return Model(text, None, parameters, "count")
    return read_model_preset(text, folders)


def read_config_values(text: str, folders: Sequence[str] = ()) -> dict[str, Any]:
    """The values of a model's config as written, unread: of its config.json, or of its preset's [architecture]."""
    if _looks_like_path(text):
        return read_json_object(_config_file(text))
    if _COUNT.match(text):
        raise InputError(f"{text!r:.40} is a parameter count; it has no config", place="MODEL")
    return _architecture_table(read_preset("models", text, folders), f"preset {text}")


def read_model_preset(name: str, folders: Sequence[str] = ()) -> Model:
    preset = read_preset("models", name, folders)
    place = f"preset {name}"
    values = _architecture_table(preset, place)
    title, source = str(preset.get("name", name)), str(preset.get("source", ""))
    architecture = read_config(values, place)
    context = preset.get("context")
    known = replace(
        architecture,
        name=title,
        dtype=str(preset.get("dtype") or architecture.dtype),
        context=context if isinstance(context, int) else architecture.context,
    )
    return Model(title, known, known.parameters, "preset", source)


def _architecture_table(preset: dict[str, Any], place: str) -> dict[str, Any]:
    values = preset.get("architecture")
    if not isinstance(values, dict):
        raise InputError("has no [architecture] table", place=place)
    return values


def _looks_like_path(text: str) -> bool:
    return os.sep in text or text.endswith((".json", ".safetensors", ".gguf")) or os.path.exists(text)


def _config_file(path: str) -> str:
    """The config.json that a path names or holds."""
    if path.endswith((".safetensors", ".gguf")):
        raise Unsupported(f"{path}: reading tensor files is not supported yet; give the config.json beside it")
    if not os.path.isdir(path):
        return path
    config = os.path.join(path, "config.json")
    if not os.path.isfile(config):
        raise InputError("the folder holds no config.json", place=path)
    return config


def _from_path(path: str) -> Model:
    path = _config_file(path)
    architecture = read_config(read_json_object(path), path)
    folder = os.path.basename(os.path.dirname(os.path.abspath(path)))
    named = replace(architecture, name=folder or "config.json")
    return Model(named.name, named, named.parameters, "config", path)
