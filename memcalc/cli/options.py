"""Options that several commands share, and the number types people type."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from memcalc.errors import InputError

F = TypeVar("F", bound=Callable[..., Any])


class Amount(click.ParamType[int]):
    """A whole amount as people write it; `parser` is the function of memcalc.units that reads it."""

    def __init__(self, name: str, parser: str) -> None:
        self.name, self._parser = name, parser

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        from memcalc import units

        try:
            parsed: int = getattr(units, self._parser)(value)
        except InputError as error:
            self.fail(str(error), param, ctx)
        return parsed


COUNT = Amount("number", "parse_count")  # 4096, 32k, 7B
FLOPS = Amount("flops", "parse_flops")  # 5.76e23, 576 ZFLOP, 3640 PF-days
BYTES = Amount("bytes", "parse_bytes")  # 40GiB, 512MB


class Number(click.ParamType[float]):
    """A number that need not be whole: 0.4, 3640, 1.46M."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return value
        from memcalc.units import parse_count

        try:
            return float(value if value.isascii() else "not a number")
        except ValueError:
            pass
        try:
            return float(parse_count(value))
        except InputError:
            self.fail(f"{value!r:.60} is not a number; write 0.4, 3640 or 1.4M", param, ctx)


NUMBER = Number()


class Share(click.ParamType[float]):
    """A share of 1, as such or in percent: 0.4, 40%."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, str) and value.endswith("%"):
            return NUMBER.convert(value[:-1], param, ctx) / 100
        share = NUMBER.convert(value, param, ctx)
        if share > 2:
            self.fail(f"{value!r:.40} is more than the whole; write 0.4 or 40%", param, ctx)
        return share


SHARE = Share()


class Words(click.ParamType[tuple[str, ...]]):
    """Words separated by commas."""

    name = "words"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(word.strip() for word in value.split(",") if word.strip())


WORDS = Words()


def output_options(function: F) -> F:
    """--format, --get, --output: the same for every command."""
    from memcalc.report.report import FORMATS

    for option in (
        click.option("--output", metavar="FILE", help="Write to FILE instead of stdout."),
        click.option("--get", metavar="PATH", help="Print one field of the JSON, bare: per_gpu.peak"),
        click.option("--format", "format_", type=click.Choice(FORMATS), default="table", show_default=True),
    ):
        function = option(function)
    return function


def preset_option(function: F) -> F:
    """--presets DIR, repeatable."""
    return click.option(
        "--presets",
        multiple=True,
        metavar="DIR",
        help="Folder with your own models/ and gpus/ (also $MEMCALC_PRESETS).",
    )(function)


def show(report: Any, format_: str, get: str | None, output: str | None) -> None:
    """Render a report and send it where it belongs."""
    import sys

    from memcalc.report.output import render, write

    terminal = output is None and sys.stdout.isatty()
    write(render(report, format_, get=get, terminal=terminal), output)
