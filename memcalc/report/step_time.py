"""A training step's time: the keys under `time`, one line beside the verdict, and its parts."""

from typing import Any

from memcalc.estimates.step_time.horizon import Whole
from memcalc.estimates.step_time.step import PARTS, StepTime
from memcalc.report.report import Column, Quantity, Table
from memcalc.units import format_duration

MFU_COUNTS = "MFU counts attention over unmasked pairs (half of all for causal models); of frozen weights no gradients"


def time_document(step: StepTime, run: Whole | None) -> dict[str, Any]:
    """`time` in the JSON contract."""
    out: dict[str, Any] = {
        "step_seconds": step.seconds,
        "step_seconds_low": step.low,
        "step_seconds_high": step.high,
        "tokens_per_second": step.tokens_per_second,
        "tokens_per_second_per_gpu": step.tokens_per_second_per_gpu,
        "tokens_per_step": step.tokens,
        "mfu": step.mfu,
        "hfu": step.hfu,
        "peak_format": step.peak_format,
        "certainty": step.certainty,
        "parts": dict(zip(PARTS, step.parts, strict=True)),
    }
    if run:
        out |= {"tokens": run.tokens, "days": run.days, "gpu_hours": run.gpu_hours, "cost_usd": run.cost_usd}
    return out


def seconds(value: float) -> str:
    """Three digits, in the unit that reads best.

    >>> seconds(0.0123), seconds(1.5), seconds(7300)
    ('12.3 ms', '1.5 s', '2.03 h')
    """
    return f"{value * 1e3:.3g} ms" if value < 0.1 else format_duration(value)


def time_line(step: StepTime, run: Whole | None) -> str:
    """The step in one line."""
    mark = {"estimate": "~", "assumed": "≈"}.get(step.certainty, "")
    said = f"step {mark}{seconds(step.seconds)} ({seconds(step.low)} to {seconds(step.high)})"
    each = f", {step.tokens_per_second_per_gpu:,.0f} a GPU" if step.gpus > 1 else ""
    said += f" · {step.tokens_per_second:,.0f} tokens/s{each} · MFU {step.mfu:.0%}"
    if step.hfu > step.mfu * 1.01:
        said += f", HFU {step.hfu:.0%}"
    if run:
        said += f" · {format_duration(run.days * 86_400)}"
        said += f", {run.cost_usd:,.0f} USD" if run.cost_usd is not None else ""
    return said


def time_table(step: StepTime) -> Table:
    """The parts, which add up to the step."""
    rows = [
        (name.replace("_", " "), Quantity(part, "s", seconds(part)), part / step.seconds, part / step.seconds)
        for name, part in zip(PARTS, step.parts, strict=True) if part
    ]  # fmt: skip
    rows.append(("step", Quantity(step.seconds, "s", seconds(step.seconds)), 1.0, 1.0))
    columns = (Column("where a step's time goes"), Column("time", "quantity"), Column("share", "percent"), Column("", "bar"))
    return Table("", columns, rows, frozenset({len(rows) - 1}))


def time_sentences(step: StepTime, run: Whole | None, source: str) -> tuple[str, ...]:
    """What the time rests on."""
    s = step.spread
    out = [
        f"time: operators by the law of memcalc.formulas.timing ({step.certainty}; {source}); {MFU_COUNTS}; "
        f"peak: dense {step.peak_format}",
        f"range of the step: {s.low:+.0%} to {s.high:+.0%}, four fifths of {s.groups} groups of published runs ({s.kind})",
    ]
    if run and run.range:
        p = run.range
        out.append(f"price: {p.usual:.2f} USD/h ({p.low:.2f} to {p.high:.2f}), on demand, {p.as_of}: {p.where}")
    return tuple(out)
