"""Three answers, the limit that they compare with, and the largest value that fits."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import memcalc
from memcalc.formulas.allocatable import RESERVES, UNIFIED, reserve_bytes
from memcalc.formulas.bisection import largest
from memcalc.formulas.verdict import Fit, Needed, needed_bytes, verdict
from memcalc.readers.catalogue import accelerators
from memcalc.specs.spec import SpecError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "reports.py"
SPEC = importlib.util.spec_from_file_location("reports", SCRIPT)
assert SPEC
assert SPEC.loader
reports = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reports)

GPUS = list(accelerators())
MIB, GIB = 2**20, 2**30

# --- the verdict ------------------------------------------------------------------------------------------------------


@given(needed=st.integers(0, 10**12), more=st.integers(0, 10**12), limit=st.integers(0, 10**12))
def test_three_answers(needed: int, more: int, limit: int) -> None:
    fit = Fit(Needed(needed, needed, needed + more), limit)
    expected = "no" if needed > limit else "tight" if needed + more > limit else "fits"
    assert verdict(needed, needed + more, limit) == fit.verdict == expected
    assert fit.fits == (expected != "no") == (fit.headroom >= 0)


@given(point=st.integers(0, 10**12), low=st.floats(-1, 1), high=st.floats(-1, 2))
def test_a_range_holds_its_point(point: int, low: float, high: float) -> None:
    found = needed_bytes(point, low, high)
    assert found.low <= point <= found.high


ASKED: tuple[tuple[Callable[..., Any], str, dict[str, Any]], ...] = (
    (memcalc.size_training, "llama-3.1-8b", {"gpus": 8, "zero": 3, "recompute": "full"}),
    (memcalc.size_training, "7B", {"gpus": 64, "zero": 3}),
    (memcalc.size_training, "gpt2", {"micro_batch": 4}),
    *((memcalc.size_serving, "llama-3.1-8b", {"engine": engine})
      for engine in (None, "vllm", "sglang", "tensorrt-llm", "llama.cpp", "transformers")),
    (memcalc.size_serving, "llama-3.1-8b", {"engine": "vllm", "kv_cache_memory": 4 * GIB}),
    (memcalc.size_serving, "qwen3-8b", {"engine": "vllm", "gpu_memory_utilization": 1.0, "batch": 64}),
)  # fmt: skip


@pytest.mark.parametrize("gpu", ["rtx-3060-12", "rtx-4090", "a100-pcie-40", "h100", "m3-max", "gb10", "mi300x"])
@pytest.mark.parametrize(("size", "model", "settings"), ASKED, ids=[f"{a[1]}-{i}" for i, a in enumerate(ASKED)])
def test_documents_and_answers_say_the_same(size: Any, model: str, settings: dict[str, Any], gpu: str) -> None:
    """DESIGN's three keys, whoever asks; the range holds the point, the limit is never beyond what is there."""
    for reserved in (0, 3 * GIB):
        answer = size(model, gpu, reserved=reserved, **settings)
        found, per_gpu = answer.to_dict()["gpu"], answer.to_dict()["per_gpu"]
        assert per_gpu["needed_low"] <= per_gpu["needed"] <= per_gpu["needed_high"]
        assert found["limit"] <= found["allocatable"] - reserved
        assert found["allocatable"] <= found["usable"]
        assert found["headroom"] == found["limit"] - per_gpu["needed"] == answer.headroom
        assert found["verdict"] == verdict(per_gpu["needed"], per_gpu["needed_high"], found["limit"]) == answer.verdict
        assert found["fits"] == answer.fits == (found["verdict"] != "no")
        if size is memcalc.size_training:
            assert found["limit"] == answer.gpu.limit - reserved
            assert per_gpu["needed"] == per_gpu["device"]
            for kind in ("reserved", "device"):
                assert per_gpu[f"{kind}_low"] <= per_gpu[kind] <= per_gpu[f"{kind}_high"]
        elif (capacity := answer.capacity_there) and capacity.max_batch is not None and "kv_cache_memory" not in settings:
            assert answer.fits == (capacity.max_batch >= answer.run.batch or answer.needed.bytes <= found["limit"])


