"""What scenarios differ by from a baseline, as a table of its own and in the document."""

from collections.abc import Sequence
from typing import Any

from memcalc.estimates.baseline import COMPARED, ScenarioChange
from memcalc.report.report import Column, Quantity, Report, Table
from memcalc.units import counted

SHOWN = {"device_memory": ("GiB", 2**30), "days": ("d", 1), "cost_usd": ("USD", 1)}


def with_baseline(report: Report, baseline: str, changes: Sequence[ScenarioChange]) -> Report:
    """The report with the differences before its limits."""
    document = {**report.document, "baseline": {"of": baseline, "scenarios": [_document(change) for change in changes]}}
    rows: list[tuple[Any, ...]] = [
        (change.name, *(_signed(change, name) for name in COMPARED), _verdicts(change), "WORSE" if change.worse else "ok")
        for change in changes
    ]
    columns = (Column("scenario"), *(Column(name, "quantity") for name in COMPARED), Column("verdict"), Column("change"))
    worse = frozenset(index for index, change in enumerate(changes) if change.worse)
    table = Table(f"since {baseline}: {counted(len(worse), 'scenario')} worse", columns, rows, worse)
    return report._replace(document=document, tables=(table, *report.tables))


def _document(change: ScenarioChange) -> dict[str, Any]:
    return {
        "file": change.file, "name": change.name, "worse": change.worse, "difference": change.differences,
        "before": dict(change.before.values) if change.before else None,
        "now": dict(change.now.values) if change.now else None,
    }  # fmt: skip


def _signed(change: ScenarioChange, name: str) -> Quantity:
    """Now less before with its sign; a dash where one of them does not say."""
    unit, size = SHOWN[name]
    found = change.differences.get(name)
    if found is None:
        return Quantity(None, unit, "—")
    return Quantity(found / size, unit, f"{found / size:+,.2f} {unit}" if found else f"0 {unit}")


def _verdicts(change: ScenarioChange) -> str:
    before, now = (None if each is None else each.values["verdict"] for each in (change.before, change.now))
    if before is None or now is None:
        return f"new: {now}" if before is None else "gone"
    return str(now) if before == now else f"{before} → {now}"
