"""Ranks, stages, roles and tiers of servers in data centres; sources beside the values."""

from typing import Any

import pytest

from memcalc.errors import MemcalcError
from memcalc.estimates.serving.changes import ADAPTERS, CACHE
from memcalc.estimates.suggestions import Subject
from memcalc.formulas.all_to_all import low_latency_bytes, message_bytes
from memcalc.formulas.pipeline_layers import layers_of_stages
from memcalc.sizing.serving import SizedServing, size_serving

GIB = 2**30


def sized(model: str, gpu: str = "h200", **settings: Any) -> SizedServing:
    return size_serving(model, gpu, **{"engine": "vllm", "context": 8192} | settings)


# DeepSeek-V3: 58 layers of 256 routed experts of 3 × 7168 × 2048 in fp8 blocks; ep, held once more → experts of a rank.
# DeepSeek-V3 technical report, section 3.4: prefill on 32 GPUs with 32 more (9 a GPU), decode on 320 with 64 more
SPREAD = ((8, 0, 32), (32, 32, 9), (48, 32, 6), (72, 32, 4), (144, 32, 2), (320, 64, 1))


@pytest.mark.parametrize(("ep", "more", "held"), SPREAD)
def test_experts_over_many_ranks(ep: int, more: int, held: int) -> None:
    found = sized("deepseek-v3", tp=1, ep=ep, redundant_experts=more)
    experts = sum(entry.bytes for entry in found.lines if entry.name.startswith("experts,"))
    one = 3 * 7168 * 2048 + 3 * (7168 // 128) * (2048 // 128) * 4
    assert experts == 58 * held * one
    assert found.run.gpus == ep
    assert found.kv_cache_per_token == 61 * 576 * 2  # attention is every rank's own


def test_a_degree_that_does_not_divide_says_how_many_more_would() -> None:
    with pytest.raises(MemcalcError, match="--redundant-experts 32"):
        sized("deepseek-v3", tp=1, ep=144)


def test_groups_of_ranks_have_attention_and_embedding_of_their_own() -> None:
    """srt/layers/dp_attention.py: attention and embeddings by tp / dp, experts, dense layers and head by tp."""
    whole, split, one = (sized("deepseek-v3", engine="sglang", **degrees) for degrees in (
        {"tp": 8, "attention_dp": 8}, {"tp": 8}, {"tp": 1, "ep": 8}))  # fmt: skip
    by_role = {
        name: {entry.name.split(",")[0]: entry.bytes for entry in found.lines if "scales" not in entry.name}
        for name, found in (("whole", whole), ("split", split), ("one", one))
    }
    for role in ("attention", "embedding"):
        assert by_role["whole"][role] == by_role["one"][role] > by_role["split"][role]
    for role in ("mlp", "head", "experts"):
        assert by_role["whole"][role] == by_role["split"][role]
    assert whole.run.gpus == 8
    assert "--tp 1 --ep 8" in whole.placed


# engine, layers, stages → layers of each: vllm/distributed/utils.py, sglang/srt/distributed/utils.py (get_pp_indices)
STAGES = (
    ("vllm", 62, 4, (15, 16, 16, 15)), ("vllm", 61, 2, (31, 30)), ("sglang", 61, 2, (30, 31)),
    ("tensorrt-llm", 61, 2, (31, 30)),
    ("vllm", 64, 4, (16, 16, 16, 16)), ("sglang", 62, 4, (15, 15, 16, 16)), ("vllm", 32, 1, ()),
)  # fmt: skip


@pytest.mark.parametrize(("engine", "depth", "stages", "layers"), STAGES)
def test_layers_of_stages(engine: str, depth: int, stages: int, layers: tuple[int, ...]) -> None:
    assert layers_of_stages(engine, depth, stages) == layers


def test_stages_as_somebody_divides_them() -> None:
    """Llama 3.1 8B: the last of 20 and 12 layers has 12 and the head, the first the embedding and 20."""
    found = sized("llama-3.1-8b", pp=2, pp_layers=(20, 12))
    assert found.stage.layers == 20
    assert found.kv_cache_per_token == 20 * 2 * 1024 * 2
    assert sized("llama-3.1-8b", pp=2, pp_layers=(12, 20)).stage.index == 1


def test_servers_of_one_role() -> None:
    """memory_hook.py: a server that answers reserves no prefill pass, one that reads prompts no decode graphs."""
    settings: dict[str, Any] = {"engine": "sglang", "context": 8192, "max_new_tokens": 2048}
    both, prefill, decode = (sized("llama-3.1-8b", "h100", role=role, **settings) for role in (None, "prefill", "decode"))
    assert prefill.kv_cache == 6144 * both.kv_cache_per_token
    assert decode.kv_cache == both.kv_cache
    assert not [entry for entry in prefill.lines if entry.name == "CUDA graphs"]
    assert not [entry for entry in decode.lines if entry.name == "CUDA graphs of prefill"]
    memory = 81090 * 2**20
    assert decode.share(memory) > prefill.share(memory) > both.share(memory)
    assert sized("llama-3.1-8b", transfer_buffer=GIB).activations == sized("llama-3.1-8b").activations + GIB


BOUNDED = (("vllm", "llama-3.1-8b"), ("sglang", "gpt-oss-20b"), ("sglang", "qwen3-next-80b-a3b"),
           ("tensorrt-llm", "llama-3.1-8b"))  # fmt: skip


@pytest.mark.parametrize(("engine", "model"), BOUNDED)
def test_a_bound_on_the_caches_tokens(engine: str, model: str) -> None:
    found = sized(model, engine=engine, tp=2, cache_tokens=100_000)
    capacity = found.capacity_there
    assert capacity
    assert capacity.kv_tokens == pytest.approx(100_000, rel=0.001)
    assert found.limit_in(found.gpu.allocatable if found.gpu else 0) < sized(model, engine=engine, tp=2).limit_in(150 * 10**9)


def test_what_is_found_in_the_cache_is_there_once() -> None:
    """Half of ten prompts of 8,000 tokens: 4,000 once, 4,000 and the answer ten times."""
    settings: dict[str, Any] = {"context": 8192, "max_new_tokens": 192, "batch": 10}
    half = sized("llama-3.1-8b", prefix_hit_rate=0.5, **settings)
    assert half.kv_cache == (4000 + 10 * 4192) * half.kv_cache_per_token
    assert half.kv_cache == sized("llama-3.1-8b", shared_prefix=4000, **settings).kv_cache


def test_a_tier_in_host_memory() -> None:
    found = sized("llama-3.1-8b", cache_offload=64 * GIB, ram=32 * GIB)
    assert found.host == 64 * GIB
    assert found.offloaded_tokens == 64 * GIB // 131072
    assert found.verdict == "no"
    assert sized("llama-3.1-8b", cache_offload=64 * GIB).kv_cache == sized("llama-3.1-8b").kv_cache


def test_without_towers() -> None:
    whole, text = (sized("qwen2.5-vl-7b", language_model_only=flag) for flag in (False, True))
    assert text.weights < whole.weights - GIB
    assert text.kv_cache == whole.kv_cache
    with pytest.raises(MemcalcError, match="no towers"):
        sized("llama-3.1-8b", language_model_only=True)


def test_a_bound_on_graphs() -> None:
    few = sized("llama-3.1-8b", max_graph_batch=8)
    (graphs,) = [entry for entry in few.lines if entry.name == "CUDA graphs"]
    assert graphs.inputs["sizes"] == 4
    assert sized("llama-3.1-8b", engine="sglang", max_graph_batch=8).share(10**11) > sized(
        "llama-3.1-8b", engine="sglang"
    ).share(10**11)


# settings → what is said
WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"pp": 2, "pp_layers": (10, 12)}, "the model has 32"), ({"pp_layers": (32, 1)}, "one number for each"),
    ({"engine": "sglang", "tp": 4, "attention_dp": 3}, "do not divide"), ({"tp": 4, "attention_dp": 2}, "needs an engine"),
    ({"redundant_experts": 4}, "give ep"), ({"prefix_hit_rate": 0.5, "shared_prefix": 100}, "give one"),
    ({"engine": "llama.cpp", "role": "decode"}, "needs an engine"), ({"role": "both"}, "prefill"),
    ({"engine": "llama.cpp", "cache_offload": GIB}, "needs an engine"),
    ({"engine": "transformers", "cache_tokens": 9}, "needs an engine"),
)  # fmt: skip


