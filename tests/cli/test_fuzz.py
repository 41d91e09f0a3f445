"""Random command lines of the commands' own options: a seeded part of benchmarks/fuzz.py, and that it notices what is wrong."""

import shlex
import sys
from collections import Counter
from pathlib import Path

import click
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import fuzz

from memcalc.cli import cli


@pytest.mark.parametrize("seed", range(2))
def test_an_answer_or_one_line(seed: int) -> None:
    codes: Counter[object] = Counter()
    wrong = {shlex.join(words): found for words in fuzz.command_lines(40, seed) if (found := fuzz.fault(words, codes))}
    assert not wrong, wrong
    assert codes[0] >= 3, f"too little is answered: {codes}"


def test_every_option_is_tried() -> None:
    tried = {(words[0], word.partition("=")[0]) for words in fuzz.command_lines(6_000, 1) for word in words[1:]}
    for name in ("train", "infer", "budget", "chinchilla"):
        command = cli.get_command(click.Context(cli, **cli.context_settings), name)
        assert command
        for option in command.params:
            if isinstance(option, click.Option) and option.opts[0] not in fuzz.UNSAID:
                assert (name, option.opts[0]) in tried


def test_what_is_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, code, noticed in (
        ("1.0 nan", 0, "nan"),
        ("Infinity", 0, "infinity"),
        ("", 70, "exit 70"),
        ("half", 2, "not one line"),
    ):

        def main(words: list[str], text: str = text, code: int = code) -> None:
            print(text)
            raise SystemExit(code)

        monkeypatch.setattr(fuzz, "main", main)
        assert noticed in fuzz.fault(["train"]).lower()


def test_words_that_only_look_like_it_are_no_fault() -> None:
    assert not any(
        fuzz.NOT_FINITE.search(text)
        for text in ("information", "inference", "nano", "per_gpu.nan-free", "infer", "Infinity Cache")
    )
