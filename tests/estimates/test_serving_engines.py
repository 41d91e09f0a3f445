"""What engines log at start-up and what their caches hold, row by row; tests/reference/kv_cache.json and the citations."""

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.prediction import prediction_layers
from memcalc.errors import Unsupported
from memcalc.estimates.serving.capacity import ServingEstimate
from memcalc.estimates.serving.estimate import estimate
from memcalc.estimates.serving.llama_cpp import OneGpu
from memcalc.estimates.serving.starting import refusals
from memcalc.readers.hf import read_config
from memcalc.readers.models import read_model
from memcalc.specs.serving import Serving
from memcalc.specs.spec import SpecError

GIB, MIB = 2**30, 2**20
H100 = 81090 * MIB  # as torch.cuda.mem_get_info reports it

REFERENCE = Path(__file__).parents[1] / "reference" / "kv_cache.json"
ROWS = json.loads(REFERENCE.read_text(encoding="utf-8"))


@cache
def preset(name: str) -> Architecture:
    found = read_model(name).architecture
    assert found is not None
    return found


def served(name: str, **settings: Any) -> ServingEstimate:
    return estimate(preset(name), Serving(**settings), "sm_90", H100)


# --- transformers: every tensor of its caches after a prefill ---------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['model']}-{row['context']}")
def test_transformers_caches(row: dict[str, Any]) -> None:
    """Bytes of all cache tensors, transformers 5.18 on the meta device."""
    architecture = read_config(row["config"], row["model"])
    run = Serving(engine="transformers", context=row["context"], batch=row["batch"])
    found = estimate(architecture, run)
    assert found.kv_cache + found.state == row["total_bytes"]


# --- vLLM: what its log says ------------------------------------------------------------------------------------------


class Logged(NamedTuple):
    """One start-up log of vLLM 0.19 on H100s (llm-d-incubation/llm-d-planner, accuracy/results/v0.19.0)."""

    model: str
    settings: dict[str, Any]
    weights: float  # GiB
    cache: float  # GiB
    tokens: int
    concurrency: float


LOGS = (
    Logged("gemma-2-27b", {}, 50.72, 20.59, 58672, 7.16),
    Logged("gemma-2-2b", {}, 4.90, 66.47, 670160, 81.73),
    Logged("gemma-3-4b", {}, 8.58, 62.51, 468144, 57.05),
    Logged("granite-3.1-8b", {}, 15.25, 58.66, 384432, 46.93),
    Logged("llama-3.1-8b", {"kv_dtype": "fp8"}, 14.99, 58.11, 952032, 116.21),
    Logged("llama-3.1-8b", {"weights": "fp32", "kv_dtype": "fp32"}, 29.98, 42.80, 175296, 21.40),
    Logged("llama-3.1-8b", {"context": 32768}, 14.99, 58.11, 476016, 14.53),
    Logged("llama-3.1-8b", {"tp": 2}, 7.51, 63.76, 1044688, 127.53),
    Logged("llama-3.1-8b", {"pp": 4}, 4.26, 68.89, 2257264, 275.54),
    Logged("llama-4-scout", {"tp": 4}, 53.12, 16.75, 365968, 44.68),
    Logged("phi-2", {"context": 2048}, 5.19, 69.00, 226112, 110.41),
    Logged("qwen2.5-72b", {"tp": 2}, 67.80, 3.04, 19920, 2.43),
)


@pytest.mark.parametrize("log", LOGS, ids=lambda log: f"{log.model} {log.settings}")
def test_vllm_logs(log: Logged) -> None:
    """Weights within 1 %; tokens and concurrency of the cache's logged memory within 0.3 %; end to end within 3.5 %."""
    run = Serving(
        **{"engine": "vllm@0.19", "context": 8192, "max_batched_tokens": 8192, "gpu_memory_utilization": 0.95} | log.settings
    )
    found = estimate(preset(log.model), run, "sm_90", H100)
    assert found.weights / GIB == pytest.approx(log.weights, rel=0.01)
    given = estimate(preset(log.model), run.replace(kv_cache_memory=int(log.cache * GIB)), "sm_90", H100).capacity(H100)
    assert given.kv_tokens == pytest.approx(log.tokens, rel=0.003)
    assert given.max_concurrency == pytest.approx(log.concurrency, rel=0.003)
    assert found.capacity(H100).kv_tokens == pytest.approx(log.tokens, rel=0.035)


