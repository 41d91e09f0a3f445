"""Weight files → StoredTensors, from their headers alone.

`.safetensors` (one file or shards), `.gguf` (one file or a split set), a shard index, or a folder that holds one of these.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from memcalc.blocks.stored import LANGUAGE, PREDICTION, StoredTensor, StoredTensors
from memcalc.errors import InputError, one_line
from memcalc.readers.files import read_json_object
from memcalc.readers.weights import gguf, safetensors
from memcalc.readers.weights.gguf_tower import TOWER, part_of
from memcalc.readers.weights.packing import described
from memcalc.readers.weights.source import OpenFile, opened

INDEX = ".safetensors.index.json"
MAX_INDEX_BYTES = 64 * 2**20  # that of a model of a hundred thousand tensors is 10 MB
MAX_SHARDS = 10_000
NAMED = 5  # files that an error lists
TOWERS = "mmproj"  # what the name of a GGUF file of image and sound towers holds
# GGUF files beside a model (llama.cpp common/download.cpp, gguf_filename_is_model)
BESIDE = (TOWERS, "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")
_BITS = re.compile(r"(?:IQ|TQ|Q|BF|F|MXFP|NVFP)(\d+)", re.IGNORECASE)
_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.safetensors|\.gguf)$", re.DOTALL)
# GGUF names the projections of a gated delta net as attention's and its convolution as a state space's; these are its own
DELTA_RULE = re.compile(r"\.ssm_(?:ba|alpha|beta)\.")
_HEADERS = {".safetensors": safetensors.read_header, ".gguf": gguf.read_header}


def read_weights(path: str, quantization: Mapping[str, Any] | None = None) -> StoredTensors:
    """All tensors of a weight file, of the whole set when it is one of several, or of the weights in a folder.

    `quantization`: the `quantization_config` of the config.json beside it, for packings that do not say their own width.
    """
    path = weights_in(path) if os.path.isdir(path) else path
    index = path if path.endswith(INDEX) else index_of(path)
    if index == path or os.path.isfile(index):
        folder = os.path.dirname(index)
        return read_index(
            read_json_object(index, MAX_INDEX_BYTES),
            index,
            lambda name: os.path.isfile(os.path.join(folder, name)),
            lambda names: read_sources([os.path.join(folder, name) for name in names], opened, quantization),
        )
    shards = shard_names(path)
    if os.path.isfile(path):
        check_complete(shards, os.path.isfile, path)
    return read_sources(shards if os.path.isfile(path) else [path], opened, quantization)


def weights_in(folder: str) -> str:
    """The file that stands for the weights in a folder: an index, the only file, or the first of the only set."""
    found = find_weights(folder)
    if found is None:
        raise InputError("holds no config.json, no safetensors and no GGUF file (pickles are never opened)", place=folder)
    return found


def find_weights(folder: str) -> str | None:
    """The same, or None where the folder holds no weights that can be read."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", place=folder) from None
    name = choose(names, folder)
    return name and os.path.join(folder, name)


def choose(names: Iterable[str], place: str) -> str | None:
    """Which of the files in one folder stands for its weights."""
    listed = sorted(name for name in names if name.endswith((INDEX, *_HEADERS)))
    listed = [name for name in listed if not name.endswith(".gguf") or not any(word in name for word in BESIDE)] or listed
    for usual in (f"model{INDEX}", "model.safetensors"):
        if usual in listed:
            return usual
    for suffix in (INDEX, *_HEADERS):
        sets = {shard_names(name)[0]: name for name in reversed(listed) if name.endswith(suffix)}
        if len(sets) > 1:
            shown = ", ".join(one_line(name, 60) for name in sorted(sets.values())[:NAMED]) + (
                ", …" if len(sets) > NAMED else ""
            )
            raise InputError(f"holds several weight files ({shown}); name one of them", place=place)
        if sets:
            return next(iter(sets.values()))
    return None


