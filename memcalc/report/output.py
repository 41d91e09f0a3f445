"""Where a report goes: the chosen format, to stdout or to a file that is written whole or not at all."""

import os
import sys

from memcalc.errors import InputError
from memcalc.report.report import Report


def render(
    report: Report, format_: str, *, get: str | None = None, terminal: bool = False, whole: bool = False
) -> str:  # fmt: skip
    """The report as text in one of report.FORMATS, or one field of its document; `whole`: with all that hides behind a flag."""
    if get is not None:
        from memcalc.report.json import field

        return field(report.document, get)
    if format_ == "json":
        from memcalc.report import json

        return json.render(report)
    if format_ == "csv":
        from memcalc.report import csv

        return csv.render(report)
    if whole:
        report = report.whole()
    if format_ == "markdown":
        from memcalc.report import markdown

        return markdown.render(report)
    if format_ == "svg":
        from memcalc.report import svg

        return svg.render(report)
    from memcalc.report import table

    return table.render(report, terminal=terminal)


def write(text: str, path: str | None) -> None:
    """To stdout, or to a file."""
    if path is None:
        _to_stdout(text + "\n")
        return
    try:
        _to_file(text + "\n", path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be written ({reason})", place=f"--output {path}") from None


def _to_stdout(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except UnicodeEncodeError:
        sys.stdout.buffer.write(text.encode(sys.stdout.encoding or "ascii", "replace"))
    except BrokenPipeError:  # the reader (head, less) has all it wants; what is left must not fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
