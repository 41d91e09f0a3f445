"""MODEL on the command line → an architecture: a preset, a config.json, a weight file, a folder, or a parameter count."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from memcalc.blocks.architecture import Architecture
from memcalc.errors import InputError, MemcalcError
from memcalc.frozen import NamedTuple
from memcalc.readers.catalogue import Ambiguous, UnknownPreset, find_preset, read_preset, read_toml
from memcalc.readers.files import read_json_object
from memcalc.readers.hf import read_config
from memcalc.units import parse_count

if TYPE_CHECKING:  # headers are read only where weights are asked for
    from memcalc.blocks.stored import StoredTensors

STDIN = "-"  # a config.json on standard input
HUB = "hf://"  # hf://org/name[@revision]: the only spelling that goes over the network
WEIGHTS = (".safetensors", ".safetensors.index.json", ".gguf")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
FILES = (".json", *WEIGHTS, *PICKLES)  # endings of what is a path even without a folder
NULL_WHEN_0 = ("q_lora_rank",)  # a preset's TOML knows no null
_COUNT = re.compile(r"[\d.,_]+(e[+-]?\d+)?\s*[kKmMbBgGtT]?$")
MAX_PARAMETERS = 10**18


class Model(NamedTuple):
    """What was asked for: an architecture, or nothing but a parameter count.

    Only `read_contents` gives weights whose architecture is not known; `problem` says why then.
    """

    name: str
    architecture: Architecture | None
    parameters: int
    origin: str  # "preset", "config", "weights", "hub" or "count"
    source: str = ""
    stored: "StoredTensors | None" = None  # of weight files that were named; `stored_tensors` finds those beside a config
    problem: MemcalcError | None = None


def read_model(text: str, folders: Sequence[str] = ()) -> Model:
    """Find and read a model; an InputError says what was looked for when nothing is found."""
    found = _find(text, folders)
    if found.problem:
        raise found.problem
    return found


def read_contents(text: str, folders: Sequence[str] = ()) -> Model:
    """The same, with what its weight files hold, and without an architecture where nothing says it."""
    try:
        found = _find(text, folders)
    except MemcalcError as error:
        if (beside := _weights_beside(text)) is None:
            raise
        return Model(os.path.basename(os.path.dirname(os.path.abspath(_config_file(text)))), None, beside.parameters or 0,
                     "weights", text, beside, error)  # fmt: skip
    try:
        return checked(found, stored_tensors(found))
    except InputError as error:
        return found._replace(problem=error)


def checked(model: Model, stored: "StoredTensors | None") -> Model:
    """The model with its weights, and a warning where they are not those that its config describes."""
    if stored is None or model.architecture is None or model.origin != "config":
        return model._replace(stored=stored)
    from memcalc.readers.weights.reconcile import reconciled

    architecture = reconciled(model.architecture, stored)
    return model._replace(stored=stored, architecture=architecture, parameters=architecture.total)


def _weights_beside(text: str) -> "StoredTensors | None":
    """The tensors beside a config.json that cannot be read as a model; None where there are none to be read."""
    if text in (STDIN,) or text.startswith(HUB) or not _looks_like_path(text) or text.endswith(WEIGHTS):
        return None
    from memcalc.readers.weights import find_weights, quantization, read_with_towers

    try:
        config = _config_file(text)
        weights = find_weights(os.path.dirname(os.path.abspath(config)))
        return read_with_towers(weights, quantization(read_json_object(config))) if weights else None
    except MemcalcError:
        return None


def stored_tensors(model: Model) -> "StoredTensors | None":
    """What a model's own weight files hold, tensor by tensor: those that were named, or those beside its config.json.

    None for a preset, a bare count and a config without weights. Only headers are read.
    """
    if model.stored is not None or model.origin != "config" or model.source == "stdin":
        return model.stored
    from memcalc.readers.weights import find_weights, quantization, read_with_towers

    weights = find_weights(os.path.dirname(os.path.abspath(model.source)))
    return read_with_towers(weights, quantization(read_json_object(model.source))) if weights else None


def _find(text: str, folders: Sequence[str]) -> Model:
    if text.startswith(HUB):
        from memcalc.readers.hub import read_repository

        return _from_weights(text, "hub", *read_repository(text.removeprefix(HUB)))
    if text == STDIN:
        return _described(read_json_object(STDIN), "stdin", "config.json on stdin")
    if ("/" in text or ":" in text) and not os.path.exists(text) and not text.endswith(FILES):
        from memcalc.readers.names import foreign_name

        if name := foreign_name(text):
            return _named_elsewhere(text, name, folders)
    if _looks_like_path(text):
        return _from_path(text)
    if _COUNT.match(text):
        parameters = parse_count(text)
        if not 1 <= parameters <= MAX_PARAMETERS:
            raise InputError(f"{text!r:.40} parameters: between 1 and 1e18 are accepted", place="MODEL")
        return Model(text, None, parameters, "count")
    return read_model_preset(text, folders)


def _named_elsewhere(text: str, name: str, folders: Sequence[str]) -> Model:
    """The preset of a hub id, a hub address or an ollama tag; the network is never asked."""
    from memcalc.readers.names import ADDRESS, HUB_ID, stored_word

    of_hub = bool(HUB_ID.fullmatch(ADDRESS.sub("", text)))
    try:
        return read_model_preset(name, folders, exact=of_hub)
    except (UnknownPreset, Ambiguous) as error:
        problem = error
    if stored := stored_word(name):
        raise InputError(_stored_otherwise(text, *stored, folders), place="MODEL")
    if isinstance(problem, Ambiguous):
        raise problem
    _, _, hint = str(problem).partition(";")
    ask = f"; {HUB}{text} asks the hub" if of_hub and ADDRESS.sub("", text) == text else ""
    raise InputError(f"no file {text!r:.80}, and no preset of that name{';' * bool(hint)}{hint}{ask}", place="MODEL")


def _stored_otherwise(text: str, word: str, base: str, folders: Sequence[str]) -> str:
    """Why a name with a stored format in it is refused: what it is, and how to ask for it."""
    from memcalc.readers.names import weights_word

    weights = weights_word(word, base)
    said = f"--weights {weights}" if weights else "--weights (see `memcalc formats`)"
    try:
        path = find_preset("models", base, folders, exact=True)
    except InputError:
        return f"{text!r:.80} names a stored format ({word:.20}); give the model, and the format as {said}"
    known = os.path.basename(path).removesuffix(".toml")
    return f"{text!r:.80} names a stored format ({word:.20}): {known} with its weights stored so; give {known} {said}"


def read_config_values(text: str, folders: Sequence[str] = ()) -> dict[str, Any]:
    """The values of a model's config as written, unread: of its config.json, or of its preset's [architecture]."""
    if _looks_like_path(text):
        return read_json_object(_config_file(text))
    if _COUNT.match(text):
        raise InputError(f"{text!r:.40} is a parameter count; it has no config", place="MODEL")
    return _architecture_table(read_preset("models", text, folders), f"preset {text}")


def read_model_preset(name: str, folders: Sequence[str] = (), *, exact: bool = False) -> Model:
    """The model of a preset. `exact`: the beginning of its name is not enough."""
    preset = read_toml(find_preset("models", name, folders, exact=exact))
    place = f"preset {name}"
    values = _architecture_table(preset, place)
    title = str(preset.get("name", name))
    source = "; ".join(str(preset[key]) for key in ("source", "checked") if preset.get(key))
    architecture = read_config(values, place)
    context, doubt = preset.get("context"), preset.get("unverified")
    known = replace(
        architecture,
        name=title,
        notes=(*architecture.notes, f"not verified: {doubt}") if doubt else architecture.notes,
        dtype=str(preset.get("dtype") or architecture.dtype),
        context=context if isinstance(context, int) else architecture.context,
    )
    return Model(title, known, known.parameters, "preset", source)


def _architecture_table(preset: dict[str, Any], place: str) -> dict[str, Any]:
    values = preset.get("architecture")
    if not isinstance(values, dict):
        raise InputError("has no [architecture] table", place=place)
    null = preset.get("null", [])  # keys that are null in the config.json, for which TOML has no word
    if not isinstance(null, list) or not all(isinstance(key, str) and key not in values for key in null):
        raise InputError("null: must list keys that [architecture] does not have", place=place)
    return values | dict.fromkeys(null) | {key: None for key in NULL_WHEN_0 if values.get(key) == 0}


def _looks_like_path(text: str) -> bool:
    return os.sep in text or text.endswith(FILES) or os.path.exists(text)


def _config_file(path: str) -> str:
    """The config.json that a path names, holds, or has beside it where it is a weight file."""
    if path.endswith(WEIGHTS):
        path = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(path):
        return path
    config = os.path.join(path, "config.json")
    if not os.path.isfile(config):
        raise InputError("the folder holds no config.json", place=path)
    return config


def _from_path(path: str) -> Model:
    if path.lower().endswith(PICKLES):
        raise InputError("a pickle: opening it would run its code; give safetensors, GGUF or a config.json", place=path)
    if path.endswith(WEIGHTS) or (os.path.isdir(path) and not os.path.isfile(os.path.join(path, "config.json"))):
        from memcalc.readers.weights.model import read_weight_files

        return _from_weights(path, "weights", *read_weight_files(path))
    path = _config_file(path)
    folder = os.path.basename(os.path.dirname(os.path.abspath(path)))
    return _described(read_json_object(path), path, folder or "config.json")


def _described(values: dict[str, Any], source: str, name: str) -> Model:
    """The model of a config.json's values."""
    named = replace(read_config(values, source), name=name)
    return Model(name, named, named.parameters, "config", source)


def _from_weights(
    text: str, origin: str, name: str, stored: "StoredTensors | None", architecture: Architecture | None,
    problem: MemcalcError | None,
) -> Model:  # fmt: skip
    if architecture is None:
        return Model(name, None, (stored and stored.parameters) or 0, origin, text, stored, problem)
    named = replace(architecture, name=name)
    return Model(name, named, named.total, origin, text, stored)
