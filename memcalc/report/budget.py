"""The report of `memcalc budget`."""

from typing import Any

from memcalc.estimates.compute.budget_estimate import BudgetEstimate
from memcalc.estimates.compute.flops import by_block, decode_flops, prefill_flops, step_flops
from memcalc.estimates.compute.runs import Recomputed
from memcalc.estimates.lines import cited
from memcalc.formulas.formula import CARDS
from memcalc.report.model import model_document
from memcalc.report.report import SCHEMA, Column, Quantity, Report, Table, more
from memcalc.units import counted, format_count, format_duration, format_flops


def report(name: str, found: BudgetEstimate, like: Recomputed | None = None) -> Report:
    flops = flops_document(found)
    tables = [_answer(found)]
    same = [_equivalents(found)] if found.equivalents else []
    if found.gpu is None:  # then it is what says most about so much compute
        tables, same = tables + same, []
    if like is not None:
        tables.append(comparison_table(like))
    verdict, tone = _verdict(found)
    return Report(
        _document(name, found, flops, like),
        tuple(tables),
        _heading(name, found),
        verdict,
        tone,
        warnings=tuple(found.warnings),
        details=(_levels(found), *_passes(flops), *same),
        assumptions=found.assumptions,
        more=more(found.assumptions, cited(found.figures), "--details"),
    )


def _document(name: str, found: BudgetEstimate, flops: dict[str, Any], like: Recomputed | None) -> dict[str, Any]:
    """The JSON contract of `budget`."""
    out: dict[str, Any] = {
        "schema": SCHEMA,
        "command": "budget",
        "model": _model(name, found),
        "given": found.budget.given | ({"cost": found.budget.cost} if found.budget.cost is not None else {}),
        "compute": compute_document(found),
    }
    if found.gpu:
        out["gpu"] = {"name": found.gpu.name, "peak": found.peak, "peak_format": found.peak_format, "tdp": found.gpu.tdp}
    out["flops"] = flops
    out["equivalents"] = [
        {"gpu": row.gpu, "for_a_day_at_peak": row.at_peak, "for_a_day_at_mfu": row.at_mfu} for row in found.equivalents
    ]
    if like is not None:
        out["run"] = run_document(like)
    out["lines"] = [entry.document() for entry in found.figures]
    out["assumptions"] = list(found.assumptions)
    out["warnings"] = list(found.warnings)
    out["sources"] = cited(found.figures)
    return out


def compute_document(found: BudgetEstimate) -> dict[str, Any]:
    """compute.*: what cannot be known is null."""
    low, high = found.cost_range or (None, None)
    return {
        "flops": found.flops,
        "hardware_flops": found.hardware_flops,
        "pf_days": found.pf_days,
        "parameters": found.parameters,
        "tokens": found.tokens,
        "gpu_hours": found.gpu_hours,
        "gpus": found.gpus,
        "days": found.days,
        "mfu": found.mfu,
        "hfu": found.hfu,
        "price_per_gpu_hour": found.price_per_hour,
        "cost_usd": found.cost_usd,
        "cost_low_usd": low,
        "cost_high_usd": high,
        "watts": found.watts,
        "pue": found.pue,
        "grid_intensity": found.grid_intensity,
        "energy_kwh": found.energy_kwh,
        "co2e_kg": found.co2e_kg,
    }


def flops_document(found: BudgetEstimate) -> dict[str, Any]:
    """flops.*: every level by name, and the model's own count taken apart."""
    tokens = found.tokens
    out: dict[str, Any] = {"by": found.budget.flops_by, "sequence_length": found.seq_len, "levels": []}
    for level in found.levels:
        card = CARDS[level.formula] if level.formula else None
        out["levels"].append(
            {
                "name": level.name,
                "title": level.title,
                "kind": level.kind,
                "counts": level.counts,
                "hardware": level.hardware,
                "per_token": level.per_token or None,
                "training": level.flops(tokens) if tokens and level.per_token else None,
                "source": f"{card.source}: {card.place}" if card else None,
            }
        )
    if found.architecture is not None:
        out["architecture"] = _architecture(found)
    elif found.parameters:
        out["inference"] = {"prefill_per_token": 2 * found.parameters, "decode_per_token": 2 * found.parameters, "context": 0}
    return out


