"""Predictions against published measurements: the error of each, and how errors are distributed."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median, quantiles
from typing import Protocol

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.training.estimate import estimate
from memcalc.formulas.methods import ADAPTING
from memcalc.formulas.residuals import ADAPTERS, FULL, MIN_ROWS, UNREPLAYED, Quantiles
from memcalc.formulas.verdict import Verdict, verdict
from memcalc.frozen import NamedTuple
from memcalc.specs.measured import KINDS, Measured

GRADES_USED = ("A", "B")
LIVE = ("allocated", "active")  # kinds that count live tensors, as per_gpu.peak does
HELD = ("reserved", "device")  # kinds that hold more than live tensors
DIGITS = 4  # of a stored quantile


class Residual(NamedTuple):
    """One measured number beside its prediction; bytes. error = predicted / measured − 1."""

    id: str
    engine: str
    method: str
    kind: str
    grade: str
    measured: int
    predicted: int
    floor: int = 0  # of reserved and device: what would be held if nothing were lost to fragmentation

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


class Bound(NamedTuple):
    """A run that ended out of memory: as measured if it is predicted not to fit. Bytes on the device.

    `high` is the end of the prediction's range, per_gpu.device_high: a GPU runs full before its last byte is of use.
    """

    id: str
    engine: str
    method: str
    grade: str
    predicted: int
    high: int
    usable: int

    @property
    def verdict(self) -> str:
        return SAID_OF_OOM[verdict(self.predicted, self.high, self.usable)]


SAID_OF_OOM: dict[Verdict, str] = {
    "no": "does not fit: as measured",
    "tight": "tight: may not fit, fragmentation decided",
    "fits": "fits: not as measured",
}


class Skipped(NamedTuple):
    """A row that cannot be predicted, and why."""

    id: str
    grade: str
    reason: str


class Validation(NamedTuple):
    """All rows, each in exactly one of the three lists."""

    residuals: tuple[Residual, ...]
    bounds: tuple[Bound, ...]
    skipped: tuple[Skipped, ...]


class Spread(NamedTuple):
    """Errors of the rows of one engine, method and kind. low, high: 10th and 90th percentile of measured / predicted − 1."""

    engine: str
    method: str
    kind: str
    rows: int
    median: float  # of the absolute errors
    p90: float  # of the absolute errors
    low: float
    high: float


def validate(cases: Iterable[tuple[Measured, Architecture]]) -> Validation:
    """Predict every row that can be predicted."""
    residuals: list[Residual] = []
    bounds: list[Bound] = []
    skipped: list[Skipped] = []
    for row, architecture in cases:
        if row.run is None:
            skipped.append(Skipped(row.id, row.grade, row.unpredictable))
            continue
        found = estimate(architecture, row.run, row.generation, row.usable)
        engine, method = row.run.engine_row.name, row.run.method
        if row.role == "oom":
            assert row.usable is not None  # Measured's own rule
            bounds.append(Bound(row.id, engine, method, row.grade, found.needed.bytes, found.needed.high, row.usable))
        for kind, value in row.values.items():
            predicted, floor = getattr(found, KINDS[kind]), found.floor(kind) if kind in HELD else 0
            residuals.append(Residual(row.id, engine, method, kind, row.grade, value, predicted, floor))
    return Validation(tuple(residuals), tuple(bounds), tuple(skipped))


def stored_quantiles(residuals: Sequence[Residual]) -> list[Quantiles]:
    """What memcalc.formulas.residuals stores: all rows of live tensors together, then each engine and method with enough."""
    live = [residual for residual in residuals if residual.kind in LIVE and residual.grade in GRADES_USED]
    groups: dict[tuple[str, str], list[Residual]] = defaultdict(list, {("", ""): live})
    for residual in live:
        groups[residual.engine, residual.method].append(residual)
    return [
        _quantiles(group, *key) for key, group in sorted(groups.items()) if len(group) >= MIN_ROWS or (group and not key[0])
    ]


def stored_beyond(residuals: Sequence[Residual]) -> dict[str, Quantiles]:
    """What memcalc.formulas.residuals stores of the readings that hold more than live tensors: by kind; of both kinds, where
    everything is trained and where adapters are; and beside what would be held without fragmentation.
    """
    held = [residual for residual in residuals if residual.grade in GRADES_USED and residual.kind in HELD]
    groups = {kind: [residual for residual in held if residual.kind == kind] for kind in HELD}
    groups[FULL] = [residual for residual in held if residual.method not in ADAPTING]
    groups[ADAPTERS] = [residual for residual in held if residual.method in ADAPTING]
    groups[UNREPLAYED] = [residual._replace(predicted=residual.floor) for residual in held]
    return {name: _quantiles(group, method=name if name not in HELD else "") for name, group in groups.items() if group}


def _quantiles(group: Sequence[Residual], engine: str = "", method: str = "") -> Quantiles:
    ratios = [residual.measured / residual.predicted - 1 for residual in group]
    return Quantiles(engine, method, len(group), *(round(percentile(ratios, percent), DIGITS) for percent in (10, 90)))


def distribution(residuals: Iterable[Residual]) -> list[Spread]:
    """The spread of every engine, method and kind, in that order."""
    groups: dict[tuple[str, str, str], list[Residual]] = defaultdict(list)
    for residual in residuals:
        groups[residual.engine, residual.method, residual.kind].append(residual)
    return [spread(group, *key) for key, group in sorted(groups.items())]


class Compared(Protocol):
    """A measured number beside its prediction."""

    @property
    def measured(self) -> float: ...
    @property
    def predicted(self) -> float: ...
    @property
    def error(self) -> float: ...


def spread(group: Sequence[Compared], engine: str, method: str, kind: str) -> Spread:
    """Median and 90th percentile of the absolute errors, and the range that holds the middle four fifths of reality."""
    errors = [abs(residual.error) for residual in group]
    ratios = [residual.measured / residual.predicted - 1 for residual in group]
    low, high = percentile(ratios, 10), percentile(ratios, 90)
    return Spread(engine, method, kind, len(group), median(errors), percentile(errors, 90), low, high)


def percentile(values: Sequence[float], percent: int) -> float:
    """The percentile of at least one value, interpolated.

    >>> percentile([1.0, 2.0, 3.0], 90)
    2.8
    """
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]
