"""Formats of engines' caches: bytes of a token as vLLM 0.33 and SGLang 0.5.23 lay them out (files beside each)."""

from typing import Any

import pytest

from memcalc.errors import MemcalcError
from memcalc.sizing.serving import SizedServing, size_serving


def sized(model: str, gpu: str = "h100", **settings: Any) -> SizedServing:
    return size_serving(model, gpu, **{"context": 8192, "engine": "vllm"} | settings)


# Llama 3.1 8B: 32 layers, 8 key-value heads of 128. format → bytes of one head's keys and values
# v1/attention/backends/triton_attn.py, customize_spec; flashinfer.py, nvfp4_kv_cache_full_dim; turboquant/config.py, slot_size
SLOTS = (
    ("auto", 512), ("bfloat16", 512), ("fp8", 256), ("fp8_e4m3", 256), ("fp8_e5m2", 256), ("fp8_inc", 256),
    ("int8_per_token_head", 264), ("fp8_per_token_head", 264), ("int4_per_token_head", 136), ("nvfp4", 2 * (64 + 8)),
    ("nvfp4_4over6", 144),
)  # fmt: skip


@pytest.mark.parametrize(("kv_dtype", "slot"), SLOTS)
def test_bytes_of_a_head(kv_dtype: str, slot: int) -> None:
    assert sized("llama-3.1-8b", kv_dtype=kv_dtype).kv_cache_per_token == 32 * 8 * slot


# 28 layers packed, the first and last two in 16 bits (get_boundary_skip_layers); the docstring's 2.6x and 4.9x are of the slots
TURBO = (("turboquant_k8v4", 196), ("turboquant_4bit_nc", 134), ("turboquant_k3v4_nc", 118), ("turboquant_3bit_nc", 102))


@pytest.mark.parametrize(("kv_dtype", "slot"), TURBO)
def test_turboquant_leaves_the_boundary_in_16_bits(kv_dtype: str, slot: int) -> None:
    assert sized("llama-3.1-8b", kv_dtype=kv_dtype).kv_cache_per_token == 8 * (28 * slot + 4 * 512)


# GPU, engine, format → bytes of a latent in DeepSeek-V3.2 beside its index keys of 128 + 4: mla/flashmla_sparse.py (656, 352),
# SGLang's calculate_mla_kv_cache_dim; trtllm's kernels on Blackwell take plain fp8
LATENTS = (
    ("h200", "vllm", "auto", 1152), ("h200", "vllm", "fp8", 656), ("h200", "vllm", "fp8_ds_mla", 656),
    ("b200", "vllm", "nvfp4_ds_mla", 352), ("b200", "vllm", "fp8", 576), ("h200", "sglang", "fp8_e4m3", 656),
    ("b200", "sglang", "auto", 576), ("h200", "sglang", "auto", 1152),
)  # fmt: skip


@pytest.mark.parametrize(("gpu", "engine", "kv_dtype", "latent"), LATENTS)
def test_sparse_latents(gpu: str, engine: str, kv_dtype: str, latent: int) -> None:
    found = sized("deepseek-v3.2", gpu, engine=engine, tp=8, kv_dtype=kv_dtype)
    assert found.kv_cache_per_token == 61 * (latent + 132)


def test_dense_latents_stay_plain() -> None:
    assert sized("deepseek-v3", "h200", tp=8, kv_dtype="fp8").kv_cache_per_token == 61 * 576
    assert sized("deepseek-v3", "h200", tp=8, kv_dtype="int8_per_token_head").kv_cache_per_token == 61 * (576 + 8)


# model, settings → what is said
REFUSED: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("llama-3.1-8b", {"kv_dtype": "fp8_ds_mla"}, "latents"),
    ("deepseek-v3", {"kv_dtype": "turboquant_k8v4", "tp": 8}, "latents"),
    ("llama-3.1-8b", {"kv_dtype": "q8_0"}, "keeps its cache in"),
    ("llama-3.1-8b", {"kv_dtype": "int8"}, "keeps its cache in"),
    ("llama-3.1-8b", {"kv_dtype": "int8_per_token_head", "engine": "sglang"}, "keeps its cache in"),
    ("llama-3.1-8b", {"kv_dtype": "nvfp4", "engine": "vllm@0.19"}, "keeps its cache in"),
    ("llama-3.1-8b", {"kv_dtype": "fp8_e5m2", "engine": "tensorrt-llm"}, "keeps its cache in"),
    ("llama-3.1-8b", {"kv_dtype": "octave_k3v4"}, "no number format"),
)  # fmt: skip


@pytest.mark.parametrize(("model", "settings", "said"), REFUSED)
def test_refused(model: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(MemcalcError, match=said):
        sized(model, "h200", **settings)
