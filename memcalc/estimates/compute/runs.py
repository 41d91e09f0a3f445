"""Published training runs recomputed: what memcalc makes of their parameters and tokens, beside what they report."""

from collections.abc import Mapping
from typing import Any

from memcalc.estimates.compute.budget import estimate
from memcalc.estimates.compute.budget_estimate import BudgetEstimate
from memcalc.formulas.compute import accelerator_hours, palm_training_flops
from memcalc.frozen import NamedTuple
from memcalc.specs.budget import Budget
from memcalc.specs.hardware import Accelerator
from memcalc.specs.runs import TrainingRun

COMPARED = ("flops", "gpu_hours", "mfu", "energy_kwh", "co2e_kg")


class Comparison(NamedTuple):
    """One quantity: published, computed, and computed / published - 1."""

    quantity: str
    published: float | None
    computed: float | None
    basis: str  # what the computed figure comes from

    @property
    def difference(self) -> float | None:
        return self.computed / self.published - 1 if self.published and self.computed is not None else None


class Recomputed(NamedTuple):
    run: TrainingRun
    found: BudgetEstimate
    attention_flops: float | None  # 6 N and attention over all pairs (PaLM, appendix B)
    comparisons: tuple[Comparison, ...]

    def comparison(self, quantity: str) -> Comparison:
        return next(row for row in self.comparisons if row.quantity == quantity)


def recompute(run: TrainingRun, gpu: Accelerator | None) -> Recomputed:
    """Compute a run from its parameters and tokens, and its hours or utilisation where they are published."""
    found = estimate(run_budget(run, gpu), gpu=gpu)
    attention = None
    if run.layers and run.heads and run.head_dim and run.seq_len:
        attention = palm_training_flops(run.used_parameters, run.tokens, run.layers, run.heads, run.head_dim, run.seq_len)
    hours = None
    if run.mfu and found.peak:
        hours = accelerator_hours(found.flops or 0.0, found.peak, run.mfu)
    rows = (
        Comparison("flops", run.flops, found.flops, "6·N·D"),
        Comparison("gpu_hours", run.hours, hours, "6·N·D at the published MFU"),
        Comparison("mfu", run.mfu, found.mfu if run.hours else None, "6·N·D in the published hours"),
        Comparison("energy_kwh", run.energy_kwh, found.energy_kwh, "published hours × power × PUE"),
        Comparison("co2e_kg", run.co2e_kg, found.co2e_kg if run.grid_intensity else None, "that energy × grid"),
    )
    return Recomputed(run, found, attention, rows)


HARDWARE = ("gpus", "days", "gpu_hours", "mfu", "hfu", "cost")  # one of these stands in place of a run's own


def like(run: TrainingRun, gpu: Accelerator | None, given: Mapping[str, Any], *, other_gpu: bool) -> dict[str, Any]:
    """A budget's settings: a published run's, unless `given` says otherwise; its hours and MFU are those of its hardware."""
    keeps = not other_gpu and not any(key in given for key in HARDWARE)
    based = run_budget(run, gpu, hardware=keeps)
    taken = {name: value for name in Budget.model_fields if (value := getattr(based, name)) is not None}
    if not keeps:
        taken.pop("mfu", None)
    if "flops" in given or "pf_days" in given:
        taken.pop("tokens", None)
    return {**taken, **given}


def run_budget(run: TrainingRun, gpu: Accelerator | None, *, hardware: bool = True) -> Budget:
    """A run as a budget: its model and data and, with `hardware`, its devices and hours; the published MFU without hours."""
    hours = run.hours if hardware else None
    return Budget(
        params=run.used_parameters,
        tokens=run.tokens,
        gpu_hours=hours,
        gpus=run.gpus if hardware and (hours or run.mfu) else None,
        mfu=run.mfu if gpu and not hours else None,
        watts=run.watts if hardware else None,
        pue=run.pue,
        grid_intensity=run.grid_intensity,
    )
