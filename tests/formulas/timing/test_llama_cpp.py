"""llama.cpp's kernels: bounds, and published micro-batches that no constant of the table was fitted to."""

from itertools import pairwise

import pytest

from memcalc import size_serving
from memcalc.formulas.timing.attention import AttentionShape
from memcalc.formulas.timing.experts import UNEVEN, ExpertShape, active_experts
from memcalc.formulas.timing.llama_cpp import (
    KERNELS,
    gguf_experts_seconds,
    gguf_seconds,
    half_seconds,
    kernels_of,
    scored_seconds,
    vector_scored_seconds,
)
from memcalc.readers.catalogue import accelerator
from memcalc.readers.timing import time_law


@pytest.mark.parametrize(
    ("version", "blocks", "flash"),
    [
        ("2024-05", False, False),
        ("2024.7", True, False),
        ("2025.6", True, False),
        ("2025-10", True, True),
        ("b6918", True, True),
        (None, True, True),
    ],
)
def test_kernels_of_a_release(version: str | None, blocks: bool, flash: bool) -> None:
    """ggml-org/llama.cpp pulls 8075 (June 2024) and 15434 (August 2025)."""
    found = kernels_of(version)
    assert (found.blocks, found.flash) == (blocks, flash)


@pytest.mark.parametrize("gpu", ["rtx-4090", "rtx-3090", "a100-sxm4-80", "m3-max", "rx-7900xtx", "v100-sxm2-32"])
def test_no_kernel_beats_the_memory_and_more_rows_take_longer(gpu: str) -> None:
    law = time_law(accelerator(gpu))
    for blocks in (True, False):
        times = [gguf_seconds(law, rows, 4096, 4096, 0.6, blocks=blocks) for rows in (1, 8, 9, 64, 512, 4096)]
        assert all(one <= two for one, two in pairwise(times))
        assert times[0] >= 0.6 * 4096 * 4096 / law.hardware.bandwidth
    shape = ExpertShape(2048, 768, 128, 8)
    times = [gguf_experts_seconds(law, rows, shape, 0.6) for rows in (1, 8, 9, 64, 512)]
    assert all(one <= two for one, two in pairwise(times))
    assert half_seconds(law, 512, 4096, 4096) >= 2 * 4096 * 4096 / law.hardware.bandwidth
    assert gguf_experts_seconds(law, 0, shape, 0.6) == 0.0


def test_scores_in_memory_take_longer_with_what_was_before() -> None:
    law, shape = time_law(accelerator("rtx-4090")), AttentionShape(32, 8, 128, 128)
    times = [scored_seconds(law, shape, 1, 512, past) for past in (0, 512, 4096)]
    assert times[0] < times[1] < times[2]
    assert times[2] > law.attention(shape, 1, 512, past=4096)


# Attention alone of one token on RTX 2060, µs: ggml-org/llama.cpp pull 6374 (32 heads of 64; the constant is its slope).
@pytest.mark.parametrize(("cells", "measured"), [(512, 45.4), (1024, 76.1), (2048, 126.8)])
def test_a_token_without_flash_attention_is_as_measured(cells: int, measured: float) -> None:
    found = vector_scored_seconds(time_law(accelerator("rtx-2060-6")), 32, 1, cells) * 1e6
    assert found == pytest.approx(measured, rel=0.3)


# What a token takes longer after 8,192 tokens than after 1,024, mean over all of them, Llama 3 8B in Q4_K_M: llama-bench of May
# 2024, XiongjieDai/GPU-Benchmarks-on-LLM-Inference. Nothing here was fitted to these.
@pytest.mark.parametrize(("gpu", "near", "far"), [("a40", 88.95, 76.45), ("l40s", 113.6, 97.98), ("rtx-4090", 127.7, 110.7)])
def test_long_contexts_cost_a_token_what_they_did(gpu: str, near: float, far: float) -> None:
    settings = {"engine": "llama.cpp", "engine_version": "2024.5", "flash_attention": "off", "weights": "q4_k_m"}
    tpots = [
        size_serving("llama-3-8b", gpu, context=tokens, max_new_tokens=tokens - 1, **settings).to_dict()["speed"][
            "tpot_seconds"
        ]
        for tokens in (1024, 8192)
    ]
    assert tpots[1] - tpots[0] == pytest.approx(1 / far - 1 / near, rel=0.35)


