"""Where a report goes: the chosen format, to stdout or to a file that is written whole or not at all."""

import os
import sys

from memcalc.errors import InputError
from memcalc.report.report import Report


def render(report: Report, format_: str, *, get: str | None = None, terminal: bool = False) -> str:
    """The report as text in one of report.FORMATS, or one field of its document."""
    if get is not None:
        from memcalc.report.json import field

        return field(report.document, get)
    if format_ == "json":
        from memcalc.report import json

        return json.render(report)
    if format_ == "csv":
        from memcalc.report import csv

        return csv.render(report)
    if format_ == "markdown":
        from memcalc.report import markdown

        return markdown.render(report)
    from memcalc.report import table

    return table.render_svg(report) if format_ == "svg" else table.render(report, terminal=terminal)


def write(text: str, path: str | None) -> None:
    """To stdout, or to a file through a temporary one beside it, so that a failure leaves no half-written file."""
    if path is None:
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except UnicodeEncodeError:
            sys.stdout.buffer.write((text + "\n").encode(sys.stdout.encoding or "ascii", "replace"))
        return
    temporary = f"{path}.part{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.replace(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise InputError(f"cannot be written ({error.strerror or error})", place=f"--output {path}") from None
