"""A compute budget: of a model, of a parameter count, or like a published run."""

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from memcalc.blocks.architecture import Architecture
from memcalc.errors import InputError
from memcalc.estimates.compute.budget import PredictedSpeed, estimate
from memcalc.estimates.compute.budget_estimate import BudgetEstimate
from memcalc.estimates.compute.runs import Recomputed
from memcalc.frozen import dataclass
from memcalc.readers.models import Model
from memcalc.sizing.answer import Reported
from memcalc.sizing.settings import Settings, settled
from memcalc.sizing.subjects import AnyAccelerator, AnyModel, as_accelerator, as_model
from memcalc.specs.budget import Budget
from memcalc.specs.hardware import Accelerator
from memcalc.specs.spec import SpecError
from memcalc.units import format_flops

if TYPE_CHECKING:
    from memcalc.report.report import Report

REFERENCES = ("a100-sxm4-80", "h100-sxm-80", "v100-sxm2-32")  # what people count in


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SizedBudget(Reported, BudgetEstimate):
    """The budget, with the name of what is trained and the published run that it is like."""

    name: str = ""
    like: Recomputed | None = None
    model: Model | None = None  # what is trained, where it has an architecture
    asked: tuple[Budget | None, Settings] = (None, {})  # what was said, before any default

    def report(self) -> "Report":
        from memcalc.report.budget import report

        return report(self.name, self, self.like)

    def __repr__(self) -> str:
        return f"<budget of {self.name or 'a model':.60}: {format_flops(self.flops or 0)}, {self.pf_days or 0:,.4g} PF-days>"


def size_budget(
    model: AnyModel | None = None,
    gpu: AnyAccelerator = None,
    budget: Budget | None = None,
    *,
    like: str | None = None,
    presets: Sequence[str] = (),
    **settings: Any,
) -> SizedBudget:
    """Compute, time, cost and energy of training. `settings` are the fields of Budget, and go before those of `budget`.

    `like` names a published run, whose figures stand wherever nothing else is said.

    >>> size_budget("llama-3.1-8b", "h100", tokens=10**12, gpus=1024).pf_days > 500
    True
    """
    said = settled(budget, settings, Budget)
    name, known, compared = "", None, None
    if like is not None:
        if model is not None or "params" in said:
            raise InputError("brings a model of its own; leave out MODEL and --params", place="--like")
        name, gpu, said, compared = _like(like, gpu, said, presets)
    if model is not None:
        known = _of_model(model, said, presets)
        name = known.name if known else ""
    device = as_accelerator(gpu, presets)
    references = [reference for each in REFERENCES if (reference := as_accelerator(each))]
    asked = Budget(**said)
    architecture = known.architecture if known else None
    found = estimate(
        asked, architecture=architecture, gpu=device, references=references, predicted=_predicted(asked, architecture, device)
    )
    own = {field.name: getattr(found, field.name) for field in fields(found)}
    return SizedBudget(**own, name=name, like=compared, model=known, asked=(budget, settings))


def _predicted(budget: Budget, architecture: Architecture | None, gpu: Accelerator | None) -> PredictedSpeed | None:
    """The speed of the layout that was said, by the time law."""
    if not budget.layout:
        return None
    if architecture is None or gpu is None or budget.gpus is None:
        raise SpecError("is of a layout, whose speed a MODEL on gpus of a gpu has", *budget.layout)
    from memcalc.errors import Unsupported
    from memcalc.estimates.step_time.step import step_time
    from memcalc.readers.timing import time_law
    from memcalc.sizing.step_time import untimed
    from memcalc.sizing.training import training_run

    if unknown := untimed(gpu):
        raise SpecError(unknown, *budget.layout)
    few = {"fp8": "fp8-mixed", "fp4": "nvfp4-mixed", "int8": "int8-mixed", "fp32": "fp32"}
    settings: dict[str, Any] = {**budget.layout, "gpus": budget.gpus, "method": budget.method, "recompute": budget.recompute}
    settings["precision"] = few.get(budget.precision or "", "bf16-mixed")
    if budget.seq_len:
        settings["seq_len"] = budget.seq_len
    run = training_run(architecture, None, **settings)
    try:
        found = step_time(architecture, run, time_law(gpu))
    except Unsupported as error:
        raise SpecError(str(error), *budget.layout) from None
    note = f"predicted of this layout: {found.tokens_per_second_per_gpu:,.0f} tokens/s and GPU, as `memcalc train` times it"
    return PredictedSpeed(found.tokens_per_second_per_gpu, note)


def _of_model(model: AnyModel, said: dict[str, Any], presets: Sequence[str]) -> Model | None:
    """The model; of a bare count, which has no architecture, the parameters become a setting."""
    found = as_model(model, presets)
    if found.architecture is None:
        if said.setdefault("params", found.parameters) != found.parameters:
            raise SpecError(f"says {said['params']:,}, but MODEL {found.parameters:,}; leave one out", "params")
        return None
    return found


def _like(
    like: str, gpu: AnyAccelerator, said: dict[str, Any], presets: Sequence[str]
) -> tuple[str, AnyAccelerator, dict[str, Any], Recomputed]:
    """A published run's name, accelerator and settings where nothing else is said, and what memcalc makes of the run."""
    from memcalc.estimates.compute.runs import like as like_run
    from memcalc.estimates.compute.runs import recompute
    from memcalc.readers.runs import training_run

    run = training_run(like, presets)
    own = as_accelerator(run.gpu, presets)
    settings = like_run(run, own, said, other_gpu=gpu is not None)
    return run.name, gpu or run.gpu, settings, recompute(run, own)
