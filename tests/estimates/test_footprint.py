"""What a model takes whoever serves it is what serving counts."""

import pytest

import memcalc as api
from memcalc.estimates.serving.footprint import footprint
from memcalc.report.inspection import total


@pytest.mark.parametrize(
    ("name", "per_token", "windowed", "per_sequence"),
    [
        ("llama-3.1-8b", 2 * 8 * 128 * 32 * 2, 0, 0),
        ("deepseek-v3", (512 + 64) * 61 * 2, 0, 0),  # the latent and the rotated key
        ("gpt-oss-120b", 2 * 8 * 64 * 36 * 2, 2 * 8 * 64 * 18 * 2, 0),  # every other layer slides over 128 tokens
        ("llama-3.2-11b-vision", 131_072, 0, 0),  # eight of 40 layers read images
        ("mamba-1.4b", 0, 0, 48 * 4096 * (16 * 4 + 4 * 2)),
        ("bert-base", 0, 0, 0),
        ("e5-mistral-7b", 0, 0, 0),  # no language-model head, so nothing is generated
    ],
)
def test_a_known_cache(name: str, per_token: int, windowed: int, per_sequence: int) -> None:
    architecture = api.read_model(name).architecture
    assert architecture is not None
    takes = footprint(architecture)
    assert total(takes.growing) + total(takes.windowed) == per_token
    assert total(takes.windowed) == windowed
    assert total(takes.per_sequence) == per_sequence


@pytest.mark.parametrize("name", ["qwen3.6-27b", "gemma-3-4b", "kimi-k2.5", "nemotron-3-nano-30b-a3b", "llama-4-scout"])
def test_is_what_serving_says(name: str) -> None:
    model = api.read_model(name)
    assert model.architecture is not None
    takes, served = footprint(model.architecture), api.size_serving(model, None, kv_dtype="bf16").report().document
    assert total(takes.growing) + total(takes.windowed) == served["per_gpu"]["kv_cache_per_token"]
    assert total(takes.per_sequence) == served["per_gpu"]["state"]
    assert total(takes.checkpoint) == served["per_gpu"]["weights"]
