"""The commands of commands.txt, and what each of them prints now."""

import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from memcalc import __version__
from memcalc.cli import main

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
KEPT = HERE / "outputs"
SURROUNDINGS = {"COLUMNS": "120", "NO_COLOR": "1", "MEMCALC_PRESETS": ""}


class Command(NamedTuple):
    """One line of commands.txt."""

    name: str
    arguments: tuple[str, ...]
    refused: bool


def commands() -> Iterator[Command]:
    """All of them, in the order of the file."""
    for line in (HERE / "commands.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, arguments = line.partition(": ")
            yield Command(name.rstrip("!"), tuple(map(_placed, arguments.split())), name.endswith("!"))


def printed(command: Command) -> dict[str, str]:
    """File name → what belongs into it: the table and the whole JSON, or a refusal with its exit code."""
    if command.refused:
        code, out, err = _run(command.arguments)
        return {f"{command.name}.txt": _portable(f"exit code {code}\n{err or out}")}
    kept = {}
    for suffix, format_ in (("txt", "table"), ("json", "json")):
        code, out, err = _run((*command.arguments, "--format", format_))
        assert code in (0, 1), f"{command.name}: exit code {code}: {err}"
        text = out if suffix == "txt" else json.dumps(json.loads(out), indent=1, ensure_ascii=False) + "\n"
        kept[f"{command.name}.{suffix}"] = _portable(text)
    return kept


def _run(arguments: tuple[str, ...]) -> tuple[object, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, SURROUNDINGS), redirect_stdout(out), redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as ended:
            return ended.code, out.getvalue(), err.getvalue()
    raise AssertionError("the command line always exits")


def _placed(word: str) -> str:
    """FIXTURES and files of the checkout, wherever the tests run."""
    word = word.replace("FIXTURES", str(HERE / "fixtures"))
    return str(ROOT / word) if word.startswith("examples/") else word


def _portable(text: str) -> str:
    """Free of the version and of where the checkout lies."""
    return re.sub(r"[ \t]+\n", "\n", text.replace(f"{ROOT}{os.sep}", "").replace(__version__, "VERSION"))
