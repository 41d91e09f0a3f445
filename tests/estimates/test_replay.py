"""A step replayed on the caching allocator: one account with the moments, the same at any depth, steady after a few steps."""

from collections import defaultdict
from statistics import median
from typing import Any

import pytest

from memcalc.allocator.caching import CachedBlock, CachingAllocator
from memcalc.blocks.architecture import Architecture
from memcalc.caches import clear_caches
from memcalc.estimates.training.activations import Filled
from memcalc.estimates.training.estimate import TrainingEstimate, estimate, estimate_parameters
from memcalc.estimates.training.replay import RankSteps, extent, replay, steps
from memcalc.estimates.validation import GRADES_USED, HELD, Residual, percentile
from memcalc.formulas.methods import ADAPTING
from memcalc.readers.hf import read_config
from memcalc.readers.models import read_model
from memcalc.sizing.training import size_training
from memcalc.sizing.validation import validate
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.training import Training

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 16, "num_key_value_heads": 4,
    "vocab_size": 32000, "tie_word_embeddings": False, "num_hidden_layers": 24,
}  # fmt: skip
SHARDED = {"gpus": 8, "fsdp": "full"}

# (what differs from one GPU in bf16, how far what is in use may lie from the account's peak)
RUNS: tuple[tuple[dict[str, Any], dict[str, Any], float], ...] = (
    ({}, {}, 0.01),
    ({"recompute": "full"}, {}, 0.01),
    ({"recompute": "full", "recompute_every": 2}, {}, 0.01),
    ({"recompute": "selective", "engine": "torchtitan"}, {}, 0.01),
    ({"precision": "bf16-amp"}, {}, 0.01),
    ({"precision": "bf16-amp", "recompute": "full"}, {}, 0.01),
    ({"attention": "eager"}, {}, 0.01),
    ({"optimizer_impl": "foreach", "recompute": "full", "seq_len": 512}, {}, 0.01),
    ({"loss": "chunked"}, {}, 0.01),
    ({"loss": "fused"}, {}, 0.01),
    ({"kernels": "unsloth", "loss": "in-place"}, {}, 0.01),
    ({"grad_accum": 4}, {}, 0.01),
    ({"method": "lora"}, {}, 0.01),
    ({"method": "qlora", "recompute": "full"}, {}, 0.01),
    ({"freeze": ("embeddings",)}, {}, 0.01),
    ({}, {"gpus": 8}, 0.01),
    ({"recompute": "full"}, SHARDED, 0.01),
    ({}, SHARDED, 0.01),
    ({}, {"gpus": 8, "fsdp": "grad-op"}, 0.01),
    ({"engine": "accelerate", "recompute": "full"}, SHARDED, 0.03),
    ({"method": "lora", "engine": "accelerate", "recompute": "full"}, SHARDED, 0.03),
    ({}, {"gpus": 8, "zero": 1}, 0.01),
    ({}, {"gpus": 8, "zero": 2}, 0.01),
    ({"recompute": "full"}, {"gpus": 8, "zero": 3}, 0.02),
    ({}, {"gpus": 2, "tp": 2}, 0.01),
    ({"grad_accum": 8}, {"gpus": 4, "pp": 4}, 0.02),
)


def llama(**changes: Any) -> Architecture:
    return read_config(LLAMA | changes)


def run_of(settings: dict[str, Any], degrees: dict[str, Any]) -> Training:
    values = {"precision": "bf16", "micro_batch": 4, "seq_len": 2048} | settings
    return Training(parallelism=Parallelism(**degrees), **values)


@pytest.mark.parametrize(("settings", "degrees", "bound"), RUNS, ids=lambda value: str(value)[:60])
def test_what_is_in_use_is_what_the_moments_say(settings: dict[str, Any], degrees: dict[str, Any], bound: float) -> None:
    found = estimate(llama(), run_of(settings, degrees))
    assert found.replayed is not None
    used = found.replayed.allocated - found.workspace
    assert abs(used / found.peak - 1) <= bound, (used, found.peak, found.highest)
    assert found.replayed.reserved >= found.replayed.allocated


@pytest.mark.parametrize(("settings", "degrees", "bound"), RUNS[::4], ids=lambda value: str(value)[:60])
def test_a_few_steps_are_enough(settings: dict[str, Any], degrees: dict[str, Any], bound: float) -> None:
    found = estimate(llama(), run_of(settings, degrees))
    assert found.rank.setup
    assert isinstance(found.evaluated, Filled)
    assert found.replayed
    longer = steps.Steps(found.run, found.rank, found.evaluated, workspace=found.workspace)
    for _ in range(8):
        longer.step()
    assert longer.device.allocator.peak.reserved <= found.replayed.reserved * 1.03


