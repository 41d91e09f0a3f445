"""Serving: the cache of every kind of attention, what parallelism divides and what it cannot, and how many fit."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from memcalc.blocks.architecture import Architecture
from memcalc.errors import MemcalcError
from memcalc.estimates.serving.capacity import ServingEstimate
from memcalc.estimates.serving.estimate import estimate
from memcalc.formulas.serving_engines import SERVING_ENGINES
from memcalc.readers.models import read_model
from memcalc.specs.serving import Serving
from memcalc.specs.spec import SpecError

Read = Callable[..., Architecture]

LLAMA = "meta-llama/Meta-Llama-3.1-8B"
MIXTRAL = "mistralai/Mixtral-8x22B-v0.1"
GIB = 2**30


def served(architecture: Architecture, **settings: Any) -> ServingEstimate:
    return estimate(architecture, Serving(**settings))


# --- cache ------------------------------------------------------------------------------------------------------------

# model, tp, bytes a token and GPU in bf16, why
PER_TOKEN = (
    (LLAMA, 1, 131072, "2 × 32 layers × 8 heads × 128 × 2 B: GQA, Llama 3 report, table 3"),
    (LLAMA, 8, 16384, "one head a GPU"),
    (LLAMA, 16, 16384, "8 heads on 16 GPUs: replicated, never below one"),
    (LLAMA, 32, 16384, "replicated four times"),
    ("meta-llama/Llama-2-7b-hf", 1, 524288, "2 × 32 × 4096 × 2 B: multi-head"),
    ("meta-llama/Meta-Llama-3.1-70B", 8, 40960, "2 × 80 layers × 1 head × 128 × 2 B"),
    ("bigcode/starcoder", 1, 20480, "multi-query: 2 × 40 × 1 × 128 × 2 B"),
    ("bigcode/starcoder", 16, 20480, "a single head is on every GPU"),
    ("tiiuae/falcon-7b", 1, 8192, "multi-query: 2 × 32 × 64 × 2 B"),
    ("Qwen/Qwen3-32B", 1, 262144, "head_dim 128 is its own key: 2 × 64 × 8 × 128 × 2 B, not 5120 / 64 heads"),
)


@pytest.mark.parametrize(("name", "tp", "expected", "why"), PER_TOKEN)
def test_cache_per_token(architecture: Read, name: str, tp: int, expected: int, why: str) -> None:
    model = architecture(name)
    try:
        found = served(model, tp=tp).kv_cache_per_token
    except SpecError:
        pytest.fail(f"{name} on {tp} GPUs is refused")
    assert found == expected, f"{found} B per token, expected {expected}: {why}"


def test_cache_of_a_batch(architecture: Read) -> None:
    """Llama 3 8B, 8 sequences of 8192 tokens: exactly 8 GiB."""
    found = served(architecture(LLAMA), context=8192, batch=8)
    assert found.kv_cache == 8 * GIB, f"{found.kv_cache / GIB} GiB"
    assert found.per_sequence == GIB


# cache format, bytes a token of Llama 3 8B (65536 values); ggml and IEEE layouts
FORMATS = (
    ("fp32", 65536 * 4), ("fp16", 65536 * 2), ("fp8-e4m3", 65536), ("int8", 65536),
    ("q8_0", 65536 * 34 // 32), ("q4_0", 65536 * 18 // 32),
)  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), FORMATS)
def test_cache_formats(architecture: Read, name: str, expected: int) -> None:
    found = served(architecture(LLAMA), kv_dtype=name, context=1000)
    assert found.kv_cache_per_token == expected, f"{name}: {found.kv_cache_per_token} B, expected {expected}"
    assert found.kv_cache == 1000 * expected


# A small Gemma 2: four layers, every other one with a window of 64 tokens.
GEMMA = {"num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 256, "sliding_window": 64}  # fmt: skip
GEMMA_LAYER = 2 * 2 * 16 * 2  # B a token: keys and values, 2 heads of 16, bf16


@pytest.mark.parametrize("context", [1, 63, 64, 65, 1000, 8192])
def test_a_window_caps_the_cache(folder: Callable[..., str], context: int) -> None:
    """Two of four layers keep at most their window (Gemma 2 report, section 2: every other layer is local)."""
    model = read_model(folder("google/gemma-2-2b", **GEMMA)).architecture
    assert model is not None
    found = served(model, context=context, batch=3)
    expected = 3 * GEMMA_LAYER * (2 * context + 2 * min(context, 64))
    assert found.kv_cache == expected, f"context {context}: {found.kv_cache} B, expected {expected}"
    assert found.kv_cache_per_token == 4 * GEMMA_LAYER


def test_pure_recurrence_keeps_a_state_and_no_cache(architecture: Read) -> None:
    short, long = (served(architecture("state-spaces/mamba-1.4b-hf"), context=n) for n in (10, 100_000))
    assert short.kv_cache == long.kv_cache == 0
    assert short.state == long.state > 0
    assert served(architecture("state-spaces/mamba-1.4b-hf"), batch=7).state == 7 * short.state


def test_hybrids_keep_both(architecture: Read) -> None:
    """Jamba: attention in 4 of 32 layers, 8 key-value heads of 128 (Lieber et al. 2024: 4 GB at 256k tokens)."""
    found = served(architecture("ai21labs/Jamba-v0.1"), context=256 * 1024)
    assert found.kv_cache == 4 * 2 * 8 * 128 * 2 * 256 * 1024 == 4 * GIB, f"{found.kv_cache / GIB} GiB"
    assert found.state > 0


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "bytes_each"), [("bf16", 2), ("fp16", 2), ("fp32", 4)])
def test_weights_whole(architecture: Read, name: str, bytes_each: int) -> None:
    for model in map(architecture, (LLAMA, MIXTRAL, "google/gemma-2-2b", "openai-community/gpt2")):
        found = served(model, weights=name, context=1).weights
        assert found == bytes_each * model.parameters, f"{found:,}, {bytes_each} × {model.parameters:,} expected"


# weight format, bytes of a quantised value; embedding, head and norms stay bf16
QUANTISED = (("int8", 1.0), ("int4", 0.5), ("fp8-e4m3", 1.0), ("nf4-dq", 4.126953125 / 8), ("mxfp4", 4.25 / 8))


@pytest.mark.parametrize(("name", "each"), QUANTISED)
def test_quantised_weights_leave_the_rest_in_16_bit(architecture: Read, name: str, each: float) -> None:
    model = architecture(LLAMA)
    low = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    expected = low * each + 2 * (model.parameters - low)
    found = served(model, weights=name, context=1).weights
    assert found == expected, f"{name}: {found:,} B, expected {expected:,.0f}"


# degrees, experts on a rank, and the part of each that a rank holds
EXPERTS = (
    ({}, 8, 1),
    ({"tp": 8}, 8, 8),
    ({"tp": 8, "ep": 8}, 1, 1),
    ({"ep": 8}, 1, 1),
    ({"tp": 2, "ep": 8}, 1, 1),
    ({"tp": 8, "ep": 2}, 4, 4),
    ({"tp": 4, "ep": 4}, 2, 1),
)


@pytest.mark.parametrize(("degrees", "experts", "cut"), EXPERTS, ids=str)
def test_experts_divide_once(architecture: Read, degrees: dict[str, int], experts: int, cut: int) -> None:
    """vLLM's expert parallelism spreads whole experts over the ranks that tensor parallelism would cut them over."""
    found = served(architecture(MIXTRAL), context=1, **degrees)
    held = sum(entry.bytes for entry in found.lines if "experts" in entry.name)
    expected = 2 * 56 * experts * 3 * 16384 * 6144 // cut
    assert held == expected, f"{degrees}: {held:,} B of experts a GPU, expected {expected:,}"


