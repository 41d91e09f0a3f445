"""Predicted against published training speed: row by row, and by groups of rows that share source, model and accelerator."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

from memcalc.estimates.validation import GRADES_USED, percentile
from memcalc.frozen import NamedTuple

KINDS = {
    "dense": "dense, 16 bit",
    "fp8": "dense, fp8",
    "fp4": "dense, fp4",
    "mixture": "mixtures of experts",
    "adapters": "LoRA and QLoRA",
}


class TimeResidual(NamedTuple):
    """A published speed beside its prediction, tokens a second and GPU. error = predicted / measured − 1."""

    id: str
    group: str
    kind: str
    grade: str
    gpu: str
    engine: str
    measured: float
    predicted: float
    fitted: bool

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


class TimeScore(NamedTuple):
    """Errors of one kind of run. Of groups: each group's median counts once. low, high: 10th and 90th percentile of
    measured / predicted time − 1, over groups."""

    kind: str
    rows: int
    median: float
    p90: float
    groups: int
    group_median: float
    group_p90: float
    low: float
    high: float


def scored(residuals: Iterable[TimeResidual], *, fitted: bool = False) -> tuple[TimeScore, ...]:
    """Rows of grades A and B by kind: those that nothing was set from, or those that something was."""
    kinds: dict[str, list[TimeResidual]] = defaultdict(list)
    for row in residuals:
        if row.grade in GRADES_USED and row.fitted == fitted:
            kinds[row.kind].append(row)
    return tuple(_score(kind, kinds[kind]) for kind in KINDS if kind in kinds)


def _score(kind: str, rows: Sequence[TimeResidual]) -> TimeScore:
    groups: dict[str, list[TimeResidual]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    errors = [abs(row.error) for row in rows]
    middles = [median(abs(row.error) for row in group) for group in groups.values()]
    slower = [median(row.predicted / row.measured for row in group) - 1 for group in groups.values()]
    return TimeScore(
        kind, len(rows), median(errors), percentile(errors, 90), len(groups), median(middles), percentile(middles, 90),
        percentile(slower, 10), percentile(slower, 90),
    )  # fmt: skip
