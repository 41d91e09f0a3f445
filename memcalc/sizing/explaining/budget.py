"""Every key of `budget`: what was given, what relation each other number was solved from, and FLOPs block by block."""

from memcalc.estimates.compute.budget_estimate import BudgetEstimate
from memcalc.estimates.compute.flops import (
    BlockFlops,
    by_block,
)
from memcalc.estimates.explanation import Explanation, follows, given, of_figure, of_formula
from memcalc.formulas import compute, energy
from memcalc.formulas.energy import MFU
from memcalc.formulas.formula import ASSUMED
from memcalc.sizing.budget import SizedBudget
from memcalc.sizing.explaining.budget_costs import carbon, cost, cost_bound, energy_kwh, grid, hardware_flops, hours, pue, watts
from memcalc.sizing.explaining.budget_solved import UNITS, per_token, published, solved, step_pass, who, whole
from memcalc.sizing.explaining.keys import Key, Table, stated
from memcalc.sizing.explaining.shared import ALWAYS, GPU, gpu_fact, model_key
from memcalc.specs.hardware import Accelerator


def level_key(a: SizedBudget, key: Key) -> Explanation:
    """flops.levels.*: FLOPs a token, and of all tokens."""
    level = a.levels[key.number()]
    if key.last == "per_token":
        return per_token(a, level, key.path)
    if level.formula is not None and a.tokens and (made := level.figure(a.tokens)):
        return of_figure(made, key.path)._replace(value=key.value)
    return follows(key.path, key.value, "FLOP", "per_token * compute.tokens", per_token(a, level, "per_token"),
                   whole(a, key.at("compute.tokens")))  # fmt: skip


def architecture_key(a: SizedBudget, key: Key) -> Explanation:
    if key.last == "context":
        return sequence_length(a, key)
    return step_pass(a, key.last, key.path)


def block_key(a: SizedBudget, key: Key) -> Explanation:
    """flops.architecture.blocks.*: FLOPs a token and a pair of tokens, times the layers that have the block."""
    assert a.architecture
    row: BlockFlops = by_block(a.architecture, a.seq_len)[key.number()]
    if key.last != "flops":
        return given(key.path, key.value, f"of {row.path}, counted operation by operation")
    share = row.flops / ((row.per_token * a.seq_len + row.per_pair * a.seq_len**2) * row.layers)
    tokens, pairs = a.seq_len * share, a.seq_len**2 * share  # in an encoder-decoder a token passes one of the two
    found = of_formula(key.path, "FLOP", compute.block_flops, per_token=row.per_token, tokens=tokens, per_pair=row.per_pair,
                       pairs=pairs, layers=row.layers)  # fmt: skip
    return found._replace(value=row.flops, certainty=row.certainty)


def sequence_length(a: SizedBudget, key: Key) -> Explanation:
    if a.budget.seq_len is not None:
        return given(key.path, key.value, who(a, "seq_len"), "tokens")
    return given(key.path, key.value, "default of --seq-len, at most the model's context", "tokens", ASSUMED)


def inference_key(a: SizedBudget, key: Key) -> Explanation:
    if key.last == "context":
        return given(key.path, key.value, "only a parameter count is known: no attention scores", "tokens")
    return follows(key.path, key.value, "FLOP", "2 * compute.parameters", whole(a, key.at("compute.parameters")))


# --- the rest ---------------------------------------------------------------------------------------------------------


def equivalent(a: SizedBudget, key: Key) -> Explanation:
    """The same compute on a device that people know, for a day."""
    gpu: Accelerator = a.references[key.number()]
    from memcalc.estimates.compute.budget_estimate import dense_peak, peak_format

    peak = gpu_fact(gpu, "peak", dense_peak(gpu), f"peak.{peak_format(gpu)}", "FLOP/s")
    if key.last == "for_a_day_at_peak":
        return follows(key.path, key.value, "GPUs", "compute.flops / (peak * 86400)", solved(a, "flops"), peak)
    used = solved(a, "mfu") if a.mfu is not None else given("compute.mfu", MFU.value, MFU.note, "share", ASSUMED)
    return follows(key.path, key.value, "GPUs", "compute.flops / (peak * 86400 * compute.mfu)", solved(a, "flops"), peak, used)


