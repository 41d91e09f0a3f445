"""Published training speeds: what the stored ranges rest on is what the rows say now, and errors stay within bounds."""

import pytest

from memcalc.estimates.validation_time import scored
from memcalc.formulas.timing.residuals import SPREADS
from memcalc.sizing.validation import validate_time

# Median and 90th percentile over groups kept apart, as `memcalc validate --kind time` printed them, rounded up.
MOST = {"dense": (0.11, 0.34), "fp8": (0.09, 0.41), "mixture": (0.17, 0.35), "adapters": (0.08, 0.31)}


@pytest.mark.parametrize("kind", MOST)
def test_errors_stay_within_bounds(kind: str) -> None:
    score = next(score for score in scored(validate_time().residuals) if score.kind == kind)
    assert (score.group_median, score.group_p90) <= MOST[kind]
    assert score.group_p90 <= MOST[kind][1]


@pytest.mark.parametrize("kind", SPREADS)
def test_the_stored_ranges_are_those_of_the_rows(kind: str) -> None:
    score = next(score for score in scored(validate_time().residuals) if score.kind == kind)
    assert SPREADS[kind].groups == score.groups
    assert SPREADS[kind].low == pytest.approx(score.low, abs=0.01)
    assert SPREADS[kind].high == pytest.approx(score.high, abs=0.01)


def test_nothing_is_scored_that_a_factor_was_set_from() -> None:
    rows = validate_time().residuals
    fitted = {row.group for row in rows if row.fitted}
    assert fitted
    assert sum(score.rows for score in scored(rows)) + sum(score.rows for score in scored(rows, fitted=True)) == sum(
        row.grade in ("A", "B") for row in rows
    )
