"""Predicted against measured: a point for each group of rows around the line on which both are equal."""

from collections import defaultdict
from collections.abc import Iterable
from math import log10
from statistics import median

from memcalc.estimates.validation_time import KINDS, TimeResidual
from memcalc.report.plot import Plot, PlotMark
from memcalc.units import format_count


def scatter(rows: Iterable[TimeResidual], kind: str) -> Plot | None:
    """Tokens a second and GPU of one kind of run, measured across and predicted upwards, both axes logarithmic. Each group is
    the median of its rows, under its engine's first letter; None where there are fewer than two."""
    groups: dict[str, list[TimeResidual]] = defaultdict(list)
    for row in rows:
        if row.kind == kind:
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
        f"{KINDS[kind]}: tokens a second and GPU, predicted over measured",
        ((low, log10(low)), (high, log10(high))),
        [PlotMark(letter, measured, log10(predicted)) for measured, predicted, letter in points],
        "each group of one source, model and accelerator: "
        + "; ".join(f"{letter} {', '.join(names)}" for letter, names in named.items()),
        lambda power: format_count(float(f"{10**power:.2g}")),
    )
