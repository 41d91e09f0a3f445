"""DeepSeek V4's caches as vLLM and SGLang page them, beside what their logs say."""

from typing import Any, NamedTuple

import pytest

from memcalc import size_serving
from memcalc.blocks.architecture import Architecture
from memcalc.estimates.placement import stages
from memcalc.estimates.serving.capacity import ServingEstimate
from memcalc.estimates.serving.estimate import estimate
from memcalc.estimates.serving.packed import packed, pages
from memcalc.readers.models import read_model
from memcalc.specs.serving import Serving

GIB = 2**30
MEMORY = 95 * GIB


def flash() -> Architecture:
    found = read_model("deepseek-v4-flash").architecture
    assert found is not None
    return found


def served(**settings: Any) -> ServingEstimate:
    return estimate(flash(), Serving(kv_dtype="fp8", **settings), "sm_90", MEMORY)


def test_pages_of_flash() -> None:
    """vLLM 0.25 as a probe of its specs printed them: 7 kinds, bytes of a page rounded up to 576."""
    (stage,) = stages(flash(), 1, 1, 1, 1)
    assert sorted((page.bytes, page.layers) for page in pages((stage,), "fp8", 256)) == [
        (1728, 20), (8640, 21), (8640, 21), (32832, 20), (32832, 21), (37440, 21), (37440, 43),
    ]  # fmt: skip


# patterns, bytes of a block, blocks of each group's sequence of 30,000 tokens with 16,384 in flight
BLOCKS = ((True, 22 * (37440 + 8640 + 1728), 118 + 2 * 259 + 4099 + 2065), (False, 21 * (37440 + 8640) + 20 * 1728, 6800))


@pytest.mark.parametrize(("patterns", "unit", "blocks"), BLOCKS)
def test_blocks_of_flash(patterns: bool, unit: int, blocks: int) -> None:
    """kv_cache_utils.py: groups of 22 layers' pages before 0.33, then as wide as the widest group."""
    (stage,) = stages(flash(), 1, 1, 1, 1)
    demand = packed(pages((stage,), "fp8", 256), 16384, patterns=patterns)
    assert (demand.unit, demand.cache_of(30_000), demand.groups) == (unit, blocks, 5)


def test_vllm_refuses_as_its_log_says() -> None:
    """vllm-project/vllm/issues/44376, 0.22, LLM class (16,384 tokens a pass): 6.66 GiB needed for 30,000 tokens, 5.44 there,
    "the estimated maximum model length is 13528"."""
    run = {"engine": "vllm@0.22", "tp": 2, "max_batched_tokens": 16384, "kv_cache_memory": int(5.44 * GIB)}
    found = served(context=30_000, **run)
    assert found.per_sequence / GIB == pytest.approx(6.66, abs=0.005)
    assert found.capacity(MEMORY).max_context == pytest.approx(13528, rel=0.001)


class Pool(NamedTuple):
    """A line of SGLang's log: available_bytes [GiB] and full_token."""

    version: str
    available: float
    tokens: int


def test_sglang_counts_tokens_as_its_log_says() -> None:
    """May 2026: bytes_per_full_token=15955.85, available_bytes=19.58 GB, full_token=1317632."""
    logged = Pool("0.5.12", 19.58, 1_317_632)
    run = {"engine": f"sglang@{logged.version}", "tp": 4, "kv_cache_memory": int(logged.available * GIB)}
    found = served(context=131_072, **run)
    assert found.capacity(MEMORY).kv_tokens == pytest.approx(logged.tokens, rel=0.0005)


@pytest.mark.parametrize(("guesses", "rows", "factor"), [(0, 33152, 1), (4, 66176, 44 / 43)])
def test_sglang_sets_states_apart(guesses: int, rows: int, factor: float) -> None:
    """pool_configurator.py, DSV4PoolConfigurator, since 0.5.14: 2 × 512 fp32 values a token and layer of rate 128 for 256
    requests; of the rest a token takes 584 B of entries, 132 of index keys, and a tenth of the windows and their states."""
    run = {"engine": "sglang", "tp": 4, "kv_cache_memory": 80 * GIB, "context": 131_072}
    found = served(**run) if not guesses else estimate(
        flash(), Serving(kv_dtype="fp8", draft_tokens=guesses, draft_method="ngram", **run), "sm_90", MEMORY
    )  # fmt: skip
    assert found.apart == rows * 1024 * 4 * 20
    ring = 16 if guesses else 8
    token = 0.1 * 584 * 43 + 146 * 21 + 584 / 128 * 20 + 33 * 21 + 0.1 * ring / 128 * (8192 + 2048) * 21
    expected = (80 * GIB - found.apart) / (token * factor)
    assert found.capacity(MEMORY).kv_tokens == pytest.approx(expected, rel=0.0005)


@pytest.mark.parametrize(
    ("gpu", "settings", "told"),
    [("h200", {}, True), ("b200", {}, False), ("h200", {"weights": "fp8"}, False), ("h200", {"engine": "vllm"}, False)],
    ids=str,
)
def test_a_log_that_is_not_understood_is_told(gpu: str, settings: dict[str, Any], told: bool) -> None:
    """125.65 GiB of DeepSeek V4 Pro a GPU (github.com/SemiAnalysisAI/InferenceX/issues/2128)."""
    found = size_serving("deepseek-v4-pro", gpu, **{"engine": "sglang", "tp": 8, "context": 8192, **settings})
    assert any("published log" in warning for warning in found.doubts.warnings) == told
