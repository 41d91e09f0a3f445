"""The roofline of serving: against published measurements, which no bound at full efficiency may lose to, and by hand."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from math import ceil, exp, log
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcalc.blocks.architecture import Architecture, Layer, Stack
from memcalc.blocks.experts.mixture import Experts
from memcalc.blocks.ledger import Cache
from memcalc.blocks.values import revised
from memcalc.dtypes import number_format
from memcalc.errors import InputError, Unsupported
from memcalc.estimates.compute.flops import by_block, decode_flops, prefill_flops
from memcalc.estimates.lines import cited
from memcalc.estimates.serving import estimate as serving
from memcalc.estimates.serving.bytes_moved import Read, stored_by_role, traffic
from memcalc.estimates.serving.roofline import Roofline, roofline
from memcalc.formulas.formula import expression, with_values
from memcalc.readers.catalogue import accelerator
from memcalc.readers.hf import read_config
from memcalc.readers.models import read_model_preset
from memcalc.specs.hardware import Accelerator
from memcalc.specs.serving import Serving

FULL = {"mfu": 1.0, "mbu": 1.0, "link_efficiency": 1.0}


@cache
def preset(model: str) -> Architecture:
    found = read_model_preset(model).architecture
    assert found
    return found


@cache
def gpu(name: str) -> Accelerator:
    return accelerator(name)


def speed(model: str | Architecture, device: str | Accelerator, weights: str = "bf16", **case: Any) -> Roofline:
    architecture = preset(model) if isinstance(model, str) else model
    case = {"kv_format": "bf16", "prompt": 2048, "context": 2048, "batch": 1, "tp": 1, "pp": 1, "ep": 1} | case
    stored = serving.estimate(architecture, Serving(weights=weights, tp=case["tp"], ep=case["ep"]))
    return roofline(
        architecture, weights_bytes_per_rank=stored_by_role(stored.lines), weights_format=weights,
        accelerator=gpu(device) if isinstance(device, str) else device, **case,
    )  # fmt: skip


# --- published measurements -------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    model: str
    gpu: str
    weights: str
    tp: int
    value: float  # tokens a second of one sequence, or ms to the first token
    prompt: int = 5


GPT_FAST = [  # pytorch-labs/gpt-fast README.md: batch 1, a prompt of 5 tokens, A100 80 GB at 330 W, one GCD of an MI250X
    Measured("llama-2-7b", "a100", "bf16", 1, 104.9),
    Measured("llama-2-7b", "a100", "int8-channel", 1, 155.58),
    Measured("llama-2-7b", "a100", "int4-g128", 1, 196.80),
    Measured("llama-2-70b", "a100", "int8-channel", 1, 19.13),
    Measured("llama-2-70b", "a100", "int4-g128", 1, 25.25),
    Measured("llama-2-7b", "a100", "bf16", 2, 168.84),
    Measured("llama-2-7b", "a100", "bf16", 4, 254.02),
    Measured("llama-2-7b", "a100", "bf16", 8, 328.43),
    Measured("llama-2-70b", "a100", "bf16", 2, 21.32),
    Measured("llama-2-70b", "a100", "bf16", 4, 38.01),
    Measured("llama-2-70b", "a100", "bf16", 8, 62.50),
    Measured("llama-2-70b", "a100", "int8-channel", 8, 80.44),
    Measured("llama-2-7b", "mi250x", "bf16", 1, 76.33),
    Measured("llama-2-7b", "mi250x", "int8-channel", 1, 101.86),
]
LLAMA_CPP = [  # XiongjieDai/GPU-Benchmarks-on-LLM-Inference README.md: llama.cpp, average evaluation speed on LLaMA 2
    Measured("llama-2-7b", "rtx-4090", "q4_0", 1, 149.37),
    Measured("llama-2-7b", "rtx-3090", "q4_0", 1, 120.6),
    Measured("llama-2-7b", "rtx-4080", "q4_0", 1, 118.01),
    Measured("llama-2-7b", "rtx-a6000", "q4_0", 1, 111.57),
    Measured("llama-2-7b", "a100", "q4_0", 1, 136.24),
    Measured("llama-2-7b", "h100-pcie", "q4_0", 1, 133.77),
    Measured("llama-2-7b", "m2-ultra", "q4_0", 1, 91.89),
    Measured("llama-2-7b", "m3-max", "q4_0", 1, 63.11),
    Measured("llama-2-7b", "rtx-4090", "fp16", 1, 60.78),
    Measured("llama-2-7b", "rtx-3090", "fp16", 1, 51.85),
    Measured("llama-2-7b", "a100", "fp16", 1, 73.83),
    Measured("llama-2-7b", "h100-pcie", "fp16", 1, 83.32),
    Measured("llama-2-7b", "m2-ultra", "fp16", 1, 40.68),
    Measured("llama-2-70b", "a100", "q4_0", 1, 25.68),
    Measured("llama-2-70b", "h100-pcie", "q4_0", 1, 25.88),
    Measured("llama-2-70b", "m2-ultra", "q4_0", 1, 14.37),
]
FIRST_TOKEN = [  # NVIDIA/TensorRT-LLM 0.6.1 docs/source/performance.md, low latency, batch 1: ms to the first token
    Measured("gpt-j-6b", "h100", "fp8", 1, 29, 2048),
    Measured("llama-2-7b", "h100", "fp8", 1, 36, 2048),
    Measured("llama-2-70b", "h100", "fp8", 4, 109, 2048),
    Measured("falcon-180b", "h100", "fp8", 8, 205, 2048),
    Measured("gpt-j-6b", "l40s", "fp8", 1, 71, 2048),
    Measured("llama-2-7b", "l40s", "fp8", 1, 73, 2048),
    Measured("gpt-j-6b", "a100", "fp16", 1, 129, 2048),
    Measured("llama-2-7b", "a100", "fp16", 1, 133, 2048),
    Measured("llama-2-70b", "a100", "fp16", 4, 377, 2048),
    Measured("falcon-180b", "a100", "fp16", 8, 509, 2048),
    Measured("llama-2-7b", "h100", "fp8", 1, 7, 128),
    Measured("llama-2-70b", "h100", "fp8", 4, 26, 128),
    Measured("llama-2-7b", "a100", "fp16", 1, 16, 128),
    Measured("llama-2-70b", "a100", "fp16", 4, 47, 128),
]

PROMPTS = [  # tokens a second of a prompt: the same README, LLaMA 3 pp 512; llama.cpp pull request 12183 (Qwen2.5 Coder 3B)
    Measured("llama-3-8b", "rtx-4090", "fp16", 1, 9382.00, 512),
    Measured("llama-3-8b", "rtx-4080", "fp16", 1, 7246.97, 512),  # faster than its fp16 peak with fp32 sums
    Measured("llama-3-8b", "rtx-3090", "fp16", 1, 4444.65, 512),
    Measured("llama-3-8b", "rtx-4090", "q4_k", 1, 7138.99, 512),
    Measured("qwen2.5-3b", "rtx-4090", "q4_0", 1, 22103.91, 512),
]


@pytest.mark.parametrize("row", PROMPTS, ids=lambda r: "-".join(map(str, r[:3])))
def test_no_prompt_is_read_faster_than_the_bound(row: Measured) -> None:
    found = speed(row.model, row.gpu, row.weights, prompt=row.prompt, **FULL).prefill_tokens_per_second
    assert found
    assert row.value <= found.value <= 8 * row.value, f"measured {row.value} tokens/s, bound {found.value:.0f}"


@pytest.mark.parametrize("row", [*GPT_FAST, *LLAMA_CPP], ids=lambda r: "-".join(map(str, r[:4])))
def test_no_decode_is_faster_than_the_bound(row: Measured) -> None:
    found = speed(row.model, row.gpu, row.weights, tp=row.tp, context=row.prompt, **FULL).sequence_tokens_per_second.value
    assert row.value <= found <= 5 * row.value, f"measured {row.value} tokens/s, bound {found:.1f}"


@pytest.mark.parametrize("row", FIRST_TOKEN, ids=lambda r: "-".join(map(str, r)))
def test_no_first_token_comes_before_the_bound(row: Measured) -> None:
    found = speed(row.model, row.gpu, row.weights, tp=row.tp, prompt=row.prompt, **FULL).prefill
    assert found
    milliseconds = 1000 * found.seconds.value
    assert row.value / 6 <= milliseconds <= row.value, f"measured {row.value} ms, bound {milliseconds:.1f}"


@pytest.mark.parametrize(
    ("gpu_name", "model", "weights", "cache", "batch", "tp", "prompt", "answer", "rate"),
    [  # TensorRT-LLM 0.6.1, peak throughput: output tokens a second and GPU
        ("h100", "llama-2-7b", "fp8", "fp8", 768, 1, 128, 128, 19_694),
        ("h100", "llama-2-7b", "fp8", "fp8", 48, 1, 2048, 2048, 2_740),
        ("h100", "llama-2-70b", "fp8", "fp8", 1024, 2, 128, 128, 2_657),
        ("a100", "llama-2-7b", "fp16", "fp16", 384, 1, 128, 128, 5_586),
        ("a100", "llama-2-70b", "fp16", "fp16", 240, 4, 128, 2048, 525),
    ],
)
def test_no_throughput_exceeds_the_bound(
    gpu_name: str, model: str, weights: str, cache: str, batch: int, tp: int, prompt: int, answer: int, rate: float
) -> None:
    """Prompts one after the other, then the answers together, their steps at the context halfway."""
    found = speed(model, gpu_name, weights, kv_format=cache, batch=batch, tp=tp, prompt=prompt, context=prompt + answer // 2,
                  **FULL)  # fmt: skip
    assert found.prefill
    bound = batch * answer / (batch * found.prefill.seconds.value + answer * found.decode.seconds.value) / tp
    assert rate <= bound <= 5 * rate


def test_default_efficiencies_lie_amid_the_measurements() -> None:
    """Geometric mean of measured over predicted: what one rank does, for links are another matter."""
    decode = [r.value / speed(r.model, r.gpu, r.weights, tp=r.tp, context=r.prompt).sequence_tokens_per_second.value
              for r in (*GPT_FAST, *LLAMA_CPP) if r.tp == 1]  # fmt: skip
    first = [speed(r.model, r.gpu, r.weights, tp=r.tp, prompt=r.prompt).prefill for r in FIRST_TOKEN if r.prompt > 1000]
    prefill = [1000 * found.seconds.value / row.value for found, row in zip(first, FIRST_TOKEN, strict=False) if found]
    for shares in (decode, prefill):
        assert len(shares) >= 10
        assert 0.75 < exp(sum(map(log, shares)) / len(shares)) < 1.33


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_a_dense_step_by_hand() -> None:
    """Llama 3.1 8B on an H100: all weights but the embedding's table, 131072 bytes of cache a token; 2 FLOP a weight."""
    found = speed("llama-3.1-8b", "h100", context=8192, batch=4, **FULL)
    weights, kv = 2 * (8_030_261_248 - 128_256 * 4096), 131_072 * 8192
    assert found.decode.moved.value == weights + 4 * kv
    assert found.decode.memory.value == pytest.approx((weights + 4 * kv) / 3.35e12)
    flops = 2 * (8_030_261_248 - 128_256 * 4096 - 65 * 4096) + 32 * 4 * 4096 * 8192
    assert found.decode.compute
    assert found.decode.compute.value == pytest.approx(4 * flops / 989.4e12)
    assert (found.bound, found.decode.link) == ("memory", None)
    assert found.intensity.value == pytest.approx(4 * flops / (weights + 4 * kv))
    assert found.ridge
    assert found.ridge.value == pytest.approx(989.4e12 / 3.35e12)
    assert found.decode_tokens_per_second.value == pytest.approx(4 * found.sequence_tokens_per_second.value)
    assert found.decode_tokens_per_second.value == pytest.approx(4 * 3.35e12 / (weights + 4 * kv))


