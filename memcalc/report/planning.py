"""The report of `memcalc plan train`: layouts, the best first, and what they are worth over numbers of GPUs."""

from collections.abc import Container, Sequence
from typing import Any

from memcalc.estimates.planning.plan import Offer, Ranked, TrainingPlan
from memcalc.estimates.step_time.step import PARTS
from memcalc.readers.models import Model
from memcalc.report.launching import written
from memcalc.report.launching.launch import toml
from memcalc.report.model import model_document, titled
from memcalc.report.plot import Plot, PlotMark
from memcalc.report.report import SCHEMA, Column, Quantity, Report, Table
from memcalc.units import counted, format_bytes, format_duration

# How the settings of a layout read, in this order; others follow as they are.
WORDS = ("engine", "tp", "pp", "virtual_stages", "cp", "ep", "etp", "zero", "fsdp", "micro_batch", "recompute")
SAID = {"pp": "pp", "virtual_stages": "chunks", "zero": "ZeRO", "fsdp": "FSDP", "micro_batch": "micro-batch"}
UNSAID = (
    "gpus",
    "sequence_parallel",
    "pipeline_schedule",
    "count_embedding",
    "count_loss",
    "pipeline_layout",
    "cp_kind",
    "grad_accum",
    "seq_len",
)


def report(model: Model, plan: TrainingPlan, assumptions: tuple[str, ...]) -> Report:
    document = {
        "schema": SCHEMA,
        "command": "plan",
        "model": model_document(model.name, model.architecture, model.parameters),
        "plan": [ranked_document(row) for row in plan.ranked],
        "plan_of": {
            "candidates": plan.candidates,
            "estimated": plan.estimated,
            "fitting": plan.fitting,
            "seconds": plan.seconds,
        },
        "offers": [offer._asdict() for offer in plan.offers],
        "nearest_miss": ranked_document(plan.nearest) if plan.nearest else None,
        "assumptions": list(assumptions),
        "warnings": [plan.note] if plan.note else [],
    }
    heading = f"{titled(model)}: {_subject(plan)}" if plan.ranked else titled(model)
    verdict, tone = _verdict(plan)
    tables = [_table(plan)] if plan.ranked else []
    if len(plan.offers) > 1:
        tables.append(_offers(plan.offers))
    return Report(
        document, tuple(tables), heading, verdict, tone, notes=_notes(plan, assumptions),
        pictures=(_pareto(plan.offers),) if len({offer.gpus for offer in plan.offers}) > 1 else (),
    )  # fmt: skip


def _subject(plan: TrainingPlan) -> str:
    gpus = sorted({row.settings["gpus"] for row in plan.ranked})
    names = ", ".join(dict.fromkeys(row.gpu.name for row in plan.ranked))
    return f"{'/'.join(f'{count:,}' for count in gpus[:6])} × {names}"


def _verdict(plan: TrainingPlan) -> tuple[str, str]:
    looked = f"{counted(plan.candidates, 'layout')} in {plan.seconds:.1f} s"
    if plan.ranked:
        best, common = plan.ranked[0], alike([row.settings for row in plan.ranked])
        spent = "".join(f", {text}" for text in (_days(best.days), _usd(best.cost)) if text)
        return (
            f"{layout_words(best.settings, alike=common)}: {format_duration(best.time.seconds)} a step, "
            f"{best.time.tokens_per_second:,.0f} tokens/s{spent} (best of {looked})"
        ), "good" if best.fit.verdict == "fits" else "near"
    if plan.nearest:
        near = plan.nearest
        return (
            f"no layout fits (of {looked}); nearest: {layout_words(near.settings, alike=alike([near.settings]))}, "
            f"{format_bytes(near.fit.needed.bytes)} "
            f"needed, {format_bytes(-near.fit.headroom)} too much"
        ), "bad"
    return f"no layout: {plan.note}" if plan.note else "no layout", "bad"


def alike(layouts: Sequence[dict[str, Any]]) -> set[str]:
    """Settings that all layouts have in common: they are the run's, not a layout's.

    >>> sorted(alike([{"tp": 1, "optimizer": "adamw"}, {"tp": 2, "optimizer": "adamw"}]))
    ['optimizer']
    """
    first, *others = layouts
    return {name for name, value in first.items() if all(other.get(name) == value for other in others)}


def layout_words(settings: dict[str, Any], *, engine: bool = True, alike: Container[str] = ()) -> str:
    """A layout in words; `engine`: its name too; `alike`: what needs no word but where it is one of a layout's own.

    >>> layout_words({"engine": "torch", "gpus": 8, "tp": 2, "fsdp": "full", "micro_batch": 4, "grad_accum": 2})
    'torch, tp 2, FSDP full, micro-batch 4 × 2'
    """
    parts = []
    for name in (*WORDS, *(name for name in settings if name not in WORDS and name not in UNSAID)):
        value = settings.get(name)
        if value is None or value is False or value == () or (name in alike and name not in WORDS):
            continue
        if name == "engine":
            parts += [str(value)] * engine
        elif name == "micro_batch":
            parts.append(f"micro-batch {value} × {settings.get('grad_accum', 1)}")
        else:
            parts.append(SAID.get(name, name.replace("_", " ")) + ("" if value is True else f" {_shown(value)}"))
    if not any(name in settings for name in ("zero", "fsdp")) and settings.get("gpus", 1) > 1:
        parts.insert(1 if engine and "engine" in settings else 0, "DDP")
    return ", ".join(parts)


