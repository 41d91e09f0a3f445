"""Slots for adapters: tensors that vLLM 0.33 allocates (vllm/lora/layers), by hand for Llama 3.1 8B and Qwen3 30B-A3B."""

from typing import Any

import pytest

from memcalc.sizing.serving import size_serving

H, KV, FF, V = 4096, 1024, 14336, 128256
ATTENTION = (H + H) + 2 * (H + KV) + (H + H)  # q, k, v, o: inputs and outputs
MLP = 3 * (H + FF)
# --tp 2: column_parallel_linear.py keeps A whole and cuts B, row_parallel_linear.py cuts A; fully sharded: all are cut
TWO = (H + H // 2) + 2 * (H + KV // 2) + (H // 2 + H) + 3 * (H + FF // 2)


def slots(model: str, **settings: Any) -> dict[str, int]:
    found = size_serving(model, "h100", engine="vllm", context=8192, lora_adapters=2, lora_rank=16, **settings)
    return {entry.name: entry.bytes // (2 * 16 * 2) for entry in found.lines if entry.name.startswith("adapters")}


CASES = (
    ({}, 32 * (ATTENTION + MLP)), ({"tp": 2}, 32 * TWO), ({"tp": 2, "sharded_adapters": True}, 32 * (ATTENTION + MLP) // 2),
    ({"pp": 2}, 16 * (ATTENTION + MLP)),
)  # fmt: skip


@pytest.mark.parametrize(("settings", "widths"), CASES)
def test_linears(settings: dict[str, Any], widths: int) -> None:
    assert slots("llama-3.1-8b", **settings)["adapters"] == widths


def test_vocabulary_of_models_that_name_it() -> None:
    assert slots("llama-3.1-8b")["adapters of embedding and head"] == 2 * (V + H)
    assert slots("llama-3.1-8b", pp=2)["adapters of embedding and head"] == V + H
    assert "adapters of embedding and head" not in slots("gemma-2-9b")


def test_every_routed_expert_has_slots() -> None:
    """fused_moe.py: gate, up and down of each of 128 experts, hidden 2048 and 768 within."""
    assert slots("qwen3-30b-a3b")["adapters of experts"] == 48 * 128 * 3 * (2048 + 768)
    assert slots("qwen3-30b-a3b", tp=4, ep=4)["adapters of experts"] == 48 * 32 * 3 * (2048 + 768)