# model, GiB of activations logged: vLLM 0.17 to 0.19, 8192 batched tokens, 1024 sequences
PEAKS = (
    ("llama-3.1-8b", 1.89), ("gemma-2-27b", 3.66), ("gemma-2-2b", 3.62), ("phi-2", 0.79), ("qwen2.5-72b", 2.29),
    ("granite-3.1-2b", 0.75), ("granite-3.1-8b", 0.85), ("qwen3-14b", 2.23),
)  # fmt: skip


@pytest.mark.parametrize(("name", "logged"), PEAKS)
def test_vllm_activation_peaks(name: str, logged: float) -> None:
    found = served(name, engine="vllm", context=2048, max_batched_tokens=8192)
    assert found.activations / GIB == pytest.approx(logged, abs=0.021)


# model, settings, GiB of graphs as logged after capture: vLLM 0.19 on H100s; few sizes: 0.09 (5 sizes up to 16)
GRAPHS = (("llama-3.1-8b", {}, 0.91), ("phi-2", {"context": 2048}, 0.76), ("qwen2.5-72b", {"tp": 2}, 1.61),
          ("gemma-2-27b", {}, 1.23), ("llama-3.1-8b", {"pp": 4}, 0.51))  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "logged"), GRAPHS)
def test_vllm_graphs_by_captured_sizes(name: str, settings: dict[str, Any], logged: float) -> None:
    found = served(name, engine="vllm", **settings)
    (graphs,) = [entry.bytes for entry in found.lines if entry.name == "CUDA graphs"]
    assert graphs / GIB == pytest.approx(logged, rel=0.2)
    few = served(name, engine="vllm", max_sequences=1, **settings)
    assert next(entry.bytes for entry in few.lines if entry.name == "CUDA graphs") < graphs / 20


def test_releases_divide_the_share_differently() -> None:
    """vLLM 0.21 (pull 38284): 0.92 of the GPU by default, graphs inside; before that 0.9, graphs on top."""
    old, new = (served("llama-3.1-8b", engine="vllm", engine_version=version) for version in ("0.19", "0.25"))
    (graphs,) = [entry.bytes for entry in new.lines if entry.name == "CUDA graphs"]
    assert new.room(H100) - old.room(H100) == pytest.approx(0.02 * H100 - graphs, abs=2)
    assert served("llama-3.1-8b", engine="vllm").room(H100) == new.room(H100)


# model, settings, values a token of the experts' workspaces: TritonExperts.workspace_shapes
WORKSPACES = (
    ("qwen3-30b-a3b", {}, 8 * (2048 + 2048)), ("mixtral-8x7b", {}, 2 * (14336 + 28672)),
    ("mixtral-8x7b", {"tp": 2}, 2 * (7168 + 14336)), ("qwen3-30b-a3b", {"tp": 4, "ep": 4}, 8 * (2048 + 2048)),
)  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "values"), WORKSPACES)
def test_vllm_keeps_the_workspaces_of_its_experts(name: str, settings: dict[str, Any], values: int) -> None:
    """v1/worker/workspace.py: allocated once, so sampling's peak stands beside them."""
    found, few = (served(name, engine="vllm", max_batched_tokens=8192, max_sequences=n, **settings) for n in (1024, 1))
    for one in (found, few):
        (line,) = [entry for entry in one.lines if entry.name == "workspaces of the experts"]
        assert line.bytes == 8192 * values * 2
    assert [entry for entry in found.lines if entry.name == "sampling"] or name == "mixtral-8x7b"


def test_latent_attention_reads_a_chunk_of_contexts_in_the_profile() -> None:
    """mla_attention.py: 65,536 tokens of 128 heads, 128 + 128 wide; of 8 ranks an eighth. Less than sampling there."""
    whole, split = (served("deepseek-v3", engine="vllm", context=8192, **degrees) for degrees in ({"ep": 16}, {"tp": 8}))
    sizes = [
        [entry.bytes for entry in one.lines if entry.name == "earlier tokens of latent attention"] for one in (whole, split)
    ]
    assert sizes == [[65536 * 128 * 256 * 2], []]


# model, GiB of activations logged by vLLM 0.19 on H100s with images (llm-d-planner, accuracy/results/v0.19.0)
SEEING = (("gemma-3-4b", {}, 3.89, 0.01), ("llama-4-scout", {"tp": 4}, 3.19, 0.13))


@pytest.mark.parametrize(("name", "settings", "logged", "within"), SEEING)
def test_vllm_profiles_images(name: str, settings: dict[str, Any], logged: float, within: float) -> None:
    found = served(name, engine="vllm", context=8192, max_batched_tokens=8192, **settings)
    assert found.activations / GIB == pytest.approx(logged, abs=within)