def test_suggestions_say_their_verdict() -> None:
    answer = memcalc.size_training("llama-3.2-1b", "rtx-3060-12")
    assert answer.suggestions
    assert answer.fit
    for one in answer.suggestions:
        assert one.verdict in ("tight", "fits")
        assert one.headroom == answer.fit.limit - one.device


# --- the limit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.id)
def test_a_limit_is_below_what_nvidia_smi_shows(gpu: memcalc.Accelerator) -> None:
    assert 0.6 * gpu.usable < gpu.limit < gpu.usable
    assert bool(gpu.limit_assumed) == (gpu.cuda_mib is None)


@pytest.mark.parametrize("gpu", [gpu for gpu in GPUS if gpu.cuda_mib and gpu.driver_mib], ids=lambda gpu: gpu.id)
def test_stated_reserves_cover_every_reading(gpu: memcalc.Accelerator) -> None:
    """What drivers keep of the cards that somebody read: never less than stated, never 100 MiB beside it."""
    assert gpu.architecture in RESERVES
    assert gpu.cuda_mib
    assert gpu.driver_mib
    kept, stated = (gpu.driver_mib - gpu.cuda_mib) * MIB, reserve_bytes(gpu.usable, gpu.architecture)
    assert kept <= stated <= kept + 100 * MIB, f"{kept / MIB:.0f} MiB read, {stated / MIB:.0f} stated"


# Cards that nobody read when the reserves were stated: GiB in public out-of-memory messages and engines' logs.
UNREAD = (("a10", 22.05), ("rtx-6000-ada", 47.37))


@pytest.mark.parametrize(("name", "gib"), UNREAD)
def test_assumed_limits_of_cards_that_were_read_later(name: str, gib: float) -> None:
    gpu = memcalc.accelerator(name)
    assert gpu.cuda_mib is None
    assert abs(gpu.limit / GIB - gib) < 0.1, gpu.limit / GIB


@pytest.mark.parametrize(("name", "share"), [("m3-max", 0.75), ("m4", 2 / 3), ("gb10", 0.9)])
def test_unified_memory_leaves_the_system_its_part(name: str, share: float) -> None:
    """Metal's recommendedMaxWorkingSetSize: 10.67 of 16 GiB (exo-explore/exo pull 1672), three quarters of larger Macs."""
    gpu = memcalc.accelerator(name)
    assert gpu.architecture in UNIFIED
    assert gpu.limit == int(gpu.usable * share)
    served = memcalc.size_serving("llama-3.1-8b", gpu, engine="llama.cpp", context=4096)
    assert served.fit
    assert served.fit.limit == gpu.limit
    most = served.capacity_there
    assert most
    assert most.max_batch
    assert memcalc.size_serving("llama-3.1-8b", gpu, engine="llama.cpp", context=4096, batch=most.max_batch).fits
    assert not memcalc.size_serving("llama-3.1-8b", gpu, engine="llama.cpp", context=4096, batch=most.max_batch + 1).fits


def test_a_mac_does_not_give_all_of_its_memory() -> None:
    """first use: 105.8 of 119.2 GiB were said to fit, where Metal gives 89."""
    answer = memcalc.size_serving("qwen3-235b-a22b", "m3-max", engine="llama.cpp", weights="Q3_K_M")
    assert answer.verdict == "no"


