"""Specs are Pydantic models: strict, frozen, with refusals that help, and a JSON Schema that states the rules."""

from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from memcalc.errors import InputError
from memcalc.formulas.methods import METHODS
from memcalc.formulas.optimizer_table import OPTIMIZERS
from memcalc.formulas.precision import PRECISION_NAMES
from memcalc.specs.budget import Budget
from memcalc.specs.hardware import Accelerator
from memcalc.specs.measured import Measured
from memcalc.specs.parallelism import FSDP_NAMES, MAX_GPUS, Parallelism
from memcalc.specs.runs import TrainingRun
from memcalc.specs.scaling import ScalingQuestion
from memcalc.specs.served import Served
from memcalc.specs.serving import Serving
from memcalc.specs.sizing import Compute, Limits, Scenario
from memcalc.specs.spec import OneOf, Spec, SpecError, validated
from memcalc.specs.step_settings import OFFLOADABLE
from memcalc.specs.training import Training

SPECS = (Parallelism, Training, Serving, Budget, ScalingQuestion, Scenario, Limits, Compute)
OF_FILES = (Accelerator, TrainingRun, Measured, Served)


def test_nested_data_becomes_a_run() -> None:
    values = {
        "parallelism": {"gpus": 64, "tp": 8, "fsdp": "full"},
        "precision": "bf16-mixed",
        "lora_targets": ["q", "v"],
        "offload": [],
    }
    expected = Training(parallelism=Parallelism(gpus=64, tp=8, fsdp="full"), lora_targets=("q", "v"))
    for run in (Training(**values), Training.model_validate(values), TypeAdapter(Training).validate_python(values)):
        assert run.parallelism == Parallelism(gpus=64, tp=8, fsdp="full")
        assert run.lora_targets == ("q", "v")
        assert run == expected
        assert hash(run) == hash(expected)


@pytest.mark.parametrize("spec", [*SPECS, *OF_FILES], ids=lambda spec: spec.__name__)
def test_every_spec_is_a_frozen_model_that_refuses_unknown_keys(spec: type[Spec]) -> None:
    assert issubclass(spec, BaseModel)
    assert spec.model_config.get("frozen")
    assert spec.model_config.get("extra") == "forbid"


@pytest.mark.parametrize("spec", [*SPECS, *OF_FILES], ids=lambda spec: spec.__name__)
def test_every_field_says_what_it_means(spec: type[Spec]) -> None:
    silent = [name for name, field in spec.model_fields.items() if not field.description]
    assert not silent


def test_what_was_made_comes_back() -> None:
    run = Training(parallelism={"gpus": 8, "zero": 3}, offload=["optimizer"])
    assert Training(**run.model_dump()) == run
    assert Training.model_validate_json(run.model_dump_json()) == run
    with pytest.raises(SpecError, match="seq_len: must be a whole number"):
        Training.model_validate_json('{"seq_len": 0}')
    changed = run.replace(seq_len=512)
    assert (changed.seq_len, changed.parallelism, changed.model_fields_set) == (
        512, run.parallelism, {"parallelism", "offload", "seq_len"},
    )  # fmt: skip
    with pytest.raises(SpecError, match="seq_len"):
        run.replace(seq_len=0)
    with pytest.raises(ValidationError, match="frozen"):
        run.seq_len = 3  # type: ignore[misc]


