"""Tables on a terminal or in a pipe, laid out by rich; colour only on a terminal, width 80 or more in a pipe."""

import io
import os
import re
import sys

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from memcalc.report.report import Report, Table, cell

TONES = {"good": "green", "bad": "red", "": ""}
PIPE_WIDTH = 120


def render(report: Report, *, terminal: bool = False, unicode: bool = False) -> str:
    """The report as text; with colour and the terminal's width only when it goes to one."""
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    console = Console(
        file=io.StringIO(),
        force_terminal=colour,
        no_color=not colour,
        width=None if terminal else PIPE_WIDTH,
        highlight=False,
        legacy_windows=False,
        _environ=_environment(),
    )
    _print(console, report, ascii_only=not unicode and not _can_encode())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in str(text).splitlines())


def render_svg(report: Report) -> str:
    """The same picture as an SVG file, by rich's own exporter."""
    console = Console(file=io.StringIO(), record=True, width=100, force_terminal=True, highlight=False, _environ={})
    _print(console, report, ascii_only=False)
    without_fonts = re.sub(
        r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL
    )  # they are fetched from the web
    return console.export_svg(title=report.heading or "memcalc", code_format=without_fonts)


def _environment() -> dict[str, str]:
    """What rich reads of the environment, without a width that nothing fits into."""
    columns = os.environ.get("COLUMNS", "")
    return {key: value for key, value in os.environ.items() if key != "COLUMNS" or (columns.isdigit() and int(columns) > 0)}


def _print(console: Console, report: Report, *, ascii_only: bool) -> None:
    if report.heading:
        console.print(Text(report.heading, style="bold"))
    if report.trees:
        from memcalc.report.explanation import rich_tree

        for tree in report.trees:
            console.print(rich_tree(tree, ascii_only=ascii_only))
    for table in () if report.trees else report.tables:
        console.print(_table(table, ascii_only=ascii_only))
    for picture in report.pictures:
        console.print(_picture(picture, ascii_only=ascii_only), no_wrap=True, overflow="ignore", crop=False)
    if report.verdict:
        console.print(Text(report.verdict, style=f"bold {TONES[report.tone]}"))
    for note in report.notes:
        console.print(Text(f"  {note}", style="dim"))


def _table(table: Table, *, ascii_only: bool) -> RichTable:
    from rich import box

    grid = RichTable(
        title=table.title or None,
        title_justify="left",
        title_style="bold",
        box=box.ASCII if ascii_only else box.SIMPLE_HEAD,
    )
    for column in table.columns:
        grid.add_column(column.title, justify="left" if column.kind in ("text", "bar") else "right", overflow="fold")
    for number, row in enumerate(table.rows):
        cells = [cell(value, column.kind) for value, column in zip(row, table.columns, strict=True)]
        if ascii_only:
            cells = [text.replace("█", "#").encode("ascii", "replace").decode() for text in cells]
        grid.add_row(*(Text(text) for text in cells), style="bold" if number in table.emphasised else None)
    return grid


def _picture(picture: str, *, ascii_only: bool) -> Text:
    """A plot, in characters that the terminal has."""
    if ascii_only:
        from memcalc.report.plot import as_ascii

        picture = as_ascii(picture)
    return Text(picture + "\n")


def _can_encode() -> bool:
    try:
        "█├—⠿".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