def test_a_prefill_by_hand() -> None:
    """Causal attention sees half of the pairs; the head reads the last token only."""
    found = speed("llama-3.1-8b", "h100", prompt=8192, **FULL).prefill
    flops = 2 * 6_979_321_856 * 8192 + 2 * 128_256 * 4096 + 32 * 4 * 4096 * 8192 * 8193 // 2
    assert found
    assert found.compute
    assert found.compute.value == pytest.approx(flops / 989.4e12)
    assert found.bound == "compute"
    assert found.moved.value == 2 * (8_030_261_248 - 128_256 * 4096) + 131_072 * 8192  # weights read, cache written


def test_all_reduces_by_hand() -> None:
    """Llama 2 70B over 8 ranks: 2 in each of 80 layers, 2 · 7/8 of 8192 bf16 elements a token; GPT-J needs 1 a layer."""
    found = speed("llama-2-70b", "a100", tp=8, batch=16, **FULL)
    sent = 2 * 7 / 8 * 2 * 80 * 8192 * 2 * 16
    assert [f.value for f in found.decode.sent] == [sent]
    assert found.decode.link
    assert found.decode.link.value == pytest.approx(sent / 300e9)
    (once,) = speed("gpt-j-6b", "a100", tp=2).decode.sent
    assert once.value == 2 * 1 / 2 * 28 * 4096 * 2


