"""The report of `memcalc validate --kind time`."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from memcalc.estimates.validation import Skipped
from memcalc.estimates.validation_time import KINDS, TimeResidual, TimeScore, scored
from memcalc.report.plot import Plot
from memcalc.report.report import SCHEMA, Column, Report, Table
from memcalc.report.scatter import time_scatters
from memcalc.units import counted

NOTES = (
    "error: predicted / measured − 1 of tokens a second; by groups (one source, model and accelerator) each counts once",
    "grades A and B; rows whose group a factor of the law was set from stand apart",
    "low, high: four fifths of groups lie there, measured / predicted time − 1; the range of a step's time is made of them",
)


def time_report(residuals: Sequence[TimeResidual], skipped: Sequence[Skipped], keep: Callable[[Any], bool]) -> Report:
    """Scores by kind of run, and every row."""
    rows = [row for row in residuals if keep(row)]
    apart, fitted = scored(rows), scored(rows, fitted=True)
    left = [row for row in skipped if keep(row)]
    tables = (_scores("", apart), _scores("Groups that a factor was set from", fitted))
    details = (_rows(rows), Table("Not predicted", (Column("row"), Column("grade"), Column("why")), left))
    return Report(
        {
            "schema": SCHEMA, "command": "validate", "scores": [score._asdict() for score in apart],
            "fitted": [score._asdict() for score in fitted],
            "time": [{**row._asdict(), "error": row.error} for row in rows],
            "skipped": [row._asdict() for row in left],
        },
        tuple(table for table in tables if table.rows), "memcalc against published training speed",
        f"{counted(len(rows), 'run')} timed, {counted(len(left), 'row')} not", notes=NOTES[:1],
        details=tuple(table for table in details if table.rows), assumptions=NOTES[1:],
        more="each run, and what the columns are: --details",
        pages=tuple(partial(_same, plot) for plot in time_scatters(rows)),
    )  # fmt: skip


def _same(plot: Plot) -> Plot:
    return plot


def _scores(title: str, scores: Sequence[TimeScore]) -> Table:
    columns = (
        Column("kind"), Column("runs", "number"), Column("median", "percent"), Column("p90", "percent"),
        Column("groups", "number"), Column("median, by group", "percent"), Column("p90, by group", "percent"),
        Column("low", "percent", spare=1), Column("high", "percent", spare=1),
    )  # fmt: skip
    return Table(title, columns, [(KINDS[score.kind], *score[1:]) for score in scores])


def _rows(rows: Sequence[TimeResidual]) -> Table:
    columns = (
        Column("run"), Column("kind"), Column("GPU"), Column("engine", spare=1), Column("measured", "number", "tokens/s"),
        Column("predicted", "number", "tokens/s"), Column("error", "percent"),
    )  # fmt: skip
    shown = [
        (row.id, row.kind, row.gpu, row.engine, round(row.measured, 1), round(row.predicted, 1), row.error) for row in rows
    ]
    return Table("Tokens a second and GPU", columns, shown)
