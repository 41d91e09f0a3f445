"""A copy of the checkout in which one file at a time is changed and tests are run: for faults planted by hand or by a tool.

Each run of tests is a fork of this process, which has pytest and what the tests import loaded, but nothing of memcalc.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis  # noqa: F401 (a fork has it)
import pydantic  # noqa: F401
import pytest
import rich.table  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("memcalc", "tests", "presets", "examples", "benchmarks", "docs", "pyproject.toml", "README.md")
PYTEST = ("-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=1", "-W", "ignore::pytest.PytestAssertRewriteWarning")
SLOWEST = 600  # seconds: a change that never ends is noticed


class Outcome(NamedTuple):
    """Whether the tests failed, and the first that did."""

    killed: bool
    by: str = ""


class Copy:
    """The copied checkout."""

    def __init__(self, place: Path) -> None:
        self._place, self._writes = place, 0
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy2(source, place / name)

    def outcome(self, file: str, text: str, *rounds: Sequence[str]) -> Outcome:
        """What the first round of tests that notices anything says of a file that reads so; afterwards it reads as before."""
        before = (self._place / file).read_text(encoding="utf-8")
        self._write(file, text)
        try:
            return next((found for tests in rounds if (found := self.tested(tests)).killed), Outcome(False))
        finally:
            self._write(file, before)

    def tested(self, tests: Sequence[str]) -> Outcome:
        """What the tests say of the copy as it is. They run in the given order: files, folders or single tests."""
        return self.forked(_failed, tests) or Outcome(True, "no end, or a process that died")

    def forked(self, work: Callable[[Any], Any], given: Any, seconds: float = SLOWEST) -> Any:
        """What some work returns that a fork of this process does in the copy; None if it doesn't come to its end."""
        fork = get_context("fork")
        here, there = fork.Pipe(duplex=False)
        process = fork.Process(target=_run, args=(there, self._place, work, given))
        process.start()
        there.close()
        try:
            return here.recv() if here.poll(seconds) else None
        except EOFError:
            return None
        finally:
            process.kill()
            process.join()

    def _write(self, file: str, text: str) -> None:
        """With a time of its own: Python takes a compiled file for current when second and size are the same."""
        path, self._writes = self._place / file, self._writes + 1
        path.write_text(text, encoding="utf-8")
        os.utime(path, (self._writes, self._writes))


def _run(answer: Any, place: Path, work: Callable[[Any], Any], given: Any) -> None:
    """In the fork: all that is imported or started from here on is the copy's; what tests print is nobody's."""
    os.chdir(place)
    os.environ["PYTHONPATH"] = str(place)
    sys.path.insert(0, str(place))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    answer.send(work(given))


class _First:
    """A plugin that keeps single tests in the order in which they were asked for, and the name of the first that fails."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.failed, self._rank = "", {name: rank for rank, name in enumerate(tests) if "::" in name}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._rank:
            items[:] = sorted((item for item in items if item.nodeid in self._rank), key=lambda item: self._rank[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid


def _failed(tests: Sequence[str]) -> Outcome:
    first = _First(tests)
    code = pytest.main([*PYTEST, *dict.fromkeys(name.partition("::")[0] for name in tests)], [first])
    return Outcome(code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED), first.failed or "the start")


@contextmanager
def changed_copy() -> Iterator[Copy]:
    """A copy that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="changed-") as place:
        yield Copy(Path(place))