# Tokens a second, llama 8B of 2,048 tokens in micro-batches of 512, with flash attention: ggml-org/llama.cpp pull 22298 (2026).
PROMPTS = [("rtx-4090", "Q3_K_S", "2026", 10603)]


@pytest.mark.parametrize(("gpu", "weights", "version", "measured"), PROMPTS)
def test_prompts_of_a_release_that_nothing_was_fitted_to(gpu: str, weights: str, version: str, measured: float) -> None:
    settings = {"engine": "llama.cpp", "engine_version": version, "weights": weights, "context": 2112, "max_new_tokens": 64}
    speed = size_serving("llama-3-8b", gpu, **settings).to_dict()["speed"]
    assert 2048 / speed["prefill_seconds"] == pytest.approx(measured, rel=0.3)


# Tokens a second, one sequence: ggml-org/llama.cpp pulls 15802 (Llama 8B) and 15631 (gpt-oss 20B, its mean depth 2,048), both
# of September 2025; 20586 of March 2026, of short contexts.
DECODED = [
    ("llama-3-8b", "rtx-3090", "Q4_0", 256, 156.6, 0.12), ("gpt-oss-20b", "rtx-3090", "MXFP4_MOE", 2112, 186.3, 0.2),
    ("gpt-oss-20b", "rtx-3090", "MXFP4_MOE", 256, 237.5, 0.08),
]  # fmt: skip


@pytest.mark.parametrize(("model", "gpu", "weights", "context", "measured", "rel"), DECODED)
def test_decode_of_a_release_with_fused_kernels(
    model: str, gpu: str, weights: str, context: int, measured: float, rel: float
) -> None:
    settings = {"engine": "llama.cpp", "weights": weights, "context": context, "max_new_tokens": 64}
    rate = size_serving(model, gpu, **settings).to_dict()["speed"]["decode_tokens_per_second"]
    assert rate == pytest.approx(measured, rel=rel)
    before = size_serving(model, gpu, engine_version="2025", **settings).to_dict()["speed"]["decode_tokens_per_second"]
    assert before < rate


def test_older_kernels_are_never_faster() -> None:
    settings = {"engine": "llama.cpp", "weights": "Q4_K_M", "context": 4160, "max_new_tokens": 64}
    times = []
    for row in KERNELS:
        made = settings | {"engine_version": row.since or "2024", "flash_attention": "on" if row.flash else "off"}
        times.append(size_serving("llama-3-8b", "rtx-4090", **made).to_dict()["speed"]["prefill_seconds"])
    assert all(new <= old for new, old in pairwise(times))


@pytest.mark.parametrize("gpu", ["rtx-3090", "m3-max", "gb10"])
def test_experts_in_blocks_take_longer_with_more_rows(gpu: str) -> None:
    law, shape = time_law(accelerator(gpu)), ExpertShape(2880, 2880, 32, 4)
    times = [gguf_experts_seconds(law, rows, shape, 0.53) for rows in (1, 2, 8, 9, 16, 64, 128, 512, 2048)]
    assert times == sorted(times)
    weights = [active * 3 * 2880 * 2880 * 0.53 / law.hardware.bandwidth for active in (4, 32 * 0.9)]
    assert times[0] > weights[0]
    assert times[-1] > weights[1]


def test_a_small_micro_batch_computes_whole_tiles_for_each_expert() -> None:
    """128 tokens over 32 experts: 4,096 rows for 512 (mmq.cu, ncols_max). gpt-oss 20B on RTX 3090, llama.cpp pull 20586:
    2,019 tokens a second, reading all weights would allow ten thousand."""
    law, shape = time_law(accelerator("rtx-3090")), ExpertShape(2880, 2880, 32, 4)
    many, few = (gguf_experts_seconds(law, rows, shape, 0.53) for rows in (512, 128))
    assert many < 1.5 * few


@pytest.mark.parametrize(("rows", "least"), [(1, 8), (2, 8), (32, 80), (4096, 127)])
def test_one_token_hits_as_many_experts_as_it_chooses(rows: int, least: int) -> None:
    found = active_experts(128, rows * 8, 8, UNEVEN.spread)
    assert least <= found <= 128
