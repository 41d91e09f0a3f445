"""Predicted against measured: a point a group, on the line where both are equal, whatever the axes reach."""

from math import log10

import pytest

from memcalc.estimates.validation_time import TimeResidual
from memcalc.report.scatter import scatter
from memcalc.report.svg import picture


def row(group: str, measured: float, predicted: float, kind: str = "dense", engine: str = "torch") -> TimeResidual:
    return TimeResidual(group, group, kind, "A", "h100", engine, measured, predicted, False)


def test_each_group_is_the_median_of_its_rows() -> None:
    rows = [row("a", 100, 120), row("a", 200, 220), row("a", 900, 300), row("b", 5000, 4000, engine="megatron")]
    plot = scatter([*rows, row("c", 1, 1, kind="fp8")], "dense")
    assert plot
    assert {(mark.letter, mark.x, round(10**mark.y)) for mark in plot.marks} == {("T", 200, 220), ("M", 5000, 4000)}
    assert "M megatron" in plot.legend
    assert all(plot.line[0][0] < mark.x < plot.line[-1][0] and 0 <= plot.down(mark.y) <= 1 for mark in plot.marks)


@pytest.mark.parametrize("value", [3.0, 70.0, 440_000.0])
def test_what_is_predicted_as_measured_lies_on_the_line(value: float) -> None:
    plot = scatter([row("a", 2, 2), row("b", 500_000, 500_000), row("c", value, value)], "dense")
    assert plot
    assert plot.across(value) == pytest.approx(1 - plot.down(log10(value)))
    assert picture(plot).count("<circle") == 3


def test_a_group_alone_makes_no_plot() -> None:
    assert scatter([row("a", 1, 2), row("a", 2, 2)], "dense") is None
