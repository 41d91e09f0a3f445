"""Tables as CSV: raw numbers in base units, one header a table, tables apart by an empty line."""

import csv
import io

from memcalc.report.report import Report


def render(report: Report) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for number, table in enumerate(report.tables):
        if number:
            writer.writerow([])
        shown = [i for i, column in enumerate(table.columns) if column.kind != "bar"]
        writer.writerow([_heading(table.columns[i].title, table.columns[i].kind) for i in shown])
        writer.writerows([["" if row[i] is None else row[i] for i in shown] for row in table.rows])
    return out.getvalue().rstrip("\n")


def _heading(title: str, kind: str) -> str:
    unit = {"bytes": " [B]", "gb": " [B]", "percent": " [share]", "error": " [share]", "rate": " [FLOP/s]"}.get(kind, "")
    return title + unit
