"""CSV: one rectangular table with raw numbers in base units, and no text that a spreadsheet would run as a formula.

A plain listing is written as it is, units in its header. Everything else has one number a row: the table that it stands in, its
level (0 for totals; a row of level 1 is part of one of level 0, so that a sum is taken within one level), the item, the
quantity, its value and its unit.
"""

import csv
import io
from collections.abc import Iterator
from typing import Any

from memcalc.report.report import Column, Quantity, Report, Table

UNITS = {"bytes": "B", "gb": "B", "percent": "share", "error": "share", "rate": "FLOP/s", "flops": "FLOP"}
HEADER = ("table", "level", "item", "quantity", "value", "unit")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets take for a formula (OWASP, CSV injection)


def render(report: Report) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    tables = report.every_table
    if len(tables) == 1 and not report.verdict and not tables[0].levels:
        shown = [i for i, column in enumerate(tables[0].columns) if column.kind != "bar"]
        writer.writerow([_heading(tables[0], i) for i in shown])
        writer.writerows([[_cell(row[i]) for i in shown] for row in tables[0].rows])
        return out.getvalue().rstrip("\n")
    writer.writerow(HEADER)
    if report.verdict:
        writer.writerow(["verdict", 0, _cell(report.heading), "verdict", _cell(report.verdict), ""])
    for table in tables:
        writer.writerows([_cell(value) for value in row] for row in _numbers(table))
    return out.getvalue().rstrip("\n")


def _heading(table: Table, place: int) -> str:
    """A column's title with its unit; of quantities, the one that all of them have."""
    column = table.columns[place]
    units = {row[place].unit for row in table.rows if isinstance(row[place], Quantity) and row[place].value is not None}
    unit = units.pop() if len(units) == 1 else _unit(column)
    return f"{_cell(column.title or 'note')} [{unit}]" if unit else str(_cell(column.title or "note"))


def _unit(column: Column) -> str:
    return column.unit or UNITS.get(column.kind, "")


def _numbers(table: Table) -> Iterator[tuple[Any, ...]]:
    """Each value of a table in a row of its own, under the words in front of it."""
    words = next((i for i, column in enumerate(table.columns) if column.kind != "text"), 1) or 1
    for number, row in enumerate(table.rows):
        item = ", ".join(str(value).strip() for value in row[:words] if value not in (None, ""))
        for column, value in zip(table.columns[words:], row[words:], strict=True):
            if column.kind == "bar" or value is None or value == "":
                continue
            value, unit = (value.value, value.unit) if isinstance(value, Quantity) else (value, _unit(column))
            yield table.title or table.columns[0].title, table.level(number), item, column.title or "note", value, unit


def _cell(value: Any) -> Any:
    """Numbers as they are; text that a spreadsheet would take for a formula, behind an apostrophe.

    >>> _cell(-5), _cell("=1+1"), _cell("--zero 3"), _cell(None)
    (-5, "'=1+1", "'--zero 3", '')
    """
    if isinstance(value, Quantity):
        value = value.value
    if value is None:
        return ""
    foreign = isinstance(value, str) and (value.startswith(FORMULA) or value.lstrip().startswith(FORMULA))
    return f"'{value}" if foreign else value
