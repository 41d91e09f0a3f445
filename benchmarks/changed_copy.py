"""A copy of the checkout in which one file at a time is changed and tests are run: for faults planted by hand or by a tool."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("memcalc", "tests", "presets", "examples", "benchmarks", "docs", "pyproject.toml", "README.md")
NO_TESTS = 5  # pytest's exit code
SLOWEST = 600  # seconds: a change that never ends is noticed


class Outcome(NamedTuple):
    """Whether the tests failed, and the first that did."""

    killed: bool
    by: str


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

    def outcome(self, file: str, text: str, tests: Sequence[str]) -> Outcome:
        """What the tests say of a file that reads so; afterwards it reads as before."""
        before = (self._place / file).read_text(encoding="utf-8")
        self._write(file, text)
        try:
            return self.tested(tests)
        finally:
            self._write(file, before)

    def tested(self, tests: Sequence[str]) -> Outcome:
        """What the tests say of the copy as it is."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests]
        try:
            done = subprocess.run(command, cwd=self._place, env={**os.environ, "PYTHONPATH": str(self._place)},
                                  capture_output=True, encoding="utf-8", timeout=SLOWEST, check=False)  # fmt: skip
        except subprocess.TimeoutExpired:
            return Outcome(True, "no end")
        if done.returncode == NO_TESTS:
            raise SystemExit(f"no tests in {' '.join(tests)}:\n{done.stdout}{done.stderr}")
        failed = (line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR ")))
        first = next(failed, "").partition(" ")[2].partition(" - ")[0]
        return Outcome(done.returncode != 0, first or ("it does not start" if done.returncode else ""))

    def _write(self, file: str, text: str) -> None:
        """With a time of its own: Python takes a compiled file for current when second and size are the same."""
        path, self._writes = self._place / file, self._writes + 1
        path.write_text(text, encoding="utf-8")
        os.utime(path, (self._writes, self._writes))


@contextmanager
def changed_copy() -> Iterator[Copy]:
    """A copy that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="changed-") as place:
        yield Copy(Path(place))
