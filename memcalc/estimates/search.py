"""What would make it fit: changes from tables, combined as cheaply as possible, each estimated again.

A lever is one thing to change, in one of several ways (options), weakest first. Levers stand in the order of what they cost the
user; a combination costs what its costliest lever does, then its next. A ladder is a list of levers that is climbed from the
cheapest to the costliest, each at its strongest, until it fits; what it fits without is then taken away again, costliest first.
"""

from collections.abc import Callable
from typing import Any

from memcalc.errors import MemcalcError
from memcalc.estimates.suggestions import ENOUGH, Changes, Ladder, Lever, Settings, Subject
from memcalc.formulas.verdict import VERDICTS, Fit, Needed, Verdict
from memcalc.frozen import NamedTuple

MAX_SUGGESTIONS = 5
MAX_TIGHT = 2  # of them, where others surely fit
MAX_ESTIMATES = 240  # after which no ladder is begun
MORE = 1.01  # of what was needed before, or less: a change may do no good by itself, but with those that follow
SAME = 0.97  # of what another needs, or more: about as much

Chosen = tuple[tuple[int, int], ...]  # (place of the lever, number of the option)
Judge = Callable[[Any], Fit]


class Tried(NamedTuple):
    """A combination of changes and its estimate."""

    changes: Settings
    levers: tuple[Lever, ...]  # cheapest first
    answer: Any
    least: int  # bytes that it needs, as the quickest judge says
    fit: Fit  # as the last of so many judges said
    judges: int
    cost: Chosen  # costliest first

    @property
    def family(self) -> int:
        """Its costliest lever."""
        return self.cost[0][0]


class _Made(NamedTuple):
    """Settings, the run with them, and which lever brought each of them."""

    settings: Settings
    subject: Subject
    places: dict[str, int]


class _State(NamedTuple):
    """Chosen options."""

    chosen: Chosen = ()

    def without(self, place: int) -> "_State":
        return _State(tuple(entry for entry in self.chosen if entry[0] != place))

    def having(self, place: int, option: int) -> "_State":
        return _State((*self.without(place).chosen, (place, option)))


