"""What every command hands to a renderer: one document for machines, a few tables for people."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memcalc.frozen import NamedTuple

if TYPE_CHECKING:
    from memcalc.estimates.explanation import Explanation
    from memcalc.report.heatmap import HeatMap
    from memcalc.report.plot import Plot
    from memcalc.report.stacked import Stacked

SCHEMA = "memcalc/1"
FORMATS = ("table", "json", "csv", "markdown", "svg", "html")
LEAST = 0.001  # share of a total below which a row that is part of it is left out on a screen


class Quantity(NamedTuple):
    """A cell with a unit of its own: the raw value, its unit, and how people read it."""

    value: float | str | None
    unit: str
    text: str


class Column(NamedTuple):
    """A heading and how its cells read: text, bytes, count, number, percent, error, flops, quantity or bar (a share of 1)."""

    title: str
    kind: str = "text"
    unit: str = ""  # of the raw value, where the kind does not say it
    spare: int = 0  # left out on a narrow screen, the largest first


class Table(NamedTuple):
    """Rows of raw values; `emphasised` rows are totals; `levels`: how deep each lies below a total that it is part of."""

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Any]]
    emphasised: frozenset[int] = frozenset()
    levels: Sequence[int] = ()
    marks: Mapping[int, str] = {}  # a word beside a row that stands out, so that colour is not its only sign
    small: frozenset[int] = frozenset()  # rows that a screen leaves out

    def level(self, row: int) -> int:
        return self.levels[row] if self.levels else 0

    def on_screen(self) -> "Table":
        """Without the small rows."""
        if not self.small:
            return self
        left = [i for i in range(len(self.rows)) if i not in self.small]
        return self._replace(
            rows=[self.rows[i] for i in left],
            emphasised=frozenset(new for new, old in enumerate(left) if old in self.emphasised),
            levels=[self.level(i) for i in left],
            marks={new: self.marks[old] for new, old in enumerate(left) if old in self.marks},
            small=frozenset(),
        )


class Report(NamedTuple):
    """The answer of one command: verdict first, then tables, then what hides behind a flag (`details`, `notes`)."""

    document: dict[str, Any]
    tables: tuple[Table, ...]
    heading: str = ""
    verdict: str = ""
    tone: str = ""  # good, bad, near or "": the colour of the verdict, never its only sign
    notes: tuple[str, ...] = ()  # what should be read with the numbers
    pictures: tuple["Plot | HeatMap", ...] = ()
    pages: tuple[Callable[[], "Plot | Stacked"], ...] = ()  # make further pictures, for which only a page has room
    settings: str = ""  # below the heading
    timing: str = ""  # below the verdict
    warnings: tuple[str, ...] = ()
    details: tuple[Table, ...] = ()  # further tables, and
    assumptions: tuple[str, ...] = ()  # small print, on a screen only where `whole` asks for them
    more: str = ""  # how to get those: one line in their place
    marker: str = ""  # hidden in Markdown: a comment that holds it is this report's earlier one
    trees: "tuple[Explanation, ...]" = ()  # shown in place of the tables where trees can be drawn

    @property
    def every_table(self) -> tuple[Table, ...]:
        return (*self.tables, *self.details)

    def whole(self) -> "Report":
        """With everything on the screen that else hides behind a flag."""
        return self._replace(
            tables=self.every_table, notes=(*self.notes, *self.assumptions), details=(), assumptions=(), more=""
        )  # fmt: skip


def small_rows(shares: Sequence[float], levels: Sequence[int]) -> frozenset[int]:
    """Rows that a screen leaves out: parts below LEAST of the whole, and a part that then stands alone below its sum.

    >>> sorted(small_rows([0.5, 0.4, 0.0001, 0.3, 0.2, 0.1], [1, 2, 2, 1, 2, 2]))
    [1, 2]
    """
    small = {i for i, (share, level) in enumerate(zip(shares, levels, strict=True)) if level and share < LEAST}
    for i, level in enumerate(levels):
        if level == 1:
            below = range(i + 1, next((j for j in range(i + 1, len(levels)) if levels[j] < 2), len(levels)))
            shown = [j for j in below if j not in small]
            small.update(shown if len(shown) == 1 else ())
    return frozenset(small)


MARKS = {"exact": "", "estimate": "~", "assumed": "≈"}  # how sure a number is
CERTAINTY = "~ a formula with a stated error, ≈ a stated constant; everything else is counted exactly"
BRIEFLY = "~ estimated, ≈ assumed, else counted exactly"


def more(assumptions: Sequence[str], sources: Mapping[str, Any], flag: str, *, marked: bool = False) -> str:
    """One line in place of the small print: what the marks mean, how much more there is, and where."""
    from memcalc.units import counted

    much = f"{counted(len(assumptions), 'assumption')}, {counted(len(sources), 'source')}: {flag}, --format json"
    return f"{BRIEFLY}; {much}" if marked else much


def warned(report: Report, warnings: Sequence[str], assumptions: Sequence[str]) -> Report:
    """The report with sentences that go with it, in its document, under its verdict and its tables; none stands twice."""
    document = dict(report.document)
    document["assumptions"] = [*dict.fromkeys((*document.get("assumptions", ()), *assumptions))]
    document["warnings"] = [*dict.fromkeys((*document.get("warnings", ()), *warnings))]
    below, above = dict.fromkeys((*report.notes, *assumptions)), dict.fromkeys((*report.warnings, *warnings))
    return report._replace(document=document, notes=tuple(below), warnings=tuple(above))


def cell(value: Any, kind: str) -> str:
    """One cell as people read it."""
    if value is None:
        return "—"
    if kind == "text":
        return str(value)
    text: str = _CELLS[kind](value)
    return text


def _bytes(value: int) -> str:
    from memcalc.units import format_bytes

    return format_bytes(value)


def _gb(value: float) -> str:
    return f"{value / 1e9:.2f} GB"


def _count(value: int) -> str:
    from memcalc.units import format_count

    return format_count(value)


def _number(value: float | Sequence[Any]) -> str:
    if isinstance(value, Sequence):  # parts of layers, stages
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _rate(value: float) -> str:
    return f"{value / 1e12:,.4g} T"


def _flops(value: float) -> str:
    from memcalc.units import format_flops

    return format_flops(value)


EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
BAR, BEYOND = 20, 8  # characters of a whole bar, and of what lies beyond the whole


def bar(share: float, width: int = BAR) -> str:
    """A bar of eighths for a share of the whole; what lies beyond the whole stands behind its edge, as far as there is room.

    >>> bar(0.5, 4), bar(1.5, 4), bar(9, 4)
    ('██', '████│██', '████│████████▶')
    """
    if share > 1:
        beyond = round((share - 1) * width)
        return "█" * width + "│" + "█" * min(beyond, BEYOND) + "▶" * (beyond > BEYOND)
    eighths = round(max(0.0, share) * width * 8)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8]


_CELLS: dict[str, Callable[[Any], str]] = {
    "bytes": _bytes,
    "gb": _gb,
    "count": _count,
    "number": _number,
    "percent": lambda value: f"{100 * value:.1f} %",
    "error": lambda value: f"{100 * value:+.3f} %",
    "rate": _rate,
    "flops": _flops,
    "quantity": lambda value: value.text,
    "bar": bar,
}
