"""The fastest layouts that fit: states as a bound that prunes, time to rank, memory asked only of what is fast.

Memory grows with the micro-batch: what a place needs with one size it needs with every larger one.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from memcalc.errors import MemcalcError
from memcalc.estimates.planning.accepts import ENGINES, Settings
from memcalc.estimates.planning.bounds import Count, StateBytes, least_states
from memcalc.estimates.planning.space import Question, TrainingLayout, layouts
from memcalc.formulas.verdict import Fit
from memcalc.frozen import NamedTuple

STATES, MEMORY, SLOWER = "states alone are larger than the GPU", "does not fit", "slower"
INTERRUPTED = "interrupted"
EVERY = 256  # layouts between two words of progress
MOST_LEAN = 20_000
ALIKE = 1.01  # times as long: no longer than one can tell
MISSES = 48  # places whose leanest layout is looked at where nothing fits


class Judged(NamedTuple):
    """A layout with its time and its fit."""

    layout: TrainingLayout
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
    inside: int  # ranks that a hybrid sharding cuts over, at most
    sure: bool  # what is tight is not enough

    def states(self, layout: TrainingLayout) -> StateBytes:
        """What an element takes under the layout's engine and settings."""
        ...

    def run(self, layout: TrainingLayout) -> Any:
        """Its spec."""
        ...

    def least_seconds(self, layout: TrainingLayout) -> float:
        """Of a step, or less."""
        ...

    def seconds(self, run: Any) -> float:
        """Of a step."""
        ...

    def fit(self, layout: TrainingLayout, run: Any) -> Fit:
        """What it needs at least: quickly."""
        ...

    def last_word(self, layout: TrainingLayout) -> Fit:
        """The fit that `train` gives it."""
        ...


class _Known(NamedTuple):
    """What was found out about a layout."""

    seconds: float
    fit: Fit | None = None


class _Walk:
    """Layouts from the fastest they could be, until there are enough that no other can beat."""

    def __init__(self, ways: Ways, wanted: int) -> None:
        self._ways, self._wanted = ways, wanted
        self._least: dict[tuple[Any, ...], int] = {}  # the smallest micro-batch that is known not to fit
        self._states: dict[tuple[Any, ...], float] = {}
        self._known: dict[TrainingLayout, _Known] = {}
        self._last: dict[TrainingLayout, Fit] = {}  # the last word
        self.best: list[Judged] = []  # of every shape
        self.estimated = 0
        self.why: Counter[str] = Counter()
        self.leanest: Judged | None = None

    @property
    def fits(self) -> list[Fit]:
        """Of all layouts whose memory was worked out."""
        return [self._last.get(layout, found.fit) for layout, found in self._known.items() if found.fit]

    @property
    def fitting(self) -> int:
        return sum(fit.fits for fit in self.fits)

    def least(self, layout: TrainingLayout, count: Count) -> float:
        """Bytes of its states, or less."""
        key = (layout.place, layout.others)
        if (found := self._states.get(key)) is None:
            accepts = ENGINES[layout.place.engine]
            sharding = accepts.shardings[layout.place.sharding]
            found = self._states[key] = least_states(
                count, self._ways.states(layout), layout.place, sharding, self._ways.inside
            )
        return found

    def enough(self, seconds: float) -> bool:
        """Whether what takes so long cannot be among the best any more."""
        return len(self.best) >= self._wanted and seconds > ALIKE * self.best[-1].seconds

    def walk(self, possible: Sequence[tuple[float, int, TrainingLayout]]) -> None:
        """From the fastest that they could be; once more where the last word on one of the best is that it does not fit."""
        while True:
            self.best, self.why[SLOWER] = [], 0
            for number, (seconds, _, layout) in enumerate(possible):
                if self.enough(seconds):
                    self.why[SLOWER] += len(possible) - number
                    break
                self._look(layout)
            if all(self._settled(judged) for judged in self.best):
                self.best = [judged._replace(fit=self._last[judged.layout]) for judged in self.best]
                return

    def _settled(self, judged: Judged) -> bool:
        """Whether one of the best stays among them by the last word on its memory."""
        layout = judged.layout
        if layout not in self._last:
            self._last[layout] = self._ways.last_word(layout)
        return self._fits(layout, self._last[layout])

    def _fits(self, layout: TrainingLayout, fit: Fit) -> bool:
        if fit.verdict == "fits" or (fit.verdict == "tight" and not self._ways.sure):
            return True
        key = (layout.place, layout.others_recomputed)
        self._least[key] = min(layout.micro_batch, self._least.get(key, layout.micro_batch))
        if self.leanest is None or fit.headroom > self.leanest.fit.headroom:
            self.leanest = Judged(layout, self._known[layout].seconds, fit)
        return False

    def _look(self, layout: TrainingLayout) -> None:
        """One layout: its time, and if that is good enough, whether it fits."""
        key = (layout.place, layout.others_recomputed)
        if layout.micro_batch >= self._least.get(key, layout.micro_batch + 1):
            return
        try:
            found = self._timed(layout)
            if self.enough(found.seconds) or self._beaten(layout, found.seconds):
                self.why[SLOWER] += 1
                return
            if found.fit is None:
                found = self._known[layout] = found._replace(fit=self._ways.fit(layout, self._ways.run(layout)))
                self.estimated += 1
        except MemcalcError as error:
            self.why[str(error)] += 1
            return
        assert found.fit is not None
        fit = self._last.get(layout, found.fit)
        if self._fits(layout, fit):
            self._keep(Judged(layout, found.seconds, fit))

    def _timed(self, layout: TrainingLayout) -> "_Known":
        if (found := self._known.get(layout)) is None:
            found = self._known[layout] = _Known(self._ways.seconds(self._ways.run(layout)))
        return found

    def _beaten(self, layout: TrainingLayout, seconds: float) -> bool:
        """Whether another of the same degrees is as fast, or simpler and about as fast."""
        other = self._alike(layout)
        if other is None:
            return False
        simpler = (other.layout.simplicity, other.layout.place.sharding) <= (layout.simplicity, layout.place.sharding)
        return other.seconds <= seconds * (ALIKE if simpler else 1.0)

    def _alike(self, layout: TrainingLayout) -> Judged | None:
        return next((each for each in self.best if each.layout.shape == layout.shape), None)

    def _keep(self, judged: Judged) -> None:
        """Among the best, in place of the one with the same degrees."""
        if other := self._alike(judged.layout):
            self.best.remove(other)
        self.best.append(judged)
        self.best.sort(key=lambda each: each.seconds)
        del self.best[self._wanted :]


