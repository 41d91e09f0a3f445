"""Scenarios against their limits: each is sized as the command line would, then compared."""

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memcalc.errors import InputError, MemcalcError
from memcalc.estimates.checking import Outcome, compared, excess
from memcalc.formulas.verdict import Fit, Needed
from memcalc.readers.models import Model
from memcalc.readers.sizing import Named, read_sizing
from memcalc.sizing.answer import fit_of
from memcalc.sizing.largest import MAX
from memcalc.sizing.subjects import as_accelerator, as_model
from memcalc.specs.hardware import Accelerator, Device
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.serving import ServingQuestion
from memcalc.specs.sizing import Scenario
from memcalc.specs.spec import Spec

if TYPE_CHECKING:
    from memcalc.sizing.serving import SizedServing
    from memcalc.sizing.training import SizedTraining

Values = dict[str, float | str]
MAX_REMEDIES = 10  # scenarios for which what would make them pass is looked for
PARTS = 10**9
UNBOUNDED = 2**24  # sequences, where nothing limits them


def check(*scenarios: str | os.PathLike[str] | Scenario, presets: Sequence[str] = ()) -> list[Outcome]:
    """Sizing files, or scenarios, against their limits. Raises MemcalcError where one cannot be sized."""
    named: list[Named] = []
    for given in scenarios:
        named += [Named("", "scenario", given)] if isinstance(given, Scenario) else read_sizing(os.fspath(given))
    out: list[Outcome] = []
    for file, name, scenario in named:
        advised = sum(bool(outcome.remedy) for outcome in out) < MAX_REMEDIES
        out.append(_outcome(scenario, file, name, presets, advised))
    return out


def size_scenario(
    scenario: Scenario, file: str = "", name: str = "", presets: Sequence[str] = ()
) -> "SizedTraining | SizedServing":
    """A scenario as the command line would size it. Raises InputError naming the file and the scenario."""
    try:
        return _sized(scenario, *_subjects(scenario, file, presets))
    except MemcalcError as error:
        raise InputError(str(error), place=f"{file}: {name}" if file else "") from None


def _subjects(scenario: Scenario, file: str, presets: Sequence[str]) -> tuple[Model, Accelerator | None]:
    """Model and accelerator; a path to a model may start where the file is."""
    beside = os.path.join(os.path.dirname(file), scenario.model)
    model = as_model(beside if os.path.exists(beside) else scenario.model, presets)
    return model, as_accelerator(scenario.gpu, presets)


def _outcome(scenario: Scenario, file: str, name: str, presets: Sequence[str], advised: bool) -> Outcome:
    model, gpu = _subjects(scenario, file, presets)
    try:
        answer = _sized(scenario, model, gpu)
        outcome = Outcome(
            file, name, compared(scenario.limits, _values(scenario, model, answer, fit_of(answer))), guessed=answer.guessed
        )
        if outcome.within or not advised:
            return outcome
        return outcome._replace(remedy=_remedy(scenario, model, answer, outcome))
    except MemcalcError as error:
        raise InputError(str(error), place=f"{file}: {name}" if file else "") from None


def _sized(scenario: Scenario, model: Model, gpu: Accelerator | None) -> "SizedTraining | SizedServing":
    said = _fields(scenario, Device) | _asked(scenario)
    if scenario.training:
        from memcalc.sizing.training import size_training

        return size_training(model, gpu, scenario.training, **said)
    from memcalc.sizing.serving import size_serving

    return size_serving(model, gpu, scenario.serving, **said, **_fields(scenario, ServingQuestion))


def _fields(scenario: Scenario, spec: type[Spec]) -> dict[str, Any]:
    return {name: getattr(scenario, name) for name in spec.model_fields}


def _values(scenario: Scenario, model: Model, answer: "SizedTraining | SizedServing", fit: Fit) -> Values:
    """What each limited quantity comes to, where the answer's fit is this one."""
    from memcalc.sizing.training import SizedTraining

    assert answer.gpu  # a scenario always names one
    values: Values = {"verdict": fit.verdict}
    if isinstance(answer, SizedTraining):
        device = fit.needed.bytes
        values |= {"device_memory": device, "host_memory": answer.host_per_node}
        computed = _computed(scenario, model, answer.gpu, answer.run.parallelism.gpus, answer.run.recompute)
    else:
        device = answer.device
        sequences = answer.capacity_there.max_batch if answer.capacity_there else None
        values |= {"device_memory": answer.device_there, "host_memory": answer.host}
        values["min_sequences"] = UNBOUNDED if sequences is None else sequences
        computed = _computed(scenario, model, answer.gpu)
    return values | {"memory_utilization": device / answer.gpu.usable} | computed


def _remedy(scenario: Scenario, model: Model, answer: "SizedTraining | SizedServing", outcome: Outcome) -> str:
    """The cheapest change with which all limits hold, as settings of the file; empty where none is found."""

    def wanted(changed: Any, fit: Fit) -> Fit:
        return _parts(excess(compared(scenario.limits, _values(scenario, model, changed, fit)), fit))

    found = answer.search(_parts(excess(outcome.checks, answer.fit)), wanted, enough=1).run()
    table = "training" if scenario.training else "serving"
    return ", ".join(_setting(table, name, value) for name, value in found[0].changes.items()) if found else ""


def _parts(share: float) -> Fit:
    """A share of what is allowed, in parts of a billion."""
    parts = -int(-share * PARTS // 1)
    return Fit(Needed(parts, parts, parts), PARTS)


def _setting(table: str, name: str, value: Any) -> str:
    """One setting as the sizing file spells it."""
    if name in Parallelism.model_fields and table == "training":
        table += ".parallelism"
    place = "" if name == "gpu" else f"{table}."
    return f"{place}{name} = {json.dumps(value)}"


def _asked(scenario: Scenario) -> dict[str, Any]:
    """The setting that is solved for; surely, where that is the limit."""
    return {scenario.largest: MAX, "sure": scenario.limits.verdict == "fits"} if scenario.largest else {}


def _computed(scenario: Scenario, model: Model, gpu: Accelerator, gpus: int = 1, recompute: str = "none") -> Values:
    """Compute, time, money and energy of as many tokens as the scenario's [compute] says."""
    asked = scenario.compute
    if asked is None:
        return {}
    from memcalc.sizing.budget import size_budget

    found = size_budget(model, gpu, tokens=asked.tokens, mfu=asked.mfu, price=asked.price, gpus=gpus, recompute=recompute)
    values = {
        "pf_days": found.pf_days, "gpu_hours": found.gpu_hours, "days": found.days, "cost_usd": found.cost_usd,
        "energy_kwh": found.energy_kwh,
    }  # fmt: skip
    return {name: value for name, value in values.items() if value is not None}
