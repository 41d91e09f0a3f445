"""A scenario against its limits: what each limited quantity comes to, and whether it holds."""

from typing import NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.estimates import budget, serving, training
from memcalc.specs.budget import Budget
from memcalc.specs.hardware import Accelerator
from memcalc.specs.sizing import Scenario
from memcalc.units import format_bytes


class Check(NamedTuple):
    """One limit: what it comes to, what is allowed, and whether that holds."""

    limit: str
    value: float
    allowed: float
    unit: str
    holds: bool

    @property
    def margin(self) -> float:
        """How much of the allowance is left; below zero when it is exceeded."""
        if self.limit == "min_sequences":
            return self.value / self.allowed - 1
        return 1 - self.value / self.allowed if self.allowed else -1.0


def check(scenario: Scenario, architecture: Architecture, gpu: Accelerator) -> list[Check]:
    """Every limit of a scenario, in the order of the spec. Raises MemcalcError where the scenario cannot be sized."""
    values = _memory(scenario, architecture, gpu)
    if scenario.compute:
        values |= _compute(scenario, architecture, gpu)
    out = []
    for name in scenario.limits.__dataclass_fields__:
        allowed = getattr(scenario.limits, name)
        if allowed is not None:
            value = values[name]
            holds = value >= allowed if name == "min_sequences" else value <= allowed
            out.append(Check(name, value, allowed, UNITS[name], holds))
    return out


UNITS = {
    "device_memory": "B", "memory_utilization": "share", "host_memory": "B", "pf_days": "PF-days", "gpu_hours": "h",
    "days": "d", "cost_usd": "USD", "energy_kwh": "kWh", "min_sequences": "sequences",
}  # fmt: skip


def shown(value: float, unit: str) -> str:
    """A checked quantity as people read it."""
    if unit == "B":
        return format_bytes(value)
    if unit == "share":
        return f"{100 * value:.1f} %"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.4g} {unit}"


def _memory(scenario: Scenario, architecture: Architecture, gpu: Accelerator) -> dict[str, float]:
    if scenario.training:
        step = training.estimate(architecture, scenario.training, gpu.architecture)
        return {
            "device_memory": step.device,
            "memory_utilization": step.device / gpu.usable,
            "host_memory": step.host_per_node,
        }
    assert scenario.serving
    served = serving.estimate(architecture, scenario.serving, gpu.architecture, gpu.allocatable)
    sequences = served.capacity(gpu.allocatable).max_batch
    return {
        "device_memory": served.device,
        "memory_utilization": served.device / gpu.usable,
        "host_memory": served.host,
        "min_sequences": sequences if sequences is not None else 2**24,
    }


def _compute(scenario: Scenario, architecture: Architecture, gpu: Accelerator) -> dict[str, float]:
    assert scenario.compute
    run = scenario.training
    asked = Budget(
        tokens=scenario.compute.tokens,
        mfu=scenario.compute.mfu,
        price=scenario.compute.price,
        gpus=run.parallelism.gpus if run else 1,
        recompute=run.recompute if run else "none",
    )
    found = budget.estimate(asked, architecture=architecture, gpu=gpu)
    values = {
        "pf_days": found.pf_days, "gpu_hours": found.gpu_hours, "days": found.days, "cost_usd": found.cost_usd,
        "energy_kwh": found.energy_kwh,
    }  # fmt: skip
    return {name: value for name, value in values.items() if value is not None}