def test_images_of_a_profile() -> None:
    """Gemma 3: 8,192 tokens are 32 images of 256 and of 896 × 896 pixels; two a prompt and one sequence: 2; none: none."""
    sizes = {}
    for limit, sequences in ((None, 1024), (2, 1), (0, 1024)):
        found = served("gemma-3-4b", engine="vllm", context=8192, max_batched_tokens=8192, images_per_prompt=limit,
                       max_sequences=sequences)  # fmt: skip
        sizes[limit] = [entry.bytes for entry in found.lines if entry.name in ("images' pixels", "images' embeddings")]
    one = [3 * 896 * 896 * 2, 256 * 2560 * 2]
    assert sizes == {None: [32 * each for each in one], 2: [2 * each for each in one], 0: []}


def test_index_keys_are_in_the_caches_format_but_deepseeks() -> None:
    """MiniMax M3, tp 8: 60 × 512 B of keys and values, 57 × 256 B of index keys a token (vllm-project/vllm issue 51494)."""
    assert served("minimax-m3", engine="vllm", weights="nvfp4", tp=8).kv_cache_per_token == 60 * 512 + 57 * 256


# A hybrid's block is as long as its states are large. Kimi Linear: 960 tokens, vllm-project/vllm issue 28228 (tp 2, bf16);
# Qwen3.5's successors of the same shape: 1568, siderolabs/talos issue 1995 (tp 2, fp8 cache).
HYBRID_BLOCKS = (("kimi-linear-48b-a3b", {"tp": 2}, 960),)


@pytest.mark.parametrize(("name", "settings", "block"), HYBRID_BLOCKS)
def test_vllm_aligns_blocks_to_states(name: str, settings: dict[str, Any], block: int) -> None:
    found = served(name, engine="vllm", **settings)
    assert {kind.granule for kind in found.demand.growth} == {block}


# --- llama.cpp: what stands where -------------------------------------------------------------------------------------


def by_device(**settings: Any) -> tuple[int, int]:
    """Bytes of routed experts of Qwen3 30B-A3B on the GPU and in host memory."""
    found = served("qwen3-30b-a3b", engine="llama.cpp", weights="Q4_K_M", context=4096, **settings)
    experts = [entry for entry in found.lines if entry.group == "experts"]
    gpu, host = (sum(entry.bytes for entry in experts if entry.place == place) for place in ("gpu", "host"))
    return gpu, host


def test_experts_stand_where_one_puts_them() -> None:
    """Whatever moves them, all are somewhere; --n-cpu-moe is the pattern that llama.cpp makes of it."""
    whole, _ = by_device()
    assert by_device(n_cpu_moe=48) == by_device(override_tensor=("exps=CPU",)) == (0, whole)
    assert by_device(n_cpu_moe=10) == by_device(override_tensor=("blk[.][0-9][.]ffn_.*_exps=CPU",))
    gpu, host = by_device(override_tensor=("ffn_(up|gate)_exps=CPU",))
    assert gpu + host == whole
    assert host > 1.5 * gpu  # down is in more bits


SPLITS = (((3.0, 1.0), (61, 19)), ((1.0, 1.0), (41, 39)), ((0.0, 1.0), (0, 80)))


@pytest.mark.parametrize(("parts", "layers"), SPLITS)
def test_layers_go_to_cards_by_their_parts(parts: tuple[float, ...], layers: tuple[int, ...]) -> None:
    """The head is the 81st layer of Llama 70B; everything is on some card."""
    one = served("llama-3.1-70b", engine="llama.cpp", weights="Q4_K_M", context=4096)
    found = served("llama-3.1-70b", engine="llama.cpp", weights="Q4_K_M", context=4096, pp=2, tensor_split=parts)
    assert tuple(card.layers for card in found.cards) == layers
    row = served(
        "llama-3.1-70b", engine="llama.cpp", weights="Q4_K_M", context=4096, pp=2, tensor_split=parts, split_mode="row"
    )
    assert row.weights == pytest.approx(one.weights * max(parts) / sum(parts), rel=0.01)


