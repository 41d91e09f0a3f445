"""What every command prints is what was kept. `python -m tests.golden` rewrites the files; a reader of the change judges."""

import difflib

import pytest

from memcalc.cli import COMMANDS
from memcalc.formulas.engines import ENGINES
from memcalc.formulas.serving_engines import SERVING_ENGINES
from tests.golden.outputs import KEPT, Command, commands, printed

EVERY = tuple(commands())
NOT_KEPT = {"trace", "help", "completion", "plan"}  # PyTorch, help, a shell's script, the time that a search took


@pytest.mark.parametrize("command", EVERY, ids=lambda command: command.name)
def test_prints_what_was_kept(command: Command) -> None:
    for file, text in printed(command).items():
        kept = KEPT / file
        assert kept.exists(), f"{file} is missing; `python -m tests.golden {command.name}` writes it"
        before = kept.read_text(encoding="utf-8")
        if text != before:
            lines = difflib.unified_diff(before.splitlines(), text.splitlines(), f"kept/{file}", f"now/{file}", "", "", 1, "")
            pytest.fail("\n".join(list(lines)[:60]), pytrace=False)


def test_names_are_unique_and_no_file_is_stale() -> None:
    names = [command.name for command in EVERY]
    assert len(names) == len(set(names))
    assert {path.name for path in KEPT.iterdir()} == {file for command in EVERY for file in command.formats}


def test_every_command_and_engine_has_one() -> None:
    said = {word for command in EVERY if not command.refused for word in command.arguments}
    assert not (set(COMMANDS) - NOT_KEPT) - said
    assert not (ENGINES.keys() | SERVING_ENGINES.keys()) - said - {"torch", "deepspeed"}  # these come by default
