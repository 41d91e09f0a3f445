"""A published training run: what was trained, on what, for how long, and where that is written."""

from dataclasses import dataclass
from typing import Any, ClassVar

from memcalc.specs.hardware import Number, Whole


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """One row of `presets/runs`; `id` is the file's name, None is not published."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    id: str
    name: str
    parameters: Whole
    tokens: Whole
    sources: tuple[str, ...]
    source_seen: bool  # whether the numbers were read in the source (keys in `unverified` were not)
    active_parameters: Whole | None = None
    gpu: str = ""  # of the catalogue
    hardware: str = ""  # in the source's words
    gpus: Whole | None = None
    gpu_hours: Number | None = None
    days: Number | None = None
    mfu: Number | None = None
    flops: Number | None = None
    watts: Number | None = None
    pue: Number | None = None
    grid_intensity: Number | None = None  # kg CO2e a kWh
    energy_kwh: Number | None = None
    co2e_kg: Number | None = None
    layers: Whole | None = None
    heads: Whole | None = None
    head_dim: Whole | None = None
    seq_len: Whole | None = None
    aliases: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def used_parameters(self) -> int:
        """Those that a token passes through."""
        return self.active_parameters or self.parameters

    @property
    def hours(self) -> float | None:
        """Accelerator-hours as published, or from devices and days."""
        if self.gpu_hours is not None:
            return self.gpu_hours
        return None if self.gpus is None or self.days is None else self.gpus * self.days * 24

    def __post_init__(self) -> None:
        for key in ("parameters", "tokens", "active_parameters", "gpus", "gpu_hours", "days", "mfu", "flops", "watts", "pue"):
            value: Any = getattr(self, key)
            if value is not None and not 0 < value < 1e40:
                raise ValueError(f"{key} is {value:g}; it must be above 0")
        if not self.sources:
            raise ValueError("sources is empty: say where the numbers come from")
        for text in (self.name, self.hardware, *self.sources, *self.notes):
            if not text.isprintable() or len(text) > 1000:
                raise ValueError("texts must be one line of printable text, at most 1000 characters")
