"""Step time: parts add up, never below the roofline, the schedule as a walk through it, faster hardware never slower."""

from collections.abc import Callable
from math import isclose, isfinite
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.step_time.schedule import pipeline_seconds
from memcalc.estimates.step_time.step import PARTS, step_time
from memcalc.readers.catalogue import accelerator
from memcalc.readers.timing import time_law
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.training import Training

LLAMA, MIXTURE = "meta-llama/Meta-Llama-3.1-8B", "Qwen/Qwen3-30B-A3B"


def training(**said: Any) -> Training:
    degrees = {name: said.pop(name) for name in tuple(said) if name in Parallelism.model_fields}
    return Training(**{"seq_len": 2048, **said}, parallelism=Parallelism(**degrees))


RUNS: dict[str, dict[str, Any]] = {
    "one GPU": {},
    "recomputed": {"recompute": "full"},
    "packed, eager": {"attention": "eager", "tokens_per_batch": 8192},
    "FSDP": {"gpus": 16, "fsdp": "full", "precision": "bf16-mixed"},
    "hybrid": {"gpus": 16, "fsdp": "hybrid"},
    "ZeRO 1": {"gpus": 16, "zero": 1, "grad_accum": 4},
    "ZeRO 2": {"gpus": 16, "zero": 2},
    "ZeRO 3, offloaded": {"gpus": 8, "zero": 3, "offload": ("optimizer", "parameters")},
    "DDP": {"gpus": 8},
    "tensor parallel": {"gpus": 8, "tp": 8, "sequence_parallel": True, "engine": "megatron"},
    "tensor parallel, waiting": {"gpus": 8, "tp": 8, "sequence_parallel": True, "engine": "megatron", "tp_overlap": "off"},
    "context parallel": {"gpus": 8, "cp": 4, "engine": "megatron", "zero": 1, "seq_len": 32768},
    "pipeline": {"gpus": 8, "pp": 4, "grad_accum": 8, "zero": 1},
    "interleaved": {"gpus": 8, "pp": 4, "grad_accum": 8, "virtual_stages": 4, "zero": 1},
    "fp8": {"precision": "fp8-mixed", "engine": "megatron"},
    "nvfp4": {"precision": "nvfp4-mixed", "engine": "megatron"},
    "LoRA": {"method": "lora", "recompute": "full"},
    "QLoRA": {"method": "qlora"},
    "LoRA, Megatron": {"method": "lora", "engine": "megatron", "gpus": 8, "tp": 2, "sequence_parallel": True},
    "LoRA, 16 bits, compiled": {"method": "lora", "adapter_dtype": "half", "kernels": "compiled"},
    "fp8, PyTorch": {"precision": "fp8-mixed", "engine": "torchtitan", "fsdp": "full", "gpus": 8},
    "fp8, tensor parallel": {"precision": "fp8-mixed", "engine": "megatron", "gpus": 8, "tp": 8, "sequence_parallel": True},
    "FlashAttention 3": {"attention": "flash3", "seq_len": 32768, "recompute": "full"},
    "pipeline, torchtitan": {"engine": "torchtitan", "gpus": 16, "pp": 4, "fsdp": "full", "grad_accum": 8},
    "heads exchanged": {"gpus": 8, "cp": 8, "cp_kind": "all-to-all", "engine": "megatron", "zero": 1, "seq_len": 32768},
    "zero bubble": {"gpus": 8, "pp": 4, "pipeline_schedule": "zero-bubble", "grad_accum": 8, "zero": 1, "engine": "megatron"},
    "compiled": {"engine": "torchtitan", "fsdp": "full", "gpus": 8, "recompute": "selective"},
}


@pytest.mark.parametrize("gpu", ["a100", "h100", "b200", "rtx-4090", "mi300x", "v100-sxm2-32"])
@pytest.mark.parametrize("name", RUNS)
def test_parts_add_up_and_no_step_is_below_the_roofline(
    name: str, gpu: str, architecture: Callable[[str], Architecture]
) -> None:
    found = step_time(architecture(LLAMA), training(**RUNS[name]), time_law(accelerator(gpu)))
    assert isclose(sum(found.parts), found.seconds)
    assert all(part >= 0 and isfinite(part) for part in found.parts)
    assert found.seconds >= found.model_flops / (found.gpus * found.peak)
    assert 0 < found.mfu <= found.hfu <= 1
    assert found.low <= found.seconds <= found.high