@pytest.mark.parametrize("model", ["llama-3.1-70b", "qwen3-30b-a3b"])
@pytest.mark.parametrize("cards", [2, 4])
def test_matrices_and_cache_are_divided_evenly(model: str, cards: int) -> None:
    """llama.cpp docs/multi-gpu.md, -sm tensor; the buffer is whole on each GPU (issue 23937)."""
    shape = {"engine": "llama.cpp", "weights": "Q4_K_M", "context": 8192}
    one, found = served(model, **shape), served(model, **shape, pp=cards, split_mode="tensor")
    assert found.kv_cache * cards == one.kv_cache
    assert found.weights * cards == pytest.approx(one.weights, rel=0.02)
    assert found.weights * cards > one.weights  # norms and routers are on each
    assert found.activations == one.activations
    assert len({card.peak for card in found.cards}) == 1
    assert found.host == one.host


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        ("deepseek-v3", {}, "does not divide matrices of deepseek_v3"),
        ("llama-3.1-8b", {"cache_type_k": "q8_0"}, "does not divide a quantised cache"),
        ("llama-3.1-8b", {"kv_dtype": "q8_0"}, "does not divide a quantised cache"),
    ],
)
def test_what_llama_cpp_does_not_divide(model: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(Unsupported, match=said):
        served(model, engine="llama.cpp", weights="Q4_K_M", pp=2, split_mode="tensor", **settings)


def test_cards_that_differ_share_by_their_memory() -> None:
    run = Serving(engine="llama.cpp", weights="Q4_K_M", context=4096, pp=2)
    cards = (OneGpu("sm_120", 32 * GIB), OneGpu("sm_86", 12 * GIB))
    found = estimate(preset("llama-3.1-70b"), run, cards=cards)
    assert [card.layers for card in found.cards] == [59, 21]
    with pytest.raises(Unsupported, match=r"llama\.cpp alone"):
        estimate(preset("llama-3.1-70b"), Serving(engine="vllm", pp=2), cards=cards)


def test_slots_divide_what_a_batch_multiplies() -> None:
    """A pool of all slots: sliding layers keep window × slots + physical batch, recurrent ones a state for each."""
    shape = {"engine": "llama.cpp", "kv_dtype": "fp16"}
    asked = {**shape, "context": 16384}
    assert served("llama-3.1-8b", **asked, slots=4).cache == served("llama-3.1-8b", **shape, context=4096, batch=4).cache
    assert served("llama-3.1-8b", **asked, slots=4, unified=True).cache == served("llama-3.1-8b", **asked).cache
    pool, alone = (served("gemma-3-27b", **asked, **slots) for slots in ({"slots": 4, "unified": True}, {}))
    assert pool.cache - alone.cache == 52 * 3 * 1024 * 2 * 16 * 128 * 2
    state = [served("qwen3.6-27b", **asked, **slots).state for slots in ({}, {"slots": 4}, {"slots": 4, "unified": True})]
    assert state[1:] == [4 * state[0]] * 2


def test_keys_and_values_in_formats_of_their_own() -> None:
    asked = {"engine": "llama.cpp", "context": 4096}
    whole = served("llama-3.1-8b", **asked, kv_dtype="fp16").cache
    assert served("llama-3.1-8b", **asked, kv_dtype="fp16", cache_type_v="q8_0").cache == whole // 2 + whole // 2 * 17 // 32


def test_a_draft_has_weights_cache_and_a_buffer() -> None:
    asked = {"engine": "llama.cpp", "weights": "Q4_K_M", "context": 8192, "kv_dtype": "fp16"}
    run = Serving(**asked, draft_tokens=4)
    found = estimate(preset("llama-3.1-8b"), run, draft=preset("llama-3.2-1b"))
    alone, small = (served(name, **asked) for name in ("llama-3.1-8b", "llama-3.2-1b"))
    assert (found.weights, found.cache) == (alone.weights + small.weights, alone.cache + small.cache)
    assert found.activations == alone.activations + small.activations


def drafted(name: str, **settings: Any) -> ServingEstimate:
    draft = prediction_layers(preset(name))
    return estimate(preset(name), Serving(**settings, draft_tokens=2), "sm_90", H100, draft)


def test_prediction_layers_are_one_more_layer_and_a_matrix() -> None:
    """DeepSeek-V3's module without its shared embedding and head: 11.5 billion parameters (README of the checkpoint: 11.5B)."""
    head = prediction_layers(preset("deepseek-v3"))
    layer = preset("deepseek-v3").layers_by_run()["language/layers"][-1][0]
    assert head.parameters == layer + 2 * 7168 * 7168 + 3 * 7168
    assert head.parameters == pytest.approx(11.5e9, rel=0.02)
    with pytest.raises(Unsupported, match="announces no multi-token-prediction"):
        prediction_layers(preset("llama-3.1-8b"))


def test_a_recurrent_state_for_each_guess() -> None:
    """Qwen3.6 27B, two guesses: 448.88 MiB in place of a third (TheTom/llama-cpp-turboquant issue 308: 2 rs_seq)."""
    asked = {"engine": "llama.cpp", "weights": "Q4_K_M", "context": 4096}
    assert drafted("qwen3.6-27b", **asked).state / MIB == pytest.approx(448.88, abs=0.01)
    assert drafted("qwen3.6-27b", **asked).kv_cache == served("qwen3.6-27b", **asked).kv_cache * 17 // 16


# --- llama.cpp: its cache buffers ---------------------------------------------------------------------------------------

# model, settings, MiB of keys and values by window; as llama.cpp prints them
CACHES: tuple[tuple[str, dict[str, Any], dict[str, float], str], ...] = (
    ("gpt-oss-120b", {"context": 131072, "batch": 2, "max_batched_tokens": 1024}, {"window 128": 90.0, "": 9216.0},
     "ollama issue 16480: 131072 cells × 18 layers × 2 sequences; pad256(128 + 1024) cells × 18 × 2"),
    ("qwen3-235b-a22b", {"context": 16384, "kv_dtype": "q8_0"}, {"": 1598.0}, "ik_llama.cpp issue 370"),
    ("gemma-3-27b", {"context": 131072}, {"": 10240.0, "window 1024": 624.0}, "10 global layers; 52 of 1024 + 512 cells"),
    ("llama-2-7b", {"context": 4096}, {"": 2048.0}, "ggml-org/llama.cpp issue 9229"),
    ("qwen2.5-3b", {"context": 4096}, {"": 144.0}, "LLamaSharp issue 1099: 36 × 256 × 2 × 2 B × 4096"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "settings", "expected", "why"), CACHES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_llama_cpp_caches(name: str, settings: dict[str, Any], expected: dict[str, float], why: str) -> None:
    found = served(name, engine="llama.cpp", **{"kv_dtype": "fp16", **settings})
    held = {entry.name.partition(", ")[2]: entry.bytes / MIB for entry in found.lines if entry.component == "kv_cache"}
    assert held == expected, why


# model, settings, MiB of the GPU's and of the host's compute buffer as logged, by how much they may differ
BUFFERS: tuple[tuple[str, dict[str, Any], float, float | None, str], ...] = (
    ("qwen2.5-3b", {"engine_version": "2025", "kv_dtype": "fp16"}, 300.75, None, "SciSharp/LLamaSharp issue 1099"),
    ("qwen3-0.6b", {"kv_dtype": "q8_0"}, 32.09, None, "gpustack/gguf-parser-go issue 45"),
    ("olmoe-1b-7b", {"kv_dtype": "q8_0"}, 64.09, None, "gpustack/gguf-parser-go issue 45"),
    ("qwen3.6-35b-a3b", {"kv_dtype": "fp16", "weights": "Q4_K_M", "context": 150000, "max_batched_tokens": 4096,
                         "n_cpu_moe": 99}, 1982, 1236, "ggml-org/llama.cpp issue 23527, without a copy of the cache"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "gpu", "host", "why"), BUFFERS)
def test_llama_cpp_compute_buffer(name: str, settings: dict[str, Any], gpu: float, host: float | None, why: str) -> None:
    found = served(name, engine="llama.cpp", **settings)
    assert found.activations / MIB == pytest.approx(gpu, rel=0.01), why
    if host:
        lines = (entry for entry in found.lines if entry.place == "host" and entry.component == "activations")
        assert sum(entry.bytes for entry in lines) / MIB == pytest.approx(host, rel=0.01)


def standing(found: ServingEstimate) -> int:
    """Weights, cache and states in host memory, without buffers."""
    return sum(entry.bytes for entry in found.lines if entry.place == "host" and entry.component != "activations")


@pytest.mark.parametrize("layers", [0, 1, 7, 32, 33, 99])
def test_layers_in_host_memory_are_not_on_the_gpu(layers: int) -> None:
    """Host and GPU together hold the model and the cache, however many layers are offloaded."""
    whole = served("llama-3.1-8b", engine="llama.cpp", context=4096)
    found = served("llama-3.1-8b", engine="llama.cpp", context=4096, gpu_layers=layers)
    assert standing(found) + found.weights + found.cache == standing(whole) + whole.weights + whole.cache
    assert standing(found) >= 2 * 128256 * 4096


def test_a_tied_head_is_on_the_gpu_too() -> None:
    """llama.cpp loads a tied embedding twice: for lookups in host memory, for the head on the GPU."""
    found = served("llama-3.2-1b", engine="llama.cpp")
    tables = [entry for entry in found.lines if entry.bytes == 2 * 128256 * 2048]
    assert sorted(entry.place for entry in tables) == ["gpu", "host"]
    assert standing(found) == 2 * 128256 * 2048


# --- requests -----------------------------------------------------------------------------------------------------------


def test_a_common_prefix_is_kept_once() -> None:
    alone = served("llama-3.1-8b", engine="vllm", context=8192, batch=10)
    shared = served("llama-3.1-8b", engine="vllm", context=8192, batch=10, shared_prefix=4096)
    assert alone.cache - shared.cache == 9 * 4096 * 131072


def test_samples_share_their_prompt_where_the_engine_can() -> None:
    asked = {"context": 2048, "max_new_tokens": 512, "batch": 3, "samples": 4}
    assert served("llama-3.1-8b", engine="vllm", **asked).cache == 3 * (1536 + 4 * 512) * 131072
    assert served("llama-3.1-8b", engine="transformers", **asked).cache == 3 * 4 * 2048 * 131072


def test_an_encoders_tokens_are_cached_beside_the_answers() -> None:
    """T5 small: 6 layers, 8 heads of 64. Cross-attention keeps the prompt, self-attention the answer."""
    found = served("t5-small", engine="transformers", context=1000, max_new_tokens=100, batch=3)
    assert found.kv_cache == 3 * 6 * 2 * 8 * 64 * 2 * (900 + 100)


def test_whisper_reads_half_a_minute() -> None:
    """Whisper tiny: 4 layers, 6 heads of 64, 1500 frames whatever the prompt."""
    one, two = (served("whisper-tiny", engine="transformers", context=n).kv_cache for n in (100, 200))
    assert two - one == 4 * 2 * 6 * 64 * 2 * 100
    assert one == 4 * 2 * 6 * 64 * 2 * (1500 + 100)


def test_a_draft_model_adds_its_weights_and_its_cache() -> None:
    model, draft = preset("llama-3.1-70b"), preset("llama-3.2-1b")
    run = Serving(tp=4, context=8192, batch=2)
    plain = estimate(model, run)
    both = estimate(model, run.replace(draft_tokens=4), draft=draft)
    alone = estimate(draft, run)
    assert both.weights == plain.weights + alone.weights
    assert both.cache == plain.cache + alone.cache


def test_adapters_take_their_slots() -> None:
    """Llama 3.1 8B, rank 16, all linears: 41.9 M parameters each (Hugging Face PEFT prints 41,943,040)."""
    found = served("llama-3.1-8b", lora_adapters=3, lora_rank=16)
    assert found.weights - served("llama-3.1-8b").weights == 3 * 2 * 41_943_040


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"shared_prefix": 8}, "shared_prefix: needs an engine that keeps a common prefix once: vllm or sglang"),
    ({"engine": "transformers", "block_size": 32}, "block_size: needs an engine that lets one choose"),
    ({"engine": "vllm", "gpu_layers": 3}, "gpu_layers: needs an engine that puts layers where one says: llama.cpp"),
    ({"engine": "llama.cpp", "tp": 2}, "llama.cpp puts whole layers on several GPUs"),
    ({"engine": "vlm"}, "engine: 'vlm' is not one of .*did you mean vllm"),
    ({"engine": "vllm", "block_size": 24}, "block_size: vllm takes blocks of a multiple of 16 tokens, not 24"),
    ({"engine": "tensorrt-llm", "block_size": 48}, "blocks of a power of two"),
    ({"engine": "vllm@0.9"}, "engine_version: vllm '0.9' is not described: 0.17 and later are"),
    ({"engine": "vllm@0.19", "engine_version": "0.21"}, "give one"),
    ({"engine": "llama.cpp", "tensor_split": (1, 2)}, "divides layers over several GPUs"),
    ({"engine": "llama.cpp", "pp": 3, "tensor_split": (1, 2)}, "2 parts for 3 GPUs"),
    ({"engine": "llama.cpp", "split_mode": "row"}, "over several GPUs"),
    ({"engine": "llama.cpp", "split_mode": "tensor"}, "over several GPUs"),
    ({"engine": "llama.cpp", "split_mode": "tensor", "pp": 2, "flash_attention": "off"}, "with flash attention alone"),
    ({"engine": "llama.cpp", "split_mode": "tensor", "pp": 2, "tensor_split": (1, 2)}, "unequal parts"),
    ({"engine": "llama.cpp", "split_mode": "tensor", "pp": 2, "n_cpu_moe": 3}, "in host memory are not modelled"),
    ({"engine": "llama.cpp", "slots": 2, "batch": 2}, "slots share the context"),
    ({"engine": "llama.cpp", "unified": True}, "give slots"),
    ({"engine": "llama.cpp", "override_tensor": ("exps",)}, "is not PATTERN=DEVICE"),
    ({"engine": "llama.cpp", "override_tensor": ("(a+)+b=CPU",)}, "none of them of a group"),
    ({"engine": "llama.cpp", "override_tensor": ("[=CPU",)}, "no.* regular expression"),
    ({"engine": "llama.cpp", "flash_attention": "off", "cache_type_v": "q8_0"}, "with flash attention alone"),
    ({"samples": 2}, "max_new_tokens: several answers"),
    ({"max_new_tokens": 4096}, "leave no prompt"),
    ({"engine": "vllm", "shared_prefix": 4096}, "must be shorter than the prompt"),
)