def _architecture(found: BudgetEstimate) -> dict[str, Any]:
    architecture, seq_len = found.architecture, found.seq_len
    assert architecture is not None
    whole = step_flops(architecture, 1, seq_len, recompute="full")
    causal = step_flops(architecture, 1, seq_len, causal=True)
    flash = step_flops(architecture, 1, seq_len, attention="flash")
    return {
        "forward_per_token": whole.forward / seq_len,
        "forward_causal_per_token": causal.forward / seq_len,
        "backward_per_token": whole.backward / seq_len,
        "backward_flash_per_token": flash.backward / seq_len,
        "backward_causal_per_token": causal.backward / seq_len,
        "full_recomputation_per_token": whole.recomputation / seq_len,
        "prefill_per_token": prefill_flops(architecture, seq_len, causal=True) / seq_len,
        "decode_per_token": decode_flops(architecture, seq_len),
        "context": seq_len,
        "blocks": [row.document() for row in by_block(architecture, seq_len)],
    }


def _model(name: str, found: BudgetEstimate) -> dict[str, Any]:
    if found.architecture is None and found.parameters is None:
        return {"name": None, "parameters": None, "active_parameters": None, "embedding_parameters": None}
    return model_document(name or format_count(found.parameters or 0), found.architecture, found.parameters or 0)


def _answer(found: BudgetEstimate) -> Table:
    solved = found.budget.given | ({"cost": 0.0} if found.budget.cost is not None else {})
    rows: list[tuple[Any, ...]] = []

    def add(key: str, title: str, value: float | None, unit: str, shown: str) -> None:
        if value is not None:
            rows.append((title, Quantity(_plain(value), unit, shown), "given" if key in solved else ""))

    add("params", "parameters (active)", found.parameters, "", format_count(found.parameters or 0))
    add("tokens", "tokens", found.tokens, "", format_count(found.tokens or 0))
    add("flops", "model FLOPs", found.flops, "FLOP", format_flops(found.flops or 0))
    if found.flops and found.hardware_flops and found.hardware_flops > found.flops:
        add("", "with recomputation", found.hardware_flops, "FLOP", format_flops(found.hardware_flops))
    add("pf_days", "petaFLOP/s-days", found.pf_days, "PF-day", f"{_short(found.pf_days or 0):,}")
    add("gpu_hours", "GPU-hours", found.gpu_hours, "h", f"{_short(found.gpu_hours or 0):,}")
    add("gpus", "GPUs", found.gpus, "", f"{found.gpus or 0:,}")
    add("days", "wall clock", found.days, "days", format_duration((found.days or 0) * 86_400))
    add("mfu", "MFU", found.mfu, "share", f"{100 * (found.mfu or 0):.1f} %")
    add("hfu", "HFU", found.hfu, "share", f"{100 * (found.hfu or 0):.1f} %")
    add("", "cost", found.cost_usd, "USD", f"{found.cost_usd or 0:,.0f} USD")
    if found.cost_range:
        low, high = found.cost_range
        add("", "cost, lowest price", low, "USD", f"{low:,.0f} USD")
        add("", "cost, highest price", high, "USD", f"{high:,.0f} USD")
    add("cost", "cost, ceiling", found.budget.cost, "USD", f"{found.budget.cost or 0:,.0f} USD")
    add("", "energy", found.energy_kwh, "kWh", f"{_short((found.energy_kwh or 0) / 1000):,} MWh")
    add("", "carbon", found.co2e_kg, "kg CO2e", f"{_short((found.co2e_kg or 0) / 1000):,} t CO2e")
    return Table("", (Column("quantity"), Column("value", "quantity"), Column("")), rows)


