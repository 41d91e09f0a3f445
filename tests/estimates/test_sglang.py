"""SGLang's pools: what its logs and its own source (srt/server_args.py, model_executor/pool_configurator.py) say of them."""

from functools import cache
from typing import Any, NamedTuple

import pytest

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.serving.capacity import ServingEstimate
from memcalc.estimates.serving.estimate import estimate
from memcalc.estimates.serving.sglang import facts
from memcalc.readers.catalogue import accelerator
from memcalc.readers.models import read_model
from memcalc.specs.serving import Serving

GIB = 2**30


@cache
def preset(name: str) -> Architecture:
    found = read_model(name).architecture
    assert found is not None
    return found


def served(name: str, gpu: str, **settings: Any) -> ServingEstimate:
    card = accelerator(gpu)
    run = Serving(**{"engine": "sglang", "context": 8192} | settings)
    return estimate(preset(name), run, card.architecture, card.allocatable)


class Logged(NamedTuple):
    model: str
    gpu: str
    settings: dict[str, Any]
    tokens: int  # max_total_num_tokens
    within: float


LOGS = (
    # sgl-project/sglang, the pull request that adds granite-4.0-h-micro: --mem-fraction-static by default, 16 GB, states too
    Logged("granite-4.0-h-micro", "rtx-4060ti-16", {"engine": "sglang@0.5.9", "context": 131072}, 399_740, 0.01),
    # ai-dynamo/aisimulate pull 263: DeepSeek-R1 at 0.82 with passes of 32,768 tokens
    Logged("deepseek-r1", "h200", {"engine": "sglang@0.5.9", "weights": "fp8-block128", "tp": 8, "gpu_memory_utilization": 0.82,
                                   "max_batched_tokens": 32768}, 509_000, 0.03),
    # vllm-project/vllm issue 21348: Qwen3-235B-A22B in fp8 at 0.93
    Logged("qwen3-235b-a22b", "h100", {"engine": "sglang@0.5.9", "weights": "fp8-block128", "tp": 4,
                                       "gpu_memory_utilization": 0.93}, 367_404, 0.05),
)  # fmt: skip


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.model)
def test_tokens_of_the_pool(log: Logged) -> None:
    found = served(log.model, log.gpu, **log.settings)
    assert found.capacity(accelerator(log.gpu).allocatable).kv_tokens == pytest.approx(log.tokens, rel=log.within)


def test_states_have_nine_tenths_of_the_caches_memory() -> None:
    """That log: 38 states of 2.77 GiB beside 3.04 GiB of keys and values; three states a request (mamba_full_memory_ratio)."""
    card = accelerator("rtx-4060ti-16").allocatable
    found = served("granite-4.0-h-micro", "rtx-4060ti-16", engine="sglang@0.5.9", context=131072)
    room, (tokens, states) = found.room(card), found.demand.pools
    assert room * states.part / states.whole / GIB == pytest.approx(2.77, rel=0.015)
    assert room * tokens.part / tokens.whole / GIB == pytest.approx(3.04, rel=0.02)
    assert room * states.part // states.whole // found.state == pytest.approx(38, abs=1)
    assert found.capacity(card).max_batch == 3  # 399,740 tokens of full contexts


# release, GPU, settings → share; server_args.py of 0.5.9 and 0.5.10, memory_hook.py of 0.5.23 at the same values, by hand
SHARES = (
    ("0.5.9", "h100", {}, 0.835),  # (81559 − 512 − 1.5 × 8192 − 2 × 256 − 128) / 81559
    ("0.5.10", "h100", {}, 0.83),  # 58 prefill graphs of 8 MiB
    ("0.5.10", "h100", {"pp": 2}, 0.834),  # stages: none
    ("0.5.23", "h100", {"pp": 2}, 0.828),
    ("0.5.9", "rtx-4090", {}, 0.845),
    ("0.5.23", "rtx-4090", {}, 0.704),  # chunks of 4096, graphs to 48, 50 of prefill
    ("0.5.23", "rtx-4090", {"eager": True}, 0.724),
    ("0.5.23", "h100", {"max_sequences": 8}, 0.836),
)  # fmt: skip


@pytest.mark.parametrize(("version", "gpu", "settings", "share"), SHARES)
def test_default_share_by_release(version: str, gpu: str, settings: dict[str, Any], share: float) -> None:
    found = served("llama-3.1-8b", gpu, engine_version=version, **settings)
    assert found.share(accelerator(gpu).allocatable) == pytest.approx(share, abs=0.0021)


def test_a_vision_tower_lowers_the_share() -> None:
    """adjust_mem_fraction_for_vlm: 0.95, and less for a tower larger than ViT-L/14; no prefill graphs then."""
    text, images = (served(name, "h100").share(accelerator("h100").allocatable) for name in ("qwen2.5-7b", "qwen2.5-vl-7b"))
    assert images < 0.96 * text
    assert facts(preset("gemma-3-4b")).tower == (27, 1152)
    assert not [entry for entry in served("qwen2.5-vl-7b", "h100").lines if entry.name == "CUDA graphs of prefill"]


def test_sliding_layers_have_four_fifths_of_the_tokens() -> None:
    """swa_full_tokens_ratio: gpt-oss 12 full and 12 sliding layers; models without such a pool keep every token."""
    card = accelerator("h100").allocatable
    found = served("gpt-oss-20b", "h100")
    full = 12 * 8 * 128 * 2
    assert found.capacity(card).kv_tokens == pytest.approx(found.room(card) / (full * 1.8), rel=1e-5)
    gemma = served("gemma-3-12b", "h100")
    assert gemma.kv_cache == 8192 * gemma.kv_cache_per_token
    assert served("gemma-4-26b-a4b", "h100").demand.pools
    assert not served("gemma-4-26b-a4b", "h100", engine_version="0.5.9").demand.pools


def test_short_sequences_fill_the_pool_of_the_sliding_layers() -> None:
    """Below the window every token is in both pools, of which the smaller is full first."""
    short, window = served("gpt-oss-20b", "h100", context=64), 128
    pool = short.demand.pools[1]
    assert window > 64
    assert short.per_sequence == pool.of(64) > short.demand.pools[0].of(64)


# requests, context → bytes: [rows + 1, context + 4] int32 (srt/mem_cache/memory_pool.py, ReqToTokenPool)
def test_the_table_of_requests_stands_beside_the_share() -> None:
    found = served("llama-3.1-8b", "h100", context=131072)
    (table,) = [entry for entry in found.lines if entry.name == "table of requests"]
    assert table.bytes == (2048 + 1) * (131072 + 4) * 4
    few = served("llama-3.1-8b", "h100", context=131072, max_sequences=16)
    assert next(entry.bytes for entry in few.lines if entry.name == "table of requests") == 17 * (131072 + 4) * 4
    card = accelerator("h100").allocatable
    assert few.room(card) == pytest.approx(found.room(card) + 2 * (256 - 16) * 2**20, rel=0.003)  # graphs reserved less
    assert few.capacity(card).max_batch == 3
