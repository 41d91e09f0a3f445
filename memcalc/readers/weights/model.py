"""Weight files → an architecture as well: of a GGUF file from its metadata, of safetensors from the config.json beside it."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Quantization
from memcalc.blocks.stored import StoredTensors
from memcalc.dtypes import number_format
from memcalc.errors import InputError, MemcalcError, one_line
from memcalc.frozen import NamedTuple
from memcalc.readers.files import read_json_object
from memcalc.readers.hf import read_config
from memcalc.readers.weights import quantization, read_weights, read_with_towers, weights_in
from memcalc.readers.weights.gguf_family import gguf_architecture
from memcalc.readers.weights.gguf_tower import is_tower, tower, tower_parts
from memcalc.readers.weights.reconcile import reconciled


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
    read = read_weights if path == weights else read_with_towers
    stored = read(weights, quantization(values))
    return joined(stored, values, config if values else weights, os.path.basename(folder))


def joined(stored: StoredTensors, values: Mapping[str, Any], place: str, folder: str) -> WeightFiles:
    """Tensors and the architecture that they belong to. `values`: of the config.json; empty for none."""
    name = folder
    if stored.kind == "gguf":
        title = stored.metadata.get("general.name")
        name = one_line(title, 80) if isinstance(title, str) and title.strip() else stored.files[0].removesuffix(".gguf")
    try:
        return WeightFiles(name, stored, reconciled(_architecture(stored, values, place), stored), None)
    except MemcalcError as error:
        return WeightFiles(name, stored, None, error)


def _architecture(stored: StoredTensors, values: Mapping[str, Any], place: str) -> Architecture:
    if stored.kind != "gguf":
        if not values:
            raise InputError("says nothing about layers and heads; the model's config.json is needed beside it", place=place)
        return read_config(values, place)
    found = tower(stored, place) if is_tower(stored) else gguf_architecture(stored, place)
    if not is_tower(stored) and (towers := tower_parts(stored.tensors)):
        from memcalc.blocks.image_tower import unbuffered

        found = replace(found, parts=(*found.parts, *towers), notes=(*found.notes, *unbuffered(stored)))
    most = next(iter(stored.decoder.bytes_by_format or stored.bytes_by_format))
    if number_format(most).kind == "block":
        return replace(found, quantization=Quantization(most))
    return replace(found, dtype=most)
