"""Where a report goes: the chosen format, to stdout or to a file that is written whole or not at all."""

import codecs
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from memcalc.errors import Unwritable, printable
from memcalc.report.report import Report, Table

OWN = ("perfetto", "github", "sarif", "junit")  # formats of one command, each a module of its own
SIMPLER = {"×": "x", "—": "-", "≈": "~", "→": ">", "≥": ">", "≤": "<", "…": ".", "·": ".", "−": "-", "’": "'"}  # one for one


def render(
    report: Report, format_: str, *, get: tuple[str, ...] = (), terminal: bool = False, unicode: bool = False,
    whole: bool = False,
) -> str:  # fmt: skip
    """The report as text in one of report.FORMATS, or fields of its document, one a line. Whatever it quotes is made printable.

    `unicode`: a table with all characters; else with those that stdout knows. `whole`: with all that hides behind a flag."""
    if get:
        from memcalc.report.json import field

        return "\n".join(field(report.document, path) for path in get)
    if format_ == "json":
        from memcalc.report import json

        return json.render(report)
    if format_ == "csv":
        from memcalc.report import csv

        return csv.render(readable(report))
    if whole:
        report = report.whole()
    if format_ == "markdown":
        from memcalc.report import markdown

        return markdown.render(readable(report))
    report = readable(report)
    if format_ == "html":
        from memcalc.report import html

        return html.render(report)
    if format_ in OWN:
        from importlib import import_module

        text: str = import_module(f"memcalc.report.{format_}").render(report)
        return text
    if format_ == "svg":
        from memcalc.report import svg

        return svg.render(report)
    from memcalc.report import table

    return table.render(report, terminal=terminal, unicode=unicode)


def write(text: str, path: str | None, *, people: bool = True) -> None:
    """To stdout, or to a file. Files are UTF-8, and so is on stdout what programs read: the same bytes everywhere; what
    `people` read has the characters that their terminal knows."""
    if path is None:
        _to_stdout(text + "\n", people)
        return
    try:
        _to_file(text + "\n", path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise Unwritable(reason, place=f"--output {path}") from None


def _to_stdout(text: str, people: bool) -> None:
    out = sys.stdout
    if out is None:
        raise Unwritable("it is closed")
    encoding = getattr(out, "encoding", None) or "utf-8"
    try:
        if (people and _encodes(text, encoding)) or codecs.lookup(encoding).name == "utf-8" or not hasattr(out, "buffer"):
            out.write(text)
        else:
            out.flush()
            out.buffer.write(_in(encoding, text) if people else text.encode("utf-8", "replace"))
        out.flush()
    except BrokenPipeError:  # the reader (head, less) has all it wants; what is left must not fail again at exit
        _discard(out)
    except (OSError, ValueError) as error:  # ValueError: closed
        _discard(out)
        raise Unwritable(getattr(error, "strerror", None) or error) from None


def _encodes(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _in(encoding: str, text: str) -> bytes:
    """Text for people in an encoding that lacks some of its characters."""
    lacking = {char for char in set(text) if not _encodes(char, encoding)}
    return text.translate({ord(char): SIMPLER.get(char, "?") for char in lacking}).encode(encoding)


def _discard(stream: TextIO) -> None:
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # no file behind it
        sys.stdout = None


def readable(report: Report) -> Report:
    """The report with all that is shown of it printable: names come from files, folders and the command line."""

    def row(cells: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(printable(value) if isinstance(value, str) else value for value in cells)

    def tables(every: Sequence[Table]) -> tuple[Table, ...]:
        return tuple(table._replace(title=printable(table.title), rows=[row(cells) for cells in table.rows]) for table in every)

    return report._replace(
        heading=printable(report.heading),
        settings=printable(report.settings),
        verdict=printable(report.verdict),
        timing=printable(report.timing),
        warnings=tuple(map(printable, report.warnings)),
        notes=tuple(map(printable, report.notes)),
        assumptions=tuple(map(printable, report.assumptions)),
        tables=tables(report.tables),
        details=tables(report.details),
    )


def write_row(text: str, path: str, option: str) -> None:
    """A file in a folder that may not be there yet. Raises Unwritable naming the `option` that asked for it."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _to_file(text, path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise Unwritable(getattr(error, "strerror", None) or error, place=option) from None


def _to_file(text: str, path: str) -> None:
    """Through a temporary file beside it, so that a failure leaves no half-written one; pipes and devices directly."""
    path = os.path.realpath(path) if os.path.isfile(path) else path
    special = os.path.exists(path) and not os.path.isfile(path)
    temporary = path if special else f"{path}.part{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        if not special:
            os.replace(temporary, path)
    finally:
        if not special and os.path.exists(temporary):
            os.unlink(temporary)
