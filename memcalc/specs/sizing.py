"""The sizing file: a model, how it is trained or served, on what, and the limits it must keep."""

from dataclasses import dataclass, field
from typing import Annotated

from memcalc.specs.rules import Range, SpecError, check_fields
from memcalc.specs.serving import Serving
from memcalc.specs.training import Training


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What must not be exceeded; a limit that is not given does not hold."""

    device_memory: Annotated[int, Range(1, 10**15)] | None = None  # bytes per GPU
    memory_utilization: Annotated[float, Range(0.01, 1.0)] | None = None  # of the GPU's usable memory
    host_memory: Annotated[int, Range(0, 10**15)] | None = None  # bytes per node
    pf_days: Annotated[float, Range(1e-9, 1e15)] | None = None
    gpu_hours: Annotated[float, Range(1e-9, 1e15)] | None = None
    days: Annotated[float, Range(1e-9, 1e6)] | None = None
    cost_usd: Annotated[float, Range(0.0, 1e15)] | None = None
    energy_kwh: Annotated[float, Range(0.0, 1e15)] | None = None
    min_sequences: Annotated[int, Range(1, 2**24)] | None = None  # served at once, at the full context

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by Pydantic, never changed

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How much is trained, for limits on compute, time and money."""

    tokens: Annotated[int, Range(1, 10**18)]
    mfu: Annotated[float, Range(0.001, 1.0)] = 0.4
    price: Annotated[float, Range(0.0001, 10_000)] | None = None  # USD per GPU-hour

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by Pydantic, never changed

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One setting to check: training or serving, not both."""

    model: str
    gpu: str
    training: Training | None = None
    serving: Serving | None = None
    compute: Compute | None = None
    limits: Limits = field(default_factory=Limits)

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by Pydantic, never changed

    def __post_init__(self) -> None:
        if (self.training is None) == (self.serving is None):
            raise SpecError("give a [training] or a [serving] table, one of them", "training", "serving")
        needs = ("pf_days", "gpu_hours", "days", "cost_usd", "energy_kwh")
        asked = [name for name in needs if getattr(self.limits, name) is not None]
        if asked and self.compute is None:
            raise SpecError(f"a limit on {', '.join(asked)} needs a [compute] table with tokens", "limits", "compute")
        if self.limits.min_sequences is not None and self.serving is None:
            raise SpecError("min_sequences is a limit of serving", "limits", "serving")
        if all(getattr(self.limits, name) is None for name in self.limits.__dataclass_fields__):
            raise SpecError("no limit is given, so there is nothing to check", "limits")
