"""The report of `memcalc chinchilla`."""

from dataclasses import asdict
from decimal import Decimal
from typing import Any

from memcalc.estimates.compute.scaling import Judgement, LawOptimum, ScalingAnswer
from memcalc.formulas.law_forms import Point
from memcalc.report.plot import Plot, PlotMark
from memcalc.report.report import SCHEMA, Column, Report, Table, more
from memcalc.sources import SOURCES
from memcalc.specs.scaling import ScalingQuestion
from memcalc.units import PF_DAY, format_count, format_flops


def report(question: ScalingQuestion, found: ScalingAnswer, name: str = "") -> Report:
    tables = [_optima_table(found)]
    if found.judgements:
        tables.append(_judgement_table(found))
    tables += _served_tables(found) + _repetition_tables(found)
    notes = []
    if any(entry.outside for entry in found.optima):
        notes.append("* extrapolates: --format json says by how much")
    if any(entry.point.active is not None for entry in found.optima):
        notes.append("krajewski counts all parameters of a mixture of experts, and tokens per active one")
    small = list(found.assumptions)
    if any("exponent of parameters" in (entry.law.ranges or {}) for entry in found.optima):
        small.append("published range: of the exponent a in N ~ C^a, or of the surface's own exponents")
    small += [f"{entry.law.name}: {entry.law.note}" for entry in found.optima if entry.law.note and len(found.optima) <= 3]
    return Report(
        document(question, found, name),
        tuple(tables),
        _heading(question, found, name),
        _verdict(found),
        notes=tuple(notes),
        pictures=_pictures(found),
        warnings=tuple(warning for warning in found.warnings if " extrapolates: " not in warning),
        assumptions=tuple(small),
        more=more(small, _cited(found), "--details"),
    )


def document(question: ScalingQuestion, found: ScalingAnswer, name: str = "") -> dict[str, Any]:
    """The JSON contract of `chinchilla`."""
    given = {field: value for field, value in question.model_dump().items() if value not in (None, ())}
    out: dict[str, Any] = {
        "schema": SCHEMA,
        "command": "chinchilla",
        "given": {**given, "law": list(question.law)},
        "optimal": _point_document(found.chosen),
        "laws": [_law_document(entry) for entry in found.optima],
    }
    if found.given:
        out["model"] = _model_document(found, found.given, name)
    if found.served:
        life = found.served.best
        out["inference"] = {
            "law": found.chosen.law.name,
            "served_tokens": found.served.tokens,
            "parameters": _whole(life.parameters),
            "tokens": _whole(life.tokens),
            "tokens_per_parameter": life.tokens_per_parameter,
            "loss": life.loss,
            "lifetime_flops": _whole(life.flops),
            "compute_optimal_lifetime_flops": _whole(life.compute_optimal_flops),
            "asked_lifetime_flops": _whole(found.served.start_flops),
            "saved": life.saved,
        }
    if found.repetition:
        again = found.repetition
        out["repetition"] = {
            "law": "muennighoff",
            "unique_tokens": again.unique,
            "tokens": _whole(again.tokens),
            "epochs": again.epochs,
            "effective_tokens": _whole(again.effective_tokens),
            "most_effective_tokens": _whole(again.most_effective_tokens),
            "optimal": {
                "parameters": _whole(again.best.parameters),
                "tokens": _whole(again.best.tokens),
                "epochs": again.best_epochs,
                "loss": again.best.loss,
            },
        }
    out["assumptions"] = list(found.assumptions)
    out["warnings"] = list(found.warnings)
    out["sources"] = {key: SOURCES[key]._asdict() for key in _cited(found)}
    return out


def _cited(found: ScalingAnswer) -> dict[str, None]:
    keys = [entry.law.source for entry in found.optima]
    keys += ["sardana-2024"] if found.served else []
    keys += ["muennighoff-2023"] if found.repetition else []
    return dict.fromkeys(["kaplan-2020", *keys])  # C = 6ND


def _point_document(entry: LawOptimum) -> dict[str, Any]:
    point = entry.point
    out: dict[str, Any] = {
        "law": entry.law.name,
        "parameters": _whole(point.parameters),
        "tokens": _whole(point.tokens),
        "flops": _whole(point.flops),
        "loss": point.loss,
        "tokens_per_parameter": point.tokens_per_parameter,
    }
    if point.active is not None:
        out |= {"active_parameters": _whole(point.active), "granularity": point.granularity}
    return out


