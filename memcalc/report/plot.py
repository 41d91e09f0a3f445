"""Plots in text: a curve in Braille dots (2 × 4 a character) with marked points, in fewer than 80 columns and no colour."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, floor, log10
from typing import NamedTuple

from memcalc.units import format_count

WIDTH, HEIGHT = 66, 13  # characters inside the axes
MARGIN = 8  # characters of the vertical axis and its numbers

# Bit of each dot in a Braille character, by column and row.
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
BLANK, LAST = 0x2800, 0x28FF

Line = Sequence[tuple[float, float]]


class PlotMark(NamedTuple):
    """A letter at a point."""

    letter: str
    x: float
    y: float


def plot(title: str, line: Line, marks: Sequence[PlotMark], *, y_text: Callable[[float], str] = "{:.3f}".format) -> str:
    """A line over a logarithmic horizontal axis, its marks on top; * where two marks meet.

    >>> print(plot("a line", [(1.0, 0.0), (100.0, 1.0)], [PlotMark("O", 10.0, 0.5)]).splitlines()[0])
    a line
    """
    left, right = log10(line[0][0]), log10(line[-1][0])
    values = [y for _, y in line] + [mark.y for mark in marks]
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0  # a flat line lies at the bottom

    def column(x: float, cells: int) -> int:
        return _within((log10(x) - left) / (right - left), cells)

    def row(y: float, cells: int) -> int:
        return _within((low + span - y) / span, cells)

    dots = [(column(x, 2 * WIDTH), row(y, 4 * HEIGHT)) for x, y in line]
    rows = _canvas(dots)
    taken: set[tuple[int, int]] = set()
    for mark in marks:
        place = row(mark.y, HEIGHT), column(mark.x, WIDTH)
        rows[place[0]][place[1]] = "*" if place in taken else mark.letter
        taken.add(place)
    labels = {0: y_text(low + span), HEIGHT // 2: y_text(low + span / 2), HEIGHT - 1: y_text(low)}
    out = [title]
    for number, cells in enumerate(rows):
        label = labels.get(number, "")
        out.append(f"{label:>{MARGIN - 1}} {'┤' if label else '│'}{''.join(cells)}".rstrip())
    ticks = {column(10.0**power, WIDTH): format_count(10.0**power) for power in _powers(left, right)}
    out.append(" " * MARGIN + "└" + "".join("┴" if cell in ticks else "─" for cell in range(WIDTH)))
    out.append(_labelled(ticks))
    return "\n".join(out)


def as_ascii(picture: str) -> str:
    """The same for terminals that cannot show Braille or lines.

    >>> as_ascii("1 ┤⠁⣿O└─┴")
    '1 |..O+-+'
    """
    return "".join("." if BLANK <= ord(char) <= LAST else ASCII.get(char, char) for char in picture)


ASCII = {"┤": "|", "│": "|", "└": "+", "─": "-", "┴": "+", "×": "x", "–": "-", "—": "-"}


def _within(share: float, cells: int) -> int:
    return max(0, min(cells - 1, round(share * (cells - 1))))


def _canvas(dots: Sequence[tuple[int, int]]) -> list[list[str]]:
    """Dots joined by straight lines, as rows of characters."""
    bits = [[0] * WIDTH for _ in range(HEIGHT)]
    for (x0, y0), (x1, y1) in pairwise(dots):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(steps + 1):
            x, y = round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps)
            bits[y // 4][x // 2] |= DOTS[x % 2][y % 4]
    return [[chr(BLANK + cell) if cell else " " for cell in row] for row in bits]


def _powers(left: float, right: float) -> list[int]:
    """Whole powers of ten within the axis, thinned to at most seven."""
    first, last = ceil(left - 1e-9), floor(right + 1e-9)
    return list(range(first, last + 1, max(1, ceil((last - first + 1) / 7))))


def _labelled(ticks: dict[int, str]) -> str:
    """The numbers below the horizontal axis, each under its tick."""
    line = ""
    for cell, text in ticks.items():
        start = max(MARGIN + 1 + cell - len(text) // 2, 0)
        line = line.ljust(start) + text if start > len(line) or not line else line
    return line
