"""Operator laws: never below the roofline, never slower on faster hardware, near what was measured."""

import importlib.util
from math import isfinite
from pathlib import Path
from statistics import median
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcalc.formulas.timing.attention import AttentionShape, seen_pairs
from memcalc.formulas.timing.constants import OPERANDS, smooth_maximum
from memcalc.formulas.timing.experts import ExpertShape
from memcalc.formulas.timing.law import TimeLaw
from memcalc.readers.catalogue import accelerator, accelerators
from memcalc.readers.timing import time_law
from memcalc.specs.hardware import Accelerator

CARDS = [gpu for gpu in accelerators() if gpu.peak]
LAWS = {gpu.id: time_law(gpu) for gpu in CARDS}
cards = st.sampled_from(CARDS)
formats = st.sampled_from(sorted(OPERANDS))
sizes = st.integers(1, 40_000)
shapes = st.builds(
    lambda kv, group, dim, window, causal: AttentionShape(kv * group, kv, dim, dim, window, causal),
    st.integers(1, 16), st.integers(1, 16), st.sampled_from((64, 80, 128, 256)), st.sampled_from((0, 128, 4096)), st.booleans(),
)  # fmt: skip


@given(cards, formats, sizes, sizes, sizes)
def test_a_product_is_never_below_the_roofline(gpu: Accelerator, fmt: str, m: int, n: int, k: int) -> None:
    law, f = LAWS[gpu.id], OPERANDS[fmt]
    moved = m * k * f.activation + n * k * f.weight + 2 * m * n
    roof = max(2 * m * n * k / law.peak(fmt), moved / law.hardware.bandwidth)
    found = law.product(m, n, k, fmt)
    assert isfinite(found)
    assert found >= roof


@given(cards, shapes, st.integers(1, 64), st.integers(1, 40_000), st.integers(0, 40_000))
def test_attention_is_never_below_the_roofline(
    gpu: Accelerator, shape: AttentionShape, batch: int, queries: int, past: int
) -> None:
    law = LAWS[gpu.id]
    flops = batch * shape.heads * seen_pairs(queries, past, shape.window, shape.causal) * shape.flops
    found = law.attention(shape, batch, queries, past=past)
    assert isfinite(found)
    assert found >= flops / law.peak("bf16")
    keys = min(past + 1, shape.window or past + 1)
    cache = batch * keys * shape.kv_heads * (shape.head_dim + shape.value_dim) * 2
    assert law.decode(shape, batch, past) >= cache / law.hardware.bandwidth


@given(cards, formats, st.integers(1, 100_000), st.sampled_from((1, 2, 4)), st.booleans())
def test_experts_are_never_below_the_roofline(gpu: Accelerator, fmt: str, tokens: int, ep: int, skewed: bool) -> None:
    law, shape = LAWS[gpu.id], ExpertShape(4096, 1536, 128, 8, 1, ep)
    found = law.experts(shape, tokens, fmt, skewed=skewed)
    assert isfinite(found)
    assert found >= tokens * 8 / ep * 6 * 4096 * 1536 / law.peak(fmt)


def _times(law: TimeLaw, m: int, n: int, k: int, fmt: str) -> list[float]:
    shape = AttentionShape(32, 8, 128, 128)
    return [
        law.product(m, n, k, fmt),
        law.attention(shape, 1, m),
        law.decode(shape, m, k),
        law.latent_decode(16, 512, 64, m, k),
        law.experts(ExpertShape(2048, 768, 64, 8), m, fmt),
        law.moved(m * n),
        *(law.collective(kind, 8, m * n, inside=inside)
          for kind in ("all-reduce", "all-gather", "reduce-scatter", "all-to-all") for inside in (1, 4, 8)),
        law.engine_all_reduce("vllm", 8, m * n),
        law.sent(m * n),
    ]  # fmt: skip


