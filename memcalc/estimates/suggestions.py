"""What would make it fit: changes from tables, combined as cheaply as possible, each estimated again.

A lever is one thing to change, in one of several ways (options), weakest first. Levers stand in the order of what they cost the
user; a combination costs what its costliest lever does, then its next. A ladder is a list of levers that is climbed from the
cheapest to the costliest, each at its strongest, until it fits; what it fits without is then taken away again, costliest first.
"""

import shlex
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.errors import MemcalcError
from memcalc.formulas.verdict import VERDICTS, Fit, Verdict
from memcalc.specs.hardware import Accelerator

MAX_SUGGESTIONS = 5
MAX_TIGHT = 2  # of them, where others surely fit
ENOUGH = 3  # that surely fit: costlier ladders are not climbed then
MAX_ESTIMATES = 240  # after which no ladder is begun

Settings = dict[str, Any]


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
    gpu: Accelerator | None
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


class Tried(NamedTuple):
    """A combination of changes and its estimate."""

    changes: Settings
    levers: tuple[Lever, ...]  # cheapest first
    answer: Any
    fit: Fit
    cost: tuple[tuple[int, int], ...]  # (place of the lever, option), costliest first

    @property
    def family(self) -> int:
        """Its costliest lever."""
        return self.cost[0][0]


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


class _Made(NamedTuple):
    """Settings, the run with them, and which lever brought each of them."""

    settings: Settings
    subject: Subject
    places: dict[str, int]


class _State(NamedTuple):
    """Chosen options: (place of the lever, number of the option)."""

    chosen: tuple[tuple[int, int], ...] = ()

    def without(self, place: int) -> "_State":
        return _State(tuple(entry for entry in self.chosen if entry[0] != place))

    def having(self, place: int, option: int) -> "_State":
        return _State((*self.without(place).chosen, (place, option)))


