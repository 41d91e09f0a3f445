"""The report of `memcalc runs`: published training runs, recomputed."""

from collections.abc import Sequence
from typing import Any

from memcalc.estimates.compute.runs import Recomputed
from memcalc.report.budget import comparison_table, run_document
from memcalc.report.report import SCHEMA, Column, Report, Table
from memcalc.units import format_count


def report(found: Sequence[Recomputed], text: str | None) -> Report:
    """All runs, those that contain the text."""
    rows = [(_row(each), run_document(each)) for each in found]
    wanted = (text or "").lower()
    kept = [(row, entry) for row, entry in rows if wanted in " ".join(map(str, (entry["id"], *row))).lower()]
    columns = (Column("run"), Column("N", "count"), Column("D", "count"), Column("hardware", spare=1), Column("6·N·D", "flops"),
               Column("PF-days", "number"), Column("of published", "percent", spare=3), Column("hours", "count", spare=2),
               Column("MFU", "percent"), Column("printed", "percent"))  # fmt: skip
    document = {"schema": SCHEMA, "command": "runs", "runs": [entry for _, entry in kept]}
    notes = (
        f"{len(kept)} of {len(found)} match {text!r}" if text else f"{len(kept)} published training runs",
        "N: parameters a token passes; of published: 6·N·D over the published FLOPs; hours: published GPU-hours",
        "MFU: 6·N·D in those hours, lower than the printed one where restarts count; `memcalc runs NAME` for all",
    )
    return Report(document, (Table("", columns, [row for row, _ in kept]),), notes=notes)


def _row(each: Recomputed) -> tuple[Any, ...]:
    run, flops = each.run, each.comparison("flops")
    return (
        run.name, run.used_parameters, run.tokens, run.hardware, flops.computed, float(f"{each.found.pf_days:.4g}"),
        None if flops.published is None else (each.found.flops or 0.0) / flops.published, run.hours,
        each.comparison("mfu").computed, run.mfu,
    )  # fmt: skip


def run_report(each: Recomputed) -> Report:
    """One run in full."""
    run = each.run
    facts: list[tuple[str, Any]] = [
        ("parameters", format_count(run.parameters)),
        ("active parameters", run.active_parameters and format_count(run.active_parameters)),
        ("tokens", format_count(run.tokens)),
        ("hardware", f"{run.gpus:,} × {run.hardware}" if run.gpus else run.hardware),
        ("GPU-hours", run.hours and f"{run.hours:,.0f}"),
        ("days", run.days),
        ("petaFLOP/s-days (6·N·D)", f"{each.found.pf_days:,.4g}"),
        ("with attention (PaLM)", each.attention_flops and f"{each.attention_flops:.4g} FLOP"),
        ("read in a source", "yes" if run.source_seen else "no: arithmetic checked only"),
        ("not read in a source", ", ".join(run.unverified) or None),
    ]
    tables = (Table("", (Column("fact"), Column("value")), facts), comparison_table(each))
    notes = (*run.notes, *(f"source: {source}" for source in run.sources))
    document = {"schema": SCHEMA, "command": "runs", "run": run_document(each)}
    return Report(document, tables, f"{run.id}: {run.name}", notes=notes)
