"""Which tests touch a line of code, recorded once, so that a fault meets the tests that can notice it, the likeliest first."""

import ast
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import pytest
from changed_copy import PYTEST, ROOT, Copy

IMPORTED = ""  # coverage's context before the first test: what runs when modules are imported, tables and defaults
OVERHEAD = 0.05  # seconds that a test costs beside its own

Statement = ast.stmt
Tests = frozenset[str]


class Record(NamedTuple):
    """What a run of all tests told: seconds of each, file → line → tests (IMPORTED among them)."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, Tests]]


class Touched:
    """Which tests touch which lines."""

    def __init__(self, record: Record) -> None:
        self._seconds, self._lines = record
        self._sources = {file: (ROOT / file).read_text(encoding="utf-8") for file in self._lines}
        self._of_file = {file: Counter(chain(*found.values())) for file, found in self._lines.items()}
        self._of_all: Counter[str] = sum(self._of_file.values(), Counter())

    def by(self, file: str, line: int, seconds: float) -> list[str]:
        """The tests that touch the statement at a line: first the short ones that do little else than run this file.

        What runs at import is touched by whoever reads what it defines; after them come the others, the shortest first. No more
        tests of either kind than take so many seconds.
        """
        if file not in self._lines:
            return []
        node = _innermost(self._sources[file], line)
        found = self._touching(file, _own_lines(node))
        if IMPORTED not in found:
            return self._within(seconds, self._ranked(file, found))
        readers = self._touching(file, _lines_of(node)).union(*self._reading(_bound(node))) - {IMPORTED}
        others = sorted(self._seconds.keys() - readers, key=lambda test: (self._seconds[test], test))
        return [*self._within(seconds, self._ranked(file, readers)), *self._within(seconds, others)]

    def _touching(self, file: str, lines: range) -> Tests:
        return frozenset().union(*(self._lines[file].get(line, ()) for line in lines))

    def _reading(self, names: set[str]) -> Iterator[Tests]:
        """The tests of every line that says one of the names."""
        said = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b") if names else None
        for file, source in self._sources.items():
            for number, text in enumerate(source.splitlines(), 1):
                if said and said.search(text):
                    yield self._lines[file].get(number, frozenset())

    def _ranked(self, file: str, tests: Iterator[str] | set[str] | Tests) -> list[str]:
        of_file = self._of_file[file]
        return sorted(
            tests, key=lambda test: (-of_file[test] / max(self._of_all[test], 1) / (self._seconds[test] + OVERHEAD), test)
        )

    def _within(self, seconds: float, tests: list[str]) -> list[str]:
        chosen = []
        for test in tests:
            seconds -= self._seconds[test]
            if seconds < 0:
                break
            chosen.append(test)
        return chosen


def touched(copy: Copy, folders: Sequence[str], tests: Sequence[str]) -> Touched:
    """What the tests touch of the code in those folders."""
    found: Record | str | None = copy.forked(_recorded, (folders, tests), seconds=3600)
    if not isinstance(found, Record):
        raise SystemExit(f"the tests fail without any fault: {found}")
    return Touched(found)


def _innermost(source: str, line: int) -> Statement:
    around = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt) and line in _own_lines(node))
    return min(around, key=lambda node: len(_own_lines(node)))


def _lines_of(node: Statement) -> range:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return range(min([node.lineno, *(one.lineno for one in decorators)]), (node.end_lineno or node.lineno) + 1)


def _own_lines(node: Statement) -> range:
    """The statement's; where it has a body, those before the body."""
    lines, body = _lines_of(node), getattr(node, "body", None)
    return range(lines.start, max(body[0].lineno, lines.start + 1)) if body else lines


def _bound(node: Statement) -> set[str]:
    """The names that others read it by."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    return {found.id for target in targets for found in ast.walk(target) if isinstance(found, ast.Name)}


class _Contexts:
    """A plugin that tells coverage which test runs."""

    def __init__(self, tracer: coverage.Coverage) -> None:
        self.seconds: dict[str, float] = {}
        self.failed, self._tracer = "", tracer

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        from memcalc.caches import clear_caches  # the copy's

        clear_caches()  # else only the first test that asks would touch what is kept
        self._tracer.switch_context(item.nodeid)
        start = sum(os.times()[:4])
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = sum(os.times()[:4]) - start

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid


def _recorded(given: tuple[Sequence[str], Sequence[str]]) -> Record | str:
    folders, tests = given
    tracer = coverage.Coverage(data_file=None, include=[f"{folder}/*" for folder in folders], config_file=False)
    contexts = _Contexts(tracer)
    tracer.start()
    code = pytest.main([*PYTEST, *tests], [contexts])
    tracer.stop()
    return Record(contexts.seconds, _lines(tracer.get_data())) if code == pytest.ExitCode.OK else contexts.failed or "the start"


def _lines(data: Any) -> dict[str, dict[int, Tests]]:
    found: dict[str, dict[int, Tests]] = defaultdict(dict)
    for file in data.measured_files():
        name = Path(file).relative_to(Path.cwd()).as_posix()
        found[name] = {line: frozenset(tests) for line, tests in data.contexts_by_lineno(file).items()}
    return dict(found)