def test_a_pipeline_by_hand() -> None:
    """Four stages hand one token's hidden states on three times; each works on a quarter of the sequences."""
    one, four = (speed("llama-2-70b", "h100", pp=pp, batch=64, **FULL) for pp in (1, 4))
    assert [f.value for f in four.decode.sent] == [3 * 16 * 8192 * 2]
    assert four.decode.moved.value - four.decode.moved.inputs["weights"] == pytest.approx(
        (one.decode.moved.value - one.decode.moved.inputs["weights"]) / 4
    )
    assert four.sequence_tokens_per_second.value > one.sequence_tokens_per_second.value
    alone = speed("llama-2-70b", "h100", pp=4, batch=1, **FULL)
    assert alone.decode.seconds.value == pytest.approx(speed("llama-2-70b", "h100", batch=1, **FULL).decode.seconds.value)


def test_experts_are_read_as_often_as_chosen() -> None:
    """Mixtral 8x7B: 32 layers of 8 experts, 3 · 4096 · 14336 each; one token reads 2 of 8, many tokens all of them."""
    held = 32 * 8 * 3 * 4096 * 14336 * 2
    for batch, share in ((1, 2 / 8), (2, 1 - 0.75**2), (8, 1 - 0.75**8), (1000, 1)):
        (read,) = speed("mixtral-8x7b", "h200", batch=batch).decode.experts
        assert read.value == pytest.approx(held * share)
    (local,) = speed("mixtral-8x7b", "h200", batch=8, tp=8, ep=8).decode.experts
    assert local.value == pytest.approx(held * (1 - 0.75**8) / 8)


