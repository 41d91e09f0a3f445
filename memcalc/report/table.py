"""Reports on a terminal or in a pipe, laid out by rich: within any width, no number broken; colour only on a terminal."""

import io
import os
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from memcalc.report.layout import Laid, grid, stacked, wrapped
from memcalc.report.plot import as_ascii
from memcalc.report.report import Report, Table

if TYPE_CHECKING:
    from memcalc.estimates.explanation import Explanation

TONES = {"good": "green", "near": "yellow", "bad": "red", "": ""}
PIPE_WIDTH, LEAST_WIDTH, MOST_WIDTH = 100, 40, 1000


def render(report: Report, *, terminal: bool = False, unicode: bool = False) -> str:
    """The report as text, as wide as the terminal; in a pipe as COLUMNS says, or 100."""
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    console = Console(
        file=io.StringIO(),
        force_terminal=colour,
        no_color=not colour,
        width=width_of(terminal=terminal),
        highlight=False,
        legacy_windows=False,
        _environ={},
    )
    _print(console, report, ascii_only=not unicode and not _can_encode())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in str(text).splitlines())


def width_of(*, terminal: bool) -> int:
    """Columns to print within."""
    said = os.environ.get("COLUMNS", "")
    columns = int(said) if said.isdecimal() and said.isascii() and len(said) < 6 else 0
    if not columns and terminal:
        try:
            columns = os.get_terminal_size(sys.stdout.fileno()).columns
        except (OSError, ValueError):
            columns = 0
    return max(LEAST_WIDTH, min(columns or PIPE_WIDTH, MOST_WIDTH))


def _print(console: Console, report: Report, *, ascii_only: bool) -> None:
    say = _Printer(console, ascii_only)
    say.lines(report.heading, "bold")
    say.lines(report.settings, indent=2)
    if report.heading and report.verdict:
        say.gap()
    say.lines(report.verdict, f"bold {TONES[report.tone]}")
    say.lines(report.timing, indent=2)
    for warning in report.warnings:
        say.lines(f"warning: {warning}", indent=2)
    for tree in report.trees:
        say.gap()
        say.tree(tree)
    for table in () if report.trees else (each.on_screen() for each in report.tables):
        say.gap()
        say.table(table)
    for plot in report.pictures:
        say.gap()
        say.lines(plot.title, "bold")
        say.as_is(plot.drawn(console.width))
        say.lines(plot.legend)
    if report.notes or report.more:
        say.gap()
    for note in (*report.notes, report.more):
        say.lines(note, "dim", indent=2)


class _Printer:
    """Text, tables and pictures on a console, in characters that it has."""

    def __init__(self, console: Console, ascii_only: bool) -> None:
        self._console, self._ascii, self._begun = console, ascii_only, False

    def gap(self) -> None:
        """An empty line, but not as the first."""
        if self._begun:
            self._console.print()

    def lines(self, text: str, style: str = "", indent: int = 0) -> None:
        """A paragraph, if there is one."""
        for line in wrapped(text, self._console.width, indent) if text else ():
            self.as_is(line, style)

    def as_is(self, text: str, style: str = "") -> None:
        self._begun = True
        said = Text(as_ascii(text) if self._ascii else text, style=style)
        self._console.print(said, no_wrap=True, overflow="ignore", crop=False)

    def tree(self, tree: "Explanation") -> None:
        from memcalc.report.explanation import rich_tree

        self._begun = True
        self._console.print(rich_tree(tree, ascii_only=self._ascii))

    def table(self, table: Table) -> None:
        """As a grid; where its columns have no room side by side, row by row."""
        self.lines(table.title, "bold")
        found = grid(table, self._console.width, ascii_only=self._ascii)
        if found is None:
            for line in stacked(table, self._console.width, ascii_only=self._ascii):
                self.as_is(line)
            return
        self._begun = True
        self._console.print(Padding(_rich(found, self._ascii), (0, 0, 0, 2), expand=False))


def _rich(found: Laid, ascii_only: bool) -> RichTable:
    from rich import box

    out = RichTable(
        box=box.ASCII2 if ascii_only else box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_header=any(column.title for column in found.columns),
    )
    heads = [wrapped(column.title, column.width) for column in found.columns]
    tall = max(map(len, heads))
    for column, lines in zip(found.columns, heads, strict=True):
        title = "\n".join([""] * (tall - len(lines)) + lines)
        out.add_column(Text(title), justify="right" if column.right else "left", width=column.width, overflow="fold")
    for number, cells in enumerate(found.rows):
        out.add_row(*(Text(text) for text in cells), style="bold" if number in found.emphasised else None)
    return out


def _can_encode() -> bool:
    try:
        "█├—⠿▶←≈".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
