"""`memcalc validate`."""

import json
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]


def test_the_document(memcalc: Run) -> None:
    found = memcalc("validate --format json").document
    assert found["schema"] == "memcalc/1"
    rows = found["residuals"]
    assert {row["grade"] for row in rows} == {"A", "B"}
    for row in rows:
        assert row["error"] == row["predicted"] / row["measured"] - 1
    assert sum(spread["rows"] for spread in found["distribution"]) == len(rows)
    assert found["unpredicted"]
    assert all(row["reason"] for row in found["unpredicted"])


@pytest.mark.parametrize(("option", "value"), [("grade", "A"), ("engine", "litgpt"), ("kind", "reserved")])
def test_a_filter(memcalc: Run, option: str, value: str) -> None:
    rows = memcalc(f"validate --{option} {value} --format json").document["residuals"]
    assert rows
    assert {row[option] for row in rows} == {value}


@pytest.mark.parametrize("format_", ["table", "markdown", "csv"])
def test_every_row_is_shown(memcalc: Run, format_: str) -> None:
    result = memcalc(f"validate --engine litgpt --details --format {format_}")
    assert result.code == 0, result.err
    assert "litgpt-llama-2-7b-lora" in result.out
    assert "median" in result.out


def test_one_field(memcalc: Run) -> None:
    assert json.loads(memcalc("validate --get quantiles.0.rows").out) > 100


UNKNOWN = (
    ("--grade D", "--grade: 'D' is not one of A, B, C"),
    ("--engine torchtitn", "did you mean torchtitan"),
    ("--kind rss", "--kind: 'rss'"),
)


@pytest.mark.parametrize(("options", "said"), UNKNOWN)
def test_an_unknown_filter(memcalc: Run, options: str, said: str) -> None:
    result = memcalc(f"validate {options}")
    assert result.code == 2
    assert said in result.err
