"""The inverse question: the largest value of one setting, written `max`, that fits into the accelerator."""

from collections.abc import Callable, MutableMapping
from typing import Any

from memcalc.formulas.bisection import Solved, largest
from memcalc.frozen import NamedTuple
from memcalc.sizing.answer import Answer
from memcalc.specs.spec import SpecError

MAX = "max"


class Choices(NamedTuple):
    """The values that a setting may take, and what bounds it from above: "positions", "width" … as Solved says it."""

    high: int
    bound: str
    low: int = 1
    step: int = 1

    def at_most(self, high: int | None, bound: str) -> "Choices":
        """With a further bound, where it is the tighter one."""
        return self if high is None or high >= self.high else self._replace(high=max(high, self.low), bound=bound)


def asked_for(settings: MutableMapping[str, Any], solvable: tuple[str, ...]) -> str | None:
    """The setting of which the largest value is asked for, taken out of what was said; one at a time."""
    found = [name for name, value in settings.items() if isinstance(value, str) and value == MAX]
    if not found:
        return None
    if wrong := [name for name in found if name not in solvable]:
        raise SpecError(f"max is solved for {', '.join(solvable)}", *wrong)
    if len(found) > 1:
        raise SpecError("max is solved for one setting at a time; give numbers for the others", *found)
    del settings[found[0]]
    return found[0]


def solve(key: str, choices: Choices, sized: Callable[[int], Answer], *, sure: bool) -> tuple[int, Solved]:
    """The largest value of a setting that fits (surely: with all of its range), or the smallest that there is."""
    best = largest(choices.low, choices.high, choices.step, lambda value: _fits(sized(value), key, sure))
    if best is None:
        return choices.low, Solved(key, None, "memory")
    return best, Solved(key, best, choices.bound if best + choices.step > choices.high else "memory")


def _fits(answer: Answer, key: str, sure: bool) -> bool:
    if answer.gpu is None:
        raise SpecError("max needs a gpu to fit into", key)
    if answer.certainly_too_large:
        return False
    return answer.verdict == "fits" if sure else answer.verdict != "no"
