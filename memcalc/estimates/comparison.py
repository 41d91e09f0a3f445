"""Answers side by side: the same figures of several settings, the first of which the others are compared with."""

from typing import Any

from memcalc.frozen import NamedTuple


class ComparedCase(NamedTuple):
    """One of the settings that stand side by side."""

    name: str
    settings: dict[str, Any]  # what is varied, with its value here
    command: str  # that asks for this one alone; empty where a file does
    values: dict[str, Any]  # by column: a number, a word, or None where the answer has no such key
    refused: str = ""  # why it could not be sized

    def change(self, column: str, first: "ComparedCase") -> float | None:
        """By what share of the first case's figure this one differs; None where there is nothing to compare."""
        here, there = self.values[column], first.values[column]
        if self is first or isinstance(here, bool) or isinstance(there, bool):
            return None
        if not isinstance(here, (int, float)) or not isinstance(there, (int, float)) or there <= 0 or here < 0:
            return None
        return here / there - 1


class SideBySide(NamedTuple):
    """Cases in the order in which they were asked for."""

    command: str
    columns: tuple[str, ...]  # keys of the JSON
    varied: dict[str, tuple[Any, ...]]
    cases: tuple[ComparedCase, ...]

    @property
    def first(self) -> ComparedCase:
        """The first that could be sized: what the others are compared with."""
        return next((case for case in self.cases if not case.refused), self.cases[0])


def word(value: Any) -> str:
    """A value as the command line takes it."""
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)