class Search:
    """Tries combinations of levers; each is estimated once, and no ladder is begun after MAX_ESTIMATES.

    `judges` say how far an estimate is from what is wanted, the quickest first; each may say worse than those before it, and
    the last one is right. The walk believes all but the last. What comes out of it goes before the last, and where that says
    worse, the walk is taken again with what is known by then. `enough`: how many are wanted that surely fit.
    """

    def __init__(
        self,
        table: Changes,
        start: Subject,
        fit: Fit,
        change: Callable[[Settings], Subject],
        size: Callable[[Settings], Any],
        judges: tuple[Judge, ...],
        enough: int = ENOUGH,
    ) -> None:
        self.levers, self.ladders, self.fit, self.enough = table.levers, table.ladders, fit, enough
        self._change, self._size, self._judges = change, size, judges
        self._least = judges[0](size({})).needed.bytes
        self._changed: dict[Chosen, _Made | None] = {(): _Made({}, start, {})}
        self._tried: dict[_State, Tried | None] = {}
        self._settled_parts: dict[Chosen, tuple[int, Fit]] = {}  # what each was said to need, and what the last judge found
        self._seen: set[_State] = set()  # in this walk
        self.found: list[Tried] = []
        self.nearest: Tried | None = None

    @property
    def estimates(self) -> int:
        """How many combinations the walk has looked at."""
        return len(self._seen)

    def run(self) -> list[Tried]:
        """What is wanted, cheapest first; nothing where it surely fits as it is."""
        while self.fit.verdict != "fits":
            best = self._walk()
            doubtful = [tried for tried in best if tried.judges < len(self._judges)]
            if not doubtful:
                return best
            surest = max(doubtful, key=lambda tried: VERDICTS.index(tried.fit.verdict)).fit.verdict
            for tried in doubtful:
                if tried.fit.verdict == surest:
                    self._settled(tried)
        return []

    def nearest_miss(self) -> Tried | None:
        """What comes nearest on the user's own hardware, without what makes no difference."""
        best = self.nearest
        for place, option in best.cost if best else ():
            assert best is not None  # as it has a cost
            leaner = self._try(_State(tuple(entry for entry in best.cost if entry != (place, option))))
            if leaner is not None and leaner.least <= best.least:
                best = leaner
        return self._settled(best) if best else None

    # --- a walk -------------------------------------------------------------------------------------------------------

    def _walk(self) -> list[Tried]:
        """Single changes, then ladders until there are enough (the cheapest in any case)."""
        self._seen, self.found, self.nearest = set(), [], None
        for owned in (True, False):
            for place, lever in enumerate(self.levers):
                if lever.alone and lever.hardware != owned and self._wanted():
                    self._alone(place)
            for number, ladder in enumerate(self.ladders):
                if any(lever.hardware for lever in ladder.kept) != owned and (self._wanted() or (owned and number == 0)):
                    self._climb(ladder)
        return self._best()

    def _wanted(self) -> bool:
        return len(self._distinct("fits")) < self.enough and self.estimates < MAX_ESTIMATES

    def _alone(self, place: int) -> None:
        best = self.fit.verdict
        for option in range(len(self.levers[place].options)):
            if tried := self._reaching(_State(((place, option),)), _next(best)):
                self.found.append(tried)
                best = tried.fit.verdict
                if best == "fits":
                    return

    def _climb(self, ladder: Ladder) -> None:
        state, best, needed = _State(), self.fit.verdict, self._least
        places = {lever.name: place for place, lever in enumerate(self.levers)}
        kept = tuple(places[lever.name] for lever in ladder.kept)
        for lever in (*ladder.kept, *(lever for lever in ladder.levers if lever not in ladder.kept)):
            place = places[lever.name]
            for option in reversed(range(len(lever.options))):
                further = state.having(place, option)
                tried = self._try(further)
                if tried is None or (tried.least > MORE * needed and place not in kept):
                    continue
                state, needed = further, tried.least
                while best != "fits" and self._reaching(state, _next(best)):
                    leanest = self._lean(state, kept, _next(best))
                    self.found.append(leanest)
                    best = leanest.fit.verdict
                break
            if best == "fits":
                return
        self._descend(state, kept)

    def _descend(self, state: _State, kept: tuple[int, ...]) -> None:
        """Without what makes it larger together with the rest, for the nearest miss and what may fit after all."""
        best = self._try(state)
        for place, _ in state.chosen:
            tried = None if place in kept else self._try(state.without(place))
            if tried is not None and (best is None or tried.least < best.least):
                state, best = state.without(place), tried
                better = reversed(VERDICTS[VERDICTS.index(self.fit.verdict) + 1 :])
                if target := next((verdict for verdict in better if self._reaching(state, verdict)), None):
                    self.found.append(self._lean(state, kept, target))

    def _lean(self, state: _State, kept: tuple[int, ...], target: Verdict) -> Tried:
        """The same without what is not needed for the verdict, the costliest lever first; else with its weaker options."""
        for place, option in sorted(state.chosen, reverse=True):
            leaner = [] if place in kept else [state.without(place)]
            for other in (*leaner, *(state.having(place, weaker) for weaker in range(option))):
                if self._reaching(other, target):
                    state = other
                    break
        out = self._reaching(state, target)
        assert out is not None  # as it was reached before
        return out

    # --- a combination ------------------------------------------------------------------------------------------------

    def _reaching(self, state: _State, target: Verdict) -> Tried | None:
        """A combination that reaches a verdict, as far as the walk believes."""
        tried = self._try(state)
        while tried is not None and VERDICTS.index(tried.fit.verdict) >= VERDICTS.index(target):
            if tried.judges >= len(self._judges) - 1:
                return tried if tried.judges == len(self._judges) or self._believed(tried, target) else None
            tried = self._judged(tried)
        return None

    def _believed(self, tried: Tried, target: Verdict) -> bool:
        """Whether it need not be as bad as a part of it that was before the last judge: it says to need less, and would need
        little enough were it as much more than it says."""
        wanted, said = VERDICTS.index(target), tried.fit.needed
        for part, (before, found) in self._settled_parts.items():
            if VERDICTS.index(found.verdict) < wanted and set(part) <= set(tried.cost):
                more = found.needed.bytes / before
                needed = Needed(*(round(bytes_ * more) for bytes_ in said))
                if said.bytes > SAME * before or VERDICTS.index(Fit(needed, found.limit).verdict) < wanted:
                    return False
        return True

    def _settled(self, tried: Tried) -> Tried:
        """The same before the last judge."""
        while tried.judges < len(self._judges):
            tried = self._judged(tried)
        return tried

    def _judged(self, tried: Tried) -> Tried:
        """The same before one judge more; from now on every walk knows."""
        said, judge = tried.fit.needed.bytes, self._judges[tried.judges]
        tried = tried._replace(fit=judge(tried.answer), judges=tried.judges + 1)
        if tried.judges == len(self._judges) > 1:
            self._settled_parts[tried.cost] = said, tried.fit
        self._tried[self._state(tried.cost)] = tried
        return tried

    def _try(self, state: _State) -> Tried | None:
        """The estimate of a combination; None where its own rules refuse it, or nothing is changed by it."""
        state = self._state(state.chosen)
        if state not in self._seen:
            if not state.chosen or self._made(state.chosen) is None or self.estimates >= 2 * MAX_ESTIMATES:
                return None
            self._seen.add(state)
        if state not in self._tried:
            self._tried[state] = self._estimated(state)
        tried = self._tried[state]
        owned = tried is not None and not any(lever.hardware for lever in tried.levers)
        if tried and owned and (self.nearest is None or tried.least < self.nearest.least):
            self.nearest = tried
        return tried

    def _state(self, chosen: Chosen) -> _State:
        """Chosen options in the order in which the changes are made."""
        return _State(tuple(sorted(chosen, key=lambda entry: (self.levers[entry[0]].turn, entry))))

    def _estimated(self, state: _State) -> Tried | None:
        made = self._made(state.chosen)
        assert made is not None  # as it is tried
        try:
            answer = self._size(made.settings)
            fit = self._judges[0](answer)
        except MemcalcError:
            return None
        cost = tuple(sorted(state.chosen, reverse=True))
        changes = {name: made.settings[name] for name in sorted(made.settings, key=lambda name: made.places[name])}
        return Tried(changes, tuple(self.levers[place] for place, _ in reversed(cost)), answer, fit.needed.bytes, fit, 1, cost)

    def _made(self, chosen: Chosen) -> _Made | None:
        """A combination's settings and the run with them: those of all but its last change, and that one."""
        if chosen not in self._changed:
            self._changed[chosen] = self._one_more(chosen)
        return self._changed[chosen]

    def _one_more(self, chosen: Chosen) -> _Made | None:
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

    # --- what is worth telling ----------------------------------------------------------------------------------------

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