def figure_key(a: SizedBudget, key: Key) -> Explanation:
    """lines.*: formulas, with how their inputs came about."""
    made = a.figures[key.number()]
    parts = {
        "flops": lambda: solved(a, "flops", "flops"),
        "accelerator_hours": lambda: hours(a),
        "accelerators": lambda: solved(a, "gpus", "accelerators"),
        "price": lambda: solved(a, "price", "price"),
        "watts": lambda: watts(a, "watts"),
        "pue": lambda: pue(a, "pue"),
        "grid_intensity": lambda: grid(a, "grid_intensity"),
        "peak": lambda: solved(a, "peak", "peak"),
        "mfu": lambda: solved(a, "mfu", "mfu"),
        "utilisation": lambda: solved(a, "mfu", "utilisation"),
        "energy_kwh": lambda: energy_kwh(a, "energy_kwh"),
        "hardware_flops": lambda: hardware_flops(a, "hardware_flops"),
        "model_flops": lambda: solved(a, "flops", "model_flops"),
    }
    known = [parts[name]() for name in made.inputs if name in parts]
    found = of_figure(made, key.path, *(part for part in known if part.value == made.inputs[part.path]))
    if key.last == "value":
        return found
    part = next((part for part in found.parts if part.path == key.last), None)
    return part.named(key.path) if part else given(key.path, key.value, f"put into {made.path}: {found.formula}")


def run_key(a: SizedBudget, key: Key) -> Explanation:
    """run.*: a published run, and what memcalc makes of it."""
    assert a.like
    like = a.like
    if key.steps[1] not in ("computed", "difference"):
        return given(key.path, key.value, published(like.run))
    if key.last == "flops_with_attention":
        run = like.run
        return of_formula(key.path, "FLOP", compute.palm_training_flops, parameters=run.used_parameters, tokens=run.tokens,
                          layers=run.layers, heads=run.heads, head_dim=run.head_dim, seq_len=run.seq_len)  # fmt: skip
    if key.steps[1] == "difference":
        row = like.comparison(key.last)
        computed = _computed(a, like.found, key.last, "computed", row.computed, row.basis)
        return follows(key.path, key.value, "share", "computed / published - 1", computed,
                       given("published", row.published, published(like.run)))  # fmt: skip
    basis = next((row.basis for row in like.comparisons if row.quantity == key.last), "6·N·D")
    return _computed(a, like.found, key.last, key.path, key.value, basis)


def _computed(a: SizedBudget, found: BudgetEstimate, name: str, path: str, value: float | None, basis: str) -> Explanation:
    """A figure of the run's own budget, under the name that it has here."""
    run = a.like.run if a.like else None
    if name == "gpu_hours" and run and found.peak:
        return of_formula(path, "h", compute.accelerator_hours, flops=found.flops, peak=found.peak, utilisation=run.mfu)
    if name == "flops":
        return of_formula(path, "FLOP", compute.dense_training_flops, parameters=found.parameters, tokens=found.tokens)
    makes = {"pf_days": compute.petaflop_days, "energy_kwh": energy.energy_kwh, "co2e_kg": energy.co2e_kg}
    made = next((figure for figure in found.figures if figure.formula is makes.get(name)), None)
    return of_figure(made, path) if made else given(path, value, basis)


def given_key(a: SizedBudget, key: Key) -> Explanation:
    return given(key.path, key.value, who(a, key.last), UNITS.get(key.last, "USD" if key.last == "cost" else ""))


def known_model(a: SizedBudget, key: Key) -> Explanation:
    """model.*: as counted, or nothing but the parameters."""
    if a.model is not None:
        return model_key(a.model, key)
    return whole(a, key.at("compute.parameters")).named(key.path)


ROWS: Table = {
    "model.*": known_model,
    "given.*": given_key,
    "compute.hardware_flops": lambda a, key: hardware_flops(a, key.path),
    "compute.cost_usd": lambda a, key: cost(a, key.path),
    "compute.cost_low_usd": cost_bound("low"),
    "compute.cost_high_usd": cost_bound("high"),
    "compute.watts": lambda a, key: watts(a, key.path),
    "compute.pue": lambda a, key: pue(a, key.path),
    "compute.grid_intensity": lambda a, key: grid(a, key.path),
    "compute.energy_kwh": lambda a, key: energy_kwh(a, key.path),
    "compute.co2e_kg": lambda a, key: carbon(a, key.path),
    "compute.*": whole,
    "gpu.peak": lambda a, key: solved(a, "peak", key.path),
    **GPU,
    "flops.sequence_length": sequence_length,
    "flops.by": stated("given by --flops-by, or its default"),
    "flops.levels.*.per_token": level_key,
    "flops.levels.*.training": level_key,
    "flops.architecture.blocks.*.*": block_key,
    "flops.architecture.*": architecture_key,
    "flops.inference.*": inference_key,
    "equivalents.*.for_a_day_at_peak": equivalent,
    "equivalents.*.for_a_day_at_mfu": equivalent,
    "lines.*.value": figure_key,
    "lines.*.inputs.*": figure_key,
    "run.**": run_key,
    **ALWAYS,
}
