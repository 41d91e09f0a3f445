"""Limited quantities against their limits: what each comes to, and whether it holds."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from memcalc.errors import InputError
from memcalc.formulas.verdict import VERDICTS, Fit
from memcalc.frozen import NamedTuple
from memcalc.specs.sizing import Limits
from memcalc.units import format_bytes


class Check(NamedTuple):
    """One limit: what it comes to, what is allowed, and whether that holds."""

    limit: str
    value: float | str
    allowed: float | str
    unit: str
    holds: bool
    line: int = 0  # of the file, where the limit stands; 0 without a file

    @property
    def margin(self) -> float | None:
        """How much of the allowance is left; below zero when it is exceeded; None for a verdict, which has none."""
        if isinstance(self.value, str) or isinstance(self.allowed, str):
            return None
        if self.limit in AT_LEAST:
            return self.value / self.allowed - 1
        return 1 - self.value / self.allowed if self.allowed else -1.0


class RemedySetting(NamedTuple):
    """A setting of the file with which, among others, all limits would hold: its line, or that of its table if it is new."""

    setting: str
    value: Any
    line: int
    new: bool

    def __str__(self) -> str:
        return f"{self.setting} = {json.dumps(self.value)}"


class Outcome(NamedTuple):
    """One scenario's checks, and the file it stands in ("" for none)."""

    file: str
    name: str
    checks: tuple[Check, ...]
    remedy: str = ""  # settings of the file with which all limits would hold
    guessed: str = ""  # why the model may not be the one that is meant
    changes: tuple[RemedySetting, ...] = ()  # the remedy, setting by setting
    line: int = 0  # of the file, where the scenario stands
    values: Mapping[str, float | str] = {}  # all that could be limited, where it is known
    warnings: tuple[str, ...] = ()  # what should be read with it: places and words

    @property
    def holds(self) -> bool:
        """Whether all limits hold, of a model that is known: a guess passes no gate."""
        return self.within and not self.guessed

    @property
    def within(self) -> bool:
        return all(check.holds for check in self.checks)


def excess(checks: Iterable[Check], fit: Fit | None = None) -> float:
    """How far the worst of the limits is exceeded, as a multiple of what is allowed: up to 1 all of them hold.

    `fit` stands behind a limit on the verdict.
    """
    return max((_excess(check, fit) for check in checks), default=0.0)


def _excess(check: Check, fit: Fit | None) -> float:
    if isinstance(check.value, str) or isinstance(check.allowed, str):
        worst = 0.0 if fit is None else (fit.needed.high if check.allowed == "fits" else fit.needed.bytes) / max(1, fit.limit)
        return min(worst, 1.0) if check.holds else max(worst, 1.001)
    if check.limit in AT_LEAST:
        return check.allowed / max(check.value, 1e-3)
    return check.value / check.allowed if check.allowed else float(not check.holds) * 1e9


def compared(limits: Limits, values: Mapping[str, float | str]) -> tuple[Check, ...]:
    """Every limit that is given, in the order of the spec; `values` has what each quantity comes to."""
    out = []
    for name in UNITS:
        allowed = getattr(limits, name)
        if allowed is not None:
            if name not in values:
                raise InputError(f"{name}: the accelerator's data say nothing to compute it from")
            value = values[name]
            holds = _rank(value) >= _rank(allowed) if name in AT_LEAST else value <= allowed
            out.append(Check(name, value, allowed, UNITS[name], holds))
    return tuple(out)


def _rank(value: Any) -> float:
    """A number as such, a verdict by its place from worst to best."""
    return VERDICTS.index(value) if value in VERDICTS else value


AT_LEAST = ("min_sequences", "kv_tokens", "verdict")  # limits from below
UNITS = {
    "verdict": "",
    "device_memory": "B", "memory_utilization": "share", "host_memory": "B", "pf_days": "PF-days", "gpu_hours": "h",
    "days": "d", "cost_usd": "USD", "energy_kwh": "kWh", "min_sequences": "sequences", "kv_tokens": "tokens",
    "step_seconds": "s", "ttft_seconds": "s", "tpot_seconds": "s",
}  # fmt: skip


def shown(value: float | str, unit: str) -> str:
    """A checked quantity as people read it."""
    if isinstance(value, str):
        return value
    if unit == "B":
        return format_bytes(value)
    if unit == "share":
        return f"{100 * value:.1f} %"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.4g} {unit}"
