"""How far a long question has come: on a terminal alone, on stderr."""

import sys
from typing import Any

import click


class Progress:
    """`with Progress("lines") as tick: tick(1000)`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._shown = sys.stderr is not None and sys.stderr.isatty()

    def __enter__(self) -> Any:
        return self._tick

    def _tick(self, done: int) -> None:
        if self._shown:
            click.echo(f"\r{done:,} {self._what} ", nl=False, err=True)

    def __exit__(self, *_: object) -> None:
        if self._shown:
            click.echo("\r" + " " * 70 + "\r", nl=False, err=True)
