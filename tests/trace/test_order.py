"""The order of allocations is PyTorch's: the caching allocator holds as much for the tape's as for a traced step's."""

from typing import Any

import pytest

from memcalc.allocator.caching import CachedBlock, CachingAllocator
from memcalc.estimates.training.estimate import estimate
from memcalc.readers.hf import read_config
from memcalc.specs.training import Training
from memcalc.trace.step import trace

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 16, "num_key_value_heads": 8,
    "vocab_size": 32000, "tie_word_embeddings": False, "num_hidden_layers": 12, "max_position_embeddings": 8192,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "model_type": "gpt2", "n_embd": 1024, "n_layer": 12, "n_head": 16, "vocab_size": 50257, "n_positions": 2048,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {"llama": LLAMA, "qwen3": LLAMA | {"model_type": "qwen3", "head_dim": 64}, "gpt2": GPT2}

# (what differs from bf16, how far what is reserved may lie from PyTorch's order)
RUNS: tuple[tuple[dict[str, Any], float], ...] = (
    ({}, 0.01),
    ({"recompute": "full"}, 0.02),
    ({"recompute": "full", "optimizer_impl": "foreach"}, 0.02),
    ({"grad_accum": 2, "recompute": "full"}, 0.02),
    ({"precision": "bf16-amp"}, 0.01),
    ({"precision": "bf16-amp", "recompute": "full"}, 0.17),  # autocast's casts come in an order of their own
    ({"attention": "eager"}, 0.09),
)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("settings", "bound"), RUNS, ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_reserved_memory(model: str, settings: dict[str, Any], bound: float) -> None:
    values = MODELS[model]
    run = Training(
        **{"precision": "bf16", "attention": "sdpa", "micro_batch": 4, "seq_len": 2048, "engine": "torch"} | settings
    )
    found = estimate(read_config(values), run)
    allocator, blocks = CachingAllocator(), dict[int, CachedBlock]()
    for number, size in trace(values, run).events:
        if size > 0:
            blocks[number] = allocator.allocate(size)
        elif size < 0 and number in blocks:
            allocator.free(blocks.pop(number))
    assert found.replayed
    assert abs((found.replayed.reserved - found.workspace) / allocator.peak.reserved - 1) <= bound
    assert abs((found.replayed.allocated - found.workspace) / allocator.peak.allocated - 1) <= 0.01
