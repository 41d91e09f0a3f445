"""What memory consists of, part by part: the table that training and serving have in common."""

from collections.abc import Iterable, Sequence
from typing import Any

from memcalc.estimates.lines import Line, weakest
from memcalc.report.report import MARKS, Column, Table, small_rows
from memcalc.report.words import parts


class Memory:
    """Rows of name, bytes, share of the whole and bar, as they are added; levels: 0 a sum, 1 a component, 2 its parts."""

    def __init__(self, whole: int) -> None:
        self.whole, self.rows, self.levels = whole, list[tuple[Any, ...]](), list[int]()

    def add(self, name: str, size: int, level: int) -> int:
        """Add a row; returns its number."""
        share = size / self.whole
        self.rows.append((name, size, share, share if level < 2 else 0.0))
        self.levels.append(level)
        return len(self.rows) - 1

    def component(self, title: str, lines: Sequence[Line], *, experts: bool) -> None:
        """Lines that belong together: their sum, and its parts where there are several."""
        self.add(f"{title} {MARKS[weakest(lines)]}".rstrip(), sum(entry.bytes for entry in lines), 1)
        named = parts(lines, experts=experts)
        for part in named if len(named) > 1 else ():
            self.add(part.title, part.bytes, 2)

    def table(self, title: str, what: str, share: str, totals: Iterable[int]) -> Table:
        columns = (Column(what), Column("memory", "bytes"), Column(share, "percent"), Column("", "bar"))
        small = small_rows([row[2] for row in self.rows], self.levels)
        return Table(title, columns, self.rows, frozenset(totals), self.levels, small=small)