def test_expert_parallel_groups_send_tokens() -> None:
    """32 expert-parallel ranks over tensor-parallel 8: four batches meet at each expert, and tokens travel there and back."""
    found = speed("deepseek-v3", "h200", "fp8", tp=8, ep=32, batch=64)
    reduced, sent = found.decode.sent
    assert sent.value == pytest.approx(2 * 31 / 32 * 58 * 8 * (64 / 8) * 7168 * 2)
    assert reduced.value == pytest.approx(2 * 7 / 8 * 2 * 61 * 64 * 7168 * 2)  # shared experts are cut by tensor parallelism
    (read,) = found.decode.experts
    assert read.value == pytest.approx(58 * 256 / 32 * 3 * 7168 * 2048 * (1 - (1 - 8 / 256) ** 256))
    assert found.decode_tokens_per_second.value == pytest.approx(4 * 64 / found.decode.seconds.value)
    inside = speed("deepseek-v3", "h200", "fp8", tp=8, ep=8)
    assert len(inside.decode.sent) == 1  # the same ranks hold the tokens and the experts
    assert moved("mixtral-8x7b", tp=2, ep=8).all_reduces == 32  # no shared expert: attention alone
    assert moved("mixtral-8x7b", tp=8, ep=8).all_reduces == 2 * 32


def moved(model: str | Architecture, **case: Any) -> Any:
    architecture = preset(model) if isinstance(model, str) else model
    stored = stored_by_role(serving.estimate(architecture, Serving()).lines)
    return traffic(architecture, stored, "bf16", **{"tp": 1, "ep": 1, "prompt": 4096, "context": 4096} | case)


