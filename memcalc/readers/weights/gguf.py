"""The header of a .gguf file: its key-value metadata and its tensors; tokenizer tables are counted, not kept.

Read here with `struct` rather than with the `gguf` package, which needs NumPy and maps whole files: a header is enough.
Source: ggml docs/gguf.md (versions 2 and 3, either byte order); types as in ggml/include/ggml.h.
"""

import os
from collections.abc import Mapping
from math import prod
from struct import calcsize, unpack
from typing import Any

from memcalc.blocks.stored import StoredTensor
from memcalc.dtypes import number_format
from memcalc.errors import one_line
from memcalc.frozen import NamedTuple
from memcalc.readers.weights.source import MAX_TENSORS, OpenFile

MAGIC = b"GGUF"
MAX_HEADER = 128 * 2**20  # bytes; vocabularies and merges of large tokenizers take some ten MB
MAX_KEYS = 2048  # real files have some fifty
MAX_NAME = 65_535  # bytes of a key, as the format says
MAX_TENSOR_NAME = 1024  # bytes; ggml itself keeps 64
MAX_DIMENSIONS = 4
MAX_KEPT = 2048  # entries of an array whose values are kept: one a layer is what a model's own keys need
MAX_TEXT = 4096  # bytes of a string whose value is kept: names, not chat templates
CHUNK = 2**20
ALIGNMENT = 32

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9

# enum ggml_type → memcalc.dtypes; 4, 5, 31 to 33 and 36 to 38 are retired, 9 and 15 are never in a file
TYPES: Mapping[int, str] = {
    0: "fp32", 1: "fp16", 2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0",
    10: "q2_k", 11: "q3_k", 12: "q4_k", 13: "q5_k", 14: "q6_k",
    16: "iq2_xxs", 17: "iq2_xs", 18: "iq3_xxs", 19: "iq1_s", 20: "iq4_nl", 21: "iq3_s", 22: "iq2_s", 23: "iq4_xs",
    24: "int8", 25: "int16", 26: "int32", 27: "int64", 28: "fp64", 29: "iq1_m", 30: "bf16", 34: "tq1_0", 35: "tq2_0",
    39: "mxfp4", 40: "nvfp4_gguf", 41: "q1_0", 42: "q2_0",
}  # fmt: skip


class Long(NamedTuple):
    """An array or a text too long to keep: its number of entries or bytes."""

    length: int


class _Reader(NamedTuple):
    """A source read in one byte order."""

    source: OpenFile
    order: str  # "<" or ">"

    def check_length(self) -> None:
        if self.source.file.tell() > MAX_HEADER:
            raise self.source.error(f"its header is longer than {MAX_HEADER // 2**20} MiB")

    def number(self, code: str, what: str) -> Any:
        packed = self.order + code
        return unpack(packed, self.source.read(calcsize(packed), what))[0]

    def text(self, what: str, most: int) -> str:
        length = self.number("Q", what)
        if length > most:
            raise self.source.error(f"{what} is {length:,} bytes long; at most {most:,} are accepted")
        try:
            return self.source.read(length, what).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.source.error(f"{what} is not UTF-8 text (byte {error.start})") from None

    def skip(self, length: int, what: str) -> None:
        if length > self.source.left:
            raise self.source.error(f"truncated: {what} needs {length:,} bytes, {self.source.left:,} are left")
        self.source.file.seek(length, os.SEEK_CUR)


def read_header(source: OpenFile) -> tuple[list[StoredTensor], dict[str, Any]]:
    """The tensors of one file in the order of its header, and its metadata."""
    if source.left < 24 or source.read(4, "the magic") != MAGIC:
        raise source.error("not a GGUF file: it does not begin with GGUF and a version")
    version = source.read(4, "the version")
    order = "<" if version[:2] != b"\0\0" else ">"
    reader = _Reader(source, order)
    number = int.from_bytes(version, "little" if order == "<" else "big")
    if number not in (2, 3):
        raise source.error(f"GGUF version {number} is not supported; versions 2 and 3 are")
    tensors, pairs = reader.number("Q", "the number of tensors"), reader.number("Q", "the number of keys")
    # a key takes at least 13 bytes and a tensor 24: counts beyond that lie, whatever follows
    if tensors > MAX_TENSORS or pairs > MAX_KEYS:
        raise source.error(
            f"claims {tensors:,} tensors and {pairs:,} keys; at most {MAX_TENSORS:,} and {MAX_KEYS:,} are accepted"
        )
    if tensors > source.left // 24 or pairs > source.left // 13:
        raise source.error(f"claims {tensors:,} tensors and {pairs:,} keys, which a file of {source.size:,} bytes cannot hold")
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        reader.check_length()
        key = reader.text("a key", MAX_NAME)
        if key in metadata:
            raise source.error(f"the key {one_line(key, 80)} stands twice")
        metadata[key] = _value(reader, reader.number("I", "a value's type"), f"the value of {one_line(key, 80)}")
    file = os.path.basename(source.place)
    placed = [_tensor(reader, file) for _ in range(tensors)]
    reader.check_length()
    _check_data(source, placed, metadata)
    return [tensor for _, tensor in placed], metadata


