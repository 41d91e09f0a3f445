"""Plots: a curve over a logarithmic axis with marked points, in text by Braille dots (2 × 4 a character), without colour."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, floor, log10

from memcalc.frozen import NamedTuple
from memcalc.units import format_count

WIDTH, HEIGHT = 66, 13  # characters inside the axes, at most
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


class Plot(NamedTuple):
    """A line over a logarithmic horizontal axis, and points on it; renderers draw it in characters or as vectors."""

    title: str
    line: Line
    marks: Sequence[PlotMark]
    legend: str = ""
    y_text: Callable[[float], str] = "{:.3f}".format
    at: Sequence[float] = ()  # places of the horizontal axis to name; none: its whole powers of ten

    @property
    def low(self) -> float:
        return min(self._values)

    @property
    def span(self) -> float:
        """Between the lowest and the highest value; of a flat line, which lies at the bottom, its height."""
        return (max(self._values) - self.low) or abs(max(self._values)) or 1.0

    @property
    def _values(self) -> list[float]:
        return [y for _, y in self.line] + [mark.y for mark in self.marks]

    def across(self, x: float) -> float:
        """The place on the horizontal axis, as a share of it."""
        left, right = log10(self.line[0][0]), log10(self.line[-1][0])
        return (log10(x) - left) / (right - left)

    def down(self, y: float) -> float:
        """The place on the vertical axis, as a share of it from the top."""
        return (self.low + self.span - y) / self.span

    @property
    def ticks(self) -> dict[float, str]:
        """Places of the horizontal axis with what they read."""
        if self.at:
            return {x: format_count(x) for x in self.at}
        powers = _powers(log10(self.line[0][0]), log10(self.line[-1][0]))
        return {10.0**power: format_count(10.0**power) for power in powers}

    def drawn(self, columns: int) -> str:
        """In characters, within so many columns."""
        return drawn(self, columns)

    @property
    def labels(self) -> tuple[str, str, str]:
        """Numbers of the vertical axis: top, middle, bottom."""
        return self.y_text(self.low + self.span), self.y_text(self.low + self.span / 2), self.y_text(self.low)


def drawn(plot: Plot, columns: int = WIDTH + MARGIN + 1) -> str:
    """The plot in characters, within so many columns; * where two marks meet. Title and legend are not part of it.

    >>> drawn(Plot("a line", [(1.0, 0.0), (100.0, 1.0)], [PlotMark("O", 10.0, 0.5)]), 40).splitlines()[-1].split()
    ['1', '10', '100']
    """
    width = min(WIDTH, columns - MARGIN - 1)
    dots = [(_within(plot.across(x), 2 * width), _within(plot.down(y), 4 * HEIGHT)) for x, y in plot.line]
    rows = _canvas(dots, width)
    taken: set[tuple[int, int]] = set()
    for mark in plot.marks:
        place = _within(plot.down(mark.y), HEIGHT), _within(plot.across(mark.x), width)
        rows[place[0]][place[1]] = "*" if place in taken else mark.letter
        taken.add(place)
    labels = dict(zip((0, HEIGHT // 2, HEIGHT - 1), plot.labels, strict=True))
    out = []
    for number, cells in enumerate(rows):
        label = labels.get(number, "")
        out.append(f"{label:>{MARGIN - 1}} {'┤' if label else '│'}{''.join(cells)}".rstrip())
    ticks = {_within(plot.across(x), width): text for x, text in plot.ticks.items()}
    out.append(" " * MARGIN + "└" + "".join("┴" if cell in ticks else "─" for cell in range(width)))
    out.append(_labelled(ticks, columns))
    return "\n".join(out)


def as_ascii(picture: str) -> str:
    """The same for terminals that cannot show Braille or lines.

    >>> as_ascii("1 ┤⠁⣿O└─┴")
    '1 |..O+-+'
    """
    return "".join("." if BLANK <= ord(char) <= LAST else ASCII.get(char, char) for char in picture)


ASCII = {"┤": "|", "│": "|", "└": "+", "─": "-", "┴": "+", "×": "x", "–": "-", "—": "-", "█": "#", "▶": ">", "←": "<-",
         "░": ".", "▒": ":", "▓": "+"}  # fmt: skip


def _within(share: float, cells: int) -> int:
    return max(0, min(cells - 1, round(share * (cells - 1))))


def _canvas(dots: Sequence[tuple[int, int]], width: int) -> list[list[str]]:
    """Dots joined by straight lines, as rows of characters."""
    bits = [[0] * width for _ in range(HEIGHT)]
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


def _labelled(ticks: dict[int, str], columns: int) -> str:
    """The numbers below the horizontal axis, each under its tick, none over another or beyond the edge."""
    line = ""
    for cell, text in ticks.items():
        start = min(max(MARGIN + 1 + cell - len(text) // 2, 0), columns - len(text))
        line = line.ljust(start) + text if start > len(line) or not line else line
    return line
