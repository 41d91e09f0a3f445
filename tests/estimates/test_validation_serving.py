"""Serving against published logs and file sizes: every quantity within what the project promises, nothing dropped."""

from collections import defaultdict
from statistics import median
from typing import Any

import pytest

from memcalc.estimates.validation import percentile
from memcalc.estimates.validation_serving import PREDICTIONS, ServingResidual, ServingValidation, validate_serving
from memcalc.readers.measured import served_cases
from memcalc.specs.served import QUANTITIES, Served
from memcalc.specs.serving import Serving
from memcalc.specs.spec import SpecError


@pytest.fixture(scope="module")
def found() -> ServingValidation:
    return validate_serving(served_cases())


def test_every_row_is_predicted_or_says_why(found: ServingValidation) -> None:
    predicted = {row.id for row in found.residuals}
    skipped = {row.id.partition(":")[0]: row.reason for row in found.skipped}
    for case in served_cases():
        assert case.served.id in predicted or skipped.get(case.served.id), case.served.id


def test_every_quantity_has_its_prediction() -> None:
    assert set(PREDICTIONS) == set(QUANTITIES)


# quantity, grade: median, 90th percentile and largest absolute error promised
PROMISED = (
    ("weights", "A", 0.01, 0.03, 0.03),
    ("weights_file", "A", 0.01, 0.01, 0.01),
    ("kv_cache", "A", 0.0, 0.002, 0.002),
    ("kv_cache_window", "A", 0.0, 0.0, 0.0),
    ("kv_tokens_of_memory", "A", 0.001, 0.002, 0.05),
    ("max_concurrency", "A", 0.001, 0.002, 0.05),
    ("kv_tokens", "A", 0.01, 0.05, 0.08),
    ("activations", "A", 0.01, 0.03, 0.10),
)


@pytest.mark.parametrize(("kind", "grade", "middle", "p90", "worst"), PROMISED)
def test_errors_are_within_what_is_promised(
    found: ServingValidation, kind: str, grade: str, middle: float, p90: float, worst: float
) -> None:
    groups: dict[tuple[str, str], list[ServingResidual]] = defaultdict(list)
    for row in found.residuals:
        groups[row.kind, row.grade].append(row)
    errors = {row.id: abs(row.error) for row in groups[kind, grade]}
    assert errors
    assert median(errors.values()) <= middle
    assert percentile(list(errors.values()), 90) <= p90
    assert max(errors.values()) <= worst, max(errors, key=lambda row: errors[row])


COMMON: dict[str, Any] = {"id": "row", "citation": "somewhere", "framework": "vLLM", "named": "a model", "role": "measurement",
                          "grade": "A"}  # fmt: skip
REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"citation": " ", "unpredictable": "why"}, "citation"),
    ({}, "serving"),
    ({"serving": Serving()}, "model"),
    ({"model": "x", "serving": Serving(), "measured": {"wheights": 1.0}}, "measured"),
    ({"model": "x", "serving": Serving(), "measured": {"weights": -1.0}}, "measured"),
    ({"model": "x", "serving": Serving(), "measured": {"kv_tokens_of_memory": 1.0}}, "cache"),
)


@pytest.mark.parametrize(("values", "field"), REFUSED, ids=str)
def test_rows_keep_their_rules(values: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError) as refused:
        Served(**COMMON | values)
    assert field in [name.partition(".")[0] for name in refused.value.fields]