@given(cards, formats, sizes, sizes, sizes, st.sampled_from(("bandwidth", "scale_up_bandwidth", "peak")), st.floats(1.0, 8.0))
def test_faster_hardware_is_never_slower(
    gpu: Accelerator, fmt: str, m: int, n: int, k: int, what: str, by: float
) -> None:  # fmt: skip
    now = getattr(gpu, what) or 30e9
    better = {key: value * by for key, value in gpu.peak.items()} if what == "peak" else now * by
    slower = _times(time_law(gpu.replace(scale_up_bandwidth=now) if what == "scale_up_bandwidth" else gpu), m, n, k, fmt)
    faster = _times(TimeLaw.of("", _hardware(gpu.replace(**{what: better})), LAWS[gpu.id].constants), m, n, k, fmt)
    for before, after in zip(slower, faster, strict=True):
        assert after <= before * (1 + 1e-9), (before, after)


def _hardware(gpu: Accelerator):  # type: ignore[no-untyped-def]
    pcie = gpu.pcie_bandwidth or 31.5e9
    return LAWS[gpu.id].hardware._replace(
        peaks=gpu.peak, bandwidth=gpu.bandwidth, link=gpu.scale_up_bandwidth or pcie
    )  # fmt: skip


def test_faster_networks_are_never_slower() -> None:
    gpu = accelerator("h100")
    times = [time_law(gpu, rate).collective("all-gather", 64, 1e9, inside=8) for rate in (10e9, 25e9, 50e9, 100e9)]
    assert times == sorted(times, reverse=True)


def test_ranks_that_share_a_bus_slow_each_other() -> None:
    """NCCL on eight L40S without peer to peer, 256 MiB and more: 19.5, 4.9 and 1.3 GB/s on the bus of two, four and eight."""
    law = LAWS["l40s"]
    two, four, eight = (2 * (ranks - 1) / ranks * 2**29 / law.collective("all-reduce", ranks, 2**29) for ranks in (2, 4, 8))
    assert (two, four, eight) == pytest.approx((20e9, 5.3e9, 1.3e9), rel=0.1)


def test_an_engines_own_kernels() -> None:
    law = LAWS["h100-sxm-80"]
    own = law.of_engine("tensorrt-llm")
    assert own is law.of_engine("tensorrt-llm")
    assert law.of_engine("vllm") is law.of_engine("") is law
    assert own.product(512, 4096, 4096, "fp8") < law.product(512, 4096, 4096, "fp8")
    assert own.product(512, 4096, 4096) == law.product(512, 4096, 4096), "no row of its own"


def test_what_is_smooth_lies_between_maximum_and_sum() -> None:
    for sharpness in (1, 2, 4, 12):
        assert 4 <= smooth_maximum(3, 4, sharpness) <= 7
    assert smooth_maximum(0, 0, 3) == 0


# Median error over all tables of a kind whose constants are shipped, engines and versions mixed: the bound is what
# `python benchmarks/fit_operators.py` printed when the constants were fitted, rounded up.
MOST = {"product": 0.13, "attention": 0.20, "decode": 0.14, "latent": 0.08, "latent_decode": 0.13, "experts": 0.24,
        "collective": 0.06}  # fmt: skip


def test_measured_operators_come_out() -> None:
    found: dict[str, list[float]] = {}
    for table, (middle, _) in _benchmark().scores():
        found.setdefault(table.kind, []).append(middle)
    assert found.keys() == MOST.keys()
    for kind, middles in found.items():
        assert median(middles) <= MOST[kind], (kind, median(middles))


def _benchmark() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "fit_operators.py"
    spec = importlib.util.spec_from_file_location("fit_operators", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("gpu", CARDS, ids=lambda gpu: gpu.id)
def test_every_card_says_whose_constants_it_has(gpu: Accelerator) -> None:
    law = LAWS[gpu.id]
    assert law.constants.source
    assert law.constants.certainty == ("estimate" if gpu.id in MEASURED else "assumed")
    assert 0.3 < law.constants.product["bf16"].peak <= 1.3


MEASURED = {"a100-sxm4-80", "h100-sxm-80", "b200-sxm", "b300-sxm", "gb200", "gb300", "l40s", "arc-pro-b60"}