def test_a_card_that_is_not_in_the_catalogue() -> None:
    answer = memcalc.size_serving("llama-3.2-1b", gpu_memory=24 * GIB, gpu_bandwidth=936e9, gpu_flops=71e12)
    found = answer.to_dict()
    assert found["gpu"]["memory"] == 24 * GIB
    assert 21 * GIB < found["gpu"]["limit"] < 0.9 * 24 * GIB  # without an engine a tenth is left for activations
    assert found["gpu"]["limit_certainty"] == "assumed"
    assert found["speed"]["decode_seconds"] > 0
    known = memcalc.size_training("gpt2", "h100", gpu_memory=40 * GIB)
    assert known.gpu
    assert known.gpu.usable == 40 * GIB
    assert memcalc.size_serving("gpt2", gpu_memory=8 * GIB).speed.roofline is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"reserved": GIB}, ("reserved",)),
        ({"gpu_flops": 1e12}, ("gpu_flops",)),
        ({"gpu": "rtx-4090", "reserved": 24 * GIB}, ("reserved",)),
    ],
)
def test_a_device_that_makes_no_sense(settings: dict[str, Any], fields: tuple[str, ...]) -> None:
    with pytest.raises(SpecError) as refused:
        memcalc.size_training("gpt2", **settings)
    assert refused.value.fields == fields


@pytest.mark.parametrize(
    ("model", "gpu", "settings", "words"),
    [  # vLLM's request_memory: "Free memory on device … is less than desired GPU memory utilization"
        ("llama-3.1-8b", "h100", {"engine": "vllm", "context": 4096, "reserved": 10 * GIB}, "--gpu-memory-utilization 0.87"),
        ("llama-3.1-8b", "h100", {"engine": "vllm", "context": 4096, "reserved": 2 * GIB}, None),
        ("llama-3.1-8b", "h100", {"engine": "sglang", "reserved": 10 * GIB}, None),
        # 1024 sequences by default, 856 blocks of state in the log
        (
            "qwen3.6-27b",
            "h100",
            {"engine": "vllm", "weights": "fp8-block128", "gpu_memory_utilization": 0.95},
            "--max-sequences",
        ),
        ("qwen3.6-27b", "h100", {"engine": "vllm", "weights": "fp8-block128", "max_sequences": 64}, None),
    ],
)
def test_an_engine_that_would_not_start(model: str, gpu: str, settings: dict[str, Any], words: str | None) -> None:
    context = {"context": 262144} if model.startswith("qwen") else {}
    warnings = " ".join(memcalc.size_serving(model, gpu, **settings, **context).doubts.warnings)
    assert (words in warnings) if words else "refuses to start" not in warnings, warnings


# --- the largest that fits --------------------------------------------------------------------------------------------


@given(low=st.integers(1, 50), width=st.integers(0, 500), step=st.integers(1, 9), edge=st.integers(-5, 600))
def test_bisection_finds_the_edge(low: int, width: int, step: int, edge: int) -> None:
    values = range(low, low + width + 1, step)
    expected = max((value for value in values if value <= edge), default=None)
    assert largest(low, low + width, step, lambda value: value <= edge) == expected


def test_bisection_costs_the_logarithm() -> None:
    asked: list[int] = []
    assert largest(1, 2**31, 1, lambda value: asked.append(value) or value <= 10**6) == 10**6  # type: ignore[func-returns-value]
    assert len(asked) < 45
    assert max(asked) < 2**21


LARGEST: tuple[tuple[Callable[..., Any], str, str, str, dict[str, Any]], ...] = (
    (memcalc.size_training, "llama-3.1-8b", "h100", "micro_batch", {"gpus": 8, "zero": 3, "recompute": "full"}),
    (memcalc.size_training, "llama-3.1-8b", "h100", "seq_len", {"gpus": 8, "fsdp": "full", "recompute": "full"}),
    (memcalc.size_training, "llama-3.1-8b", "h100", "seq_len", {"gpus": 8, "tp": 4, "cp": 2, "sequence_parallel": True}),
    (memcalc.size_training, "llama-3.2-1b", "l4", "lora_rank", {"method": "lora", "recompute": "full"}),
    (memcalc.size_serving, "llama-3.1-8b", "l4", "batch", {"engine": "vllm", "context": 4096}),
    (memcalc.size_serving, "gemma-2-9b", "l40s", "batch", {"engine": "sglang"}),
    (memcalc.size_serving, "llama-3.1-8b", "rtx-4090", "context", {"engine": "llama.cpp", "weights": "Q8_0"}),
    (memcalc.size_serving, "llama-3.1-8b", "rtx-4090", "context", {"engine": "transformers", "batch": 2}),
    (memcalc.size_serving, "t5-base", "t4", "context", {}),
)  # fmt: skip