def test_experts_that_return_their_input_are_not_read() -> None:
    """Eight of sixteen choices of the router are no experts: a token reads 1 of 8 experts on average, not 2."""
    model = preset("mixtral-8x7b")
    (part,) = model.parts
    (stack,) = part.stacks
    (layer,) = stack.layers
    blocks = tuple((path, revised(b, identity_experts=8) if isinstance(b, Experts) else b) for path, b in layer.blocks)
    changed = replace(model, parts=(replace(part, stacks=(Stack.uniform(Layer(blocks), stack.depth),)),))
    (routed,) = moved(changed).routed
    assert (routed.experts, routed.top_k) == (16, 2)


def test_caches_are_read_within_windows_and_selections() -> None:
    """Gemma 2 2B: 13 of 26 layers see 4096 tokens. DeepSeek V3.2 reads 2048 latents and every index key."""
    wide = 13 * 2 * 4 * 256 * 2
    assert moved("gemma-2-2b", context=32768).cache - moved("gemma-2-2b", context=16384).cache == wide * 16384
    assert moved("deepseek-v3", context=65536).cache == 61 * 576 * 65536 * 2
    assert moved("deepseek-v3.2", context=65536).cache == 61 * 2 * (576 * 2048 + 128 * 65536)
    assert moved("deepseek-v3.2", prompt=65536).written == 61 * 2 * (576 + 128) * 65536


def test_a_cache_may_have_a_format_of_its_own() -> None:
    for name, size in (("", 2), ("fp32", 4)):
        read = Read(Cache("keys", heads=8, width=128, format=name), None, layers=3, shared=False)
        assert read.bytes(10, 4, number_format("bf16")) == 2 * 128 * 3 * 10 * size


def test_shared_caches_are_read_by_every_layer() -> None:
    """Gemma 3n E4B: 35 layers, 15 of them without keys and values of their own."""
    found = moved("gemma-3n-e4b", context=256, prompt=256)
    assert found.cache == 35 * 2 * 2 * 256 * 256 * 2
    assert found.written == 20 * 2 * 2 * 256 * 256 * 2


def test_states_are_read_and_written() -> None:
    """Mamba 2.8B: 64 layers of 5120 channels, a state of 16 and a convolution of 4; the context changes nothing."""
    found = speed("mamba-2.8b", "a100", batch=8)
    state = found.decode.moved.inputs["state"]
    assert state == moved("mamba-2.8b").state > 64 * 5120 * 16 * 2
    assert found.decode.moved.value == pytest.approx(found.decode.moved.inputs["weights"] + 8 * 2 * state)
    mixed = 36 * (32 * 128 * 128 * 4 + 8192 * 4 * 2)  # Qwen3-Next: 36 layers, an fp32 memory and a convolution in 16 bits
    assert moved("qwen3-next-80b-a3b").state == mixed
    assert speed("mamba-2.8b", "a100", batch=8, context=100_000).decode.seconds.value == found.decode.seconds.value


def test_what_a_token_multiplies_is_read() -> None:
    """A tied head reads the embedding; look-up tables are not read; towers are not run."""
    tied, own = preset("llama-3.2-1b"), preset("llama-3.1-8b")
    assert moved(tied).weights == 2 * tied.parameters
    assert moved(own).weights == 2 * (own.parameters - 128_256 * 4096)
    seen = preset("gemma-3-4b")
    language = sum(c.parameters for c in seen.weights if c.part == "language")
    assert moved(seen).weights == pytest.approx(2 * language, rel=1e-9)
    layered = preset("gemma-3n-e2b")
    language = sum(c.parameters for c in layered.weights if c.part == "language")
    assert moved(layered).weights == pytest.approx(2 * (language - 262_144 * 30 * 256), rel=1e-9)
    positions = preset("gpt2")
    assert moved(positions).weights == 2 * (positions.parameters - 1024 * 768)


ZAMBA = {
    "model_type": "zamba2", "vocab_size": 32000, "hidden_size": 2560, "num_hidden_layers": 4, "num_attention_heads": 32,
    "layers_block_type": ["linear_attention", "hybrid", "hybrid", "hybrid"], "intermediate_size": 10240, "num_mem_blocks": 1,
    "mamba_d_state": 64, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_ngroups": 1, "n_mamba_heads": 80, "adapter_rank": 128,
    "chunk_size": 256, "tie_word_embeddings": True,
}  # fmt: skip