def _law_document(entry: LawOptimum) -> dict[str, Any]:
    law = entry.law
    return _point_document(entry) | {
        "title": law.title,
        "counts": law.counts,
        "constants": asdict(law.form),  # type: ignore[call-overload]
        "fitted_on": {quantity: list(bounds) for quantity, bounds in law.tested.items()},
        "extrapolates": list(entry.outside),
        "ranges": {constant: list(bounds) for constant, bounds in (law.ranges or {}).items()},
        "confidence": law.confidence,
        "note": law.note,
        "source": f"{law.source}: {law.place}",
    }


def _model_document(found: ScalingAnswer, given: Point, name: str) -> dict[str, Any]:
    entries = [_judgement_document(entry) for entry in found.judgements]
    chosen = next((entry for entry in entries if entry["law"] == found.chosen.law.name), {"law": found.chosen.law.name})
    return {
        "name": name,
        "parameters": _whole(given.parameters),
        "tokens": _whole(given.tokens),
        "flops": _whole(given.flops),
        "tokens_per_parameter": given.tokens_per_parameter,
        **chosen,
        "laws": entries,
    }


def _judgement_document(entry: Judgement) -> dict[str, Any]:
    return {
        "law": entry.law.name,
        "optimal_tokens": _whole(entry.optimal_tokens),
        "over_training": entry.over_training,
        "loss": entry.loss,
        "loss_left": entry.loss_left,
        "equivalent_flops": None if entry.equivalent_flops is None else _whole(entry.equivalent_flops),
    }


# --- tables -----------------------------------------------------------------------------------------------------------


def _optima_table(found: ScalingAnswer) -> Table:
    columns = (
        Column("law"), Column("parameters", "count"), Column("tokens", "count"), Column("tokens / N", "number"),
        Column("FLOP", "count", "FLOP", spare=1), Column("loss", "number"), Column("published range", spare=2),
    )  # fmt: skip
    rows = [
        (entry.law.name + (" *" if entry.outside else ""), _whole(entry.point.parameters), _whole(entry.point.tokens),
         _short(entry.point.tokens_per_parameter), _whole(entry.point.flops), _rounded(entry.point.loss), _range(entry))
        for entry in found.optima
    ]  # fmt: skip
    beyond = " (* beyond what it was fitted on)" if any(entry.outside for entry in found.optima) else ""
    chosen = found.optima.index(found.chosen)
    marks = {chosen: "answers"} if len(rows) > 1 else {}
    return Table(f"Compute-optimal, by law{beyond}", columns, rows, frozenset({chosen}), marks=marks)


def _range(entry: LawOptimum) -> str:
    """Published ranges of the exponents alone; the constants' are in the JSON."""
    ranges = entry.law.ranges or {}
    shown = {"exponent of parameters": "a", "alpha": "alpha", "beta": "beta"}
    return ", ".join(f"{shown[key]} {ranges[key][0]:g}–{ranges[key][1]:g}" for key in shown if key in ranges) or "—"


def _judgement_table(found: ScalingAnswer) -> Table:
    columns = (
        Column("law"), Column("optimal tokens for its size", "count"), Column("its tokens / those", "number"),
        Column("its loss", "number"), Column("left on the table", "number"), Column("same loss from FLOP", "count"),
    )  # fmt: skip
    rows = [
        (entry.law.name, _whole(entry.optimal_tokens), _short(entry.over_training), _rounded(entry.loss),
         _rounded(entry.loss_left), None if entry.equivalent_flops is None else _whole(entry.equivalent_flops))
        for entry in found.judgements
    ]  # fmt: skip
    names = [entry.law.name for entry in found.judgements]
    chosen = {names.index(found.chosen.law.name)} if found.chosen.law.name in names else set()
    return Table("The model given: how far from optimal", columns, rows, frozenset(chosen))