def choose_tower(names: Iterable[str], model: str) -> str | None:
    """The mmproj file that llama.cpp takes beside a GGUF model in the same folder: that of the nearest bits a weight."""
    if not model.endswith(".gguf") or TOWERS in model:
        return None
    found = sorted(name for name in names if name.endswith(".gguf") and TOWERS in name)
    return min(found, key=lambda name: abs(_bits(name) - _bits(model)), default=None)


def _bits(name: str) -> int:
    found = _BITS.findall(name)
    return int(found[-1][:3]) if found else 0


def read_with_towers(path: str, quantization: Mapping[str, Any] | None = None) -> StoredTensors:
    """All tensors of the weights that stand for a folder: with those of its mmproj file, where it has one."""
    stored, folder = read_weights(path, quantization), os.path.dirname(os.path.abspath(path))
    towers = choose_tower(os.listdir(folder), os.path.basename(path))
    return with_tower(stored, read_weights(os.path.join(folder, towers))) if towers else stored


def with_tower(stored: StoredTensors, towers: StoredTensors) -> StoredTensors:
    """A decoder and the image and sound towers beside it, with what their file says of them."""
    said = {key: value for key, value in towers.metadata.items() if key.startswith("clip.")}
    return replace(stored, tensors=(*stored.tensors, *towers.tensors), files=(*stored.files, *towers.files),
                   metadata={**said, **stored.metadata}, warnings=(*stored.warnings, *towers.warnings))  # fmt: skip


