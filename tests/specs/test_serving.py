"""Serving: formats and degrees."""

from typing import Any

import pytest

from memcalc.specs.serving import Serving
from memcalc.specs.spec import SpecError

# settings, the fields that the refusal names, what it says
REFUSED: list[tuple[dict[str, Any], tuple[str, ...], str]] = [
    ({"weights": "bf61"}, ("weights",), "did you mean bf16?"),
    ({"kv_dtype": "fp99"}, ("kv_dtype",), "`memcalc formats`"),
    ({"context": 0}, ("context",), "between 1 and 2,147,483,648, not 0"),
    ({"batch": 2**30}, ("batch",), "between 1 and 16,777,216"),
    ({"tp": 0}, ("tp",), "between 1 and 65,536"),
    ({"gpu_memory_utilization": 0}, ("gpu_memory_utilization",), "between 0.01 and 1.0, not 0"),
    ({"gpu_memory_utilization": 90}, ("gpu_memory_utilization",), "between 0.01 and 1.0, not 90"),
    ({"gpu_memory_utilization": float("nan")}, ("gpu_memory_utilization",), "not nan"),
    ({"tp": 4, "ep": 6}, ("ep", "tp"), "one must be a multiple of the other"),
    ({"tp": 6, "ep": 4}, ("ep", "tp"), "one must be a multiple of the other"),
]


@pytest.mark.parametrize(("settings", "fields", "said"), REFUSED, ids=lambda value: str(value)[:60])
def test_refused(settings: dict[str, Any], fields: tuple[str, ...], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        Serving(**settings)
    message = str(caught.value)
    assert caught.value.fields == fields, message
    assert message.startswith(", ".join(fields) + ": "), message
    assert said in message


# degrees, GPUs, why
GPUS: list[tuple[dict[str, int], int, str]] = [
    ({}, 1, "one"),
    ({"tp": 8}, 8, "tensor parallel"),
    ({"tp": 8, "pp": 2}, 16, "two stages of eight"),
    ({"tp": 8, "ep": 8}, 8, "experts spread over the same GPUs (vLLM: EP = TP × DP)"),
    ({"tp": 2, "ep": 8}, 8, "four data-parallel attention groups of two"),
    ({"tp": 8, "ep": 2, "pp": 3}, 24, "experts cut in four as well"),
]


@pytest.mark.parametrize(("degrees", "gpus", "why"), GPUS)
def test_gpus(degrees: dict[str, int], gpus: int, why: str) -> None:
    found = Serving(**degrees).gpus
    assert found == gpus, f"{degrees}: {found} GPUs, expected {gpus}: {why}"
