"""The header of a .safetensors file: names, formats, shapes and where the bytes lie; the data itself is never read.

A little-endian uint64 length, that many bytes of JSON, then the data of all tensors without gaps. Read here with `json`
rather than with the `safetensors` package, which needs a tensor library and opens whole files: a header is enough.
Source: huggingface/safetensors README, "Format"; limits and checks as in safetensors/src/tensor.rs.
"""

import json
import os
from collections.abc import Mapping
from math import prod
from typing import Any, TypeGuard

from memcalc.blocks.stored import StoredTensor
from memcalc.dtypes import NumberFormat, number_format
from memcalc.errors import InputError, one_line
from memcalc.readers.files import unique_object
from memcalc.readers.weights.source import MAX_TENSORS, OpenFile

MAX_HEADER = 100_000_000  # bytes; the format's own limit
MAX_DIMENSIONS = 32
MAX_METADATA = 100_000  # keys, and colons in their values; real files have some ten
MAX_BYTES = 2**63 - 1

# safetensors' own names of its formats (enum Dtype), as memcalc.dtypes spells them
FORMATS: Mapping[str, NumberFormat] = {
    name: number_format(name)
    for name in (
        "BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2",
        "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "I64", "U64", "F64",
    )
}  # fmt: skip


def read_header(source: OpenFile) -> tuple[list[StoredTensor], dict[str, str]]:
    """The tensors of one file in the order of their data, and its `__metadata__`."""
    length = int.from_bytes(source.read(8, "the length of the header"), "little")
    if not 2 <= length <= min(MAX_HEADER, source.left):
        raise source.error(
            f"not a safetensors file: its header would be {length:,} bytes long, but {source.left:,} bytes follow"
            f" (the format allows {MAX_HEADER:,})"
        )
    header = _parsed(source.read(length, "the header"), source)
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise source.error("__metadata__ must be an object of strings")
    file = os.path.basename(source.place)
    placed = sorted((_tensor(name, entry, file, source) for name, entry in header.items()), key=lambda pair: pair[:2])
    end = 0
    for start, stop, tensor in placed:
        if start != end:
            raise source.error(
                f"tensor {one_line(tensor.name, 80)} starts at byte {start:,} of the data, but that before it ends at {end:,}"
            )
        end = stop
    if end != source.left:
        raise source.error(f"the tensors fill {end:,} bytes of data, but the file holds {source.left:,}")
    return [tensor for _, _, tensor in placed], metadata


def _parsed(data: bytes, source: OpenFile) -> dict[str, Any]:
    """The header's JSON object. Its structure is counted first: a hostile one would take many times its length."""
    if not data.startswith(b"{"):
        raise source.error("not a safetensors file: its header is no JSON object")
    if data.count(b"{") > MAX_TENSORS + 2 or data.count(b"[") > 2 * MAX_TENSORS or data.count(b",") > 12 * MAX_TENSORS:
        raise source.error(f"its header describes more than {MAX_TENSORS:,} tensors")
    if data.count(b":") > 4 * data.count(b"{") + MAX_METADATA:
        raise source.error(f"its header holds more than {MAX_METADATA:,} keys that are no tensor's")
    try:
        header = json.loads(data.decode("utf-8"), object_pairs_hook=unique_object)
    except UnicodeDecodeError as error:
        raise source.error(f"the header is not UTF-8 text (byte {error.start})") from None
    except RecursionError:
        raise source.error("the header is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise source.error(f"the header is not JSON ({error.msg}, character {error.pos})") from None
    except ValueError as error:
        raise source.error(f"the header is not usable JSON ({one_line(str(error), 120)})") from None
    if not isinstance(header, dict):
        raise source.error("not a safetensors file: its header is no JSON object")
    return header


def _tensor(name: str, entry: Any, file: str, source: OpenFile) -> tuple[int, int, StoredTensor]:
    """(start, end, tensor) of one entry of the header."""

    def wrong(message: str) -> InputError:
        return source.error(f"tensor {one_line(name, 80)}: {message}")

    if not name.isprintable():  # also no half of a surrogate pair, which no output could write
        raise wrong("its name holds characters that cannot be printed")
    if not isinstance(entry, dict):
        raise wrong("must be an object with dtype, shape and data_offsets")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    found = FORMATS.get(dtype) if isinstance(dtype, str) else None
    if found is None:
        raise wrong(f"dtype {str(dtype)[:40]!r} is not one of {', '.join(FORMATS)}")
    if not _whole_numbers(shape) or len(shape) > MAX_DIMENSIONS:
        raise wrong(f"shape must be a list of whole numbers from 0 on, not {one_line(str(shape), 60)}")
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise wrong(f"data_offsets must be two whole numbers, not {one_line(str(offsets), 60)}")
    start, end = offsets
    elements = prod(shape)
    if elements > MAX_BYTES or elements * found.block_bytes % found.block_size:
        raise wrong(f"shape {one_line(str(shape), 60)} of {dtype} is no whole number of bytes that a file can hold")
    size = found.bytes_for(elements)
    if end - start != size:
        raise wrong(f"{dtype} of shape {one_line(str(shape), 60)} takes {size:,} bytes, not the {end - start:,} given")
    return start, end, StoredTensor(name, found.name, tuple(shape), size, file)


def _whole_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(each) is int and 0 <= each <= MAX_BYTES for each in value)