@pytest.mark.parametrize(("settings", "said"), REFUSED, ids=str)
def test_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Serving(**settings)


# --- latent attention's absorbed up-projections ---------------------------------------------------------------------

# engine, format of the weights → bytes beside them. DeepSeek V3 (arXiv:2412.19437, section 4.2): 61 layers lift a latent of 512
# to 128 heads' keys and values of 128 each; with --tp 8 a rank has 16 of the heads, in bf16. Of plain weights vLLM and SGLang
# keep views (vllm/v1/attention/backends/mla/common.py, process_weights_after_loading), so only quantised ones have a copy.
UP = 61 * 512 * 16 * (128 + 128) * 2
ABSORBED = [("vllm", "bf16", 0), ("vllm", "fp8", UP), ("sglang", "fp8", UP), ("sglang", "bf16", 0), ("transformers", "fp8", 0)]


@pytest.mark.parametrize(("engine", "weights", "expected"), ABSORBED)
def test_quantised_up_projections_have_a_plain_copy(engine: str, weights: str, expected: int) -> None:
    lines = served("deepseek-v3", engine=engine, weights=weights, tp=8).lines
    assert sum(line.bytes for line in lines if "absorbed" in line.name) == expected


# --- caches that differ from their family's --------------------------------------------------------------------------------

