"""Specs are dataclasses that Pydantic reads: outside data is checked strictly, and the JSON Schema states the rules."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from memcalc.formulas.optimizers import OPTIMIZERS
from memcalc.formulas.precision import PRECISION_NAMES
from memcalc.specs.parallelism import FSDP_NAMES, MAX_GPUS, Parallelism
from memcalc.specs.serving import Serving
from memcalc.specs.spec import Choice, Range, SpecError
from memcalc.specs.training import METHODS, OFFLOADABLE, Training

SPECS = (Parallelism, Training, Serving)


def test_nested_data_becomes_a_run() -> None:
    values = {
        "parallelism": {"gpus": 64, "tp": 8, "fsdp": "full"},
        "precision": "bf16-mixed",
        "lora_targets": ["q", "v"],
        "offload": [],
    }
    run = TypeAdapter(Training).validate_python(values)
    assert run.parallelism == Parallelism(gpus=64, tp=8, fsdp="full")
    assert run.lora_targets == ("q", "v")
    assert run == Training(parallelism=Parallelism(gpus=64, tp=8, fsdp="full"), lora_targets=("q", "v"))


# spec, data, words of the error
REFUSED: list[tuple[type, dict[str, Any], tuple[str, ...]]] = [
    (Training, {"optimiser": "adamw"}, ("optimiser", "nexpected")),
    (Training, {"parallelism": {"gpu": 8}}, ("parallelism.gpu", "nexpected")),
    (Parallelism, {"zeroo": 3}, ("zeroo", "nexpected")),
    (Serving, {"quant": "int8"}, ("quant", "nexpected")),
    (Training, {"precision": "bf15"}, ("precision", "did you mean bf16?")),
    (Training, {"micro_batch": 0}, ("micro_batch", "between 1 and 16,777,216, not 0")),
    (Training, {"micro_batch": 2.5}, ("micro_batch",)),
    (Training, {"micro_batch": "many"}, ("micro_batch",)),
    (Training, {"micro_batch": None}, ("micro_batch",)),
    (Training, {"offload": ["disk"]}, ("offload", "optimizer, parameters")),
    (Training, {"parallelism": {"gpus": 8, "zero": 3, "fsdp": "full"}}, ("parallelism", "choose one")),
    (Training, {"parallelism": {"gpus": 6, "tp": 4}}, ("gpus, tp", "use 4 GPUs")),
    (Serving, {"weights": "bf61"}, ("weights", "did you mean bf16?")),
]


@pytest.mark.parametrize(("spec", "values", "words"), REFUSED, ids=lambda value: str(value)[:60])
def test_refused(spec: type, values: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(spec).validate_python(values)
    message = str(caught.value)
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not said in: {message}"


# spec, property, what its schema must contain
STATED: list[tuple[type, str, dict[str, Any]]] = [
    (Training, "precision", {"type": "string", "enum": list(PRECISION_NAMES), "default": "bf16-mixed"}),
    (Training, "optimizer", {"enum": list(OPTIMIZERS)}),
    (Training, "micro_batch", {"type": "integer", "minimum": 1, "maximum": 2**24}),
    (Training, "seq_len", {"type": "integer", "minimum": 1, "maximum": 2**31}),
    (Training, "method", {"enum": list(METHODS)}),
    (Parallelism, "gpus", {"type": "integer", "minimum": 1, "maximum": MAX_GPUS}),
    (Parallelism, "zero", {"type": "integer", "minimum": 0, "maximum": 3}),
    (Parallelism, "fsdp", {"type": "string", "enum": list(FSDP_NAMES)}),
    (Serving, "context", {"type": "integer", "minimum": 1, "maximum": 2**31}),
    (Serving, "gpu_memory_utilization", {"type": "number", "minimum": 0.01, "maximum": 1.0}),
]


@pytest.mark.parametrize(("spec", "name", "rules"), STATED, ids=lambda value: str(getattr(value, "__name__", value))[:40])
def test_the_schema_states_the_rules(spec: type, name: str, rules: dict[str, Any]) -> None:
    stated = TypeAdapter(spec).json_schema()["properties"][name]
    stated |= next((part for part in stated.get("anyOf", ()) if part.get("type") != "null"), {})  # None: not said
    wrong = {key: (stated.get(key), value) for key, value in rules.items() if stated.get(key) != value}
    assert not wrong, f"{spec.__name__}.{name}: (stated, expected) {wrong}"


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_the_schema_refuses_unknown_keys(spec: type) -> None:
    schema = TypeAdapter(spec).json_schema()
    assert schema["additionalProperties"] is False
    assert all(part["additionalProperties"] is False for part in schema.get("$defs", {}).values())
    assert set(schema["properties"]) == set(spec.__dataclass_fields__)  # type: ignore[attr-defined]


def test_entries_of_a_list_have_their_own_choice() -> None:
    stated = TypeAdapter(Training).json_schema()["properties"]["offload"]
    assert stated["items"]["enum"] == list(OFFLOADABLE), stated


def test_an_error_names_fields_and_keeps_its_parts() -> None:
    error = SpecError("must be small", "tp", "pp")
    assert (str(error), error.message, error.fields) == ("tp, pp: must be small", "must be small", ("tp", "pp"))
    assert isinstance(error, ValueError)  # so that Pydantic reports it


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), float("inf"), 0, 11, [1], 10**400])
def test_a_range_takes_numbers_within(value: object) -> None:
    with pytest.raises(SpecError) as caught:
        Range(1, 10).check("x", value)
    assert len(str(caught.value)) < 100, str(caught.value)
    Range(1, 10).check("x", 1)
    Range(1, 10).check("x", 10)


@pytest.mark.parametrize("value", [None, 1, ["a"], "b" * 1000, {}])
def test_a_choice_takes_its_names(value: object) -> None:
    with pytest.raises(SpecError) as caught:
        Choice(("a", "aa")).check("x", value)
    assert len(str(caught.value)) < 100, str(caught.value)
    Choice(("a", "aa")).check("x", "a")
