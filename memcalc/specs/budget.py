"""A compute budget: what is known of model, data, hardware, time and money; the rest is solved."""

from dataclasses import dataclass
from typing import Annotated

from memcalc.specs.hardware import PEAKS
from memcalc.specs.parallelism import MAX_GPUS
from memcalc.specs.rules import Choice, Range, SpecError, check_fields

LEVELS = ("6ND", "architecture", "architecture-causal", "palm", "palm-causal", "hoffmann")
RECOMPUTE = ("none", "selective", "full")

# What relations tie together, and what may therefore contradict each other. `cost` is a ceiling and stands apart.
SOLVABLE = ("params", "tokens", "flops", "pf_days", "gpus", "days", "gpu_hours", "mfu", "hfu", "price")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Whatever is known; None is unknown. Utilisations are shares of the dense peak, prices USD an accelerator-hour."""

    params: Annotated[int, Range(1, 10**18)] | None = None
    tokens: Annotated[int, Range(1, 10**20)] | None = None
    flops: Annotated[float, Range(1.0, 1e38)] | None = None
    pf_days: Annotated[float, Range(1e-18, 1e18)] | None = None
    gpus: Annotated[int, Range(1, MAX_GPUS)] | None = None
    days: Annotated[float, Range(1e-9, 1e6)] | None = None
    gpu_hours: Annotated[float, Range(1e-9, 1e13)] | None = None
    mfu: Annotated[float, Range(0.0001, 1.0)] | None = None
    hfu: Annotated[float, Range(0.0001, 1.0)] | None = None
    cost: Annotated[float, Range(1e-6, 1e15)] | None = None  # a ceiling
    price: Annotated[float, Range(1e-6, 1e6)] | None = None
    pue: Annotated[float, Range(1.0, 10.0)] | None = None
    grid_intensity: Annotated[float, Range(0.0, 3.0)] | None = None  # kg CO2e a kWh
    watts: Annotated[float, Range(0.1, 1e6)] | None = None  # of one accelerator, in place of its thermal design power
    power_share: Annotated[float, Range(0.01, 2.0)] = 1.0  # of the thermal design power
    precision: Annotated[str, Choice(PEAKS)] | None = None  # whose dense peak counts; default: bf16, fp16 where there is none
    flops_by: Annotated[str, Choice(LEVELS)] = "6ND"
    seq_len: Annotated[int, Range(1, 2**31)] | None = None  # default: 2048, or the model's context if that is less
    recompute: Annotated[str, Choice(RECOMPUTE)] = "none"

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by Pydantic, never changed

    def __post_init__(self) -> None:
        check_fields(self)
        if self.hfu is not None and self.mfu is not None and self.hfu < self.mfu:
            raise SpecError(
                f"HFU {self.hfu:g} is below MFU {self.mfu:g}; it counts the same FLOPs and recomputation besides", "mfu", "hfu"
            )

    @property
    def given(self) -> dict[str, float]:
        """What is known, of what can be solved."""
        return {name: value for name in SOLVABLE if (value := getattr(self, name)) is not None}
