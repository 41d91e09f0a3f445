"""A heat map: one figure over two settings, as shades of characters or as coloured fields."""

from collections.abc import Sequence

from memcalc.frozen import NamedTuple

SHADES = "░▒▓█"
GAP = 2


class HeatMap(NamedTuple):
    """Rows by columns of one figure; None where there is none, `texts` how people read it."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    texts: Sequence[Sequence[str]]
    legend: str = ""

    def heat(self, row: int, column: int) -> float | None:
        """Between the lowest figure, 0, and the highest, 1."""
        value = self.values[row][column]
        known = [each for line in self.values for each in line if each is not None]
        if value is None:
            return None
        low, high = min(known), max(known)
        return (value - low) / (high - low) if high > low else 0.0

    def drawn(self, columns: int) -> str:
        """In characters: each figure behind its shade.

        >>> print(HeatMap("", ("a", "b"), ("x", "y"), ((1, 2), (3, None)), (("1", "2"), ("3", "—"))).drawn(40))
              x     y
        a  ░░ 1  ▓▓ 2
        b  ██ 3     —
        """
        from rich.cells import cell_len

        cells = [
            [f"{_shade(self.heat(i, j))} {text}" for j, text in enumerate(line)] for i, line in enumerate(self.texts)
        ]  # fmt: skip
        first = max(map(cell_len, self.rows), default=0)
        widths = [max(cell_len(head), *(cell_len(line[j]) for line in cells)) for j, head in enumerate(self.columns)]
        shown = _that_fit(widths, columns - first)
        lines = [" " * first + "".join(" " * GAP + self.columns[j].rjust(widths[j]) for j in shown)]
        for name, line in zip(self.rows, cells, strict=True):
            lines.append(name.ljust(first) + "".join(" " * GAP + line[j].rjust(widths[j]) for j in shown))
        if len(shown) < len(widths):
            lines.append(f"({len(widths) - len(shown)} more columns have no room; --format svg has them)")
        return "\n".join(line.rstrip() for line in lines)


def _shade(heat: float | None) -> str:
    return "  " if heat is None else SHADES[min(len(SHADES) - 1, int(heat * len(SHADES)))] * 2


def _that_fit(widths: Sequence[int], room: int) -> list[int]:
    """The first columns, as many as there is room for; one in any case."""
    out: list[int] = []
    for number, width in enumerate(widths):
        room -= width + GAP
        if room < 0 and out:
            break
        out.append(number)
    return out