@pytest.mark.parametrize(("settings", "said"), WRONG)
def test_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(MemcalcError, match=said):
        sized("llama-3.1-8b", **settings)


def test_tensorrt_llm_measures_its_peak_with_prompts_that_fill_a_pass() -> None:
    """_torch/pyexecutor/_util.py: one prompt of 8,192 tokens, or three of 3,000; llm_args.py: 34 batches up to 128."""
    found = sized("llama-3.1-8b", "h100", engine="tensorrt-llm", context=3000)
    assert {entry.inputs["sizes"] for entry in found.lines if entry.name == "CUDA graphs"} == {34}
    assert found.activations < sized("llama-3.1-8b", "h100", engine="vllm", context=3000).activations
    few = sized("llama-3.1-8b", "h100", engine="tensorrt-llm", context=3000, max_graph_batch=8)
    assert {entry.inputs["sizes"] for entry in few.lines if entry.name == "CUDA graphs"} == {8}


def test_tensorrt_llm_keeps_every_token() -> None:
    found = sized("gemma-3-12b", "h100", engine="tensorrt-llm")
    assert found.kv_cache == 8192 * found.kv_cache_per_token


# GPU, release → formats of the cache that are suggested: fp8 where it is computed, else int8; int4 since vLLM 0.21
SUGGESTED = (
    ("a100-80", "vllm", {"int8-per-token-head", "int4-per-token-head"}), ("h100", "vllm", {"fp8", "int4-per-token-head"}),
    ("a100-80", "vllm@0.19", set()), ("h100", "vllm@0.19", {"fp8"}),
)  # fmt: skip