# Bytes of transformers' cache after a prefill of 2 × 4,992 tokens (5.24, meta device): CPM-Ant
# keeps its 32 learned tokens too, TrOCR's decoder alone no keys of an encoder, dots3 Note an indexer's keys in fp32.
OWN = (
    ("cpmant", {"hidden_size": 4096, "num_hidden_layers": 6, "num_attention_heads": 32, "dim_ff": 10240, "vocab_size": 30720,
                "architectures": ["CpmAntForCausalLM"]}, 987_758_592),
    ("trocr", {"d_model": 1024, "decoder_layers": 12, "decoder_attention_heads": 16, "decoder_ffn_dim": 4096,
               "vocab_size": 50265, "architectures": ["TrOCRForCausalLM"]}, 490_733_568),
)  # fmt: skip


@pytest.mark.parametrize(("kind", "config", "held"), OWN, ids=[row[0] for row in OWN])
def test_caches_of_their_own(kind: str, config: dict[str, Any], held: int) -> None:
    found = estimate(read_config({"model_type": kind, **config}), Serving(engine="transformers", context=4992, batch=2))
    assert found.kv_cache + found.state == held


def test_an_indexers_keys_are_the_librarys() -> None:
    """fp32 where transformers leaves them so (dots3 Note), the cache's own format in engines."""
    rows = json.loads((REFERENCE.parent / "families.json").read_text(encoding="utf-8"))
    row = next(row for row in rows if row["class"] == "Dots3NoteForCausalLM")
    read = read_config({**row["config"], "architectures": [row["class"]]})

    def keys(**settings: Any) -> int:
        lines = estimate(read, Serving(context=4096, **settings)).lines
        return sum(entry.bytes for entry in lines if "index keys" in entry.name)

    assert keys(engine="transformers") == 2 * keys(engine="llama.cpp", kv_dtype="bf16", weights="BF16")


