"""Predicted against measured: a point for each group of rows around the line on which both are equal."""

from collections import defaultdict
from collections.abc import Iterable
from math import log10
from statistics import median
from typing import Protocol

from memcalc.estimates.validation_speed import SPEED_QUANTITIES, SpeedResidual
from memcalc.estimates.validation_time import KINDS, TimeResidual
from memcalc.frozen import NamedTuple
from memcalc.report.plot import Plot, PlotMark
from memcalc.units import format_count

OF = "each group of one source, model and accelerator"
UNITS = {"s": ("milliseconds", 1e3), "tokens/s": ("tokens a second", 1.0)}  # how a quantity is shown, and times what
SHOWN = {
    "tpot": "time per output token under load", "ttft": "time to first token", "ttft_load": "time to first token under load",
    "decode": "decode", "prefill": "prefill", "batch": "batches from start to end", "max_throughput": "maximum throughput",
}  # fmt: skip
MODELS = {"dense": "dense models", "experts": "mixtures of experts"}


class PlottedRow(Protocol):
    """A row that has both."""

    @property
    def group(self) -> str: ...
    @property
    def engine(self) -> str: ...
    @property
    def measured(self) -> float: ...
    @property
    def predicted(self) -> float: ...


class SpeedPoint(NamedTuple):
    """One row of a scatter."""

    group: str
    engine: str
    measured: float
    predicted: float


def scatter(rows: Iterable[PlottedRow], title: str, of: str = OF) -> Plot | None:
    """Measured across and predicted upwards, both axes logarithmic. Each group is the median of its rows, under its engine's
    first letter; None where there are fewer than two."""
    groups: dict[str, list[PlottedRow]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    points = [
        (median(row.measured for row in group), median(row.predicted for row in group), group[0].engine[0].upper())
        for group in groups.values()
    ]
    if len(points) < 2:
        return None
    ends = [value for measured, predicted, _ in points for value in (measured, predicted)]
    low, high = 10 ** (log10(min(ends)) - 0.05), 10 ** (log10(max(ends)) + 0.05)
    engines = sorted({(group[0].engine[0].upper(), group[0].engine) for group in groups.values()})
    named: dict[str, list[str]] = defaultdict(list)
    for letter, engine in engines:
        named[letter].append(engine)
    return Plot(
        title,
        ((low, log10(low)), (high, log10(high))),
        [PlotMark(letter, measured, log10(predicted)) for measured, predicted, letter in points],
        f"{of}: " + "; ".join(f"{letter} {', '.join(names)}" for letter, names in named.items()),
        lambda power: format_count(float(f"{10**power:.2g}")),
    )


def time_scatters(rows: Iterable[TimeResidual]) -> list[Plot]:
    """Tokens a second and GPU of training, a plot a kind of run."""
    rows = list(rows)
    made = (
        scatter((row for row in rows if row.kind == kind), f"{name}: tokens a second and GPU, predicted over measured")
        for kind, name in KINDS.items()
    )
    return [plot for plot in made if plot]


def speed_scatters(rows: Iterable[SpeedResidual]) -> list[Plot]:
    """Serving, a plot a quantity and kind of model: each point is an engine, a model and an accelerator."""
    rows, out = list(rows), []
    for quantity, unit in SPEED_QUANTITIES.items():
        word, times = UNITS[unit]
        for kind, models in MODELS.items():
            points = (
                SpeedPoint(f"{row.engine} {row.model} {row.gpu}", row.engine, row.measured * times, row.predicted * times)
                for row in rows
                if (row.quantity, row.kind) == (quantity, kind)
            )
            title = f"{SHOWN[quantity]}, {models}: {word}, predicted over measured"
            if plot := scatter(points, title[0].upper() + title[1:], "each engine with one model and accelerator"):
                out.append(plot)
    return out