def search(
    questions: Iterable[Question], ways: Ways, count: Count, wanted: int, tick: Callable[[int], None] = lambda done: None
) -> Found:
    """The `wanted` fastest layouts that fit, of equal degrees the best; where none does, what comes nearest.

    `tick` hears how many were looked at. Interrupted (KeyboardInterrupt), the search makes do with what it has seen.
    """
    walk = _Walk(ways, wanted)
    possible: list[tuple[float, int, TrainingLayout]] = []
    lean: list[tuple[float, int, TrainingLayout]] = []
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
                else:
                    possible.append((ways.least_seconds(layout), seen, layout))
            except MemcalcError as error:
                walk.why[str(error)] += 1
        tick(seen)
        possible.sort(key=lambda entry: entry[:2])
        walk.walk(possible)
    except KeyboardInterrupt:
        walk.why[INTERRUPTED] += 1
    nearest = None if walk.best else _nearest(lean, ways, walk)
    walk.why[MEMORY] += sum(fit.verdict == "no" for fit in walk.fits)
    return Found(tuple(_simplest_first(walk.best)), seen, walk.estimated, walk.fitting, walk.why, nearest)


def _simplest_first(best: list[Judged]) -> list[Judged]:
    """By time; of those that take about as long as the fastest of them the simplest first."""
    out: list[Judged] = []
    rest = sorted(best, key=lambda each: each.seconds)
    while rest:
        alike = [each for each in rest if each.seconds <= ALIKE * rest[0].seconds]
        rest = rest[len(alike) :]
        out += sorted(alike, key=lambda each: (each.layout.simplicity, each.seconds))
    return out


def _nearest(lean: list[tuple[float, int, TrainingLayout]], ways: Ways, walk: _Walk) -> Judged | None:
    """Of the places with the least states the one that needs least, with everything recomputed and small micro-batches."""
    for _, _, layout in sorted(lean, key=lambda entry: entry[:2])[:MISSES]:
        whole = layout._replace(recompute="full", micro_batch=1, grad_accum=layout.grad_accum * layout.micro_batch)
        for each in (layout, whole):
            try:
                run = ways.run(each)
                judged = Judged(each, ways.seconds(run), ways.fit(each, run))
            except MemcalcError:
                continue
            if walk.leanest is None or judged.fit.headroom > walk.leanest.fit.headroom:
                walk.leanest = judged
    return walk.leanest and walk.leanest._replace(fit=ways.last_word(walk.leanest.layout))


def settings_of(layout: TrainingLayout) -> Settings:
    """As `train` takes them."""
    return layout.settings(ENGINES[layout.place.engine])