# spec, data, words of the error
REFUSED: list[tuple[type[Spec], dict[str, Any], tuple[str, ...]]] = [
    (Training, {"optimiser": "adamw"}, ("optimiser: unknown key; did you mean optimizer",)),
    (Training, {"parallelism": {"gpu": 8}}, ("parallelism.gpu: unknown key; did you mean gpus",)),
    (Training, {"gpsu": 8}, ("gpsu: unknown key; did you mean gpus",)),
    (Parallelism, {"zeroo": 3}, ("zeroo: unknown key; did you mean zero",)),
    (Parallelism, {"ddp": "no"}, ("ddp: must be true or false, not 'no'",)),
    (Parallelism, {"ddp": 1}, ("ddp: must be true or false, not 1",)),
    (Parallelism, {"gpus": "8"}, ("gpus: must be a whole number between 1 and 10,000,000, not '8'",)),
    (Parallelism, {"gpus": True}, ("gpus: must be a whole number",)),
    (Parallelism, {"zero": 4}, ("zero: must be a whole number between 0 and 3, not 4",)),
    (Serving, {"quant": "int8"}, ("quant: unknown key",)),
    (Training, {"precision": "bf15"}, ("precision: 'bf15' is not one of fp32, fp16", "did you mean bf16?")),
    (Training, {"precision": None}, ("precision: None is not one of",)),
    (Training, {"precision": ["bf16"]}, ("precision: ['bf16'] is not one of",)),
    (Training, {"precision": "b" * 1000}, ("precision",)),
    (Training, {"micro_batch": 0}, ("micro_batch: must be a whole number between 1 and 16,777,216, not 0",)),
    (Training, {"micro_batch": 2.5}, ("micro_batch: must be a whole number", "2.5")),
    (Training, {"micro_batch": 2.0}, ("micro_batch: must be a whole number",)),
    (Training, {"micro_batch": "many"}, ("micro_batch",)),
    (Training, {"micro_batch": None}, ("micro_batch",)),
    (Training, {"micro_batch": float("nan")}, ("micro_batch",)),
    (Training, {"expert_imbalance": float("inf")}, ("expert_imbalance: must be between 1.0 and 65,536.0, not inf",)),
    (Training, {"expert_imbalance": float("nan")}, ("expert_imbalance",)),
    (Training, {"offload": ["disk"]}, ("offload: 'disk' is not one of optimizer, parameters",)),
    (Training, {"lora_targets": "q"}, ("lora_targets: must be a list, not 'q'",)),
    (Training, {"parallelism": 8}, ("parallelism",)),
    (Training, {"parallelism": {"gpus": 8, "zero": 3, "fsdp": "full"}}, ("parallelism.zero, parallelism.fsdp: ", "choose one")),
    (Training, {"parallelism": {"gpus": 6, "tp": 4}}, ("parallelism.gpus, parallelism.tp: ", "use 4 GPUs")),
    (Serving, {"weights": "bf61"}, ("weights", "did you mean bf16?")),
    (Training, {"precision": "bf15", "micro_batch": 0, "x": 1}, ("micro_batch: ", "; precision: ", "; x: unknown key")),
    (Scenario, {"gpu": "h100"}, ("model: missing",)),
]


@pytest.mark.parametrize(("spec", "values", "words"), REFUSED, ids=lambda value: str(value)[:60])
def test_refused(spec: type[Spec], values: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(SpecError) as made:
        spec(**values)
    with pytest.raises(SpecError) as given:
        spec.model_validate(values)
    assert str(given.value) == str(made.value)
    with pytest.raises(InputError) as read:
        validated(spec, values, "memcalc.toml")
    assert str(read.value) == f"memcalc.toml: {made.value}"
    with pytest.raises(ValidationError):
        TypeAdapter(spec).validate_python(values)
    missing = [word for word in words if word not in str(made.value)]
    assert not missing, f"{missing} not said in: {made.value}"
    assert len(str(made.value)) < 400, str(made.value)


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
def test_the_schema_refuses_unknown_keys(spec: type[Spec]) -> None:
    schema = TypeAdapter(spec).json_schema()
    assert schema["additionalProperties"] is False
    assert all(part["additionalProperties"] is False for part in schema.get("$defs", {}).values())
    assert set(schema["properties"]) == set(spec.model_fields)


def test_entries_of_a_list_have_their_own_choice() -> None:
    stated = TypeAdapter(Training).json_schema()["properties"]["offload"]
    assert stated["items"]["enum"] == list(OFFLOADABLE), stated


def test_an_error_names_fields_and_keeps_its_parts() -> None:
    error = SpecError("must be small", "tp", "pp")
    assert (str(error), error.message, error.fields) == ("tp, pp: must be small", "must be small", ("tp", "pp"))
    assert isinstance(error, ValueError)  # so that Pydantic reports it


@pytest.mark.parametrize("value", [None, 1, ["a"], "b" * 1000, {}])
def test_names_are_checked_outside_a_spec_too(value: object) -> None:
    with pytest.raises(SpecError) as caught:
        OneOf(("a", "aa")).check("x", value)
    assert len(str(caught.value)) < 100, str(caught.value)
    OneOf(("a", "aa")).check("x", "a")


def test_a_number_beyond_what_python_prints() -> None:
    with pytest.raises(SpecError, match="gpus: must be a whole number between 1 and 10,000,000, not a number beyond"):
        Parallelism(gpus=10**5000)