def _shown(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


def ranked_document(row: Ranked) -> dict[str, Any]:
    """A layout as JSON has it."""
    return {
        "rank": row.rank,
        "layout": layout_words(row.settings),
        "gpu_name": row.gpu.name,
        "settings": {name: list(value) if isinstance(value, tuple) else value for name, value in row.settings.items()},
        "command": row.command,
        "per_gpu": {"peak": row.peak, "needed": row.fit.needed.bytes, "needed_high": row.fit.needed.high},
        "gpu": {"verdict": row.fit.verdict, "limit": row.fit.limit, "headroom": row.fit.headroom},
        "time": time_document(row),
        "launch": {each.file: each.text for each in written(row.model, row.settings, row.gpus_per_node)},
        "sizing": sizing_text(row),
        "lost": row.lost or None,
    }


def sizing_text(row: Ranked) -> str:
    """A sizing file for `check`: this layout must not end in "no"."""
    from memcalc.specs.parallelism import Parallelism

    said = {name: value for name, value in row.settings.items() if value is not None}
    return toml(
        {
            "": {"model": row.model, "gpu": row.gpu.id},
            "training": {name: value for name, value in said.items() if name not in Parallelism.model_fields},
            "training.parallelism": {name: value for name, value in said.items() if name in Parallelism.model_fields},
            "limits": {"verdict": "tight"},
        }
    )


def time_document(row: Ranked) -> dict[str, Any]:
    """As `train` has it, and days and money."""
    found = row.time
    return {
        "step_seconds": found.seconds, "step_seconds_low": found.low, "step_seconds_high": found.high,
        "tokens_per_second": found.tokens_per_second, "tokens_per_second_per_gpu": found.tokens_per_second_per_gpu,
        "mfu": found.mfu, "hfu": found.hfu, "parts": dict(zip(PARTS, found.parts, strict=True)),
        "days": row.days, "cost_usd": row.cost,
    }  # fmt: skip


def _table(plan: TrainingPlan) -> Table:
    best = plan.ranked[0]
    several = len({(row.gpu.id, row.settings["gpus"]) for row in plan.ranked}) > 1
    columns = [Column("#", "number"), Column("layout")]
    columns += [Column("on")] * several
    columns += [Column("step", "quantity"), Column("tokens/s/GPU", "number"), Column("MFU", "percent", spare=1)]
    if best.days is not None:
        columns += [Column("days", "quantity"), Column("USD", "quantity", spare=2)]
    columns += [Column("needed", "bytes"), Column("verdict"), Column("against the first", spare=3)]
    engines = len({row.settings.get("engine") for row in plan.ranked}) > 1
    common = alike([row.settings for row in plan.ranked])
    rows = []
    for row in plan.ranked:
        cells: list[Any] = [row.rank, layout_words(row.settings, engine=engines, alike=common)]
        cells += [f"{row.settings['gpus']:,} × {row.gpu.name}"] * several
        cells += [Quantity(row.time.seconds, "s", format_duration(row.time.seconds)),
                  round(row.time.tokens_per_second_per_gpu), row.time.mfu]  # fmt: skip
        if best.days is not None:
            cells += _spent(row.days, row.cost)
        rows.append((*cells, row.fit.needed.bytes, row.fit.verdict, row.lost))
    return Table("", tuple(columns), rows)


def _offers(offers: tuple[Offer, ...]) -> Table:
    """The best of each number of GPUs and accelerator."""
    days = offers[0].days is not None
    columns = (Column("best on"), Column("GPUs", "number"), Column("tokens/s", "number"), Column("step", "quantity"),
               *((Column("days", "quantity"), Column("USD", "quantity")) if days else ()), Column("worth it"))  # fmt: skip
    rows = [
        (offer.gpu, offer.gpus, round(offer.tokens_per_second), Quantity(offer.seconds, "s", format_duration(offer.seconds)),
         *(_spent(offer.days, offer.cost) if days else ()),
         "yes" if offer.efficient else "no: another is faster and cheaper")
        for offer in offers
    ]  # fmt: skip
    return Table("Numbers of GPUs and accelerators", columns, rows)


def _spent(days: float | None, cost: float | None) -> tuple[Quantity, Quantity]:
    return Quantity(days, "d", _days(days)), Quantity(cost, "USD", _usd(cost) or "—")


def _pareto(offers: tuple[Offer, ...]) -> Plot:
    """Time over numbers of GPUs; O: nothing is both faster and cheaper."""

    def height(offer: Offer) -> float:
        return offer.days if offer.days is not None else 1e6 / offer.tokens_per_second

    best = {count: min(height(offer) for offer in offers if offer.gpus == count) for count in {offer.gpus for offer in offers}}
    line = [(float(count), best[count]) for count in sorted(best)]
    marks = [PlotMark("O" if offer.efficient else "x", float(offer.gpus), height(offer)) for offer in offers]
    what = "days" if offers[0].days is not None else "seconds a million tokens"
    return Plot(f"{what} over GPUs", line, marks, "O nothing is both faster and cheaper, x something is",
                "{:,.4g}".format, tuple(x for x, _ in line) if len(line) <= 8 else ())  # fmt: skip


def _notes(plan: TrainingPlan, assumptions: tuple[str, ...]) -> tuple[str, ...]:
    if not plan.ranked:
        most = plan.why.most_common(3)
        return (*(f"{count:,} × {why}" for why, count in most), *assumptions)
    how = f"the first: {plan.ranked[0].command}"
    return (how, *assumptions, "every command, launch file and sizing file: --format json (plan[].command, launch, sizing)")


def _days(days: float | None) -> str:
    return "" if days is None else format_duration(days * 86_400)


def _usd(cost: float | None) -> str:
    return "" if cost is None else f"{cost:,.0f} USD"
