"""What every command hands to a renderer: one document for machines, a few tables for people."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from memcalc.estimates.explanation import Explanation

SCHEMA = "memcalc/1"
FORMATS = ("table", "json", "csv", "markdown", "svg")


class Column(NamedTuple):
    """A heading and how its cells read: text, bytes, count, number, percent, error, flops or bar (a share of 1)."""

    title: str
    kind: str = "text"


class Table(NamedTuple):
    """Rows of raw values; `emphasised` rows are totals."""

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Any]]
    emphasised: frozenset[int] = frozenset()


class Report(NamedTuple):
    """The answer of one command."""

    document: dict[str, Any]
    tables: tuple[Table, ...]
    heading: str = ""
    verdict: str = ""
    tone: str = ""  # good, bad or "": the colour of the verdict, never its only sign
    notes: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()  # plots in text, drawn by memcalc.report.plot
    trees: "tuple[Explanation, ...]" = ()  # shown in place of the tables where trees can be drawn


def warned(report: Report, warnings: Sequence[str], assumptions: Sequence[str]) -> Report:
    """The report with sentences that go with it, in its document and under its tables; none stands twice."""
    document = dict(report.document)
    document["assumptions"] = [*dict.fromkeys((*document.get("assumptions", ()), *assumptions))]
    document["warnings"] = [*dict.fromkeys((*document.get("warnings", ()), *warnings))]
    notes = dict.fromkeys((*report.notes, *assumptions, *document["warnings"]))
    return report._replace(document=document, notes=tuple(notes))


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


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _rate(value: float) -> str:
    return f"{value / 1e12:,.4g} T"


def _flops(value: float) -> str:
    from memcalc.units import format_flops

    return format_flops(value)


def bar(share: float, width: int = 20) -> str:
    """A bar of eighths for a share between 0 and 1.

    >>> bar(0.5, 4)
    '██'
    """
    eighths = round(max(0.0, min(share, 1.0)) * width * 8)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


_CELLS: dict[str, Callable[[Any], str]] = {
    "bytes": _bytes,
    "gb": _gb,
    "count": _count,
    "number": _number,
    "percent": lambda value: f"{100 * value:.1f} %",
    "error": lambda value: f"{100 * value:+.3f} %",
    "rate": _rate,
    "flops": _flops,
    "bar": bar,
}
