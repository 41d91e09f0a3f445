"""How GPUs are divided: degrees, sharding factors, and refusals that say which fields and what would be accepted."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from memcalc.specs.parallelism import MAX_GPUS, Parallelism
from memcalc.specs.spec import SpecError

# settings, the fields that the refusal names, what it says about found and accepted values
REFUSED: list[tuple[dict[str, Any], tuple[str, ...], str]] = [
    ({"gpus": 0}, ("gpus",), "between 1 and 10,000,000, not 0"),
    ({"gpus": -8}, ("gpus",), "between 1 and 10,000,000, not -8"),
    ({"gpus": MAX_GPUS + 1}, ("gpus",), "between 1 and 10,000,000"),
    ({"gpus": True}, ("gpus",), "not True"),
    ({"gpus": "8"}, ("gpus",), "not '8'"),
    ({"gpus": float("nan")}, ("gpus",), "not nan"),
    ({"tp": 0}, ("tp",), "between 1"),
    ({"gpus_per_node": 2000}, ("gpus_per_node",), "between 1 and 1,024, not 2000"),
    ({"zero": 4}, ("zero",), "between 0 and 3, not 4"),
    ({"fsdp": "ful"}, ("fsdp",), "did you mean full?"),
    ({"fsdp": "zero3"}, ("fsdp",), "full, grad-op, hybrid, none"),
    ({"pipeline_schedule": "1f1"}, ("pipeline_schedule",), "did you mean 1f1b?"),
    ({"gpus": 8, "zero": 3, "fsdp": "full"}, ("zero", "fsdp"), "choose one"),
    ({"gpus": 8, "zero": 0, "fsdp": "none"}, ("zero", "fsdp"), "choose one"),
    ({"gpus": 8, "ddp": True, "zero": 1}, ("ddp", "zero"), "choose one"),
    ({"gpus": 8, "ddp": True, "fsdp": "grad-op"}, ("ddp", "fsdp"), "choose one"),
    ({"gpus": 8, "shard_size": 4}, ("shard_size", "fsdp"), "add fsdp full or hybrid"),
    ({"gpus": 8, "fsdp": "none", "shard_size": 4}, ("shard_size",), "sharding factor 1"),
    ({"gpus": 8, "fsdp": "hybrid", "shard_size": 3}, ("shard_size",), "data-parallel size 8 (try 1, 2, 4, 8)"),
    ({"gpus": 8, "tp": 4, "fsdp": "full", "shard_size": 8}, ("shard_size",), "data-parallel size 2 (try 1, 2)"),
    ({"gpus": 6, "tp": 4}, ("gpus", "tp"), "4 × 1 × 1 = 4 must divide gpus (6); use 4 GPUs"),
    ({"gpus": 100, "tp": 8, "pp": 2, "cp": 2}, ("gpus", "tp", "pp", "cp"), "= 32 must divide gpus (100); use 96 GPUs"),
    ({"gpus": 2, "tp": 8}, ("gpus", "tp"), "use 8 GPUs"),
    ({"gpus": 8, "ep": 3}, ("gpus", "ep"), "3 × 1 × 1 = 3 must divide gpus (8); use 6 GPUs"),
    ({"gpus": 8, "ep": 4, "etp": 4}, ("gpus", "ep", "etp"), "= 16 must divide gpus (8); use 16 GPUs"),
    ({"gpus": 8, "pp": 2, "zero": 2}, ("zero", "pp"), "ZeRO 0 or 1, not 2"),
    ({"gpus": 8, "pp": 2, "zero": 3}, ("zero", "pp"), "ZeRO 0 or 1, not 3"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "fields", "said"), REFUSED, ids=lambda value: str(value)[:60])
def test_refused(settings: dict[str, Any], fields: tuple[str, ...], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        Parallelism(**settings)
    message = str(caught.value)
    assert caught.value.fields == fields, message
    assert message.startswith(", ".join(fields) + ": "), message
    assert said in message
    assert message.isprintable(), message


# the model's sizes, degrees, named fields, what is said
REFUSED_BY_MODEL: list[tuple[dict[str, int], dict[str, Any], tuple[str, ...], str]] = [
    (
        {"heads": 32, "layers": 32},
        {"gpus": 5, "tp": 5},
        ("tp",),
        "does not divide 32 attention heads (try 1, 2, 4, 8, 16, 32)",
    ),
    ({"heads": 32, "layers": 32}, {"gpus": 64, "tp": 64}, ("tp",), "does not divide 32 attention heads"),
    ({"heads": 12, "layers": 12}, {"gpus": 13, "pp": 13}, ("pp",), "13 pipeline stages for 12 layers; at most 12"),
    ({"heads": 12, "layers": 12}, {"gpus": 2, "ep": 2}, ("ep",), "no routed experts"),
    (
        {"heads": 32, "layers": 32, "experts": 8},
        {"gpus": 16, "ep": 16},
        ("ep",),
        "does not divide 8 experts (try 1, 2, 4, 8)",
    ),
    ({"heads": 12, "layers": 12}, {"sequence_parallel": True}, ("sequence_parallel", "tp"), "tp is 1"),
]


@pytest.mark.parametrize(("model", "settings", "fields", "said"), REFUSED_BY_MODEL, ids=lambda value: str(value)[:60])
def test_refused_for_a_model(model: dict[str, int], settings: dict[str, Any], fields: tuple[str, ...], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        Parallelism(**settings).check_model(**model)
    assert caught.value.fields == fields, str(caught.value)
    assert said in str(caught.value)


# settings, sharding factor, what the report calls it
NAMED: list[tuple[dict[str, Any], int, str]] = [
    ({}, 1, "single GPU"),
    ({"gpus": 8}, 1, "DDP"),
    ({"gpus": 8, "ddp": True}, 1, "DDP"),
    ({"gpus": 8, "tp": 8}, 1, "model parallel"),
    ({"gpus": 8, "zero": 0}, 1, "ZeRO-0"),
    ({"gpus": 8, "zero": 3}, 1, "ZeRO-3"),
    ({"gpus": 8, "fsdp": "full"}, 8, "FSDP full (8 shards)"),
    ({"gpus": 8, "fsdp": "full", "shard_size": 8}, 8, "FSDP full (8 shards)"),
    ({"gpus": 8, "fsdp": "full", "shard_size": 4}, 4, "FSDP hybrid (4 shards)"),
    ({"gpus": 8, "fsdp": "none"}, 1, "FSDP none (1 shards)"),
    ({"gpus": 32, "fsdp": "hybrid"}, 8, "FSDP hybrid (8 shards)"),  # within a node of 8
    ({"gpus": 32, "fsdp": "hybrid", "tp": 2}, 4, "FSDP hybrid (4 shards)"),
    ({"gpus": 32, "fsdp": "hybrid", "gpus_per_node": 4}, 4, "FSDP hybrid (4 shards)"),
    ({"gpus": 32, "fsdp": "hybrid", "shard_size": 16}, 16, "FSDP hybrid (16 shards)"),
    ({"gpus": 12, "fsdp": "hybrid"}, 6, "FSDP hybrid (6 shards)"),  # the largest that divides
]


@pytest.mark.parametrize(("settings", "shards", "name"), NAMED, ids=lambda value: str(value)[:60])
def test_sharding_factor(settings: dict[str, Any], shards: int, name: str) -> None:
    found = Parallelism(**settings)
    assert found.fsdp_shards == shards, f"{settings}: {found.fsdp_shards} shards, expected {shards}"
    assert found.strategy == name


@given(
    gpus=st.integers(1, 4096), tp=st.sampled_from([1, 2, 4, 8]), pp=st.integers(1, 6), cp=st.sampled_from([1, 2, 3]),
    fsdp=st.sampled_from([None, "full", "grad-op", "hybrid", "none"]), node=st.integers(1, 16),
)  # fmt: skip
def test_degrees_multiply_to_the_gpus(gpus: int, tp: int, pp: int, cp: int, fsdp: str | None, node: int) -> None:
    assume(gpus % (tp * pp * cp) == 0)
    found = Parallelism(gpus=gpus, tp=tp, pp=pp, cp=cp, fsdp=fsdp, gpus_per_node=node)
    assert found.data_parallel * tp * pp * cp == gpus
    assert found.shard_ranks == found.data_parallel * cp
    assert found.shard_ranks % found.fsdp_shards == 0
    assert 1 <= found.fsdp_shards <= found.shard_ranks


@given(st.integers(1, MAX_GPUS), st.integers(1, MAX_GPUS))
def test_an_indivisible_product_names_a_number_that_works(gpus: int, tp: int) -> None:
    assume(gpus % tp)
    with pytest.raises(SpecError) as caught:
        Parallelism(gpus=gpus, tp=tp)
    advised = int(str(caught.value).rpartition("use ")[2].split(" GPUs")[0].replace(",", ""))
    assert Parallelism(gpus=advised, tp=tp).tp == tp


def test_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Parallelism().gpus = 2  # type: ignore[misc]
