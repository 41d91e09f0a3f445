"""One account of memory: a moment is the sum of its lines, the peak is the highest moment, a line is the sum of its tensors."""

from math import isclose, prod
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.lines import COMPONENTS, Line
from memcalc.estimates.training.estimate import TrainingEstimate, estimate, estimate_parameters
from memcalc.readers.models import read_model
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

PRESETS = (
    "llama-3.2-1b", "gpt2", "mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v2-lite", "t5-base", "whisper-small", "gemma-3-4b",
    "mamba2-2.7b", "bloom-560m", "jamba-v0.1",
)  # fmt: skip

STRATEGIES: tuple[dict[str, Any], ...] = (
    {}, {"gpus": 8}, *({"gpus": 8, "zero": stage} for stage in range(4)),
    *({"gpus": 16, "fsdp": kind} for kind in ("full", "grad-op", "hybrid", "none")),
    {"gpus": 8, "fsdp": "full", "shard_size": 2}, {"gpus": 8, "fsdp": "full", "shard_size": 1},
    {"gpus": 8, "tp": 4, "zero": 1}, {"gpus": 8, "tp": 2, "cp": 2, "sequence_parallel": True}, {"gpus": 6, "zero": 3},
    {"gpus": 8, "pp": 2, "tp": 2}, {"gpus": 8, "pp": 4, "pipeline_schedule": "gpipe"},
    {"gpus": 8, "pp": 2, "pipeline_schedule": "interleaved"}, {"gpus": 8, "cp": 4, "cp_kind": "all-gather", "fsdp": "full"},
    {"gpus": 8, "ep": 4, "zero": 3}, {"gpus": 16, "ep": 4, "etp": 2, "zero": 1}, {"gpus": 4, "pp": 2, "fsdp": "grad-op"},
)  # fmt: skip

RUNS = st.fixed_dictionaries(
    {
        "micro_batch": st.integers(1, 5),
        "seq_len": st.sampled_from([96, 256, 384]),
        "precision": st.sampled_from(["fp32", "bf16", "bf16-mixed", "bf16-amp", "fp8-mixed"]),
        "recompute": st.sampled_from(["none", "selective", "full"]),
        "attention": st.sampled_from(["eager", "sdpa", "flash"]),
        "grad_accum": st.sampled_from([1, 4]),
        "engine": st.sampled_from([None, "accelerate", "megatron", "torchtitan", "litgpt"]),
        "optimizer": st.sampled_from(["adamw", "sgd", "adamw-8bit", "adafactor", "muon"]),
        "optimizer_impl": st.sampled_from([None, "foreach", "for-loop"]),
        "method": st.sampled_from(["full", "full", "lora", "qlora", "dora", "qat"]),
        "offload": st.sampled_from([(), (), ("activations",), ("optimizer",), ("optimizer", "parameters")]),
    }
)


def architecture(preset: str) -> Architecture:
    found = read_model(preset).architecture
    assert found
    return found


def check(found: TrainingEstimate) -> None:
    """What one account means, for every moment of a step."""
    names = [alive.moment.name for alive in found.alive]
    assert len(set(names)) == len(names)
    for alive in found.alive:
        name = alive.moment.name
        assert alive.allocated == found.steady + alive.moment.bytes, f"{name}: its lines add to {alive.allocated:,}"
        for component in ("activations", "gradients", "communication"):
            listed, said = total(alive.lines, component), getattr(alive.moment, component)
            assert listed == said, f"{name}: {component} is {said:,}, its lines add to {listed:,}"
        assert total(alive.lines, "parameters") + total(alive.lines, "optimizer_states") == found.steady
        wrong = [line for line in alive.lines if line.bytes <= 0 or line.place != "gpu"]
        assert not wrong, f"{name}: {wrong}"
    assert found.at_peak.allocated == found.peak == max(alive.allocated for alive in found.alive)
    assert found.at_peak.moment == found.highest
    for component in COMPONENTS:
        assert found.components[component] == total(found.lines, component), component
    for line in (*found.lines, *found.at_peak.lines):
        check_tensors(line)


def check_tensors(line: Line) -> None:
    """A line of activations lists its tensors; a tensor's shape gives its bytes."""
    if not line.parts:
        return
    listed = sum(part.bytes * part.copies for part in line.parts)
    assert abs(listed - line.bytes) < 2, f"{line.path}: {line.bytes:,} B, its tensors add to {listed:,}"
    assert abs(line.inputs.get("rounding", 0)) <= 1, line
    for part in line.parts:
        if part.shape:
            assert isclose(prod(part.shape) * part.itemsize, part.bytes), f"{line.path}: {part}"


def total(lines: tuple[Line, ...], component: str) -> int:
    return sum(line.bytes for line in lines if line.component == component and line.place == "gpu")


