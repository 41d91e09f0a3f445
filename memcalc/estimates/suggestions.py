"""What would make it fit: the words of it. Levers and ladders to try, and what is said of what was found."""

import shlex
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from memcalc.blocks.architecture import Architecture
from memcalc.formulas.verdict import Verdict
from memcalc.frozen import NamedTuple

if TYPE_CHECKING:
    from memcalc.specs.hardware import Accelerator

Settings = dict[str, Any]
ENOUGH = 3  # suggestions that surely fit: costlier ones are not looked for then


# Larger accelerators that one can rent or buy, by vendor, smallest first (ids of presets/gpus).
LARGER = {
    "NVIDIA": ("rtx-4090", "rtx-5090", "l40s", "a100-sxm4-80", "h100-sxm-80", "h200-sxm", "b200-sxm", "b300-sxm"),
    "AMD": ("mi210", "mi300x", "mi325x", "mi355x"),
    "Apple": ("m4-max", "m2-ultra", "m3-ultra"),
    "Intel": ("gaudi2", "gaudi3"),
}


class Subject(NamedTuple):
    """What an option looks at: the run as changed so far."""

    run: Any  # Training or Serving
    gpu: "Accelerator | None"
    architecture: Architecture | None
    unsaid: tuple[str, ...] = ()  # settings that are the engine's, as nobody gave them


Change = Callable[[Subject], Settings | None]  # settings to add; None where it does not apply, or is so already


class Lever(NamedTuple):
    """One thing to change. `cost` says in one sentence what it costs, from the estimates before and after."""

    name: str
    options: tuple[Change, ...]  # weakest first
    cost: Callable[[Any, Any], str]
    turn: int = 5  # order in which changes are made: what others depend on first
    hardware: bool = False  # takes hardware that the user did not name
    alone: bool = True  # also tried by itself


class Ladder(NamedTuple):
    """Levers that are tried together; those in `kept` are what it is about, and are never taken away."""

    levers: tuple[Lever, ...]
    kept: tuple[Lever, ...] = ()


class Changes(NamedTuple):
    """What one can change, cheapest first, and together with what."""

    levers: tuple[Lever, ...]
    ladders: tuple[Ladder, ...]


class Suggestion(NamedTuple):
    """Changes with which it fits, as flags to add to the command and as a command of its own, and what they cost."""

    flags: str
    command: str
    changes: Settings  # setting → value, as in a sizing file and in Python
    costs: tuple[str, ...]
    peak: int  # bytes, as all that follow but the verdict
    device: int
    needed: int
    needed_high: int
    limit: int
    verdict: Verdict

    @property
    def headroom(self) -> int:
        """Left free; below zero, what is missing [B]."""
        return self.limit - self.needed

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "flags": self.flags,
            "command": self.command,
            "changes": {name: list(value) if isinstance(value, tuple) else value for name, value in self.changes.items()},
            "costs": list(self.costs),
            "device": self.device,
            "headroom": self.headroom,
            "per_gpu": {"peak": self.peak, "device": self.device, "needed": self.needed, "needed_high": self.needed_high},
            "gpu": {"verdict": self.verdict, "limit": self.limit, "headroom": self.headroom},
        }


class Advice(NamedTuple):
    """What would make it fit; where nothing does, the combination that comes nearest."""

    suggestions: tuple[Suggestion, ...] = ()
    nearest: Suggestion | None = None
    note: str = ""  # what could not be tried


NO_ADVICE = Advice()


def each(change: Callable[[Any, Subject], Settings | None], *values: Any) -> tuple[Change, ...]:
    """The options of a lever: one change with each of the values."""
    return tuple(partial(change, value) for value in values)


def larger_accelerators() -> tuple[Change, ...]:
    """Every accelerator of LARGER that is of the same vendor, smallest first."""
    return each(_larger, *range(max(map(len, LARGER.values()))))


def _larger(place: int, s: Subject) -> Settings | None:
    row = LARGER.get(s.gpu.vendor if s.gpu else "", ())
    return {"gpu": row[place]} if place < len(row) and s.gpu and row[place] != s.gpu.id else None


def flags(changes: Mapping[str, Any]) -> str:
    """Settings as options of the command line.

    >>> flags({"recompute": "full", "offload": ("optimizer", "parameters"), "ddp": False, "sequence_parallel": True})
    '--recompute full --offload optimizer,parameters --no-ddp --sequence-parallel'
    """
    return shlex.join(word for name, value in changes.items() for word in option_words(name, value))


def option_words(name: str, value: Any) -> tuple[str, ...]:
    """One setting as an option: its name, and its value if it takes one."""
    spelled = name.replace("_", "-")
    if isinstance(value, bool):
        return (f"--{spelled}" if value else f"--no-{spelled}",)
    return (f"--{spelled}", ",".join(str(part) for part in value) if isinstance(value, tuple) else str(value))
