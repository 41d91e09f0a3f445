"""Sharding strategies: each answers everything, and says what its paper or library says."""

from typing import Any

import pytest

from memcalc.estimates.placement import Held, Tensors
from memcalc.estimates.training.sharding import Strategy, strategy_of
from memcalc.sizing.training import size_training
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.training import Training

# Two matrices of 10 × 3 and a vector of 7.
HELD = Tensors((Held("a", "mlp", (10, 3), 2, False, True), Held("b", "norm", (7,), 1, False, True)))
SHARDS = 4
WHOLE, FLAT, BY_ELEMENTS, BY_ROWS = 67, 2 * -(-67 // 8), 2 * 8 + 2, 2 * 3 * 3 + 2

# settings, elements of parameters, gradients and optimizer states on one of four ranks, source
CUTS = (
    ({}, (WHOLE, WHOLE, WHOLE), "DDP replicates"),
    ({"zero": 0}, (WHOLE, WHOLE, WHOLE), "stage 0 replicates"),
    ({"zero": 1}, (WHOLE, WHOLE, FLAT), "Rajbhandari et al. 2020, P_os"),
    ({"zero": 2}, (WHOLE, FLAT, FLAT), "P_os+g; stage_1_and_2.py pads to ranks × 2"),
    ({"zero": 3}, (BY_ELEMENTS, FLAT, FLAT), "P_os+g+p; partition_parameters.py cuts each flattened tensor"),
    ({"fsdp": "full"}, (BY_ROWS, BY_ROWS, BY_ROWS), "_fsdp_param.py: torch.chunk along dimension 0"),
    ({"fsdp": "grad-op"}, (BY_ROWS, BY_ROWS, BY_ROWS), "sharded outside forward and backward"),
)


def strategy(**settings: Any) -> tuple[Strategy, Training]:
    p = Parallelism(gpus=SHARDS, **settings)
    return strategy_of(p), Training(parallelism=p)


@pytest.mark.parametrize(("settings", "expected", "source"), CUTS, ids=lambda value: str(value)[:30])
def test_cuts(settings: dict[str, Any], expected: tuple[int, int, int], source: str) -> None:
    found, _ = strategy(**settings)
    sizes = tuple(cut(HELD, SHARDS).line("parameters", "x", "always", "gpu", 1).bytes for cut in found.cutters)
    assert sizes == expected, source


# settings, (gathers, keeps, reduces), buckets
AROUND = (
    ({}, (False, False, False), ["gradient buckets"]),
    ({"zero": 0}, (False, False, False), []),
    ({"zero": 1}, (False, False, False), ["reduce buckets"]),
    ({"zero": 2}, (False, False, True), ["reduce buckets"]),
    ({"zero": 3}, (True, False, True), ["reduce buckets"]),
    ({"fsdp": "full"}, (True, False, True), []),
    ({"fsdp": "hybrid"}, (True, False, True), []),
    ({"fsdp": "grad-op"}, (False, True, True), []),
)


@pytest.mark.parametrize(("settings", "expected", "buckets"), AROUND, ids=str)
def test_what_travels(settings: dict[str, Any], expected: tuple[bool, bool, bool], buckets: list[str]) -> None:
    found, run = strategy(**settings)
    around = found.around_layer(run, SHARDS, 2, 4)
    assert (around.gathers, around.keeps, around.reduces) == expected
    assert [line.name for line in found.buckets(run, SHARDS, 1000, 2)] == buckets


@pytest.mark.parametrize(("kind", "name"), [("full", []), ("none", ["gradient buckets"])])
def test_a_sharding_factor_of_one_is_ddp(kind: str, name: list[str]) -> None:
    found, run = strategy(fsdp=kind)
    shards = run.parallelism.fsdp_shards
    assert [line.name for line in found.buckets(run, shards, 1000, 4)] == name
    assert found.around_layer(run, shards, 2, 4).reduces == (shards > 1)


# settings, offload → where parameters, gradients, optimizer states live
PLACES = (
    ({"zero": 1}, ("optimizer",), ("gpu", "gpu", "host")),
    ({"zero": 2}, ("optimizer",), ("gpu", "host", "host")),
    ({"zero": 3}, ("parameters",), ("host", "gpu", "gpu")),
    ({"zero": 3}, ("optimizer", "parameters"), ("host", "host", "host")),
    ({"fsdp": "full"}, ("optimizer",), ("gpu", "gpu", "host")),
    ({"fsdp": "full"}, ("parameters",), ("host", "host", "host")),
)


@pytest.mark.parametrize(("settings", "offload", "expected"), PLACES, ids=str)
def test_places(settings: dict[str, Any], offload: tuple[Any, ...], expected: tuple[str, str, str]) -> None:
    p = Parallelism(gpus=SHARDS, **settings)
    assert strategy_of(p).places(Training(parallelism=p, offload=offload)) == expected


def test_what_an_optimizer_sees() -> None:
    """ZeRO: a vector; FSDP: each tensor's rows; whole tensors where nothing is cut."""
    seen = {name: list(strategy(**settings)[0].state_shapes(HELD, SHARDS)) for name, settings in (
        ("ddp", {}), ("zero 0", {"zero": 0}), ("zero 2", {"zero": 2}), ("fsdp", {"fsdp": "full"}),
    )}  # fmt: skip
    assert seen["ddp"] == seen["zero 0"] == [((10, 3), "mlp", 2), ((7,), "norm", 1)]
    assert [(shape, copies) for shape, _, copies in seen["zero 2"]] == [((-(-67 // 4),), 1)]
    assert seen["fsdp"] == [((3, 3), "mlp", 2), ((2,), "norm", 1)]
    updated = {name: strategy(**settings)[0].updated(HELD, SHARDS) for name, settings in (
        ("ddp", {}), ("zero 1", {"zero": 1}), ("fsdp", {"fsdp": "full"}),
    )}  # fmt: skip
    assert updated == {"ddp": WHOLE, "zero 1": -(-67 // 4), "fsdp": BY_ROWS}


@pytest.mark.parametrize(
    ("zero", "offload", "gathers"), [(2, (), False), (2, ("optimizer",), False), (3, (), False), (3, ("parameters",), True)]
)
def test_one_gpu_has_buckets_and_gathers_from_host_memory(zero: int, offload: tuple[Any, ...], gathers: bool) -> None:
    """stage3.py makes its bucket for any number of ranks; NoGatherCoalescedHandle copies what is not on the GPU."""
    p = Parallelism(zero=zero)
    run = Training(parallelism=p, offload=offload)
    around = strategy_of(p).around_layer(run, 1, 2, 4)
    assert (around.gathers, around.reduces) == (gathers, True)
    assert [entry.name for entry in strategy_of(p).buckets(run, 1, 10**9, 2)] == ["reduce buckets"]
    step = size_training("llama-3.2-1b", run=run)
    gathered = sum(entry.bytes for entry in step.lines if entry.name == "gathered parameters")
    assert (gathered > 0) == gathers