def test_blocks_that_run_again_are_read_again() -> None:
    """Zamba 2 stores one attention and MLP and runs them in each hybrid layer, with a cache in each."""
    model = read_config(ZAMBA)
    shared = 3 * 5120**2 + 5120 * 2560 + 3 * 2560 * 10240 + 5120 + 2560  # queries, keys, values; output; MLP; norms
    ledger = {path: layers for path, layers, *_ in by_block(model, 1)}
    assert ledger["language/layers/shared_attention"] == ledger["language/layers/shared_mlp"] == 3
    stored = {role: 2 * count for role, count in model.by_role().items()}
    found = traffic(model, stored, "bf16", tp=1, ep=1, prompt=9, context=9)
    assert found.weights == 2 * (model.parameters + 2 * shared)
    assert found.cache == 3 * 2 * 5120 * 2 * 9


# --- the format of the products ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "device", "expected"),
    [
        ("bf16", "h100", "bf16"), ("fp16", "t4", "fp16"), ("bf16", "t4", "fp16"), ("fp32", "a100", "fp32"),
        ("int4-g128", "h100", "bf16"), ("nf4", "a100", "bf16"), ("awq-int4-g128", "l40s", "bf16"), ("mxfp4", "h100", "bf16"),
        ("fp8", "h100", "fp8"), ("fp8-block128", "h200", "fp8"), ("fp8", "a100", "bf16"), ("int8-channel", "a100", "int8"),
        ("fp16", "rtx-4090", "fp16_acc16"), ("fp8", "rtx-4090", "fp8_acc16"), ("bf16", "rtx-4090", "bf16"),
        ("nvfp4", "b200", "fp4"), ("nvfp4", "h100", "bf16"), ("q4_k", "rtx-4090", "int8"), ("q4_k", "v100-sxm2-16", "fp16"),
        ("bf16", "m2-ultra", "fp16"), ("bf16", "gb10", "bf16"),
    ],
)  # fmt: skip
def test_products_run_at_the_peak_of_their_format(weights: str, device: str, expected: str | None) -> None:
    found = speed("llama-3.2-1b", device, weights)
    assert found.compute_format == expected
    assert (found.prefill is None) == (expected is None)


def test_without_a_peak_decode_is_bound_by_memory() -> None:
    found = speed("llama-2-7b", gpu("m2-ultra").model_copy(update={"peak": {}, "unverified": ()}), "q4_0")
    assert (found.prefill, found.compute_bound_batch, found.ridge, found.decode.compute) == (None, None, None, None)
    assert found.bound == "memory"
    assert found.reasons[0].startswith("Apple M2 Ultra has no published dense peak for q4_0 weights (published: none)")


def test_a_link_that_nobody_publishes_is_left_out() -> None:
    found = speed("llama-2-7b", "m2-ultra", tp=2)
    assert found.decode.link is None
    assert any("no published link" in reason for reason in found.reasons)
    slow = speed("llama-2-7b", "rtx-4090", tp=2)  # no NVLink: PCIe
    assert slow.decode.link
    assert slow.decode.link.inputs["bandwidth"] == 31.51e9


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("t5-3b", "encoder-decoder"), ("bert-base", "sees later tokens"), ("vit-base-patch16-224", "without a head"),
        ("deepseek-v4-flash", "compressed entries"), ("glm-5.2", "earlier layer's indexer"), ("llama-3.2-11b-vision", "cross"),
        ("clip-vit-base-patch32", "without a head"),
    ],
)  # fmt: skip
def test_what_does_not_generate_is_refused(model: str, reason: str) -> None:
    architecture = preset(model)
    with pytest.raises(Unsupported, match=reason):
        traffic(architecture, dict.fromkeys(architecture.by_role(), 1), "bf16", tp=1, ep=1, prompt=8, context=8)


