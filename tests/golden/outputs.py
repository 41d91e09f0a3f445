"""The commands of commands.txt, and what each of them prints now."""

import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from memcalc import __version__
from memcalc.cli import main
from memcalc.report.report import Report

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
KEPT = HERE / "outputs"
FIXTURES = (HERE / "fixtures").relative_to(ROOT).as_posix()
DIGITS = 12  # of a number in JSON that is not whole: the last ones are the mathematical library's
SURROUNDINGS = {"COLUMNS": "100", "NO_COLOR": "1", "MEMCALC_PRESETS": ""}


class Command(NamedTuple):
    """One line of commands.txt."""

    name: str
    arguments: tuple[str, ...]
    refused: bool

    @property
    def formats(self) -> dict[str, str]:
        """Kept files by name, and the format of each: the one that the line asks for, or JSON and table."""
        if self.refused:
            return {f"{self.name}.txt": ""}
        for option, suffix in (("--format", self.arguments[-1]), ("--get", "txt")):
            if option in self.arguments:
                return {f"{self.name}.{suffix}": ""}
        return {f"{self.name}.json": "json", f"{self.name}.txt": "table"}


def commands() -> Iterator[Command]:
    """All of them, in the order of the file."""
    for line in (HERE / "commands.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, arguments = line.partition(": ")
            yield Command(name.rstrip("!"), tuple(arguments.replace("FIXTURES", FIXTURES).split()), name.endswith("!"))


def printed(command: Command) -> dict[str, str]:
    """File name → what belongs into it, or a refusal with its exit code."""
    kept = {}
    for file, format_ in command.formats.items():
        code, out, err = _run((*command.arguments, *(("--format", format_) if format_ else ())))
        if command.refused:
            out = f"exit code {code}\n{err or out}"
        else:
            assert code in (0, 1), f"{command.name}: exit code {code}: {err}"
        kept[file] = _portable(_whole(out) if format_ == "json" else out)
    return kept


def printed_report(command: Command) -> Report:
    """The report that a command would print, before any renderer has seen it."""
    caught: list[Report] = []

    def catch(report: Report, *_: object, **__: object) -> str:
        caught.append(report)
        return ""

    with mock.patch("memcalc.report.output.render", catch):
        _run(command.arguments)
    return caught[0]


def _run(arguments: tuple[str, ...]) -> tuple[object, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with chdir(ROOT), mock.patch.dict(os.environ, SURROUNDINGS), redirect_stdout(out), redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as ended:
            return ended.code, out.getvalue(), err.getvalue()
    raise AssertionError("the command line always exits")


def _whole(document: str) -> str:
    """The JSON with its numbers as exact as every machine computes them."""
    values = json.loads(document, parse_float=lambda digits: float(f"{float(digits):.{DIGITS}g}"))
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def _portable(text: str) -> str:
    """Free of the version and of spaces at the ends of lines."""
    return re.sub(r"[ \t]+\n", "\n", text.replace(__version__, "VERSION"))
