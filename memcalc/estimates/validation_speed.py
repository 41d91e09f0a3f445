"""Predicted serving speed beside published measurements: the error of each, and their distribution by group."""

from collections import defaultdict
from collections.abc import Iterable

from memcalc.estimates.validation import DIGITS, Skipped, Spread, percentile, spread
from memcalc.formulas.residuals import MIN_ROWS
from memcalc.formulas.speed_residuals import SpeedRange
from memcalc.frozen import NamedTuple

# What is compared, and its unit.
SPEED_QUANTITIES = {
    "tpot": "s", "ttft": "s", "ttft_load": "s", "decode": "tokens/s", "prefill": "tokens/s", "batch": "tokens/s",
    "max_throughput": "tokens/s",
}  # fmt: skip
# Quantities whose errors stand for those that a report gives: rates of single passes are times turned over.
RANGED = {
    "tpot": "tpot", "decode": "tpot", "ttft": "ttft", "prefill": "ttft", "ttft_load": "ttft_load",
    "max_throughput": "requests_per_second",
}  # fmt: skip
TURNED = ("decode", "prefill")
GRADES = ("A", "B")


class SpeedResidual(NamedTuple):
    """One measured speed beside the law's and the roofline's at default shares. error = speed predicted / measured − 1, of a
    time: time predicted / measured − 1."""

    id: str
    engine: str
    gpu: str
    model: str
    kind: str  # dense or experts
    release: str  # current: of the engine's releases that are described; older; not said; or another engine
    quantity: str
    grade: str
    measured: float
    predicted: float
    roofline: float | None

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


class _Bound(NamedTuple):
    """A residual of the roofline."""

    measured: float
    predicted: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


class SpeedValidation(NamedTuple):
    residuals: tuple[SpeedResidual, ...]
    skipped: tuple[Skipped, ...]


class SpeedSpread(NamedTuple):
    """Errors of a group of rows: absolute medians and 90th percentiles, of the law and of the roofline at default shares."""

    by: str
    group: str
    quantity: str
    rows: int
    median: float
    p90: float
    bias: float  # median of predicted / measured
    roofline_median: float | None
    roofline_p90: float | None


def speed_distribution(residuals: Iterable[SpeedResidual]) -> list[SpeedSpread]:
    """By quantity and kind of model, then by engine, GPU and model."""
    rows = list(residuals)
    out: list[SpeedSpread] = []
    for by in ("kind", "release", "engine", "gpu", "model"):
        groups: dict[tuple[str, str], list[SpeedResidual]] = defaultdict(list)
        for row in rows:
            groups[row.quantity, getattr(row, by)].append(row)
        for (quantity, name), group in sorted(groups.items()):
            out.append(_speed_spread(by, name, quantity, group))
    return out


def _speed_spread(by: str, name: str, quantity: str, group: list[SpeedResidual]) -> SpeedSpread:
    found: Spread = spread(group, name, by, quantity)
    bounds = [_Bound(row.measured, row.roofline) for row in group if row.roofline]
    before = spread(bounds, name, by, quantity) if bounds else None
    bias = percentile([row.predicted / row.measured for row in group], 50)
    return SpeedSpread(
        by, name, quantity, len(group), found.median, found.p90, bias, before.median if before else None,
        before.p90 if before else None,
    )  # fmt: skip


def stored_ranges(residuals: Iterable[SpeedResidual]) -> list[SpeedRange]:
    """What memcalc.formulas.speed_residuals stores: all rows of a quantity, then groups of an engine and a kind with enough."""
    groups: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in residuals:
        if row.grade in GRADES and (name := RANGED.get(row.quantity)):
            ratio = (row.predicted / row.measured if row.quantity in TURNED else row.measured / row.predicted) - 1
            for key in ((name, "", ""), (name, row.engine, ""), (name, "", row.kind), (name, row.engine, row.kind)):
                groups[key].append(ratio)
    return [
        SpeedRange(*key, len(ratios), *(round(percentile(ratios, percent), DIGITS) for percent in (10, 90)))
        for key, ratios in sorted(groups.items(), key=lambda group: (tuple(RANGED.values()).index(group[0][0]), group[0]))
        if len(ratios) >= MIN_ROWS or not (key[1] or key[2])
    ]
