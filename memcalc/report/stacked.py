"""Stacked bars: what each row consists of, part by part, under one limit; the memory of a step, moment by moment."""

from collections.abc import Sequence

from memcalc.frozen import NamedTuple

FILLS = "█▓▒░╳"


class Stacked(NamedTuple):
    """Rows of parts, all in one unit; `limit` is drawn across all rows."""

    title: str
    rows: Sequence[str]
    parts: Sequence[str]
    values: Sequence[Sequence[float]]  # by row, by part
    texts: Sequence[str]  # how people read each row's sum
    limit: float | None = None
    legend: str = ""

    @property
    def most(self) -> float:
        """The longest bar, or the limit."""
        return max([*(sum(row) for row in self.values), self.limit or 0.0]) or 1.0

    def drawn(self, columns: int) -> str:
        """In characters, each part in a fill of its own; | is the limit.

        >>> print(Stacked("", ("a", "bb"), ("x", "y"), ((2, 2), (8, 0)), ("4", "8"), 6).drawn(14))
        a   ██▓▓  |  4
        bb  ██████|█ 8
        █ x  ▓ y
        """
        from rich.cells import cell_len

        first, last = max(map(cell_len, self.rows)), max(map(cell_len, self.texts))
        width = max(8, columns - first - last - 3)
        lines = []
        for name, values, text in zip(self.rows, self.values, self.texts, strict=True):
            bar, reached = "", 0.0
            for fill, value in zip(FILLS * len(self.parts), values, strict=False):
                reached += value
                bar += fill * (round(reached / self.most * width) - len(bar))
            bar = bar.ljust(width)
            if self.limit:
                edge = min(width - 1, round(self.limit / self.most * width))
                bar = f"{bar[:edge]}|{bar[edge + 1 :]}"
            lines.append(f"{name.ljust(first)}  {bar} {text}")
        lines.append("  ".join(f"{fill} {part}" for fill, part in zip(FILLS * len(self.parts), self.parts, strict=False)))
        return "\n".join(line.rstrip() for line in lines)
