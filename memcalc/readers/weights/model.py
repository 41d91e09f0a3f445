"""Weight files → an architecture as well: of a GGUF file from its metadata, of safetensors from the config.json beside it."""

import os
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

from memcalc.blocks.architecture import Architecture, Quantization
from memcalc.blocks.stored import LANGUAGE, PREDICTION, StoredTensor, StoredTensors
from memcalc.dtypes import number_format
from memcalc.errors import InputError, MemcalcError, Unsupported, one_line
from memcalc.readers.files import read_json_object
from memcalc.readers.hf import read_config
from memcalc.readers.weights import quantization, read_weights, weights_in
from memcalc.readers.weights.gguf_family import gguf_architecture

TOLERATED = 0.01  # share of the parameters by which a GGUF file may differ from its architecture, with a warning


class WeightFiles(NamedTuple):
    """What weight files hold, and the architecture behind it, or why there is none."""

    name: str
    stored: StoredTensors | None
    architecture: Architecture | None
    problem: MemcalcError | None


def read_weight_files(path: str) -> WeightFiles:
    """A weight file, a shard index or a folder of weights; the config.json beside it is read where there is one."""
    weights = weights_in(path) if os.path.isdir(path) else path
    folder = os.path.dirname(os.path.abspath(weights))
    config = os.path.join(folder, "config.json")
    values = {} if weights.endswith(".gguf") or not os.path.isfile(config) else read_json_object(config)
    stored = read_weights(weights, quantization(values))
    return joined(stored, values, config if values else weights, os.path.basename(folder))


def joined(stored: StoredTensors, values: Mapping[str, Any], place: str, folder: str) -> WeightFiles:
    """Tensors and the architecture that they belong to. `values`: of the config.json; empty for none."""
    name = folder
    if stored.kind == "gguf":
        title = stored.metadata.get("general.name")
        name = one_line(title, 80) if isinstance(title, str) and title.strip() else stored.files[0].removesuffix(".gguf")
    try:
        return WeightFiles(name, stored, reconciled(_architecture(stored, values, place), stored, place), None)
    except MemcalcError as error:
        return WeightFiles(name, stored, None, error)


def _architecture(stored: StoredTensors, values: Mapping[str, Any], place: str) -> Architecture:
    if stored.kind != "gguf":
        if not values:
            raise InputError("says nothing about layers and heads; the model's config.json is needed beside it", place=place)
        return read_config(values, place)
    found = gguf_architecture(stored, place)
    most = next(iter(stored.bytes_by_format))
    if number_format(most).kind == "block":
        return replace(found, quantization=Quantization(most))
    return replace(found, dtype=most)


def reconciled(architecture: Architecture, stored: StoredTensors, place: str) -> Architecture:
    """The architecture, with a warning where the file holds more or fewer weights than it describes.

    A GGUF file is the only witness of its own architecture, so one that is far off is refused: it was read wrongly.
    """
    warnings = stored.warnings
    if stored.parameters is None or not stored.tensors:
        return replace(architecture, warnings=(*architecture.warnings, *warnings))
    held = sum(tensor.parameters or 0 for tensor in stored.tensors if not _beside(tensor, architecture))
    extra = held - architecture.parameters
    # the router's correction is a buffer in most families, a frozen parameter in some (ERNIE 4.5)
    corrections = sum(prod(tensor.shape) for tensor in stored.tensors if not tensor.parameters and "exp_probs_b" in tensor.name)
    if extra not in (0, -corrections):
        what = f"{held:,} weights, {abs(extra):,} {'more' if extra > 0 else 'fewer'} than its architecture describes"
        if stored.kind == "gguf" and abs(extra) > TOLERATED * architecture.parameters:
            raise Unsupported(f"{place}: holds {what} ({architecture.model_type}): it cannot be read as that model")
        warnings += (f"the weight files hold {what}",)
    return replace(architecture, warnings=(*architecture.warnings, *warnings))


def _beside(tensor: StoredTensor, architecture: Architecture) -> bool:
    """Whether a tensor is none of the architecture's: of prediction layers, or a copy of a tied head."""
    depths = [stack.depth for part in architecture.parts if part.name == LANGUAGE for stack in part.stacks]
    predicts = tensor.part == LANGUAGE and tensor.layer is not None and bool(depths) and tensor.layer >= max(depths)
    tied = architecture.tied and tensor.role == "head" and len(tensor.shape) == 2
    return tensor.part == PREDICTION or predicts or tied
