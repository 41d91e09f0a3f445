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
from memcalc.estimates.validation_serving import ServingResidual, ServingValidation, serving_distribution
from memcalc.report.report import SCHEMA, Column, Report, Table
from memcalc.specs.served import QUANTITIES
from memcalc.units import counted

NOTES = (
    "error: predicted / measured − 1; median and p90 are of absolute errors",
    "allocated and active compare with per_gpu.peak, reserved with per_gpu.reserved, device (nvidia-smi) with per_gpu.device",
    "low, high: 10th and 90th percentile of measured / predicted − 1; per_gpu.low and high come from those of live tensors",
    "serving: weights, cache and activations as engines log them; kv_tokens_of_memory from the cache's memory as logged, "
    "kv_tokens end to end",
    "reserved and device leave fragmentation to their ranges, per_gpu.reserved_high and device_high",
)


def report(found: Validation, served: ServingValidation, keep: Callable[[Any], bool]) -> Report:
    """Everything that `keep` lets through; the quantiles are always of all rows."""
    residuals = [row for row in found.residuals if keep(row)]
    bounds = [row for row in found.bounds if keep(row)]
    skipped = [row for row in (*found.skipped, *served.skipped) if keep(row)]
    serving = [row for row in served.residuals if keep(row)]
    tables = (_distribution(residuals), _serving_distribution(serving))
    details = (_residuals(residuals), _serving(serving), _bounds(bounds), _skipped(skipped))
    heading = "memcalc against published measurements"
    verdict = (
        f"{len(residuals)} values of training and {len(serving)} of serving, {counted(len(bounds), 'run')} out of memory, "
        f"{counted(len(skipped), 'row')} not predicted"
    )
    return Report(
        _document(found, residuals, bounds, skipped, serving),
        tuple(table for table in tables if table.rows),
        heading,
        verdict,
        notes=NOTES[:1],
        details=tuple(table for table in details if table.rows),
        assumptions=NOTES[1:],
        more="each measurement, and what the columns are: --details",
    )


def _document(found: Validation, residuals: list[Residual], bounds: list[Bound], skipped: list[Skipped],
              serving: list[ServingResidual]) -> dict[str, Any]:  # fmt: skip
    return {
        "schema": SCHEMA,
        "command": "validate",
        "distribution": [row._asdict() for row in distribution(residuals)],
        "residuals": [{**row._asdict(), "error": row.error} for row in residuals],
        "serving": {
            "distribution": [row._asdict() for row in serving_distribution(serving)],
            "residuals": [{**row._asdict(), "unit": QUANTITIES[row.kind], "error": row.error} for row in serving],
        },
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


def _serving_distribution(residuals: list[ServingResidual]) -> Table:
    columns = (
        Column("engine"),
        Column("grade"),
        Column("quantity"),
        Column("rows", "number"),
        Column("median", "percent"),
        Column("p90", "percent"),
        Column("low", "percent"),
        Column("high", "percent"),
    )
    return Table("Serving: how the errors are distributed", columns, [tuple(row) for row in serving_distribution(residuals)])


def _serving(residuals: list[ServingResidual]) -> Table:
    columns = (
        Column("run"),
        Column("engine"),
        Column("quantity"),
        Column("grade"),
        Column("unit"),
        Column("measured", "number"),
        Column("predicted", "number"),
        Column("error", "percent"),
    )
    rows = [
        (row.id, row.engine, row.kind, row.grade, QUANTITIES[row.kind], _whole(row.measured), _whole(row.predicted), row.error)
        for row in residuals
    ]
    return Table("Serving: each measurement", columns, rows)


def _whole(value: float) -> float:
    """Requests at once keep two decimals, bytes and tokens none."""
    return round(value, 2) if value < 10_000 and value % 1 else round(value)


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
    return Table("Each measurement", columns, [(*row[:-1], row.error) for row in residuals])


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