def _levels(found: BudgetEstimate) -> Table:
    tokens = found.tokens
    rows = [
        (level.kind, level.title + (" (hardware)" if level.hardware else ""), level.per_token or None,
         level.flops(tokens) if tokens and level.per_token else None, level.counts)
        for level in found.levels
    ]  # fmt: skip
    used = {i for i, level in enumerate(found.levels) if level.name == found.budget.flops_by}
    columns = (Column("level"), Column("count"), Column("a token", "flops"), Column("training", "flops"), Column("counts"))
    title = "FLOPs" + (f" (sequences of {found.seq_len:,} tokens)" if found.architecture else "")
    return Table(title, columns, rows, frozenset(used), marks=dict.fromkeys(used, "counted"))


def _passes(flops: dict[str, Any]) -> tuple[Table, ...]:
    """A token's way through the model, where its blocks are known."""
    if (a := flops.get("architecture")) is None:
        return ()
    rows = [
        ("forward", a["forward_per_token"], a["forward_causal_per_token"]),
        ("backward", a["backward_per_token"], a["backward_causal_per_token"]),
        ("full recomputation", a["full_recomputation_per_token"], None),
        (f"prefill of {a['context']:,} tokens", None, a["prefill_per_token"]),
        (f"decode after {a['context']:,} tokens", None, a["decode_per_token"]),
    ]
    columns = (Column("FLOPs a token"), Column("all pairs", "flops"), Column("causal", "flops"))
    return (Table("Passes", columns, rows),)


def _equivalents(found: BudgetEstimate) -> Table:
    used = f"at {100 * found.mfu:.0f} %" if found.mfu else "at 40 %"
    columns = (Column("for one day"), Column("at dense peak", "number"), Column(used, "number"))
    return Table("The same compute", columns, [(r.gpu, _short(r.at_peak), _short(r.at_mfu)) for r in found.equivalents])


def comparison_table(like: Recomputed) -> Table:
    """What a published run reports, and what memcalc computes for it."""
    rows = [
        (row.quantity.replace("_", " "), row.published and _plain(row.published), row.computed and _plain(row.computed),
         None if row.difference is None else row.difference, row.basis)
        for row in like.comparisons
        if row.published is not None or row.computed is not None
    ]  # fmt: skip
    columns = (Column(like.run.name), Column("published", "number"), Column("memcalc", "number"),
               Column("difference", "percent"), Column("from"))  # fmt: skip
    return Table("Beside the published figures", columns, rows)


def run_document(like: Recomputed) -> dict[str, Any]:

    return {
        **like.run.model_dump(),
        "computed": {
            "flops": like.found.flops,
            "pf_days": like.found.pf_days,
            "flops_with_attention": like.attention_flops,
            **{row.quantity: row.computed for row in like.comparisons if row.quantity != "flops"},
        },
        "difference": {row.quantity: row.difference for row in like.comparisons},
        "basis": {row.quantity: row.basis for row in like.comparisons},
    }


def _heading(name: str, found: BudgetEstimate) -> str:
    parts = [name or (f"{format_count(found.parameters)} parameters" if found.parameters else "compute")]
    if found.tokens:
        parts.append(f"{format_count(found.tokens)} tokens")
    if found.gpu:
        parts.append(f"{found.gpus:,} × {found.gpu.name}" if found.gpus else found.gpu.name)
    return ", ".join(parts)


def _verdict(found: BudgetEstimate) -> tuple[str, str]:
    if found.flops is None or found.pf_days is None:
        said = f"{_short(found.gpu_hours or 0):,} GPU-hours"
    else:
        said = f"{format_flops(found.flops)} = {_short(found.pf_days):,} petaFLOP/s-days"
    if found.days is not None and found.gpus:
        said += f"; {format_duration(found.days * 86_400)} on {counted(found.gpus, 'GPU')}"
    if found.over_ceiling:
        return f"OVER THE CEILING of {found.budget.cost:,.0f} USD by {found.over_ceiling:,.0f}: {said}", "bad"
    return said, "good" if found.budget.cost is not None else ""


def _plain(value: float) -> float:
    """Whole where the fraction says nothing, so that it reads 3,278,873 and not 3.27887e+06."""
    return round(value) if 1000 <= value < 1e15 else value


def _short(value: float) -> float:
    return round(value) if value >= 1000 else float(f"{value:.4g}")
