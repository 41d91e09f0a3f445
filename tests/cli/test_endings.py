"""How the program ends: closed and full streams, an interrupt, a fault of its own; never a traceback, never 1 by accident."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]
PROGRAM = f"{sys.executable} -m memcalc"

ENDINGS = (  # shell line, exit code of memcalc, words on stderr ("" for none)
    ("bytes >&-", 2, "stdout: cannot be written (it is closed)"),
    ("bytes --format json >&-", 2, "stdout: cannot be written"),
    ("bytes >/dev/full", 2, "stdout: cannot be written (No space left on device)"),
    ("train 7B --format json >/dev/full", 2, "stdout: cannot be written"),
    ("--help >/dev/full", 2, "stdout: cannot be written"),
    ("train --help >/dev/full", 2, "stdout: cannot be written"),
    ("--version >/dev/full", 2, "stdout: cannot be written"),
    (">/dev/full", 2, "stdout: cannot be written"),
    ("--help >&-", 0, ""),
    ("train 7B --output /dev/full", 2, "--output /dev/full: cannot be written"),
    ("train nope 2>&-", 2, ""),
    ("train nope 2>/dev/full", 2, ""),
    ("bytes --format json 2>&- >/dev/null", 0, ""),
)


@pytest.mark.parametrize(("line", "code", "said"), ENDINGS, ids=[case[0] for case in ENDINGS])
def test_streams(line: str, code: int, said: str) -> None:
    done = subprocess.run(["sh", "-c", f"{PROGRAM} {line}"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == bool(said), done.stderr


@pytest.mark.parametrize("line", ["--help", "train --help", "gpus --format json", ""])
def test_a_reader_that_has_gone(line: str) -> None:
    """As in `memcalc --help | true`."""
    with subprocess.Popen([*PROGRAM.split(), *line.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert (process.stderr.read(), process.wait(timeout=60)) == (b"", 0 if line else 2)


@pytest.mark.parametrize("after", [0.03, 0.06, 0.1, 0.15, 0.25])
def test_an_interrupt_is_quiet_from_the_first_import_on(after: float) -> None:
    line = [sys.executable, "-c", "from memcalc.__main__ import start; print('on', flush=True); start()", "validate"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "on\n"  # Python has started: what comes before is not ours
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    assert process.returncode in (130, 0), said


@pytest.mark.parametrize(
    "error", [KeyError("role"), AssertionError(), RecursionError("deep\nand deeper"), OSError(5, "I/O", "x")]
)
def test_what_nobody_foresaw_is_one_line_and_70(memcalc: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("memcalc.sizing.training.training_run", broken)
    result = memcalc("train", "7B")
    assert (result.code, result.out) == (70, "")
    assert result.err.startswith("memcalc: a fault of memcalc's own")
    assert type(error).__name__ in result.err
    assert result.err.count("\n") == 1


FORMATS = ("json", "csv", "markdown", "svg")


@pytest.mark.parametrize("format_", FORMATS)
def test_what_programs_read_is_the_same_bytes_everywhere(format_: str) -> None:
    words = [*PROGRAM.split(), "train", "gpt2", "--gpu", "h100", "--format", format_]
    environments: tuple[dict[str, str], ...] = (
        {"PYTHONIOENCODING": "utf-8"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"TERM": "dumb"},
        {"COLUMNS": "0"}, {"COLUMNS": "200"}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}, {"LC_ALL": "C", "PYTHONUTF8": "0"},
    )  # fmt: skip
    outputs = {
        subprocess.run(words, capture_output=True, env={**os.environ, **more}, check=True).stdout for more in environments
    }
    assert len(outputs) == 1
    if format_ == "json":
        assert outputs.pop().isascii()


def test_a_table_in_a_file_does_not_depend_on_the_terminal(tmp_path: Any) -> None:
    for encoding in ("ascii", "utf-8"):
        words = [*PROGRAM.split(), "bytes", "--output", str(tmp_path / encoding)]
        subprocess.run(words, env={**os.environ, "PYTHONIOENCODING": encoding}, check=True)
    assert (tmp_path / "ascii").read_bytes() == (tmp_path / "utf-8").read_bytes()


@pytest.mark.parametrize("watched", [False, True], ids=["alone", "profiled"])
def test_a_profiler_sees_the_end(watched: bool) -> None:
    """Alone, a process ends without taking itself apart; what it wrote is written, also into a pipe."""
    watch = "sys.setprofile(lambda *_: None); " if watched else ""
    code = f"import atexit, sys; atexit.register(print, 'ended'); {watch}from memcalc.__main__ import start; start()"
    words = [sys.executable, "-c", code, "bytes", "--format", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("{")
    assert done.stdout.endswith("}\nended\n" if watched else "}\n")