@pytest.mark.parametrize(("gpu", "engine", "formats"), SUGGESTED)
def test_suggested_formats_are_those_of_the_release(gpu: str, engine: str, formats: set[str]) -> None:
    found = sized("llama-3.1-8b", gpu, engine=engine)
    subject = Subject(found.run, found.gpu, found.model.architecture)
    assert {changes["kv_dtype"] for option in CACHE.options if (changes := option(subject))} == formats


def test_slots_of_adapters_may_be_divided() -> None:
    two, one = (sized("llama-3.1-8b", tp=tp, lora_adapters=4) for tp in (2, 1))
    assert ADAPTERS.options[0](Subject(two.run, two.gpu, two.model.architecture)) == {"sharded_adapters": True}
    assert ADAPTERS.options[0](Subject(one.run, one.gpu, one.model.architecture)) is None


# engine, degrees, library and tokens → bytes of its buffers, in lines; sources: csrc/legacy/config.hpp of DeepEP for
# DeepSeek-V3 (7168 wide, 256 experts); vLLM's own 1 GiB; moe_a2a_get_workspace_size_per_rank of FlashInfer
MESSAGE, TOKEN = 2 * 7168 + 7168 // 128 * 4, 2 * 7168 + 8 + 128 * (8 + 4 + 4)
EXCHANGES = (
    ("vllm", {"ep": 16}, "deepep-low-latency", None, [GIB, 4 * 256 * 256 * MESSAGE]),
    ("vllm", {"ep": 16}, "deepep-normal", None, [2 * GIB]),
    ("vllm", {"ep": 8}, "deepep-normal", None, [GIB]),
    ("sglang", {"ep": 32}, "deepep-low-latency", 512, [4 * 256 * 512 * MESSAGE]),
    ("sglang", {"ep": 8}, "deepep-normal", None, [10 * 8 * 256 * TOKEN]),
    ("sglang", {"ep": 144, "redundant_experts": 32}, "deepep-normal", None, [10 * (8 * 720 + 2 * 18 * 132) * TOKEN]),
    ("sglang", {"ep": 16}, "deepep", None, [4 * 256 * 128 * MESSAGE, 10 * 8 * 288 * TOKEN]),
    ("tensorrt-llm", {"ep": 8}, "one-sided", 8192, [8 * 8192 * (4 * 7168 + 64)]),
)  # fmt: skip


@pytest.mark.parametrize(("engine", "degrees", "library", "tokens", "expected"), EXCHANGES)
def test_buffers_of_ranks_that_share_experts(
    engine: str, degrees: dict[str, Any], library: str, tokens: int | None, expected: list[int]
) -> None:
    found = sized("deepseek-v3", engine=engine, all_to_all=library, all_to_all_tokens=tokens, **degrees)
    assert [entry.bytes for entry in found.lines if entry.name.startswith("all-to-all")] == expected


def test_low_latency_buffers_as_reported() -> None:
    """vllm-project/vllm/issues/57894: 5120 wide, 448 experts with those held once more, 1840 tokens: 31.94 GiB; 2048: 35.55."""
    for tokens, reported in ((1840, 31.94), (2048, 35.55)):
        assert low_latency_bytes(tokens, 448, message_bytes(5120)) / GIB == pytest.approx(reported, abs=0.005)


WRONG = (
    ({"all_to_all": "one-sided"}, "give ep"), ({"ep": 8, "all_to_all": "deepep"}, "vllm has"),
    ({"engine": "sglang", "ep": 72, "redundant_experts": 32, "all_to_all": "deepep"}, "not for 72"),
    ({"ep": 8, "all_to_all_tokens": 9}, "name one"), ({"engine": "transformers", "ep": 8, "all_to_all": "deepep"}, "needs an"),
)  # fmt: skip


@pytest.mark.parametrize(("settings", "words"), WRONG)
def test_buffers_that_there_are_not(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(MemcalcError, match=words):
        sized("deepseek-v3", **settings)
