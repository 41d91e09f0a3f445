"""The kinds of values that people type: counts, shares, bytes, durations, words."""

import re
from typing import Any

import click

from memcalc.errors import InputError


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


class Largest(Amount):
    """A count, or "max": the largest that fits."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return MAX if isinstance(value, str) and value.strip().lower() == MAX else super().convert(value, param, ctx)


class Fewest(Amount):
    """A count, or "auto": the smallest with which it fits."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return AUTO if isinstance(value, str) and value.strip().lower() == AUTO else super().convert(value, param, ctx)


MAX, AUTO = "max", "auto"
LARGEST, FEWEST = Largest("number|max", "parse_count"), Fewest("number|auto", "parse_count")
FLOPS = Amount("flops", "parse_flops")  # 5.76e23, 576 ZFLOP, 3640 PF-days
BANDWIDTH = Amount("bytes/s", "parse_bandwidth")  # 936GB/s
SPEED = Amount("flops/s", "parse_speed")  # 989 TFLOP/s
BYTES = Amount("bytes", "parse_memory")  # 40GiB, 512MB


GROUPED = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?$", re.ASCII)  # 84,545.50


class Number(click.ParamType[float]):
    """A number that need not be whole: 0.4, 3640, 1.46M, 84,545, $1.10."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return value
        from memcalc.units import parse_count

        plain = value.strip().removeprefix("$")
        if GROUPED.match(plain):
            plain = plain.replace(",", "")
        try:
            return float(plain if plain.isascii() else "not a number")
        except ValueError:
            pass
        try:
            return float(parse_count(plain))
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


class Parts(click.ParamType[tuple[float, ...]]):
    """Numbers separated by commas or slashes: 3,1."""

    name = "n,n,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(NUMBER.convert(part, param, ctx) for part in value.replace("/", ",").split(",") if part.strip())


class Days(click.ParamType[float]):
    """Days, or any duration with its unit: 30, 30d, 36h, '2 weeks'."""

    name = "days"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return value
        from memcalc.units import parse_duration

        try:
            return NUMBER.convert(value, param, ctx)
        except click.BadParameter:
            try:
                return parse_duration(value) / 86_400
            except InputError as error:
                self.fail(str(error), param, ctx)


class Grid(click.ParamType[float]):
    """kg CO2e a kWh, or grams with a g: 0.385, 385g."""

    name = "kg/kWh"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, str) and value.endswith("g") and not value.endswith("kg"):
            return NUMBER.convert(value[:-1], param, ctx) / 1000
        kilograms = NUMBER.convert(value.removesuffix("kg") if isinstance(value, str) else value, param, ctx)
        if kilograms > 3:
            self.fail(f"{value!r:.40} kg CO2e a kWh is more than any grid emits; write 0.385 or 385g", param, ctx)
        return kilograms


DAYS, GRID = Days(), Grid()

# how a value is read, in rows of spec_options
TYPES: dict[str, click.ParamType[Any] | None] = {
    "count": COUNT, "number": NUMBER, "share": SHARE, "bytes": BYTES, "bandwidth": BANDWIDTH, "speed": SPEED,
    "flops": FLOPS, "largest": LARGEST, "fewest": FEWEST, "parts": Parts(), "days": DAYS, "grid": GRID,
    "words": WORDS, "text": None, "flag": None, "repeated": None,
}  # fmt: skip
