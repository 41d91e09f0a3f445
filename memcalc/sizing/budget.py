"""A compute budget: of a model, of a parameter count, or like a published run."""

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from memcalc.errors import InputError
from memcalc.estimates.compute.budget import BudgetEstimate, estimate
from memcalc.estimates.compute.runs import Recomputed
from memcalc.frozen import dataclass
from memcalc.readers.models import Model
from memcalc.sizing.answer import Reported
from memcalc.sizing.settings import Settings, settled
from memcalc.sizing.subjects import AnyAccelerator, AnyModel, as_accelerator, as_model
from memcalc.specs.budget import Budget
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
        return f"<budget of {self.name or 'a model':.60}: {format_flops(self.flops)}, {self.pf_days:,.4g} PF-days>"


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
    found = estimate(Budget(**said), architecture=known.architecture if known else None, gpu=device, references=references)
    own = {field.name: getattr(found, field.name) for field in fields(found)}
    return SizedBudget(**own, name=name, like=compared, model=known, asked=(budget, settings))


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