# --- vLLM: passes in flight, and tokens as its log counts them --------------------------------------------------------

# release, blocks of the five groups of sliding layers, GiB of one request, the longest in 49 GiB
IN_FLIGHT = (("0.25", 5 * 2113, None), ("0.26", 5 * 4161, 58368))


@pytest.mark.parametrize(("version", "sliding", "longest"), IN_FLIGHT)
def test_sliding_layers_keep_the_passes_in_flight(version: str, sliding: int, longest: int | None) -> None:
    """vllm pull 47728: one pass before 0.26, two since, since steps are scheduled ahead. vllm-project/vllm/issues/49878:
    Gemma 4 31B, 262,144 tokens, 32,768 a pass, 49 GiB of cache: starts with 0.25.1; 0.26 would, with 58,368 tokens."""
    run = {"context": 262144, "max_batched_tokens": 32768, "kv_cache_memory": 49 * GIB}
    found = served("gemma-4-31b", engine=f"vllm@{version}", **run)
    assert found.demand.cache_of(262144) == 8192 + sliding
    reached = found.capacity(H100).max_context
    assert reached == longest if longest else (reached or 0) > 262144


# draft method, pipeline stages → passes in flight of vLLM 0.33
PASSES = ((None, 1, 2), ("mtp", 1, 2), ("ngram", 1, 1), ("model", 1, 1), (None, 4, 4))


