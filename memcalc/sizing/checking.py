"""Scenarios against their limits: each is sized as the command line would, then compared."""

import os
from collections.abc import Sequence
from typing import Any

from memcalc.errors import InputError, MemcalcError
from memcalc.estimates.checking import Check, Outcome, compared
from memcalc.readers.models import Model
from memcalc.readers.sizing import Named, read_sizing
from memcalc.sizing.largest import MAX
from memcalc.sizing.subjects import as_accelerator, as_model
from memcalc.specs.hardware import Accelerator, Device
from memcalc.specs.sizing import Scenario

Values = dict[str, float | str]
UNBOUNDED = 2**24  # sequences, where nothing limits them


def check(*scenarios: str | os.PathLike[str] | Scenario, presets: Sequence[str] = ()) -> list[Outcome]:
    """Sizing files, or scenarios, against their limits. Raises MemcalcError where one cannot be sized."""
    named: list[Named] = []
    for given in scenarios:
        named += [Named("", "scenario", given)] if isinstance(given, Scenario) else read_sizing(os.fspath(given))
    return [Outcome(file, name, _checked(scenario, file, name, presets)) for file, name, scenario in named]


def _checked(scenario: Scenario, file: str, name: str, presets: Sequence[str]) -> tuple[Check, ...]:
    beside = os.path.join(os.path.dirname(file), scenario.model)
    model = as_model(beside if os.path.exists(beside) else scenario.model, presets)
    gpu = as_accelerator(scenario.gpu, presets)
    device = {name: getattr(scenario, name) for name in Device.model_fields}
    try:
        values = _trained(scenario, model, gpu, device) if scenario.training else _served(scenario, model, gpu, device)
        return compared(scenario.limits, values)
    except MemcalcError as error:
        raise InputError(str(error), place=f"{file}: {name}" if file else "") from None


def _trained(scenario: Scenario, model: Model, gpu: Accelerator | None, device: dict[str, Any]) -> Values:
    from memcalc.sizing.training import size_training

    step = size_training(model, gpu, scenario.training, **device | _asked(scenario))
    assert step.gpu  # a scenario always names one
    p = step.run.parallelism
    values: Values = {
        "verdict": step.verdict or "",
        "device_memory": step.device,
        "memory_utilization": step.device / step.gpu.usable,
        "host_memory": step.host_per_node,
    }
    return values | _computed(scenario, model, step.gpu, p.gpus, step.run.recompute)


def _served(scenario: Scenario, model: Model, gpu: Accelerator | None, device: dict[str, Any]) -> Values:
    from memcalc.sizing.serving import size_serving

    served = size_serving(model, gpu, scenario.serving, **device | _asked(scenario))
    room = served.capacity_there
    assert served.gpu  # a scenario always names one
    assert room
    sequences = room.max_batch
    values: Values = {
        "verdict": served.verdict or "",
        "device_memory": served.device,
        "memory_utilization": served.device / served.gpu.usable,
        "host_memory": served.host,
        "min_sequences": UNBOUNDED if sequences is None else sequences,
    }
    return values | _computed(scenario, model, served.gpu)


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