@given(tp=st.sampled_from([1, 2, 4, 8]), ep=st.sampled_from([1, 2, 4, 8]), pp=st.sampled_from([1, 2, 4, 7]))
def test_all_gpus_together_hold_the_model(architecture: Read, tp: int, ep: int, pp: int) -> None:
    """The heaviest GPU times the GPUs is at least the model: dividing twice would be less."""
    run = Serving(tp=tp, ep=ep, pp=pp, context=1)
    model = architecture(MIXTRAL)
    together = estimate(model, run).weights * run.gpus
    assert together >= 2 * model.parameters, f"{run.gpus} GPUs hold {together:,} B, the model has {2 * model.parameters:,}"


# --- how many fit -----------------------------------------------------------------------------------------------------


ENGINES = st.sampled_from([None, *(name for name, row in SERVING_ENGINES.items() if not row.experts_on_host)])


@given(
    engine=ENGINES, name=st.sampled_from([LLAMA, "google/gemma-2-2b", "ai21labs/Jamba-v0.1", "bigcode/starcoder"]),
    context=st.integers(2, 200_000), gib=st.integers(8, 300), utilization=st.sampled_from([0.5, 0.9, 1.0]),
    kv=st.sampled_from(["bf16", "fp8-e4m3"]), asked=st.integers(1, 300), samples=st.integers(1, 3),
)  # fmt: skip
def test_max_batch_is_the_boundary(
    architecture: Read, engine: str | None, name: str, context: int, gib: int, utilization: float, kv: str, asked: int,
    samples: int,
) -> None:  # fmt: skip
    """So many requests fit into the engine's share of the GPU, and one more does not, whatever batch was asked for."""
    model, memory = architecture(name), gib * GIB
    settings: dict[str, Any] = {"engine": engine, "context": context, "kv_dtype": kv, "gpu_memory_utilization": utilization,
                                "samples": samples, "max_new_tokens": context // 2}  # fmt: skip
    asked_for = estimate(model, Serving(batch=asked, **settings), "sm_90", memory)
    most = asked_for.capacity(memory)
    assert most.max_batch is not None
    assume(most.limit != "max_sequences" and most.max_batch < 2**24)

    def fits(batch: int) -> bool:
        return estimate(model, Serving(batch=batch, **settings), "sm_90", memory).headroom_in(memory) >= 0

    if most.max_batch:
        assert fits(most.max_batch), f"{most.max_batch} requests do not fit"
    assert not fits(most.max_batch + 1), f"{most.max_batch + 1} requests fit too"


@given(
    engine=ENGINES, name=st.sampled_from([LLAMA, "google/gemma-2-2b", "ai21labs/Jamba-v0.1"]),
    gib=st.integers(40, 300), batch=st.integers(1, 50),
)  # fmt: skip
def test_max_context_is_the_boundary(architecture: Read, engine: str | None, name: str, gib: int, batch: int) -> None:
    """So many tokens each fit the cache's memory, and one token more does not."""
    model, memory = architecture(name), gib * GIB
    found = estimate(model, Serving(engine=engine, batch=batch), "sm_90", memory)
    longest, room = found.capacity(memory).max_context, max(0, found.room(memory) - found.apart)
    assert longest is not None
    assume(0 < longest < 2**31 - 1)

    def need(context: int) -> int:
        return found.demand.unit * batch * (found.demand.of(context) + found.demand.fixed)

    assert need(longest) <= room < need(longest + 1), f"{need(longest):,} ≤ {room:,} < {need(longest + 1):,}"


def test_max_batch_is_the_schedulers_too(architecture: Read) -> None:
    """vLLM runs at most max_num_seqs requests however much memory there is."""
    found = estimate(architecture(LLAMA), Serving(engine="vllm", context=64, max_sequences=7), "sm_90", 80 * GIB)
    capacity = found.capacity(80 * GIB)
    assert (capacity.max_batch, capacity.limit) == (7, "max_sequences")


def test_no_cache_no_limit(architecture: Read) -> None:
    found = served(architecture("google-bert/bert-base-uncased"))
    assert found.capacity(80 * GIB).max_batch is None
    assert found.kv_cache_per_token == 0


@given(context=st.integers(1, 10_000), batch=st.integers(1, 100), more=st.integers(0, 100))
def test_longer_and_more_never_need_less(architecture: Read, context: int, batch: int, more: int) -> None:
    model = architecture("google/gemma-2-2b")
    base = served(model, context=context, batch=batch)
    assert base.device <= served(model, context=context + more, batch=batch).device
    assert base.device <= served(model, context=context, batch=batch + more).device


# --- refusals ---------------------------------------------------------------------------------------------------------

REFUSED: tuple[tuple[str, dict[str, int], str], ...] = (
    (LLAMA, {"tp": 3}, "--tp|tp: tensor parallelism 3 does not divide 32 attention heads"),
    (LLAMA, {"pp": 33}, "pp: 33 pipeline stages for 32 layers"),
    (LLAMA, {"ep": 2}, "ep: expert parallelism 2, but the model has no routed experts"),
    (MIXTRAL, {"ep": 16}, "ep: expert parallelism 16 does not divide 8 experts"),
)


@pytest.mark.parametrize(("name", "settings", "said"), REFUSED)
def test_refused(architecture: Read, name: str, settings: dict[str, int], said: str) -> None:
    with pytest.raises(MemcalcError, match=said):
        served(architecture(name), **settings)


# model, stages, layers of attention on the stage with the most of them, bytes a token and layer; counted by hand
STAGES = (
    (LLAMA, 2, 16, 4096),
    (LLAMA, 3, 11, 4096),
    (LLAMA, 32, 1, 4096),
    ("Qwen/Qwen3-VL-8B-Instruct", 2, 18, 4096),  # the vision tower on the first stage keeps no cache
    ("Qwen/Qwen3-VL-8B-Instruct", 36, 1, 4096),
    ("google-t5/t5-small", 2, 12, 2048),  # six decoder layers, self and cross attention: all on the second stage
)


@pytest.mark.parametrize(("name", "pp", "layers", "each"), STAGES)
def test_caches_stand_where_their_layers_are(architecture: Read, name: str, pp: int, layers: int, each: int) -> None:
    found = served(architecture(name), pp=pp, context=1000).kv_cache
    expected = 1000 * layers * each
    assert found == expected, f"{name}, {pp} stages: {found / 1000 / each} layers' caches on one GPU, {layers} expected"