@pytest.mark.parametrize(("settings", "degrees", "bound"), RUNS[::4], ids=lambda value: str(value)[:60])
def test_deep_models_are_extrapolated(
    settings: dict[str, Any], degrees: dict[str, Any], bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, architecture = run_of(settings, degrees), llama(num_hidden_layers=64)
    whole = estimate(architecture, run).replayed
    monkeypatch.setattr(extent, "DEPTH", 48)
    found = estimate(architecture, run).replayed
    assert whole
    assert found
    assert abs(found.allocated / whole.allocated - 1) <= 0.03
    assert abs(found.reserved / whole.reserved - 1) <= 0.03


@pytest.mark.parametrize(("settings", "degrees", "bound"), RUNS, ids=lambda value: str(value)[:60])
def test_the_allocator_can_be_told_to_expand(settings: dict[str, Any], degrees: dict[str, Any], bound: float) -> None:
    """Expandable segments lose less; what is in use differs by remainders of 1 MiB that fixed segments do not split off."""
    run = run_of(settings, degrees)
    fixed, expanding = (estimate(llama(), run.replace(allocator=word)) for word in ("segments", "expandable-segments"))
    assert fixed.replayed
    assert expanding.replayed
    assert 0.98 < expanding.replayed.allocated / fixed.replayed.allocated <= 1
    assert expanding.replayed.unused < fixed.replayed.unused
    assert expanding.device < fixed.device
    assert any("expandable segments" in line for line in expanding.assumptions)


def test_max_split_size_changes_the_replay() -> None:
    run = run_of({"recompute": "full"}, SHARDED)
    assert estimate(llama(), run).reserved != estimate(llama(), run.replace(max_split_size=64)).reserved


def test_max_split_size_wastes_what_expandable_segments_join() -> None:
    """get_free_block refuses a block of max_split_size to smaller requests whatever its segment, and a hole between blocks in
    use is no block at a segment's end (CUDACachingAllocator.cpp): each setting alone reserves less than both."""
    run = run_of({"recompute": "full"}, SHARDED)
    split, expanding = run.replace(max_split_size=64), run.replace(allocator="expandable-segments")
    alone = max(estimate(llama(), each).reserved for each in (split, expanding))
    assert estimate(llama(), split.replace(allocator="expandable-segments")).reserved > alone
    both = size_training("llama-3.2-1b", allocator="expandable-segments", max_split_size=64)
    assert any("give one of the two" in warning for warning in both.doubts.warnings)


def test_unused_segments_are_given_back_where_the_gpu_is_full() -> None:
    run = run_of({"recompute": "full"}, SHARDED)
    free = estimate(llama(), run)
    assert free.replayed
    assert free.replayed.unused > 2**28
    memory = free.device - 2**27
    full = estimate(llama(), run, "", memory)
    assert free.floor("device") <= full.device <= memory
    none = estimate(llama(), run, "", free.floor("device") - 2**30)
    assert none.device == free.device  # it does not fit: what it would take


def test_what_cannot_be_replayed_loses_nothing_and_says_so() -> None:
    whole = estimate_parameters(7_000_000_000, run_of({}, {}))
    crossing = read_model("t5-base").architecture
    assert crossing
    for found in (whole, estimate(crossing, run_of({"seq_len": 512}, {}))):
        assert found.replayed is None
        assert found.device == found.floor("device")
        assert found.beyond("device")[1] > 1.3 * found.device
        assert any("without fragmentation" in line for line in found.assumptions)


def test_the_range_holds_the_point() -> None:
    for settings, degrees, _ in RUNS:
        found = estimate(llama(), run_of(settings, degrees))
        for kind in HELD:
            low, high = found.beyond(kind)
            assert low <= getattr(found, kind) <= high


# --- published readings -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def readings() -> list[Residual]:
    return [row for row in validate().training.residuals if row.kind in HELD and row.grade in GRADES_USED]


# median and 90th percentile of the absolute errors
BOUNDS = {"reserved": (0.06, 0.15), "device": (0.05, 0.14)}


@pytest.mark.parametrize("kind", HELD)
def test_published_readings(readings: list[Residual], kind: str) -> None:
    errors = [abs(row.error) for row in readings if row.kind == kind and "gptq" not in row.id]
    assert len(errors) >= 30
    assert median(errors) <= BOUNDS[kind][0]
    assert percentile(errors, 90) <= BOUNDS[kind][1]
    whole = [abs(row.floor / row.measured - 1) for row in readings if row.kind == kind]  # nothing lost to fragmentation
    assert median(errors) < median(whole) / 2


def test_gptq_holds_more_on_the_device_than_its_allocations_explain(readings: list[Residual]) -> None:
    """A known gap: what is allocated is met within 0.4 %, the prediction of the device lies 7 to 26 % below the reading."""
    errors = [row.error for row in readings if "gptq" in row.id]
    assert len(errors) == 4
    assert all(-0.27 <= error <= 0 for error in errors), errors


def test_the_range_foretells_a_source_that_it_was_not_made_from(readings: list[Residual]) -> None:
    """Each source (the first word of an id) against the range of all others: four fifths should lie inside."""
    inside = total = 0
    for adapts in (False, True):
        rows = defaultdict(list)
        for row in readings:
            if (row.method in ADAPTING) == adapts:
                rows["-".join(row.id.split("-")[:2])].append(row.measured / row.predicted - 1)
        for source, own in rows.items():
            others = [ratio for name, ratios in rows.items() if name != source for ratio in ratios]
            low, high = min(0.0, percentile(others, 10)), max(0.0, percentile(others, 90))
            inside += sum(low <= ratio <= high for ratio in own)
            total += len(own)
    assert total == len(readings)
    assert inside / total >= 0.7


def test_what_does_not_reach_the_limit_is_replayed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps on larger GPUs, or asked again, cost nothing more; a limit that is reached has a replay of its own, and
    where less can be had than is in use none is needed."""
    clear_caches()
    replays: list[int | None] = []
    original = extent._replayed

    def counted(found: steps.Steps, most: int) -> extent.Replayed:
        replays.append(found.device.allocator.limit)
        return original(found, most)

    monkeypatch.setattr(extent, "_replayed", counted)
    run, architecture = run_of({"recompute": "full"}, SHARDED), llama()
    free = estimate(architecture, run).device
    assert [estimate(architecture, run, "", memory).device for memory in (2 * free, 4 * free)] == [free, free]
    assert replays == [None]
    full = [estimate(architecture, run, "", free - 2**27).device for _ in range(2)]
    assert full[0] == full[1] < free
    assert len(replays) == 2
    assert estimate(architecture, run, "", free // 2).runs_out
    assert len(replays) == 2
    larger = run.replace(seq_len=4096)
    assert [estimate(architecture, larger, "", memory).device for memory in (8 * free, 4 * free)]
    assert len(replays) == 3


def test_the_replay_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eighty layers, sharded, recomputed: in allocations, of which a second holds about 200,000."""
    architecture = read_model("llama-3.1-70b").architecture
    assert architecture
    found: TrainingEstimate = estimate(architecture, run_of({"recompute": "full"}, {"gpus": 64, "fsdp": "full"}))
    assert found.rank.setup
    assert isinstance(found.evaluated, Filled)
    requests = 0
    original = CachingAllocator.allocate

    def counted(self: CachingAllocator, size: int, stream: int = 0) -> CachedBlock:
        nonlocal requests
        requests += 1
        return original(self, size, stream)

    monkeypatch.setattr(CachingAllocator, "allocate", counted)
    replay(RankSteps(architecture, found.run, found.rank, found.evaluated))
    assert 0 < requests < 100_000


def test_events_are_the_same_in_whatever_order_they_are_asked_for() -> None:
    """A piece makes each sequence when it is first asked for: names of tensors may differ, what appears and leaves may not."""
    sequences = ("forward", "discarding", "again", "backward", "accumulating")
    found = []
    for order in (sequences, sequences[::-1]):
        clear_caches()
        piece = RankSteps(*_asked()).steps().kinds[0]
        events = {name: getattr(piece, name) for name in order}
        found.append([[size for _, size in events[name]] for name in sequences])
    assert found[0] == found[1]
    assert all(found[0])


def _asked() -> tuple[Any, ...]:
    step = size_training("llama-3.2-1b", gpus=8, zero=3, recompute="full")
    assert isinstance(step.evaluated, Filled)
    return step.architecture, step.run, step.rank, step.evaluated
