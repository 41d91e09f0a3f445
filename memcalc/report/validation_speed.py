"""The report of `memcalc validate --kind serving-speed`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from memcalc.estimates.validation_speed import (
    SPEED_QUANTITIES,
    SpeedValidation,
    speed_distribution,
    stored_ranges,
)
from memcalc.report.plot import Plot
from memcalc.report.report import SCHEMA, Column, Report, Table
from memcalc.report.scatter import speed_scatters
from memcalc.units import counted

NOTES = (
    "error: predicted / measured − 1 of a time or a rate; median and p90 are of absolute errors; bias: median of predicted / "
    "measured",
    "roofline: the longest of compute, memory and link at its default shares, prompts added to the steps that they interrupt",
    "tpot, ttft_load: closed loop of the stated requests in flight; decode, prefill, ttft: alone; batch: a batch from start to "
    "end; max_throughput: as many requests as memcalc finds room for",
    "constants of operators were fitted to operators; a few of engines (memcalc/formulas/serving_hosts.py, llama.cpp) "
    "were chosen with these rows in view, so the scores are somewhat optimistic",
)


def speed_report(found: SpeedValidation, keep: Callable[[Any], bool]) -> Report:
    """Everything that `keep` lets through; the quantiles are always of all rows."""
    residuals = [row for row in found.residuals if keep(row)]
    skipped = [row for row in found.skipped if keep(row)]
    spreads = speed_distribution(residuals)
    whole = _spreads("How far measured speed lies, by kind of model", [row for row in spreads if row.by == "kind"])
    others = tuple(
        _spreads(f"By {by}", [row for row in spreads if row.by == by])
        for by in ("release", "engine", "gpu", "model")
        if residuals
    )
    each = Table(
        "Each measurement",
        (Column("run"), Column("engine"), Column("quantity"), Column("grade"), Column("unit"), Column("measured", "number"),
         Column("predicted", "number"), Column("error", "percent")),
        [(row.id, row.engine, row.quantity, row.grade, SPEED_QUANTITIES[row.quantity], _digits(row.measured),
          _digits(row.predicted), row.error) for row in residuals],
    )  # fmt: skip
    why = Table(
        "Rows that cannot be predicted", (Column("run"), Column("grade"), Column("why")), [tuple(row) for row in skipped]
    )
    document = {
        "schema": SCHEMA,
        "command": "validate",
        "speed": {
            "distribution": [row._asdict() for row in spreads],
            "residuals": [{**row._asdict(), "unit": SPEED_QUANTITIES[row.quantity], "error": row.error} for row in residuals],
            "quantiles": [row._asdict() for row in stored_ranges(found.residuals)],
        },
        "unpredicted": [row._asdict() for row in skipped],
    }
    return Report(
        document, tuple(table for table in (whole,) if table.rows), "serving speed against published measurements",
        f"{len(residuals):,} values, {counted(len(skipped), 'row')} not predicted", notes=NOTES[:1],
        details=tuple(table for table in (*others, each, why) if table.rows), assumptions=NOTES[1:],
        more="each group and measurement, and what the columns are: --details",
        pages=tuple(partial(_same, plot) for plot in speed_scatters(residuals)),
    )  # fmt: skip


def _same(plot: Plot) -> Plot:
    return plot


def _spreads(title: str, rows: list[Any]) -> Table:
    columns = (
        Column("quantity"), Column("group"), Column("rows", "number"), Column("median", "percent"), Column("p90", "percent"),
        Column("bias", "number"), Column("roofline median", "percent"), Column("roofline p90", "percent"),
    )  # fmt: skip
    cells = [
        (row.quantity, row.group, row.rows, row.median, row.p90, round(row.bias, 2), row.roofline_median, row.roofline_p90)
        for row in rows
    ]
    return Table(title, columns, cells)


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
