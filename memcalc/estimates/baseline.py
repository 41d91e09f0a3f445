"""Scenarios beside what they came to before: what differs, and whether it is worse."""

from collections.abc import Mapping, Sequence

from memcalc.estimates.checking import Outcome
from memcalc.formulas.verdict import VERDICTS
from memcalc.frozen import NamedTuple

COMPARED = ("device_memory", "days", "cost_usd")  # less is better; and the verdict
TOLERANCE = 1e-9  # of the value: what is no more than rounding is no change


class ScenarioChange(NamedTuple):
    """A scenario before and now; None where it was not there, or no longer is."""

    file: str
    name: str
    before: Outcome | None
    now: Outcome | None

    @property
    def differences(self) -> dict[str, float]:
        """Now less before, of what both say, in bytes, days and USD."""
        before, now = _values(self.before), _values(self.now)
        return {name: _number(now[name]) - _number(before[name]) for name in COMPARED if name in before and name in now}

    @property
    def worse(self) -> bool:
        """More memory, days or money, a worse verdict, or a limit exceeded that held; a new scenario, where it fails."""
        if self.now is None:
            return False
        if self.before is None:
            return not self.now.holds
        before, now = _values(self.before), _values(self.now)
        more = any(gone > TOLERANCE * abs(_number(before[name])) for name, gone in self.differences.items())
        verdicts = [VERDICTS.index(values["verdict"]) for values in (before, now)]
        failing = {check.limit for check in self.now.checks if not check.holds}
        held = {check.limit for check in self.before.checks if not check.holds}
        return more or verdicts[1] < verdicts[0] or bool(failing - held)


def _values(outcome: Outcome | None) -> Mapping[str, float | str]:
    return outcome.values if outcome else {}


def _number(value: float | str) -> float:
    return float(value)


def beside(now: Sequence[Outcome], before: Sequence[Outcome], *, by_file: bool) -> list[ScenarioChange]:
    """Scenarios matched by name; `by_file`: and by file."""

    def key(outcome: Outcome) -> tuple[str, str]:
        return (outcome.file if by_file else "", outcome.name)

    old = {key(outcome): outcome for outcome in before}
    new = {key(outcome): outcome for outcome in now}
    out = [ScenarioChange(each.file, each.name, old.get(key(each)), each) for each in now]
    return out + [ScenarioChange(each.file, each.name, each, None) for each in before if key(each) not in new]
