"""What many tests need: real configurations by name, and the command line, in process and as a process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings

from memcalc.blocks.architecture import Architecture
from memcalc.cli import main
from memcalc.readers.hf import read_config

settings.register_profile("house", deadline=None)  # machines are shared: a slow moment is no failure
settings.load_profile("house")

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


@pytest.fixture
def memcalc(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`memcalc …` in this process: exit code and what went where. Words may come in one string."""

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
            capture_output=True, encoding="utf-8", cwd=tmp_path, timeout=60, check=False,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    return run
