"""The report of `memcalc check`."""

from collections.abc import Sequence
from typing import Any

from memcalc.estimates.checking import Outcome, shown
from memcalc.report.report import SCHEMA, Column, Report, Table


def report(outcomes: Sequence[Outcome]) -> Report:
    holds = all(outcome.holds for outcome in outcomes)
    document = {
        "schema": SCHEMA,
        "command": "check",
        "ok": holds,
        "scenarios": [
            {"file": o.file, "name": o.name, "ok": o.holds,
             "remedy": o.remedy or None, "checks": [{**check._asdict(), "margin": check.margin} for check in o.checks]}
            for o in outcomes
        ],
    }  # fmt: skip
    rows: list[tuple[Any, ...]] = [
        ("ok" if check.holds else "EXCEEDED", o.name, check.limit, shown(check.value, check.unit),
         shown(check.allowed, check.unit), check.margin, o.file)
        for o in outcomes
        for check in o.checks
    ]  # fmt: skip
    columns = (Column(""), Column("scenario"), Column("limit"), Column("comes to"), Column("allowed"),
               Column("margin", "percent"), Column("file"))  # fmt: skip
    exceeded = sum(not check.holds for o in outcomes for check in o.checks)
    checks = sum(len(o.checks) for o in outcomes)
    verdict = f"{checks} limits, all hold" if holds else f"{checks} limits, {exceeded} exceeded"
    emphasised = frozenset(index for index, row in enumerate(rows) if row[0] != "ok")
    notes = tuple(f"{o.name} would pass with {o.remedy}" for o in outcomes if o.remedy)
    return Report(document, (Table("", columns, rows, emphasised),), "", verdict, "good" if holds else "bad", notes)