def _served_tables(found: ScalingAnswer) -> list[Table]:
    served = found.served
    if served is None:
        return []
    columns = (Column("for the same loss"), Column("parameters", "count"), Column("tokens", "count"),
               Column("per parameter", "number"), Column("FLOP with serving", "count"))  # fmt: skip
    start, best = served.start, served.best
    rows = [
        ("as given" if found.given else "compute-optimal", _whole(start.parameters), _whole(start.tokens),
         _short(start.tokens_per_parameter), _whole(served.start_flops)),
        ("least over its life", _whole(best.parameters), _whole(best.tokens), _short(best.tokens_per_parameter),
         _whole(best.flops)),
    ]  # fmt: skip
    title = f"Serving {format_count(served.tokens)} tokens too ({found.chosen.law.name})"
    return [Table(title, columns, rows, frozenset({1}))]


def _repetition_tables(found: ScalingAnswer) -> list[Table]:
    again = found.repetition
    if again is None:
        return []
    columns = (Column("run"), Column("parameters", "count"), Column("tokens", "count"), Column("epochs", "number"),
               Column("worth fresh tokens", "count"))  # fmt: skip
    run = found.given or found.chosen.point
    rows = [
        ("as given" if found.given else f"optimum of {found.chosen.law.name}", _whole(run.parameters), _whole(again.tokens),
         _short(again.epochs), _whole(again.effective_tokens)),
        ("optimum with repetition", _whole(again.best.parameters), _whole(again.best.tokens), _short(again.best_epochs),
         _whole(again.best_effective_tokens)),
    ]  # fmt: skip
    return [Table(f"On {format_count(again.unique)} unique tokens (muennighoff)", columns, rows, frozenset({1}))]


def _whole(value: float) -> int:
    """A count without the dust that floats leave beyond fifteen digits; whole numbers as they are."""
    return value if isinstance(value, int) else round(Decimal(f"{value:.15g}"))


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


# --- words and pictures -----------------------------------------------------------------------------------------------


def _heading(question: ScalingQuestion, found: ScalingAnswer, name: str) -> str:
    days = "" if found.flops is None else f"{format_flops(found.flops)}, {format_count(found.flops / PF_DAY)} petaFLOP/s-days"
    model = f"{name}, " if name else ""
    if found.given:
        sizes = f"{format_count(found.given.parameters)} parameters on {format_count(found.given.tokens)} tokens"
        return f"{model}{sizes}: {days}"
    if found.flops is not None:
        return f"Compute-optimal training for {days}"
    if question.tokens is not None:
        return f"Compute-optimal model for {format_count(question.tokens)} tokens"
    return f"Compute-optimal training of {model}{format_count(found.chosen.point.parameters)} parameters"


def _verdict(found: ScalingAnswer) -> str:
    law, point = found.chosen.law.name, found.chosen.point
    loss = "" if point.loss is None else f", loss {point.loss:.4f}"
    best = f"{law}: {format_count(point.parameters)} parameters on {format_count(point.tokens)} tokens{loss}"
    judged = next((entry for entry in found.judgements if entry.law is found.chosen.law), None)
    if judged is None:
        return best
    left = "" if judged.loss_left is None else f", loss {judged.loss_left:.4f} above the optimum of the same compute"
    return f"{best}; the model given saw {judged.over_training:.3g} × the optimal tokens for its size{left}"


def _pictures(found: ScalingAnswer) -> tuple[Plot, Plot]:
    curves = found.curves
    best, given, law = curves.optimum, curves.given, curves.law.name
    budget = format_flops(found.flops if found.flops is not None else best.flops)
    iso_marks = [PlotMark("O", best.parameters, best.loss or 0.0)]
    compute_marks = [PlotMark("O", best.flops, best.loss or 0.0)]
    legend = f"O optimum ({format_count(best.parameters)} parameters, {format_count(best.tokens)} tokens)"
    if given:
        iso_marks.append(PlotMark("X", given.parameters, given.loss or 0.0))
        compute_marks.append(PlotMark("X", given.flops, given.loss or 0.0))
        legend += "   X the model given (* both)"
    return (
        Plot(f"Loss against parameters at {budget} ({law})", curves.iso_flop, iso_marks, legend),
        Plot(f"Loss of the optimum against FLOP ({law})", curves.frontier, compute_marks, legend),
    )