@pytest.mark.parametrize(("method", "pp", "passes"), PASSES)
def test_passes_in_flight(method: str | None, pp: int, passes: int) -> None:
    """vllm/config/vllm.py, max_concurrent_batches; async_scheduling is off beside drafts but for EAGLE's kin and MTP."""
    drafted = {"draft_tokens": 4, "draft_method": method} if method else {}
    run = Serving(engine="vllm", pp=pp, max_batched_tokens=1000, **drafted)
    assert run.in_flight_tokens(H100) == 1000 * passes


def test_tokens_of_a_group_before_0_21() -> None:
    """alvarobartt/hf-mem/pull/61: Gemma 4 31B, 24.54 GiB of cache, 26,800 tokens; since 0.21 as many as requests have."""
    run = {"context": 32768, "kv_cache_memory": int(24.54 * GIB)}
    old, new = (served("gemma-4-31b", engine=f"vllm@{version}", **run).capacity(H100) for version in ("0.20", "0.21"))
    assert old.kv_tokens == 26_800
    assert new.kv_tokens == int(new.max_concurrency * 32768)


def test_tensorrt_sets_states_apart() -> None:
    """mamba_cache_manager.py allocates [max_batch_size, …]; NVIDIA/TensorRT-LLM/pull/18985: 2,048 by default exceed a GPU."""
    one = served("qwen3.5-9b", engine="tensorrt-llm", context=4096, max_sequences=1)
    few = served("qwen3.5-9b", engine="tensorrt-llm", context=4096, max_sequences=64)
    assert few.state == 64 * one.state == few.apart
    assert few.capacity(H100).kv_tokens == (few.room(H100) - few.apart) // few.kv_cache_per_token
    assert served("qwen3.5-9b", engine="tensorrt-llm", context=4096).headroom_in(H100) < 0


def test_a_draft_stands_on_the_last_stage() -> None:
    """vllm/v1/worker/gpu_model_runner.py: the drafter is loaded where the head is."""
    small = preset("qwen3-0.6b")
    run = Serving(engine="vllm", pp=2, context=4096, draft_tokens=4, draft_method="model")
    found = estimate(preset("qwen3-8b"), run, "sm_90", H100, small)
    assert found.stage.last
    assert [entry for entry in found.lines if entry.name.startswith("draft: ")]
    with pytest.raises(Unsupported, match="last"):
        estimate(preset("qwen3-8b"), run.replace(engine="sglang"), "sm_90", H100, small)


@pytest.mark.parametrize(("version", "said"), [("2026.7", 0), ("2026.8", 1), (None, 1)])
def test_rows_are_no_longer_divided(version: str | None, said: int) -> None:
    """ggml-org/llama.cpp/pull/24216 and issues/27465: "device CUDA0 does not support split buffers"."""
    run = Serving(engine="llama.cpp", engine_version=version, weights="Q4_K_M", pp=2, split_mode="row", context=4096)
    found = estimate(preset("qwen3-8b"), run, "sm_86", 24 * GIB)
    assert len([one for one in refusals(found, 24 * GIB) if "--split-mode row" in one]) == said


def test_sglang_sizes_its_cache_beside_a_drafts_own_tables() -> None:
    """sgl-project/sglang, issue 36452: of Qwen3.8-27B a token table and a head of 2.54 GB each, sized by 0.5.14 and
    later before the draft is given the model's."""
    from memcalc.sizing.serving import size_serving

    asked: dict[str, Any] = {"context": 32768, "weights": "nvfp4", "draft": "mtp", "draft_tokens": 4, "max_sequences": 1}

    def memory(engine: str, **more: Any) -> int:
        found = size_serving("qwen3.8-27b", "h100", engine=engine, **{**asked, **more})
        return int(found.document["capacity"]["kv_cache_memory"])

    tables = 2 * 248_320 * 5120 * 2
    assert memory("sglang", draft=None, draft_tokens=None) - memory("sglang") > tables
    one, two = (memory("sglang", tp=tp, draft=None, draft_tokens=None) - memory("sglang", tp=tp) for tp in (1, 2))
    assert one - two > tables // 2
    assert memory("sglang@0.5.10", gpu_memory_utilization=0.8) > memory("sglang", gpu_memory_utilization=0.8)