class Search:
    """Tries combinations of levers; each is estimated once, and no ladder is begun after MAX_ESTIMATES.

    `judge` says how far an estimate is from what is wanted, and `enough` how many are wanted that surely are.
    """

    def __init__(
        self,
        table: Changes,
        start: Subject,
        fit: Fit,
        change: Callable[[Settings], Subject],
        size: Callable[[Settings], Any],
        judge: Callable[[Any], Fit],
        enough: int = ENOUGH,
    ) -> None:
        self.levers, self.ladders, self.fit, self.enough = table.levers, table.ladders, fit, enough
        self._change, self._size, self._judge = change, size, judge
        self._changed: dict[tuple[tuple[int, int], ...], _Made | None] = {(): _Made({}, start, {})}
        self._tried: dict[_State, Tried | None] = {}
        self.estimates = 0
        self.found: list[Tried] = []
        self.nearest: Tried | None = None

    def run(self) -> list[Tried]:
        """Single changes, then ladders until there are enough (the cheapest in any case); cheapest first."""
        for owned in (True, False):
            for place, lever in enumerate(self.levers):
                if lever.alone and lever.hardware != owned and self._wanted():
                    self._alone(place)
            for number, ladder in enumerate(self.ladders):
                if any(lever.hardware for lever in ladder.kept) != owned and (self._wanted() or (owned and number == 0)):
                    self._climb(ladder)
        return self._best()

    def nearest_miss(self) -> Tried | None:
        """What comes nearest on the user's own hardware, without what makes no difference."""
        best = self.nearest
        for place, option in best.cost if best else ():
            assert best is not None  # as it has a cost
            leaner = self._try(_State(tuple(entry for entry in best.cost if entry != (place, option))))
            if leaner is not None and leaner.fit.headroom >= best.fit.headroom:
                best = leaner
        return best

    def _wanted(self) -> bool:
        return len(self._distinct("fits")) < self.enough and self.estimates < MAX_ESTIMATES

    def _better(self, tried: Tried | None, than: Verdict) -> bool:
        return tried is not None and VERDICTS.index(tried.fit.verdict) > VERDICTS.index(than)

    def _alone(self, place: int) -> None:
        verdict = self.fit.verdict
        for option in range(len(self.levers[place].options)):
            tried = self._try(_State(((place, option),)))
            if tried is not None and self._better(tried, verdict):
                self.found.append(tried)
                verdict = tried.fit.verdict
                if verdict == "fits":
                    return

    def _climb(self, ladder: Ladder) -> None:
        state, verdict, needed = _State(), self.fit.verdict, self.fit.needed.bytes
        places = {lever.name: place for place, lever in enumerate(self.levers)}
        kept = tuple(places[lever.name] for lever in ladder.kept)
        for lever in (*ladder.kept, *(lever for lever in ladder.levers if lever not in ladder.kept)):
            place = places[lever.name]
            for option in reversed(range(len(lever.options))):
                further = state.having(place, option)
                tried = self._try(further)
                if tried is None or (tried.fit.needed.bytes > needed and place not in kept):
                    continue
                state, needed = further, tried.fit.needed.bytes
                while self._better(tried, verdict):
                    leanest = self._lean(state, kept, _next(verdict))
                    self.found.append(leanest)
                    verdict = leanest.fit.verdict
                break
            if verdict == "fits":
                return
        self._descend(state, kept)

    def _descend(self, state: _State, kept: tuple[int, ...]) -> None:
        """Without what makes it larger together with the rest, for the nearest miss and what may fit after all."""
        best = self._try(state)
        for place, _ in state.chosen:
            tried = None if place in kept else self._try(state.without(place))
            if tried is not None and (best is None or tried.fit.needed.bytes < best.fit.needed.bytes):
                state, best = state.without(place), tried
                if self._better(tried, self.fit.verdict):
                    self.found.append(self._lean(state, kept, tried.fit.verdict))

    def _lean(self, state: _State, kept: tuple[int, ...], target: Verdict) -> Tried:
        """The same without what is not needed for the verdict, the costliest lever first; else with its weaker options."""
        for place, option in sorted(state.chosen, reverse=True):
            leaner = [] if place in kept else [state.without(place)]
            for other in (*leaner, *(state.having(place, weaker) for weaker in range(option))):
                tried = self._try(other)
                if tried is not None and VERDICTS.index(tried.fit.verdict) >= VERDICTS.index(target):
                    state = other
                    break
        out = self._try(state)
        assert out is not None  # as it was reached by trying
        return out

    def _try(self, state: _State) -> Tried | None:
        """The estimate of a combination; None where its own rules refuse it, or nothing is changed by it."""
        state = _State(tuple(sorted(state.chosen, key=lambda entry: (self.levers[entry[0]].turn, entry))))
        if state not in self._tried:
            self._tried[state] = self._estimated(state)
        return self._tried[state]

    def _estimated(self, state: _State) -> Tried | None:
        made = self._made(state.chosen)
        if made is None or not state.chosen or self.estimates >= 2 * MAX_ESTIMATES:
            return None
        self.estimates += 1
        try:
            answer = self._size(made.settings)
            fit = self._judge(answer)
        except MemcalcError:
            return None
        cost = tuple(sorted(state.chosen, reverse=True))
        changes = {name: made.settings[name] for name in sorted(made.settings, key=lambda name: made.places[name])}
        tried = Tried(changes, tuple(self.levers[place] for place, _ in reversed(cost)), answer, fit, cost)
        owned = not any(lever.hardware for lever in tried.levers)
        if owned and (self.nearest is None or fit.headroom > self.nearest.fit.headroom):
            self.nearest = tried
        return tried

    def _made(self, chosen: tuple[tuple[int, int], ...]) -> "_Made | None":
        """A combination's settings and the run with them: those of all but its last change, and that one."""
        if chosen not in self._changed:
            self._changed[chosen] = self._one_more(chosen)
        return self._changed[chosen]

    def _one_more(self, chosen: tuple[tuple[int, int], ...]) -> "_Made | None":
        before = self._made(chosen[:-1])
        if before is None:
            return None
        place, option = chosen[-1]
        added = self.levers[place].options[option](before.subject)
        if added is None:
            return None
        settings = before.settings | added
        try:
            return _Made(settings, self._change(settings), dict.fromkeys(added, place) | before.places)
        except MemcalcError:
            return None

    def _distinct(self, verdict: Verdict) -> list[Tried]:
        """Those with a verdict, cheapest first: the first of each family, without what another has part of."""
        out: list[Tried] = []
        for tried in sorted((each for each in self.found if each.fit.verdict == verdict), key=lambda each: each.cost):
            if not any(other.family == tried.family or _within(other, tried) for other in out):
                out.append(tried)
        return out

    def _best(self) -> list[Tried]:
        """The cheapest that surely fit, and of those that may fit what is cheaper than these."""
        sure = self._distinct("fits")
        dearest = sure[-1].cost if sure else ((len(self.levers), 0),)
        tight = [
            tried
            for tried in self._distinct("tight")
            if tried.cost < dearest and not any(_within(other, tried) for other in sure)
        ][: MAX_TIGHT if sure else MAX_SUGGESTIONS]
        return sorted((*tight, *sure[: MAX_SUGGESTIONS - len(tight)]), key=lambda each: each.cost)


def _within(one: Tried, other: Tried) -> bool:
    return one.changes.items() <= other.changes.items()


def _next(verdict: Verdict) -> Verdict:
    return VERDICTS[VERDICTS.index(verdict) + 1]


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
    return (f"--{spelled}", ",".join(value) if isinstance(value, tuple) else str(value))