@settings(max_examples=150, deadline=None)
@given(preset=st.sampled_from(PRESETS), strategy=st.sampled_from(STRATEGIES), run=RUNS)
def test_moments_are_sums_of_lines(preset: str, strategy: dict[str, Any], run: dict[str, Any]) -> None:
    try:
        found = estimate(architecture(preset), Training(parallelism=Parallelism(**strategy), **run))
    except SpecError:  # settings and model contradict each other
        return
    check(found)


@given(parameters=st.integers(1, 10**13), strategy=st.sampled_from(STRATEGIES), accumulated=st.sampled_from([1, 2]))
def test_so_it_is_with_a_bare_count(parameters: int, strategy: dict[str, Any], accumulated: int) -> None:
    try:
        found = estimate_parameters(parameters, Training(parallelism=Parallelism(**strategy), grad_accum=accumulated))
    except SpecError:
        return
    check(found)


# --- what a moment consists of -----------------------------------------------------------------------------------------

HIDDEN, LAYERS, TOKENS = 2048, 16, 512  # of Llama 3.2 1B, whose head is tied


def paths(lines: tuple[Line, ...]) -> dict[str, int]:
    out: dict[str, int] = {}
    for line in lines:
        out[line.path] = out.get(line.path, 0) + line.bytes
    return out


def one(**changes: Any) -> TrainingEstimate:
    return estimate(architecture("llama-3.2-1b"), Training(**{"precision": "bf16", "seq_len": TOKENS, **changes}))


def test_tensors_by_name_and_shape() -> None:
    """Llama 3.2 1B: 32 heads of 64, 8 of them for keys and values."""
    attention = next(line for line in one().lines if line.path == "activations/layers/attention")
    assert {(part.name, part.shape, part.itemsize) for part in attention.parts} >= {
        ("q rotated", (TOKENS, 32 * 64), 2), ("k rotated", (TOKENS, 8 * 64), 2), ("v", (TOKENS, 8 * 64), 2),
        ("log-sum-exp", (TOKENS, 32), 4), ("attention", (TOKENS, 32 * 64), 2),
    }  # fmt: skip
    assert {part.copies for part in attention.parts} == {LAYERS}


def test_recomputed_layers_keep_their_inputs() -> None:
    found = one(recompute="full")
    inputs = next(line for line in found.lines if line.path == "activations/layers/input")
    assert [(part.shape, part.itemsize, part.copies) for part in inputs.parts] == [((TOKENS, HIDDEN), 2, LAYERS)]


def test_the_first_layers_backward_holds_the_others_gradients() -> None:
    found = one()
    first = next(alive for alive in found.alive if alive.moment.name == "backward of the first layer")
    listed = paths(first.lines)
    layer = 2 * (2 * HIDDEN * HIDDEN + 2 * HIDDEN * 512 + 3 * HIDDEN * 8192 + 2 * HIDDEN)
    assert listed["gradients/layers"] == (LAYERS - 1) * layer
    assert "activations/layers/attention" not in listed, "all other layers' tensors are gone"
    assert listed["activations/layer in its backward/mlp"] > 0


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ({"gpus": 8}, {"gradient buckets"}),
        ({"gpus": 8, "zero": 1}, {"reduce buckets"}),
        ({"gpus": 8, "zero": 2}, {"reduce buckets", "gradients being reduced"}),
        ({"gpus": 8, "zero": 3}, {"reduce buckets", "gathered parameters", "gradients being reduced"}),
        ({"gpus": 8, "fsdp": "full"}, {"gathered parameters", "gradients being reduced"}),
        ({"gpus": 8, "fsdp": "none"}, {"gradient buckets"}),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
def test_buffers_of_each_strategy(strategy: dict[str, Any], expected: set[str]) -> None:
    found = one(parallelism=Parallelism(**strategy))
    names = {line.name for alive in found.alive for line in alive.lines if line.component == "communication"}
    assert names == expected
    listed = {line.name: line.bytes for line in found.lines if line.component == "communication"}
    for name, size in listed.items():  # each at its largest
        assert size == max(line.bytes for alive in found.alive for line in alive.lines if line.name == name)
    assert listed.keys() == expected - {"gradients being reduced"}


def test_gathered_parameters_at_their_largest() -> None:
    """FSDP: the root and two layers, in 16 bit; grad-op: all of the model."""
    model = architecture("llama-3.2-1b")
    layer = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * 512 + 3 * HIDDEN * 8192 + 2 * HIDDEN
    root = model.parameters - LAYERS * layer
    for kind, elements in (("full", root + 2 * layer), ("grad-op", model.parameters)):
        found = one(precision="bf16-mixed", parallelism=Parallelism(gpus=8, fsdp=kind))
        assert found.components["communication"] == 2 * elements, kind


def test_stages_are_estimates() -> None:
    found = one(parallelism=Parallelism(gpus=4, pp=4))
    assert [stage.stage for stage in found.stages] == [0, 1, 2, 3]
    assert max(stage.peak for stage in found.stages) == found.peak
    assert one().stages == ()