def _value(reader: _Reader, kind: int, what: str) -> Any:
    if kind in SCALARS:
        return reader.number(SCALARS[kind], what)
    if kind == STRING:
        length = reader.number("Q", what)
        if length > MAX_TEXT:
            reader.skip(length, what)
            return Long(length)
        return reader.source.read(length, what).decode("utf-8", "replace")
    if kind == ARRAY:
        return _array(reader, what)
    raise reader.source.error(f"{what} is of the unknown type {kind}")


def _array(reader: _Reader, what: str) -> list[Any] | Long:
    kind, length = reader.number("I", what), reader.number("Q", what)
    if kind in SCALARS:
        each = calcsize(reader.order + SCALARS[kind])
        if length > MAX_KEPT:
            reader.skip(length * each, what)
            return Long(length)
        packed = reader.source.read(length * each, what)
        return list(unpack(f"{reader.order}{length}{SCALARS[kind]}", packed))
    if kind != STRING:  # ggml reads no arrays of arrays either
        raise reader.source.error(f"{what} is an array of the unknown type {kind}")
    if length > reader.source.left // 8:
        raise reader.source.error(f"{what} claims {length:,} entries, which {reader.source.left:,} bytes cannot hold")
    _skip_strings(reader, length, what)
    return Long(length)


def _skip_strings(reader: _Reader, count: int, what: str) -> None:
    """Past so many strings, in chunks: a vocabulary has a hundred thousand and more."""
    source, order = reader.source, "little" if reader.order == "<" else "big"
    while count:
        start = source.file.tell()
        chunk = source.read(min(CHUNK, source.left), what)
        at, last = 0, len(chunk) - 8
        while count and at <= last:
            at += 8 + int.from_bytes(chunk[at : at + 8], order)  # type: ignore[arg-type]
            count -= 1
        if start + at > source.size or (count and not at):
            raise source.error(f"truncated: {what} goes beyond the end of the file")
        source.file.seek(start + at)


def _tensor(reader: _Reader, file: str) -> tuple[int, StoredTensor]:
    """(offset into the data, tensor); GGUF writes dimensions innermost first."""
    name = reader.text("a tensor's name", MAX_TENSOR_NAME)
    shown = f"tensor {one_line(name, 80)}"
    if not name.isprintable():
        raise reader.source.error(f"{shown}: its name holds characters that cannot be printed")
    dimensions = reader.number("I", shown)
    if dimensions > MAX_DIMENSIONS:
        raise reader.source.error(f"{shown} has {dimensions:,} dimensions; at most {MAX_DIMENSIONS} are accepted")
    shape = tuple(reader.number("Q", shown) for _ in range(dimensions))[::-1]
    kind, offset = reader.number("I", shown), reader.number("Q", shown)
    if kind not in TYPES:
        raise reader.source.error(f"{shown} is of the unknown ggml type {kind}")
    stored, elements = number_format(TYPES[kind]), prod(shape)
    row = shape[-1] if shape else 1
    if row % stored.block_size:
        raise reader.source.error(f"{shown}: rows of {row:,} are no whole {stored.name} blocks of {stored.block_size}")
    return offset, StoredTensor(name, stored.name, shape, stored.bytes_for(elements), file)


def _check_data(source: OpenFile, placed: list[tuple[int, StoredTensor]], metadata: Mapping[str, Any]) -> None:
    """Each tensor's bytes lie in the file, aligned, and no two share any."""
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or not 1 <= alignment <= 2**20 or alignment & (alignment - 1):
        raise source.error(f"general.alignment must be a power of two up to 1 MiB, not {one_line(str(alignment), 40)}")
    base = -(-source.file.tell() // alignment) * alignment
    names: set[str] = set()
    end = 0
    for offset, tensor in sorted(placed):
        shown = f"tensor {one_line(tensor.name, 80)}"
        if tensor.name in names:
            raise source.error(f"{shown} stands twice")
        names.add(tensor.name)
        if offset % alignment:
            raise source.error(f"{shown} starts at byte {offset:,} of the data, which is no multiple of {alignment}")
        if offset < end:
            raise source.error(f"{shown} starts at byte {offset:,} of the data, but the tensor before it ends at {end:,}")
        if offset > -(-end // alignment) * alignment:
            raise source.error(f"{shown} starts at byte {offset:,} of the data, after a gap from {end:,} on")
        end = offset + tensor.bytes
    if end and base + end > source.size:  # a vocabulary alone needs no padding
        raise source.error(f"truncated: its tensors reach to byte {base + end:,}, but the file has {source.size:,}")
