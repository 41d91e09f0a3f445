"""Weight files that are truncated, lie or attack: one clear line each, in bounded time and memory."""

import json
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from memcalc.errors import MemcalcError
from memcalc.readers.weights import read_weights
from memcalc.readers.weights.model import read_weight_files

ONE_LINE = 600  # characters; the longest message with a long path


def refused(path: Path, content: bytes) -> str:
    """The message of the refusal of such a file."""
    path.write_bytes(content)
    with pytest.raises(MemcalcError) as refusal:
        read_weights(str(path))
    message = str(refusal.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    assert len(message) < ONE_LINE
    return message


# --- safetensors ------------------------------------------------------------------------------------------------------


def framed(header: Any, data: int = 0) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


SAFETENSORS: list[tuple[bytes, str]] = [
    (b"", "truncated"),
    (b"\1\0\0", "truncated"),
    (b"PK\3\4 a zip archive, as pickles are", "not a safetensors file"),
    ((2**63).to_bytes(8, "little") + b"{}", "not a safetensors file"),
    ((100).to_bytes(8, "little") + b"{}", "not a safetensors file"),
    ((0).to_bytes(8, "little") + b"{}", "not a safetensors file"),
    (framed(b"[1, 2]"), "no JSON object"),
    (framed(b"{ "), "not JSON"),
    (framed(b'{"a": \xff}'), "not UTF-8"),
    (framed(b'{"a":' + b"[" * 100_000), "nested too deeply"),
    (framed(b'{"a": ' + b"9" * 5000 + b"}"), "not usable JSON"),
    (framed(b'{"a": {"dtype": "F32", "dtype": "F16"}}'), "the key dtype stands twice"),
    (framed(b'{"a": {}, "a": {}}'), "the key a stands twice"),
    (framed(b'{"__metadata__": {"format": 3}}'), "__metadata__ must be"),
    (framed({"__metadata__": {str(number): "" for number in range(100_010)}}), "keys that are no tensor's"),
    (framed({"a": 3}), "must be an object"),
    (framed({"a": {}}), "dtype"),
    (framed({"a": entry("F33")}, 8), "dtype 'F33' is not one of"),
    (framed({"a": entry(["F32"])}, 8), "is not one of"),
    (framed({"a": entry(shape=(-2,))}, 8), "shape must be"),
    (framed({"a": entry(shape=(2.0,))}, 8), "shape must be"),
    (framed({"a": entry(shape=(True,))}, 8), "shape must be"),
    (framed({"a": entry(shape="2")}, 8), "shape must be"),
    (framed(b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}}', 8), "shape must be"),
    (framed(b'{"a": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 8]}}', 8), "shape must be"),
    (framed({"a": entry(shape=(2**62, 2**62))}, 8), "no whole number of bytes"),
    (framed({"a": entry(shape=(1,) * 100)}, 8), "shape must be"),
    (framed({"a": entry("F4", (3,))}, 8), "no whole number of bytes"),
    (framed({"a": entry(offsets=(0, 4))}, 8), "takes 8 bytes, not the 4"),
    (framed({"a": entry(offsets=(8, 0))}, 8), "takes 8 bytes, not the -8"),
    (framed({"a": entry(offsets=(0,))}, 8), "data_offsets must be two"),
    (framed({"a": entry(offsets=(-8, 0))}, 8), "data_offsets must be two"),
    (framed({"a": entry(), "b": entry()}, 8), "but that before it ends at 8"),
    (framed({"a": entry(), "b": entry(offsets=(12, 20))}, 20), "starts at byte 12"),
    (framed({"a": entry()}, 4), "the tensors fill 8 bytes of data, but the file holds 4"),
    (framed({"a": entry()}, 12), "the tensors fill 8 bytes of data, but the file holds 12"),
    (framed({"\x1b[31m": entry()}, 8), "cannot be printed"),
    (framed(b'{"\\ud800": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', 8), "cannot be printed"),
    (framed(b"{" + b'"a":{},' * 600_000 + b'"b":{}}'), "more than 500,000 tensors"),
]


@pytest.mark.parametrize(("content", "message"), SAFETENSORS, ids=range(len(SAFETENSORS)))
def test_a_broken_safetensors_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in refused(tmp_path / "model.safetensors", content)


# --- GGUF -------------------------------------------------------------------------------------------------------------


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def head(tensors: int = 0, keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def pair(kind: int, value: bytes, key: bytes = b"k") -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def info(name: bytes = b"t", shape: tuple[int, ...] = (8,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def array(kind: int, length: int, rest: bytes = b"") -> bytes:
    return pair(9, struct.pack("<IQ", kind, length) + rest)


GGUF: list[tuple[bytes, str]] = [
    (b"", "not a GGUF file"),
    (b"GGUF", "not a GGUF file"),
    (b"GGJT" + bytes(40), "not a GGUF file"),
    (head(version=1) + bytes(8), "version 1 is not supported"),
    (head(version=99) + bytes(8), "version 99 is not supported"),
    (head(tensors=10**12), "claims 1,000,000,000,000 tensors"),
    (head(keys=10**12), "1,000,000,000,000 keys"),
    (head(tensors=2**64 - 1), "at most 500,000"),
    (head(tensors=400_000), "cannot hold"),
    (head(keys=1) + struct.pack("<Q", 2**60) + bytes(20), "bytes long"),
    (head(keys=1) + pair(8, struct.pack("<Q", 2**60)), "needs 1,152,921,504,606,846,976 bytes"),
    (head(keys=1) + pair(77, bytes(8)), "unknown type 77"),
    (head(keys=1) + array(4, 2**61), "needs"),
    (head(keys=1) + array(8, 2**61), "claims 2,305,843,009,213,693,952 entries"),
    (head(keys=1) + array(8, 2, text(b"a") + struct.pack("<Q", 2**63)), "beyond the end"),
    (head(keys=1) + array(8, 3, text(b"a") * 2 + bytes(7)), "truncated"),
    (head(keys=1) + array(9, 1, bytes(12)), "array of the unknown type 9"),
    (head(keys=1) + array(77, 1, bytes(8)), "array of the unknown type 77"),
    (head(keys=1) + text(b"\xff") + bytes(20), "not UTF-8"),
    (head(keys=2) + pair(4, bytes(4)) * 2, "the key k stands twice"),
    (head(tensors=1) + info(b"\xff") + bytes(64), "not UTF-8"),
    (head(tensors=1) + info(b"\x1b[31m") + bytes(64), "cannot be printed"),
    (head(tensors=1) + info(shape=(1,) * 5) + bytes(64), "5 dimensions"),
    (head(tensors=1) + text(b"t") + struct.pack("<I", 2**31) + bytes(64), "2,147,483,648 dimensions"),
    (head(tensors=1) + info(kind=4) + bytes(64), "unknown ggml type 4"),
    (head(tensors=1) + info(kind=12, shape=(100,)) + bytes(64), "no whole q4_k blocks of 256"),
    (head(tensors=1) + info(shape=(2**63, 2**63, 2**63)), "truncated"),
    (head(tensors=1) + info(), "truncated"),
    (head(tensors=1) + info(offset=8) + bytes(64), "no multiple of 32"),
    (head(tensors=1) + info(offset=2**40) + bytes(64), "after a gap"),
    (head(tensors=2) + info() + info(b"u") + bytes(128), "but the tensor before it ends at 32"),
    (head(tensors=2) + info() + info(offset=32) + bytes(128), "tensor t stands twice"),
    (head(keys=1) + pair(4, struct.pack("<I", 3), b"general.alignment"), "power of two"),
    (head(keys=1) + pair(8, text(b"x"), b"general.alignment"), "power of two"),
    (head(keys=3000) + pair(4, bytes(4)) * 3000, "3,000 keys"),
]


@pytest.mark.parametrize(("content", "message"), GGUF, ids=range(len(GGUF)))
def test_a_broken_gguf_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in refused(tmp_path / "model.gguf", content)


# --- whatever comes ---------------------------------------------------------------------------------------------------

GOOD_SAFETENSORS = framed({"a.weight": entry(), "model.layers.3.b": entry("I8", (4,), (8, 12)), "__metadata__": {"x": "y"}}, 12)
GOOD_GGUF = (
    head(tensors=2, keys=3) + pair(8, text(b"llama"), b"general.architecture") + pair(4, bytes(4), b"llama.block_count")
    + array(8, 2, text(b"a") + text(b"bc")) + info(b"token_embd.weight", (4, 2)) + info(b"blk.0.attn_q.weight", (32,), 8, 32)
    + bytes(100)
)  # fmt: skip


@pytest.mark.parametrize(("suffix", "good"), [("safetensors", GOOD_SAFETENSORS), ("gguf", GOOD_GGUF)])
def test_every_truncation_is_refused(tmp_path: Path, suffix: str, good: bytes) -> None:
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(good)
    stored = read_weights(str(path))
    assert len(stored.tensors) == 2
    needed = len(good) - (31 if suffix == "gguf" else 0)  # the last tensor's padding may be missing
    for length in range(0, needed - (20 if suffix == "gguf" else 0), 1):
        refused(path, good[:length])


Edit = tuple[int, int]


def mutated(good: bytes, edits: list[Edit]) -> bytes:
    content = bytearray(good)
    for position, value in edits:
        content[position % len(content)] = value
    return bytes(content)


def survives(path: Path, content: bytes) -> None:
    """Read or refused in one line, never anything else; what is read adds up."""
    path.write_bytes(content)
    stored, problem = None, None
    try:
        _, stored, _, problem = read_weight_files(str(path))
    except MemcalcError as error:
        problem = error
    assert stored or problem
    assert problem is None or str(problem).isprintable()
    assert sum(tensor.bytes for tensor in (stored.tensors if stored else ())) <= len(content)


edits = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6)
relaxed = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@relaxed
@given(edits=edits)
def test_changed_safetensors_bytes(tmp_path: Path, edits: list[Edit]) -> None:
    survives(tmp_path / "model.safetensors", mutated(GOOD_SAFETENSORS, edits))


@relaxed
@given(edits=edits)
@example(edits=[(136, 47)])  # a single number in blocks
def test_changed_gguf_bytes(tmp_path: Path, edits: list[Edit]) -> None:
    survives(tmp_path / "model.gguf", mutated(GOOD_GGUF, edits))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
entries = st.fixed_dictionaries(
    {},
    optional={"dtype": st.sampled_from(["F32", "I8", "F4"]) | json_values, "shape": json_values, "data_offsets": json_values},
)


@relaxed
@given(header=st.dictionaries(st.text(max_size=8), entries | json_values, max_size=4), data=st.integers(0, 40))
@example(header={"": {"dtype": "I8", "shape": [], "data_offsets": [0, 1]}}, data=1)
def test_any_json_header(tmp_path: Path, header: dict[str, Any], data: int) -> None:
    survives(tmp_path / "model.safetensors", framed(header, data))


@relaxed
@given(index=st.dictionaries(st.sampled_from(["weight_map", "metadata"]), json_values))
def test_any_index(tmp_path: Path, index: dict[str, Any]) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(MemcalcError) as refusal:
        read_weights(str(path))
    assert str(refusal.value).isprintable()


LARGE: dict[str, Callable[[], bytes]] = {
    "a.safetensors": lambda: framed(b'{"a":[' + b"[]," * 1_200_000 + b"[]]}"),
    "b.safetensors": lambda: framed(b'{"a":[' + b"1.5," * 7_000_000 + b"1]}"),
    "c.gguf": lambda: head(keys=1) + array(8, 300_000, text(b"") * 300_000),
    "d.gguf": lambda: head(keys=1) + array(4, 4_000_000, bytes(16_000_000)),
    "e.gguf": lambda: head(tensors=60_000) + bytes(2_400_000),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_lies_cost_little_memory(tmp_path: Path, name: str) -> None:
    """At most a small multiple of the file itself, of some megabytes."""
    path = tmp_path / name
    path.write_bytes(LARGE[name]())
    size = path.stat().st_size
    tracemalloc.start()
    try:
        with suppress(MemcalcError):
            read_weights(str(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * size + 2**21, f"{peak:,} bytes for a file of {size:,}"
