"""The report of `memcalc check`."""

from collections.abc import Sequence
from typing import Any

from memcalc.errors import Problem
from memcalc.estimates.checking import Outcome, shown
from memcalc.report.report import SCHEMA, Column, Quantity, Report, Table
from memcalc.units import counted

MARKER = "memcalc check"


def report(outcomes: Sequence[Outcome], problems: Sequence[Problem] = ()) -> Report:
    """`problems`: what is wrong with the files of further scenarios."""
    holds = all(outcome.holds for outcome in outcomes) and not problems
    document = {
        "schema": SCHEMA,
        "command": "check",
        "ok": holds,
        "scenarios": [
            {"file": o.file, "line": o.line, "name": o.name, "ok": o.holds,
             "remedy": o.remedy or None, "changes": [change._asdict() for change in o.changes],
             "guessed": o.guessed or None, "warnings": list(o.warnings), "values": dict(o.values),
             "checks": [{**check._asdict(), "margin": check.margin} for check in o.checks]}
            for o in outcomes
        ],
        "errors": [{"file": p.file, "line": p.line, "scenario": p.scenario, "message": p.what} for p in problems],
    }  # fmt: skip
    files = list(dict.fromkeys(o.file for o in outcomes))
    tables = tuple(_table(file if len(files) > 1 else "", [o for o in outcomes if o.file == file]) for file in files)
    exceeded = sum(not check.holds for o in outcomes for check in o.checks)
    limits = counted(sum(len(o.checks) for o in outcomes), "limit")
    guesses = tuple(f"{o.name}: not answered for a guess: {o.guessed}" for o in outcomes if o.guessed)
    warned = tuple(dict.fromkeys(f"{o.name}: {warning}" for o in outcomes for warning in o.warnings))
    failed = f"EXCEEDED: {exceeded} of {limits}" if exceeded or not guesses else "NOT ANSWERED: a model is guessed"
    verdict = f"OK: {limits}, all hold" if holds else failed
    notes = tuple(f"{o.name} would pass with {o.remedy}{_where(o)}" for o in outcomes if o.remedy)
    return Report(
        document,
        tables,
        files[0] if len(files) == 1 else "",
        verdict,
        "good" if holds else "bad",
        notes,
        warnings=(*guesses, *warned),
        marker=MARKER,
    )


def _table(title: str, outcomes: Sequence[Outcome]) -> Table:
    """The limits of one file."""
    rows: list[tuple[Any, ...]] = [
        (o.name, check.limit, _quantity(check.value, check.unit), _quantity(check.allowed, check.unit), check.margin,
         "ok" if check.holds else "EXCEEDED")
        for o in outcomes
        for check in o.checks
    ]  # fmt: skip
    columns = (Column("scenario"), Column("limit"), Column("comes to", "quantity"), Column("allowed", "quantity"),
               Column("margin", "percent"), Column("verdict"))  # fmt: skip
    return Table(title, columns, rows, frozenset(index for index, row in enumerate(rows) if row[5] != "ok"))


def _where(outcome: Outcome) -> str:
    """Which lines of the file that changes."""
    lines = dict.fromkeys(f"{outcome.file}:{change.line}" for change in outcome.changes if change.line)
    return f" ({', '.join(lines)})" if lines else ""


def _quantity(value: float | str, unit: str) -> Quantity:
    return Quantity(value, unit, shown(value, unit))
