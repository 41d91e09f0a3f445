"""The fastest layouts that fit: states as a bound that prunes, time to rank, memory asked only of what is fast.

Memory grows with the micro-batch: what a place needs with one size it needs with every larger one.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from memcalc.errors import MemcalcError
from memcalc.estimates.planning.accepts import ENGINES, Settings
from memcalc.estimates.planning.bounds import Count, StateBytes, least_states
from memcalc.estimates.planning.space import Layout, Question, layouts
from memcalc.formulas.verdict import Fit

STATES, MEMORY, SLOWER = "states alone are larger than the GPU", "does not fit", "slower"
INTERRUPTED = "interrupted"
EVERY = 256  # layouts between two words of progress
MOST_LEAN = 20_000
MISSES = 48  # places whose leanest layout is looked at where nothing fits


class Judged(NamedTuple):
    """A layout with its time and its fit."""

    layout: Layout
    seconds: float
    fit: Fit


class Found(NamedTuple):
    """What a search found: the fastest first, how many there were, and why the others are not among them."""

    best: tuple[Judged, ...]
    candidates: int
    estimated: int  # whose memory was worked out
    fitting: int  # of these
    why: Counter[str]
    nearest: Judged | None = None  # where nothing fits: what needs least


class Ways(Protocol):
    """How a search finds out about a layout; whatever it asks may raise MemcalcError, where a rule refuses the layout."""

    limit: int  # bytes
    sure: bool  # what is tight is not enough

    def states(self, layout: Layout) -> StateBytes:
        """What an element takes under the layout's engine and settings."""
        ...

    def run(self, layout: Layout) -> Any:
        """Its spec."""
        ...

    def seconds(self, run: Any) -> float:
        """Of a step."""
        ...

    def fit(self, layout: Layout, run: Any) -> Fit: ...


class _Walk:
    """Layouts in the order of their time, until there are enough."""

    def __init__(self, ways: Ways, wanted: int) -> None:
        self._ways, self._wanted = ways, wanted
        self._least: dict[tuple[Any, ...], int] = {}  # the smallest micro-batch that is known not to fit
        self._states: dict[tuple[Any, ...], float] = {}
        self.best: list[Judged] = []
        self.estimated = self.fitting = 0
        self.why: Counter[str] = Counter()
        self.leanest: Judged | None = None

    def least(self, layout: Layout, count: Count) -> float:
        """Bytes of its states, or less."""
        key = (layout.place, layout.others)
        if (found := self._states.get(key)) is None:
            accepts = ENGINES[layout.place.engine]
            sharding = accepts.shardings[layout.place.sharding]
            found = self._states[key] = least_states(count, self._ways.states(layout), layout.place, sharding)
        return found

    def look(self, layout: Layout, run: Any, seconds: float) -> None:
        """One layout; only if it may fit and there are not enough faster ones."""
        key = (layout.place, layout.others_recomputed)
        if len(self.best) >= self._wanted:
            self.why[SLOWER] += 1
            return
        if layout.micro_batch >= self._least.get(key, layout.micro_batch + 1):
            self.why[MEMORY] += 1
            return
        fit = self._fit(layout, run)
        if fit is None:
            return
        judged = Judged(layout, seconds, fit)
        if fit.verdict == "fits" or (fit.verdict == "tight" and not self._ways.sure):
            self.fitting += 1
            self.best.append(judged)
            return
        self._least[key] = layout.micro_batch
        self.why[MEMORY] += 1
        if self.leanest is None or fit.headroom > self.leanest.fit.headroom:
            self.leanest = judged

    def _fit(self, layout: Layout, run: Any) -> Fit | None:
        self.estimated += 1
        try:
            return self._ways.fit(layout, run)
        except MemcalcError as error:
            self.why[str(error)] += 1
            return None


def search(
    questions: Iterable[Question], ways: Ways, count: Count, wanted: int, tick: Callable[[int], None] = lambda done: None
) -> Found:
    """The `wanted` fastest layouts that fit; where none does, what comes nearest. `tick` hears how many were looked at.

    Interrupted (KeyboardInterrupt), it makes do with what it has seen.
    """
    walk = _Walk(ways, wanted)
    timed: list[tuple[float, int, Layout, Any]] = []
    lean: list[tuple[float, int, Layout]] = []
    seen = 0
    try:
        for seen, layout in enumerate((each for asked in questions for each in layouts(asked)), 1):
            if seen % EVERY == 0:
                tick(seen)
            try:
                least = walk.least(layout, count)
                if len(lean) < MOST_LEAN:
                    lean.append((least, seen, layout))
                if least > ways.limit:
                    walk.why[STATES] += 1
                    continue
                run = ways.run(layout)
                timed.append((ways.seconds(run), seen, layout, run))
            except MemcalcError as error:
                walk.why[str(error)] += 1
        tick(seen)
    except KeyboardInterrupt:
        walk.why[INTERRUPTED] += 1
    for seconds, _, layout, run in sorted(timed, key=lambda entry: entry[:2]):
        walk.look(layout, run, seconds)
    nearest = None if walk.best else _nearest(lean, ways, walk)
    return Found(tuple(walk.best), seen, walk.estimated, walk.fitting, walk.why, nearest)


def _nearest(lean: list[tuple[float, int, Layout]], ways: Ways, walk: _Walk) -> Judged | None:
    """Of the places with the least states the one that needs least, with everything recomputed and small micro-batches."""
    for _, _, layout in sorted(lean, key=lambda entry: entry[:2])[:MISSES]:
        whole = layout._replace(recompute="full", micro_batch=1, grad_accum=layout.grad_accum * layout.micro_batch)
        for each in (layout, whole):
            try:
                run = ways.run(each)
                fit = ways.fit(each, run)
                judged = Judged(each, ways.seconds(run), fit)
            except MemcalcError:
                continue
            if walk.leanest is None or fit.headroom > walk.leanest.fit.headroom:
                walk.leanest = judged
    return walk.leanest


def settings_of(layout: Layout) -> Settings:
    """As `train` takes them."""
    return layout.settings(ENGINES[layout.place.engine])