@pytest.mark.parametrize("sure", [False, True])
@pytest.mark.parametrize(
    ("size", "model", "gpu", "key", "settings"), LARGEST, ids=[f"{a[1]}-{a[3]}-{i}" for i, a in enumerate(LARGEST)]
)
def test_one_more_does_not_fit(size: Any, model: str, gpu: str, key: str, settings: dict[str, Any], sure: bool) -> None:
    """The value that is found fits; the next one does not, or is beyond what binds in place of memory."""
    answer = size(model, gpu, sure=sure, **settings, **{key: "max"})
    (solved,) = answer.solved
    assert solved.key == key
    assert solved.value == getattr(answer.run, key)
    assert answer.to_dict()["solved"] == [solved._asdict()]
    good = ("fits",) if sure else ("fits", "tight")
    assert answer.verdict in good
    if solved.limited_by == "memory":
        step = settings.get("cp", 1) * settings.get("tp", 1)
        assert size(model, gpu, **settings, **{key: solved.value + step}).verdict not in good


def test_what_binds_beside_memory() -> None:
    assert memcalc.size_serving("gpt2", "h100", context="max").solved[0] == ("context", 1024, "positions")
    assert memcalc.size_serving("gpt2", "h100", engine="vllm", max_sequences=7, batch="max").solved[0] == (
        "batch",
        7,
        "max_sequences",
    )
    assert memcalc.size_training("gpt2", "h100", method="lora", lora_rank="max").solved[0] == ("lora_rank", 768, "width")


def test_where_nothing_fits_the_answer_is_of_the_smallest() -> None:
    answer = memcalc.size_training("llama-3.1-8b", "rtx-4090", micro_batch="max")
    assert answer.solved[0].value is None
    assert (answer.run.micro_batch, answer.verdict) == (1, "no")


@pytest.mark.parametrize(
    ("size", "settings", "words"),
    [
        (memcalc.size_training, {"micro_batch": "max"}, "needs a gpu"),
        (memcalc.size_training, {"gpu": "h100", "micro_batch": "max", "seq_len": "max"}, "one setting at a time"),
        (memcalc.size_training, {"gpu": "h100", "grad_accum": "max"}, "micro_batch, seq_len, lora_rank"),
        (memcalc.size_serving, {"gpu": "h100", "batch": "max", "context": "max"}, "one setting at a time"),
        (memcalc.size_training, {"gpu": "h100", "lora_rank": "max"}, "is the rank of adapters"),
    ],
)  # fmt: skip
def test_questions_that_are_refused(size: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        size("gpt2", **settings)


# --- what people reported ---------------------------------------------------------------------------------------------


def test_reports_of_users() -> None:
    """tests/reference/reports_*.json, public threads with their URLs: the share that holds, and how few verdicts are tight."""
    found = [reports.scored(row) for row in reports.reports()]
    assert len(found) == 64
    missed = [one.id for one in found if not one.holds]
    assert len(missed) <= len(found) * (1 - reports.HOLDS), missed
    verdicts = [one for one in found if one.verdict]
    assert sum(one.verdict == "tight" for one in verdicts) <= reports.TIGHT * len(verdicts)
    assert not [one for one in verdicts if not one.holds and one.id not in KNOWN]


# Verdicts that are wrong for a reason of their own: kernels that keep less, pairs of sequences, and a run whose peak fits but
# whose replay finds no room for it in pieces (71.7 GiB of 79.3, reported to run). They count as missed in the share above.
KNOWN = ("uns-70b-48", "uns-70b-80", "trl3168-dpo", "liger-16k")
