"""What many tests need: real configurations by name, and the command line, in process and as a process."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from hypothesis import settings

from memcalc.blocks.architecture import Architecture
from memcalc.cli import main
from memcalc.readers.hf import read_config

# Machines are shared: a slow moment is no failure. A gate asks the same examples every time; "explore" draws new ones.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

REFERENCE = Path(__file__).parent / "reference" / "params.json"


class Result(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Its JSON, in which NaN and infinity are errors, as they are for every strict reader."""
        found: dict[str, Any] = json.loads(self.out, parse_constant=_refuse)
        return found


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@cache
def _rows() -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(REFERENCE.read_text(encoding="utf-8"))}


@pytest.fixture(scope="session")
def config() -> Callable[..., dict[str, Any]]:
    """A model's own config.json by its name on the Hugging Face hub, with keys replaced."""
    return lambda name, **changes: {**_rows()[name]["config"], **changes}


@pytest.fixture(scope="session")
def architecture(config: Callable[..., dict[str, Any]]) -> Callable[..., Architecture]:
    """The architecture read from that config; the same object for the same question."""
    return cache(lambda name, **changes: read_config(config(name, **changes), name))


@pytest.fixture
def folder(tmp_path: Path, config: Callable[..., dict[str, Any]]) -> Callable[..., str]:
    """A folder that holds that config.json."""

    def write(name: str = "meta-llama/Meta-Llama-3.1-8B", **changes: Any) -> str:
        place = tmp_path / name.rpartition("/")[2]
        place.mkdir(exist_ok=True)
        (place / "config.json").write_text(json.dumps(config(name, **changes)), encoding="utf-8")
        return str(place)

    return write


class WeightFiles:
    """Writes small weight files as the formats describe them; the data is a hole of zeros in the file.

    safetensors: `tensors` maps a name to (dtype, shape). GGUF: to (ggml type, shape in PyTorch's order).
    """

    BITS: ClassVar = {
        "F32": 32,
        "BF16": 16,
        "F16": 16,
        "F8_E4M3": 8,
        "F8_E8M0": 8,
        "I8": 8,
        "U8": 8,
        "I32": 32,
        "I64": 64,
        "F4": 4,
    }
    BLOCKS: ClassVar = {
        0: (1, 4),
        1: (1, 2),
        2: (32, 18),
        8: (32, 34),
        12: (256, 144),
        14: (256, 210),
        30: (1, 2),
        39: (32, 17),
    }

    @classmethod
    def safetensors(cls, path: Path, tensors: dict[str, tuple[str, tuple[int, ...]]], **extra: Any) -> str:
        header: dict[str, Any] = {}
        end = 0
        for name, (dtype, shape) in tensors.items():
            size = prod(shape) * cls.BITS[dtype] // 8
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
            end += size
        return cls.written(path, json.dumps({**header, **extra}).encode(), end)

    @staticmethod
    def written(path: Path, header: bytes, data: int) -> str:
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        with path.open("r+b") as file:
            file.truncate(8 + len(header) + data)
        return str(path)

    @classmethod
    def gguf(
        cls, path: Path, metadata: dict[str, Any], tensors: dict[str, tuple[int, tuple[int, ...]]], *, order: str = "<",
        version: int = 3,
    ) -> str:  # fmt: skip
        def pack(code: str, *values: Any) -> bytes:
            return struct.pack(order + code, *values)

        def text(value: str) -> bytes:
            return pack("Q", len(value.encode())) + value.encode()

        def value(item: Any) -> bytes:
            if isinstance(item, bool):
                return pack("I?", 7, item)
            if isinstance(item, int):
                return pack("II", 4, item)
            if isinstance(item, float):
                return pack("If", 6, item)
            if isinstance(item, str):
                return pack("I", 8) + text(item)
            each = [value(one) for one in item]
            kind = each[0][:4] if each else pack("I", 4)
            return pack("I", 9) + kind + pack("Q", len(each)) + b"".join(one[4:] for one in each)

        head = b"GGUF" + pack("IQQ", version, len(tensors), len(metadata))
        head += b"".join(text(key) + value(item) for key, item in metadata.items())
        end = 0
        for name, (kind, shape) in tensors.items():
            head += text(name) + pack(f"I{len(shape)}QIQ", len(shape), *reversed(shape), kind, end)
            block, size = cls.BLOCKS[kind]
            end += -(-prod(shape) // block * size // 32) * 32
        path.write_bytes(head)
        with path.open("r+b") as file:
            file.truncate(-(-len(head) // 32) * 32 + end)
        return str(path)


@pytest.fixture(scope="session")
def weight_files() -> type[WeightFiles]:
    return WeightFiles


@pytest.fixture
def memcalc(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`memcalc …` in this process: exit code and what went where. Words may come in one string."""
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist's workers have one: the width is that of a pipe

    def run(*words: str) -> Result:
        with pytest.raises(SystemExit) as ended:
            main([word for word in words[0].split(" ") if word] if len(words) == 1 else list(words))
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., Result]:
    """`python -m memcalc …` as a process of its own, in an empty folder."""

    def run(*words: str, **environment: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "memcalc", *words],
            capture_output=True, encoding="utf-8", cwd=tmp_path, timeout=240, check=False,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    return run
