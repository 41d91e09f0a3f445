"""The documentation is run: every `memcalc` line works, every example shows what is printed, every command is there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from memcalc.cli import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLE = re.compile(r"<!-- example: (memcalc .*?) -->\n```text\n(.*?)```\n<!-- end -->", re.DOTALL)
SHELLS = ("sh", "bash", "console")
NEEDS_AN_EXTRA = ("trace",)  # shown as text, because it runs with PyTorch only


class Command(NamedTuple):
    """A line of a page from its first `memcalc` on, and the exit code that its comment promises."""

    page: str
    text: str
    code: int


def commands(page: Path) -> Iterator[Command]:
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language not in SHELLS:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            found = re.search(r"(?:^(?:\$ )?|&& )(memcalc .*)", line)
            if found:
                promised = re.search(r"#\s*exit (\d)", line)
                yield Command(page.name, found[1], int(promised[1]) if promised else 0)


EVERY = [command for page in PAGES for command in commands(page)]
EXAMPLES = [(page.name, *found) for page in PAGES for found in EXAMPLE.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("command", EVERY, ids=lambda command: command.text[:70])
def test_every_line_works(command: Command, tmp_path: Path, folder: Callable[..., str]) -> None:
    """In a shell, in a folder that holds a config.json and the examples."""
    shutil.copytree(ROOT / "examples", Path(folder()) / "examples", dirs_exist_ok=True)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", command.text],
        cwd=folder(),
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == command.code, (
        f"exit {done.returncode}, {command.code} promised: {done.stderr or done.stdout[-500:]}"
    )
    assert "Traceback" not in done.stderr
    assert done.stdout or "--output" in command.text


@pytest.mark.parametrize(("page", "command", "shown"), EXAMPLES, ids=lambda value: str(value)[:50])
def test_every_example_is_what_is_printed(memcalc: Callable[..., Any], page: str, command: str, shown: str) -> None:
    result = memcalc(*shlex.split(command)[1:])
    assert result.code == 0, result.err
    assert shown == result.out, f"{page} shows another output of `{command}`; it now prints\n{result.out}"


def test_the_readme_leads_with_an_example() -> None:
    assert EXAMPLES, "no <!-- example: memcalc … --> in the README"
    assert EXAMPLES[0][0] == "README.md"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_documented(name: str) -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("| `memcalc ")]
    assert any(re.search(rf"`(memcalc )?{name}\b", line) for line in table), f"{name} is not in the table of commands"
    shown = [command.text for command in EVERY] + (text.splitlines() if name in NEEDS_AN_EXTRA else [])
    assert any(line.startswith(f"memcalc {name}") for line in shown), f"the README never runs `memcalc {name}`"


def test_nothing_is_documented_that_does_not_exist() -> None:
    for page in PAGES:
        named = set(re.findall(r"`memcalc ([a-z]+)", page.read_text(encoding="utf-8")))
        assert named <= COMMANDS.keys(), f"{page.name} names {sorted(named - COMMANDS.keys())}"