def test_a_mixture_of_experts(architecture: Callable[[str], Architecture]) -> None:
    run = training(gpus=8, ep=8, zero=1, engine="megatron")
    law = time_law(accelerator("h100"))
    found = step_time(architecture(MIXTURE), run, law)
    skewed = step_time(architecture(MIXTURE), run.replace(expert_imbalance=2.0), law)
    assert skewed.seconds > found.seconds
    assert found.parts[PARTS.index("exposed_communication")] > 0


@given(
    st.sampled_from(sorted(RUNS)), st.sampled_from(("bandwidth", "scale_up_bandwidth", "peak")), st.floats(1.0, 4.0)
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_faster_hardware_is_never_slower(name: str, what: str, by: float) -> None:
    from memcalc.readers.models import read_model_preset

    model = read_model_preset("llama-3.2-1b").architecture
    assert model
    gpu = accelerator("h100")
    better = {key: value * by for key, value in gpu.peak.items()} if what == "peak" else getattr(gpu, what) * by
    run = training(**RUNS[name])
    before = step_time(model, run, time_law(gpu)).seconds
    assert step_time(model, run, time_law(gpu.replace(**{what: better}))).seconds <= before * (1 + 1e-9)


@given(st.sampled_from((8, 64)), st.sampled_from((1, 2)), st.floats(1.0, 4.0))
@settings(max_examples=12, deadline=None)
def test_faster_links_are_never_slower_for_experts(ep: int, tp: int, by: float) -> None:
    """Copies of a token inside a node and between nodes."""
    from memcalc.readers.models import read_model_preset

    model = read_model_preset("qwen3-30b-a3b").architecture
    assert model
    gpu = accelerator("h100")
    run = training(gpus=64 * tp, ep=ep, tp=tp, sequence_parallel=tp > 1, zero=1, engine="megatron")
    before = step_time(model, run, time_law(gpu, 50e9)).seconds
    assert step_time(model, run, time_law(gpu, 50e9 * by)).seconds <= before * (1 + 1e-9)
    faster = gpu.replace(scale_up_bandwidth=gpu.scale_up_bandwidth * by)
    assert step_time(model, run, time_law(faster, 50e9)).seconds <= before * (1 + 1e-9)


def walked(times: list[tuple[float, float]], micro_batches: int) -> float:
    """1F1B walked through: a stage runs a warm-up of forwards, then one forward and one backward in turn."""
    pp = len(times)
    orders = []
    for stage in range(pp):
        warm = min(pp - stage, micro_batches)
        order = [("F", i) for i in range(warm)]
        for i in range(micro_batches):
            order.append(("B", i))
            if warm + i < micro_batches:
                order.append(("F", warm + i))
        orders.append(order)
    done: dict[tuple[int, str, int], float] = {}
    clock, at = [0.0] * pp, [0] * pp
    while any(at[s] < len(orders[s]) for s in range(pp)):
        for s in range(pp):
            while at[s] < len(orders[s]):
                kind, i = orders[s][at[s]]
                needed = (
                    None if (kind == "F" and s == 0) or (kind == "B" and s == pp - 1) else (s - 1 if kind == "F" else s + 1)
                )
                before = done.get((s, "F", i), 0.0) if needed is None else done.get((needed, kind, i))
                if before is None:
                    break
                clock[s] = done[s, kind, i] = max(clock[s], before) + times[s][kind == "B"]
                at[s] += 1
    return max(clock)


@pytest.mark.parametrize("pp", [1, 2, 4, 8])
@pytest.mark.parametrize("slow", [None, 0, -1])
@pytest.mark.parametrize("micro_batches", [8, 16, 64])
def test_the_closed_form_is_the_schedule(pp: int, slow: int | None, micro_batches: int) -> None:
    times = [(1.0, 2.0)] * pp
    if slow is not None:
        times[slow] = (1.3, 2.6)
    closed = pipeline_seconds([(sum(t), 1) for t in times], micro_batches, 1)
    true = walked(times, micro_batches)  # uneven stages overlap more while the pipeline fills
    assert true * 0.999 <= closed <= true * (1.15 if micro_batches <= 2 * pp else 1.08)


def test_cost_does_not_grow_with_the_number_of_gpus(architecture: Callable[[str], Architecture]) -> None:
    law = time_law(accelerator("h100"))
    few, many = (
        step_time(architecture(LLAMA), training(gpus=gpus, tp=8, zero=1, engine="megatron"), law) for gpus in (64, 65536)
    )
    assert many.seconds >= few.seconds * 0.999
