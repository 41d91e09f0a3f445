"""Tables as CSV: raw numbers in base units, one header a table, tables apart by an empty line."""

import csv
import io
from typing import Any

from memcalc.report.report import Report

FORMULA = ("=", "+", "-", "@")  # what spreadsheets take for the start of a formula (OWASP, CSV injection)


def render(report: Report) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for number, table in enumerate(report.tables):
        if number:
            writer.writerow([])
        shown = [i for i, column in enumerate(table.columns) if column.kind != "bar"]
        writer.writerow([_heading(table.columns[i].title, table.columns[i].kind) for i in shown])
        writer.writerows([[_cell(row[i]) for i in shown] for row in table.rows])
    return out.getvalue().rstrip("\n")


def _cell(value: Any) -> Any:
    """A cell's raw value; text that a spreadsheet would run as a formula has an apostrophe before it.

    >>> _cell("=1+1"), _cell("-1"), _cell(-1), _cell(None)
    ("'=1+1", "'-1", -1, '')
    """
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(FORMULA) else value


def _heading(title: str, kind: str) -> str:
    unit = {"bytes": " [B]", "gb": " [B]", "percent": " [share]", "error": " [share]", "rate": " [FLOP/s]"}.get(kind, "")
    return title + unit