@pytest.mark.parametrize("share", [0.0, -0.5, 1e-320, 1.01, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["mfu", "mbu", "link_efficiency"])
def test_efficiencies_are_shares(name: str, share: float) -> None:
    with pytest.raises(InputError, match=f"^--{name.replace('_', '-')}: .* is not a share from 0.001 to 1"):
        speed("llama-2-7b", "a100", **{name: share})


def test_a_format_without_a_peak_is_refused() -> None:
    with pytest.raises(InputError, match="no known dense peak in fp8"):
        speed("llama-2-7b", "a100", compute_format="fp8")
    assert speed("llama-2-7b", "a100", "int4-g128", compute_format="int8").compute_format == "int8"


# --- compute-bound batches --------------------------------------------------------------------------------------------

CASES = [
    ("llama-3.1-8b", "h100", {"context": 256}), ("llama-3.1-8b", "h100", {"context": 256, "pp": 4}),
    ("llama-3.1-70b", "h100", {"context": 1024, "tp": 4}), ("mixtral-8x7b", "a100", {"context": 256, "tp": 2}),
    ("qwen3-30b-a3b", "h100", {"context": 128}), ("deepseek-v3", "h200", {"context": 64, "tp": 4, "ep": 4}),
    ("mamba2-2.7b", "a100", {"mfu": 0.05}), ("llama-2-70b", "a100", {"context": 2048, "tp": 4, "mfu": 1.0, "mbu": 1.0}),
    ("gpt-oss-20b", "l40s", {"context": 100, "weights": "mxfp4"}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "device", "case"), CASES)
def test_the_compute_bound_batch_is_the_crossing(model: str, device: str, case: dict[str, Any]) -> None:
    found = speed(model, device, **case)
    batch = found.compute_bound_batch
    assert batch
    assert batch > 1
    assert found.crossing
    at, before = (speed(model, device, **case, batch=b) for b in (batch, batch - 1))
    assert (at.bound, before.bound) == ("compute", "memory")
    assert ceil(found.crossing.value) == batch


def test_experts_put_off_the_crossing() -> None:
    """As many weights read, but few of them used by each token."""
    dense, sparse = speed("qwen3-8b", "h100", context=64), speed("qwen3-30b-a3b", "h100", context=64)
    assert dense.compute_bound_batch
    assert sparse.compute_bound_batch
    assert sparse.compute_bound_batch > 5 * dense.compute_bound_batch


def test_long_contexts_never_turn_compute_bound() -> None:
    """Llama 2 7B, heads of its own for every query: one FLOP a byte of cache, whatever the batch."""
    found = speed("llama-2-7b", "h100", context=4096)
    assert (found.compute_bound_batch, found.crossing) == (None, None)
    assert any("turns compute-bound at no batch" in reason and "cache" in reason for reason in found.reasons)
    assert speed("llama-2-7b", "h100", context=4096, batch=2**24).bound == "memory"


def test_slow_links_never_turn_compute_bound() -> None:
    found = speed("llama-3.1-8b", "rtx-4090", context=16, tp=8)
    assert found.compute_bound_batch is None
    assert any("messages" in reason for reason in found.reasons)
    assert speed("llama-3.1-8b", "rtx-4090", context=16, tp=8, batch=4096).bound == "link"


# --- properties -------------------------------------------------------------------------------------------------------

models = st.sampled_from(
    ["llama-3.1-8b", "gemma-2-2b", "mixtral-8x7b", "deepseek-v2-lite", "mamba2-780m", "qwen3-next-80b-a3b"]
)
devices = st.sampled_from(["h100", "a100", "l40s", "mi300x"])
tokens = st.integers(1, 200_000)
batches = st.integers(1, 5_000)


def slower(device: Accelerator, **shares: float) -> Accelerator:
    return device.replace(**{key: getattr(device, key) * share for key, share in shares.items()})


@given(models, devices, tokens, tokens, batches, st.sampled_from([1, 2, 4]), st.sampled_from([1, 3]))
def test_time_never_falls_with_the_context(model: str, device: str, a: int, b: int, batch: int, tp: int, pp: int) -> None:
    short, long = (speed(model, device, context=c, prompt=c, batch=batch, tp=tp, pp=pp) for c in sorted((a, b)))
    assert short.decode.seconds.value <= long.decode.seconds.value
    assert short.prefill
    assert long.prefill
    assert short.prefill.seconds.value <= long.prefill.seconds.value


@given(models, devices, tokens, batches, batches, st.sampled_from([1, 2, 4]), st.sampled_from([1, 3]))
def test_time_never_falls_with_the_batch(model: str, device: str, context: int, a: int, b: int, tp: int, pp: int) -> None:
    few, many = (speed(model, device, context=context, batch=n, tp=tp, pp=pp) for n in sorted((a, b)))
    assert few.decode.seconds.value <= many.decode.seconds.value * (1 + 1e-12)


@given(models, devices, tokens, batches, st.floats(0.01, 1), st.floats(0.01, 1), st.sampled_from([1, 2, 4]))
def test_time_never_falls_with_less_bandwidth(
    model: str, device: str, context: int, batch: int, memory: float, link: float, tp: int
) -> None:
    whole = gpu(device)
    links = {"pcie_bandwidth": link} | ({"scale_up_bandwidth": link} if whole.scale_up_bandwidth else {})
    case = {"context": context, "batch": batch, "tp": tp}
    fast, slow = (speed(model, machine, **case) for machine in (whole, slower(whole, bandwidth=memory, **links)))
    assert fast.decode.seconds.value <= slow.decode.seconds.value
    assert fast.prefill
    assert slow.prefill
    assert fast.prefill.seconds.value <= slow.prefill.seconds.value


@given(models, devices, tokens, batches, st.floats(0.01, 1), st.floats(0.01, 1))
def test_no_rate_exceeds_a_roof(model: str, device: str, context: int, batch: int, mfu: float, mbu: float) -> None:
    found = speed(model, device, context=context, batch=batch, mfu=mfu, mbu=mbu)
    one = speed(model, device, context=context, batch=1, mfu=mfu, mbu=mbu)
    active = one.decode.moved.inputs["weights"]  # what a single token reads
    machine = gpu(device)
    slack = 1 + 1e-9
    assert found.sequence_tokens_per_second.value <= slack * machine.bandwidth * mbu / active
    flops = decode_flops(preset(model), context)
    assert found.decode_tokens_per_second.value <= slack * machine.peak["bf16"] * mfu / flops
    assert found.decode.seconds.value <= found.decode.serial.value <= 3 * found.decode.seconds.value
    assert (found.bound == "compute") == (found.compute_bound_batch is not None and batch >= found.compute_bound_batch)


@given(models, tokens)
def test_prefill_needs_the_flops_of_the_ledger(model: str, prompt: int) -> None:
    found = speed(model, "h100", prompt=prompt, **FULL).prefill
    assert found
    assert found.compute
    assert found.compute.value == pytest.approx(prefill_flops(preset(model), prompt, causal=True) / 989.4e12)


# --- how do you know? -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "found",
    [
        speed("deepseek-v3", "h200", "fp8", tp=8, ep=32, pp=2, batch=64), speed("llama-2-70b", "a100", tp=4, context=99),
        speed("mamba-2.8b", "m2-ultra"),
    ],
)  # fmt: skip
def test_every_figure_evaluates(found: Roofline) -> None:
    assert len({entry.path for entry in found.figures}) == len(found.figures)
    for entry in found.figures:
        for text, names in ((expression(entry.formula), entry.inputs), (with_values(entry.formula, entry.inputs), {})):
            assert eval(text, {"max": max, **names}) == entry.value, entry.path
    assert {"gpt-fast", "tensorrt-llm-performance", "nccl-nvlink"} <= cited(found.figures).keys()
    assert [entry.document()["certainty"] for entry in found.efficiencies] == ["assumed"] * 3


def test_assumptions_name_the_shares() -> None:
    found = speed("mixtral-8x7b", "h100", "int4-g128", tp=2, mfu=0.3)
    text = "\n".join(found.assumptions)
    for part in ("a bound at the stated efficiencies, not a promise", "30% of the dense peak, as given", "60% of the memory",
                 "84% of the link bandwidth, assumed", "int4-g128 weights multiply at the bf16 peak", "routing is uniform",
                 "NVLink 4, 450 GB/s one way", "overlap in full"):  # fmt: skip
        assert part in text


def test_depth_costs_nothing(config: Callable[..., dict[str, Any]]) -> None:
    """Ten times the layers are the same figures, ten times the bytes of the layers."""
    shallow, deep = (read_config(config("meta-llama/Meta-Llama-3.1-8B", num_hidden_layers=n)) for n in (32, 320))
    a, b = speed(shallow, "h100"), speed(deep, "h100")
    assert [entry.path for entry in a.figures] == [entry.path for entry in b.figures]
    assert moved(deep).cache == 10 * moved(shallow).cache
