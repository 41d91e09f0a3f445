"""Which tests touch a line of code, recorded once, so that a fault meets the tests that can notice it, the likeliest first."""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import coverage
import pytest
from changed_copy import PYTEST, Copy

IMPORTED = ""  # coverage's context before the first test: what runs when modules are imported, tables and defaults


class Touched:
    """Which tests touch which lines, as a run of all tests found."""

    def __init__(self, tests: Sequence[str], lines: dict[str, dict[int, frozenset[str]]]) -> None:
        self._tests, self._lines = tests, lines
        self._of_file = {file: Counter(chain(*found.values())) for file, found in lines.items()}
        self._of_all: Counter[str] = sum(self._of_file.values(), Counter())

    def by(self, file: str, lines: range) -> list[str]:
        """The tests that touch one of the lines, those that do little else than run this file first.

        A line that runs at import counts for every test: any may read what it defines.
        """
        here, of_file, of_all = self._lines.get(file, {}), self._of_file.get(file, Counter()), self._of_all
        found: frozenset[str] = frozenset().union(*(here.get(line, frozenset()) for line in lines))
        within = self._tests if IMPORTED in found else found
        return sorted(within, key=lambda test: (-of_file[test] / max(of_all[test], 1), of_all[test]))


def touched(copy: Copy, folders: Sequence[str], tests: Sequence[str]) -> Touched:
    """What the tests touch of the code in those folders."""
    found: Touched | str | None = copy.forked(_touched, (folders, tests), seconds=3600)
    if not isinstance(found, Touched):
        raise SystemExit(f"the tests fail without any fault: {found}")
    return found


def statement(source: str, line: int) -> range:
    """The lines of the innermost statement at a line; of one with a body, those before the body."""
    around = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    within = [lines for node in around if line in (lines := _own_lines(node))]
    return min(within, key=len, default=range(line, line + 1))


def _own_lines(node: ast.stmt) -> range:
    body: list[ast.stmt] = getattr(node, "body", [])
    end = max(body[0].lineno, node.lineno + 1) if body else (node.end_lineno or node.lineno) + 1
    return range(node.lineno, end)


class _Contexts:
    """A plugin that tells coverage which test runs."""

    def __init__(self, tracer: coverage.Coverage) -> None:
        self.tests: list[str] = []
        self.failed, self._tracer = "", tracer

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        from memcalc.caches import clear_caches  # the copy's

        clear_caches()  # else only the first test that asks would touch what is kept
        self.tests.append(item.nodeid)
        self._tracer.switch_context(item.nodeid)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid


def _touched(given: tuple[Sequence[str], Sequence[str]]) -> Touched | str:
    folders, tests = given
    tracer = coverage.Coverage(data_file=None, include=[f"{folder}/*" for folder in folders], config_file=False)
    contexts = _Contexts(tracer)
    tracer.start()
    code = pytest.main([*PYTEST, *tests], [contexts])
    tracer.stop()
    if code != pytest.ExitCode.OK:
        return contexts.failed or "the start"
    return Touched(contexts.tests, _lines(tracer.get_data()))


def _lines(data: Any) -> dict[str, dict[int, frozenset[str]]]:
    found: dict[str, dict[int, frozenset[str]]] = defaultdict(dict)
    for file in data.measured_files():
        name = Path(file).relative_to(Path.cwd()).as_posix()
        found[name] = {line: frozenset(tests) for line, tests in data.contexts_by_lineno(file).items()}
    return dict(found)
