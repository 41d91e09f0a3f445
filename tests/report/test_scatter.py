"""Predicted against measured: a point a group, on the line where both are equal, whatever the axes reach."""

from math import log10

import pytest

from memcalc.estimates.validation_speed import SpeedResidual
from memcalc.estimates.validation_time import TimeResidual
from memcalc.report.scatter import scatter, speed_scatters, time_scatters
from memcalc.report.svg import picture


def row(group: str, measured: float, predicted: float, kind: str = "dense", engine: str = "torch") -> TimeResidual:
    return TimeResidual(group, group, kind, "A", "h100", engine, measured, predicted, False)


def test_each_group_is_the_median_of_its_rows() -> None:
    rows = [row("a", 100, 120), row("a", 200, 220), row("a", 900, 300), row("b", 5000, 4000, engine="megatron")]
    (plot,) = time_scatters([*rows, row("c", 1, 1, kind="fp8")])
    assert {(mark.letter, mark.x, round(10**mark.y)) for mark in plot.marks} == {("T", 200, 220), ("M", 5000, 4000)}
    assert "M megatron" in plot.legend
    assert all(plot.line[0][0] < mark.x < plot.line[-1][0] and 0 <= plot.down(mark.y) <= 1 for mark in plot.marks)


@pytest.mark.parametrize("value", [3.0, 70.0, 440_000.0])
def test_what_is_predicted_as_measured_lies_on_the_line(value: float) -> None:
    plot = scatter([row("a", 2, 2), row("b", 500_000, 500_000), row("c", value, value)], "title")
    assert plot
    assert plot.across(value) == pytest.approx(1 - plot.down(log10(value)))
    assert picture(plot).count("<circle") == 3


def test_a_group_alone_makes_no_plot() -> None:
    assert scatter([row("a", 1, 2), row("a", 2, 2)], "title") is None


def test_serving_has_a_plot_a_quantity_and_kind_of_model() -> None:
    def served(model: str, kind: str, quantity: str, value: float) -> SpeedResidual:
        return SpeedResidual(model, "vllm", "h100", model, kind, "current", quantity, "B", value, value * 1.2, None)

    rows = [served(name, "dense", "tpot", value) for name, value in (("a", 0.01), ("b", 0.02))]
    plots = speed_scatters([*rows, served("c", "experts", "tpot", 1), served("d", "dense", "prefill", 900)])
    assert [plot.title for plot in plots] == [
        "Time per output token under load, dense models: milliseconds, predicted over measured"
    ]
    assert {round(mark.x) for mark in plots[0].marks} == {10, 20}
