"""The report of `memcalc validate`."""

from collections.abc import Callable
from typing import Any

from memcalc.estimates.validation import (
    Bound,
    Residual,
    Skipped,
    Validation,
    distribution,
    spread,
    stored_beyond,
    stored_quantiles,
)
from memcalc.report.report import SCHEMA, Column, Report, Table

NOTES = (
    "error: predicted / measured − 1; median and p90 are of absolute errors",
    "allocated and active compare with per_gpu.peak, reserved with per_gpu.reserved, device (nvidia-smi) with per_gpu.device",
    "low, high: 10th and 90th percentile of measured / predicted − 1; per_gpu.low and high come from those of live tensors",
    "reserved and device leave fragmentation to their ranges, per_gpu.reserved_high and device_high",
)


def report(found: Validation, keep: Callable[[Any], bool]) -> Report:
    """Everything that `keep` lets through; the quantiles are always of all rows."""
    residuals = [row for row in found.residuals if keep(row)]
    bounds = [row for row in found.bounds if keep(row)]
    skipped = [row for row in found.skipped if keep(row)]
    tables = [_distribution(residuals), _residuals(residuals), _bounds(bounds), _skipped(skipped)]
    heading = (
        f"memcalc against published measurements: {len(residuals)} values, {len(bounds)} runs out of memory, "
        f"{len(skipped)} rows not predicted"
    )
    return Report(
        _document(found, residuals, bounds, skipped),
        tuple(table for table in tables if table.rows),
        heading,
        notes=NOTES,
    )


def _document(found: Validation, residuals: list[Residual], bounds: list[Bound], skipped: list[Skipped]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "command": "validate",
        "distribution": [row._asdict() for row in distribution(residuals)],
        "residuals": [{**row._asdict(), "error": row.error} for row in residuals],
        "out_of_memory": [{**row._asdict(), "verdict": row.verdict} for row in bounds],
        "unpredicted": [row._asdict() for row in skipped],
        "quantiles": [row._asdict() for row in stored_quantiles(found.residuals)],
        "beyond": {kind: row._asdict() for kind, row in stored_beyond(found.residuals).items()},
    }


def _distribution(residuals: list[Residual]) -> Table:
    rows = [tuple(row) for row in distribution(residuals)]
    kinds = sorted({row.kind for row in residuals})
    rows += [tuple(spread([r for r in residuals if r.kind == kind], "all", "all", kind)) for kind in kinds]
    columns = (
        Column("engine"),
        Column("method"),
        Column("kind"),
        Column("rows", "number"),
        Column("median", "percent"),
        Column("p90", "percent"),
        Column("low", "percent"),
        Column("high", "percent"),
    )
    return Table("How the errors are distributed", columns, rows, frozenset(range(len(rows) - len(kinds), len(rows))))


def _residuals(residuals: list[Residual]) -> Table:
    columns = (
        Column("run"),
        Column("engine"),
        Column("method"),
        Column("kind"),
        Column("grade"),
        Column("measured", "bytes"),
        Column("predicted", "bytes"),
        Column("error", "percent"),
    )
    return Table("Each measurement", columns, [(*row, row.error) for row in residuals])


def _bounds(bounds: list[Bound]) -> Table:
    columns = (
        Column("run"),
        Column("grade"),
        Column("predicted", "bytes"),
        Column("at most", "bytes"),
        Column("usable", "bytes"),
        Column("verdict"),
    )
    rows = [(row.id, row.grade, row.predicted, row.high, row.usable, row.verdict) for row in bounds]
    return Table("Runs that ended out of memory", columns, rows)


def _skipped(skipped: list[Skipped]) -> Table:
    columns = (Column("run"), Column("grade"), Column("why"))
    return Table("Rows that cannot be predicted", columns, [tuple(row) for row in skipped])
