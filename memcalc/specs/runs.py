"""A published training run: what was trained, on what, for how long, and where that is written."""

from typing import Any

from pydantic import Field

from memcalc.specs.hardware import Number, Whole
from memcalc.specs.spec import Flag, Spec, SpecError, rule, setting


class TrainingRun(Spec):
    """One row of `presets/runs`; `id` is the file's name, None is not published."""

    id: str = Field(description="The file's name.")
    name: str = Field(description="As people write it.")
    parameters: Whole = Field(description="All of them.")
    tokens: Whole = Field(description="Trained on.")
    sources: tuple[str, ...] = Field(description="Where the numbers come from.")
    source_seen: Flag = Field(description="Whether the numbers were read in the source (keys in `unverified` were not).")
    active_parameters: Whole | None = setting(None, "Those that a token passes through.")
    gpu: str = setting("", "Of the catalogue.")
    hardware: str = setting("", "In the source's words.")
    gpus: Whole | None = setting(None, "How many.")
    gpu_hours: Number | None = setting(None, "Of all of them together.")
    days: Number | None = setting(None, "Wall clock.")
    mfu: Number | None = setting(None, "Model FLOPs utilisation as published.")
    flops: Number | None = setting(None, "FLOPs as published.")
    watts: Number | None = setting(None, "Of one accelerator.")
    pue: Number | None = setting(None, "Power usage effectiveness.")
    grid_intensity: Number | None = setting(None, "kg CO2e a kWh.")
    energy_kwh: Number | None = setting(None, "kWh as published.")
    co2e_kg: Number | None = setting(None, "kg as published.")
    layers: Whole | None = setting(None, "Of the model.")
    heads: Whole | None = setting(None, "Of attention.")
    head_dim: Whole | None = setting(None, "Of one head.")
    seq_len: Whole | None = setting(None, "Tokens of a sequence.")
    aliases: tuple[str, ...] = setting((), "Further names.")
    unverified: tuple[str, ...] = setting((), "Keys whose value was not read in a source.")
    notes: tuple[str, ...] = setting((), "What else to know.")

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

    @rule()
    def _check(self) -> None:
        for key in ("parameters", "tokens", "active_parameters", "gpus", "gpu_hours", "days", "mfu", "flops", "watts", "pue"):
            value: Any = getattr(self, key)
            if value is not None and not 0 < value < 1e40:
                raise SpecError(f"is {value:g}; it must be above 0", key)
        if not self.sources:
            raise SpecError("is empty: say where the numbers come from", "sources")
        for text in (self.name, self.hardware, *self.sources, *self.notes):
            if not text.isprintable() or len(text) > 1000:
                raise SpecError("texts must be one line of printable text, at most 1000 characters")
