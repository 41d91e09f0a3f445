"""Published serving speeds: their rows are whole, and the stored ranges are what they come to."""

from collections import Counter

import pytest

from memcalc.estimates.validation_speed import GRADES, RANGED, SPEED_QUANTITIES, speed_distribution, stored_ranges
from memcalc.formulas.speed_residuals import RANGES, speed_range
from memcalc.readers.timed import timed_rows
from memcalc.sizing.validation_speed import validate_speed


def test_rows_are_whole() -> None:
    rows = timed_rows()
    assert len({(row.id, row.quantity) for row in rows}) == len(rows) > 3000
    for row in rows:
        assert row.quantity in SPEED_QUANTITIES
        assert row.grade in GRADES
        assert row.value > 0
        assert row.citation
        assert row.concurrency is None or row.concurrency > 0


def test_every_row_with_a_range_is_counted_in_it() -> None:
    counted = Counter(RANGED[row.quantity] for row in timed_rows() if row.quantity in RANGED and not row.unpredictable)
    for quantity, rows in counted.items():
        whole = next(row for row in RANGES if row.quantity == quantity)
        assert rows * 0.6 <= whole.rows <= rows


@pytest.mark.parametrize("engine", ["llama.cpp", "exllamav2"])
def test_stored_ranges_are_what_the_rows_come_to(engine: str) -> None:
    """Of engines with few rows, for time; `memcalc validate --kind serving-speed --get speed.quantiles` prints all."""
    now = [row for row in stored_ranges(validate_speed(engine).residuals) if row.engine == engine]
    assert [row for row in RANGES if row.engine == engine] == now


def test_decode_of_llama_cpp_is_close() -> None:
    """The median and the ninetieth percentile of one engine whose rows name all settings (llama-bench tables)."""
    spreads = speed_distribution(validate_speed("llama.cpp").residuals)
    decode = next(row for row in spreads if (row.by, row.quantity) == ("engine", "decode"))
    assert decode.rows > 150
    assert decode.median < 0.13
    assert decode.p90 < 0.4
    assert decode.roofline_median
    assert decode.roofline_median > decode.median


def test_a_range_is_that_of_the_engine_and_holds_the_point() -> None:
    assert speed_range("tpot", "llama.cpp", "dense").engine == "llama.cpp"
    assert all(speed_range(row.quantity, row.engine, row.kind).low <= 0 for row in RANGES)
    assert all(speed_range(row.quantity, row.engine, row.kind).high >= 0 for row in RANGES)
