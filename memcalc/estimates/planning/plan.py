"""A plan: layouts in the order of what was asked for, over numbers of GPUs and accelerators, and which of them are worth it."""

from collections import Counter

from memcalc.estimates.planning.accepts import Settings
from memcalc.estimates.step_time.step import StepTime
from memcalc.formulas.verdict import Fit
from memcalc.frozen import NamedTuple
from memcalc.specs.hardware import Accelerator


class Ranked(NamedTuple):
    """A layout that fits, with what it takes."""

    rank: int
    gpu: Accelerator
    settings: Settings
    command: str
    model: str  # as it was named
    peak: int  # bytes
    fit: Fit
    time: StepTime
    days: float | None = None
    cost: float | None = None  # USD
    gpus_per_node: int = 8
    lost: str = ""  # what it loses against the first


class Offer(NamedTuple):
    """The best of one accelerator and number of GPUs."""

    gpu: str
    gpus: int
    seconds: float
    tokens_per_second: float
    days: float | None
    cost: float | None
    efficient: bool  # none is both faster and cheaper


class TrainingPlan(NamedTuple):
    """What was found."""

    ranked: tuple[Ranked, ...]
    offers: tuple[Offer, ...]
    candidates: int
    estimated: int
    fitting: int
    seconds: float  # that the search took
    why: Counter[str]  # why the others are not among them
    nearest: Ranked | None = None  # where nothing fits
    note: str = ""  # which constraint binds where there is nothing


def efficient(offers: list[tuple[float, float]]) -> list[bool]:
    """Which offers, as (time, money), no other beats in one without being worse in the other.

    >>> efficient([(1.0, 9.0), (2.0, 5.0), (3.0, 6.0)])
    [True, True, False]
    """
    return [
        not any((a < x and b <= y) or (a <= x and b < y) for j, (a, b) in enumerate(offers) if j != i)
        for i, (x, y) in enumerate(offers)
    ]
