"""What the documentation shows is what happens: `python docs/examples.py` writes every shown output anew.

Three kinds of code block are run. `sh` holds commands, of which only the exit code is promised (0, or what a comment
`# exit 1` says). `console` holds commands after `$ ` and what they print. `pycon` holds Python after `>>> ` and what it prints.
The tests run the same blocks and compare.
"""

import contextlib
import doctest
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SKILL.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(sh|console|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Command(NamedTuple):
    """A command of a page, the exit code that its comment promises, and what the page says that it prints."""

    text: str
    code: int = 0
    shown: str | None = None


def commands(text: str) -> Iterator[Command]:
    """Every command with `memcalc` in it, in the order of the page. What stands before it on the line is not run."""
    for language, block in BLOCK.findall(text):
        if language == "sh":
            lines = block.replace("\\\n", " ").splitlines()
            yield from (_command(line) for line in lines if re.search(r"(?:^|&& )memcalc ", line))
        elif language == "console":
            yield from (_command(line, shown) for line, shown in prompts(block))


def _command(line: str, shown: str | None = None) -> Command:
    promised = re.search(r"#\s*exit (\d)", line)
    return Command(line.rpartition("&& ")[2] if shown is None else line, int(promised[1]) if promised else 0, shown)


def prompts(block: str) -> Iterator[tuple[str, str]]:
    """(command, what is shown below it) of a console block."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command in a shell that finds this Python's memcalc; printed 100 columns wide, as into a file."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env={**os.environ, "PATH": path, "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"},
        capture_output=True, encoding="utf-8", timeout=240, check=False,
    )  # fmt: skip


def python_output(block: str, names: dict[str, object]) -> str:
    """A pycon block as an interpreter would show it; `names` are those that earlier blocks of the page defined."""
    shown = ""
    for example in doctest.DocTestParser().get_examples(block):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(example.source, "<example>", "single"), names)
        first, *more = example.source.splitlines()
        shown += "\n".join([f">>> {first}", *(f"... {line}".rstrip() for line in more)]) + "\n" + printed.getvalue()
    return shown


def workplace(folder: Path) -> Path:
    """A folder that holds what the documentation's commands read: the examples, and a model's config.json."""
    shutil.copytree(ROOT / "examples", folder / "examples", dirs_exist_ok=True)
    return folder


def rewritten(text: str, folder: Path) -> str:
    """The page with every console and pycon block as it is printed now."""
    names: dict[str, object] = {"__name__": "__main__"}

    def block(found: re.Match[str]) -> str:
        language, old = found.groups()
        if language == "console":
            old = "".join(f"$ {command}\n{run(command, folder).stdout}" for command, _ in prompts(old))
        elif language == "pycon":
            old = python_output(old, names)
        return f"```{language}\n{old}```"

    return BLOCK.sub(block, text)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = workplace(Path(folder))
        for page in PAGES:
            old = page.read_text(encoding="utf-8")
            new = rewritten(old, place)
            if new != old:
                page.write_text(new, encoding="utf-8")
                sys.stderr.write(f"{page.relative_to(ROOT)}: rewritten\n")


if __name__ == "__main__":
    main()