def quantization(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a config.json says that its checkpoint is packed."""
    found = config.get("quantization_config") or config.get("compression_config")
    return found if isinstance(found, Mapping) else {}


def assembled(
    kind: str,
    parts: Iterable[tuple[str, list[StoredTensor], dict[str, Any]]],
    quantization: Mapping[str, Any] | None = None,
    warnings: tuple[str, ...] = (),
) -> StoredTensors:
    """One value from the headers of all files: (file, tensors, metadata) each; the first file's metadata is the model's."""
    tensors: list[StoredTensor] = []
    files: list[str] = []
    metadata: dict[str, Any] = {}
    for file, found, its_metadata in parts:
        tensors += found
        metadata = metadata or its_metadata
        files.append(os.path.basename(file))
    first_in: dict[str, str] = {}
    for tensor in tensors:
        if first_in.setdefault(tensor.name, tensor.file) != tensor.file:
            raise InputError(f"tensor {one_line(tensor.name, 80)} is also in {first_in[tensor.name]}", place=tensor.file)
    known = tuple(described(tensors, quantization))
    if kind == "gguf":
        known = tuple(_in_part(tensor, metadata.get("general.architecture") == TOWER) for tensor in known)
    if linear := {tensor.layer for tensor in known if DELTA_RULE.search(tensor.name)}:
        known = tuple(_of_delta_net(tensor) if tensor.layer in linear else tensor for tensor in known)
    unknown = sum(tensor.parameters is None for tensor in known)
    if unknown:
        warnings += (f"{unknown:,} tensors hold packed codes of a width that nothing says: parameters are not counted",)
    return StoredTensors(kind, known, tuple(files), metadata, warnings=warnings)


def _in_part(tensor: StoredTensor, tower: bool) -> StoredTensor:
    """A GGUF file holds a decoder, with its prediction layers, or towers."""
    part = part_of(tensor.name) if tower else tensor.part if tensor.part == PREDICTION else LANGUAGE
    return tensor if part == tensor.part else tensor._replace(part=part)


def _of_delta_net(tensor: StoredTensor) -> StoredTensor:
    return tensor._replace(role="linear-attention") if tensor.role in ("attention", "state-space") else tensor


def read_sources(
    names: Sequence[str],
    open_: Callable[[str], AbstractContextManager[OpenFile]],
    quantization: Mapping[str, Any] | None = None,
) -> StoredTensors:
    """The headers of all files of one model; `open_` gives a file by its name."""
    suffix = os.path.splitext(names[0])[1]
    read = _HEADERS.get(suffix)
    if read is None:
        raise InputError("neither a .safetensors nor a .gguf file", place=names[0])

    def header(name: str) -> tuple[str, list[StoredTensor], dict[str, Any]]:
        with open_(name) as source:
            return name, *read(source)

    return assembled(suffix[1:], map(header, names), quantization)


def read_index(
    index: Mapping[str, Any], place: str, there: Callable[[str], bool], read: Callable[[Sequence[str]], StoredTensors]
) -> StoredTensors:
    """The shards that an index names, by `read`; where none is `there`, what the index itself declares."""
    shards, count = index_shards(index, place)
    if not any(map(there, shards)):
        return _declared(index, place, shards, count)
    check_complete(shards, there, place)
    stored = read(shards)
    if count == len(stored.tensors):
        return stored
    warning = f"the index lists {count:,} tensors, the shards hold {len(stored.tensors):,}"
    return replace(stored, warnings=(*stored.warnings, warning))


def index_shards(index: Mapping[str, Any], place: str) -> tuple[list[str], int]:
    """Shard files that an index names, in order, and how many tensors it lists. A name cannot leave the index's folder."""
    mapping = index.get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise InputError("holds no weight_map from tensors to files", place=place)
    names = list(dict.fromkeys(name if isinstance(name, str) else str(name) for name in mapping.values()))
    for name in names:
        if not name.endswith(".safetensors") or name.startswith(".") or re.search(r"[/\\\0:]", name) or not name.isprintable():
            raise InputError(f"weight_map names {name[:60]!r}, which is no .safetensors file beside it", place=place)
    if len(names) > MAX_SHARDS:
        raise InputError(f"weight_map names {len(names):,} files; at most {MAX_SHARDS:,} are accepted", place=place)
    return sorted(names), len(mapping)


def _declared(index: Mapping[str, Any], place: str, shards: list[str], count: int) -> StoredTensors:
    """What an index says of shards that are not there."""
    metadata = index.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    size, parameters = (_count(metadata, key, place) for key in ("total_size", "total_parameters"))
    warning = (
        f"the {len(shards):,} shards that the index names are not there: formats, shapes and roles of its {count:,} tensors"
        f" are not known, only its totals"
    )
    if size is None:
        raise InputError("names shards that are not there, and its metadata has no total_size", place=place)
    return StoredTensors("safetensors", (), tuple(shards), metadata, size, parameters, (warning,))


def _count(metadata: Mapping[str, Any], key: str, place: str) -> int | None:
    value = metadata.get(key)
    value = int(value) if isinstance(value, float) and value.is_integer() else value  # some tools write 1.4e10
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 2**63:
        raise InputError(f"metadata.{key} must be a number of bytes or parameters, not {one_line(str(value), 40)}", place=place)
    return value


def shard_names(path: str) -> list[str]:
    """All files of the set that a name like model-00002-of-00005.gguf belongs to; of any other name the file itself."""
    found = _SHARD.match(path)
    if not found:
        return [path]
    count = int(found["count"])
    if not 1 <= int(found["number"]) <= count <= MAX_SHARDS:
        return [path]
    return [f"{found['stem']}-{i:05}-of-{count:05}{found['suffix']}" for i in range(1, count + 1)]


def check_complete(shards: Sequence[str], there: Callable[[str], bool], place: str) -> None:
    missing = [shard for shard in shards if not there(shard)]
    if missing:
        first = os.path.basename(missing[0])
        raise InputError(f"{len(missing)} of its {len(shards)} shards are missing, {first} the first", place=place)


def index_of(shard: str) -> str:
    """The index that would list a shard of that name; empty for a file that is no shard."""
    found = _SHARD.match(shard)
    return f"{found['stem']}{INDEX}" if found and found["suffix"] == ".safetensors" else ""
