"""The speed of serving by the law of operators: its ledger, its bounds, what a load does, and what is refused."""

from itertools import pairwise
from typing import Any

import pytest

from memcalc import size_serving
from memcalc.errors import InputError
from memcalc.estimates.serving.kernels import kernel_of
from memcalc.estimates.serving.operators import Attending, Grouped, Product, operators
from memcalc.formulas.speculation import tokens_of_a_pass
from memcalc.formulas.speed_residuals import RANGES, speed_range
from memcalc.readers.models import read_model_preset

LENGTHS = {"input_len": 1000, "output_len": 200}


def found(model: str, gpu: str, **settings: Any) -> dict[str, Any]:
    """speed.* of a deployment."""
    speed: dict[str, Any] = size_serving(model, gpu, **settings).to_dict()["speed"]
    return speed


# vllm/model_executor/models/llama.py, deepseek_v2.py: query, key and value are one product, so are gate and up, and the two
# down-projections of latent attention.
PRODUCTS = [
    ("llama-3.1-8b", 1, [(6144, 4096, 32), (4096, 4096, 32), (28672, 4096, 32), (4096, 14336, 32), (128256, 4096, 1)]),
    ("llama-3.1-8b", 8, [(768, 4096, 32), (4096, 512, 32), (3584, 4096, 32), (4096, 1792, 32), (16032, 4096, 1)]),
    ("deepseek-v3", 8, [(2112, 7168, 61), (3072, 1536, 61), (7168, 2048, 61), (256, 7168, 58), (512, 7168, 58)]),
]


@pytest.mark.parametrize(("model", "tp", "expected"), PRODUCTS, ids=lambda value: str(value)[:16])
def test_products_in_the_shapes_of_a_rank(model: str, tp: int, expected: list[tuple[int, int, int]]) -> None:
    architecture = read_model_preset(model).architecture
    assert architecture
    shapes = [(made.outputs, made.inputs, layers) for made, layers in operators(architecture, tp, 1).products]
    assert all(shape in shapes for shape in expected), shapes


def test_attention_and_experts_of_a_rank() -> None:
    oss, latent = (read_model_preset(name).architecture for name in ("gpt-oss-120b", "deepseek-v3"))
    assert oss
    assert latent
    made = operators(oss, 2, 1)
    assert made.attending == ((Attending(32, 4, 64, 64, 128), 18), (Attending(32, 4, 64, 64), 18))
    assert made.grouped == ((Grouped(128, 128, 4, 2880, 1440, True), 36),)
    ((shape, layers),) = operators(latent, 8, 1).attending
    assert (shape.heads, shape.latent, shape.rank, layers) == (16, 576, 512, 61)
    assert operators(latent, 1, 8).routed_copies == 8 * 58


def test_a_tied_head_is_multiplied() -> None:
    gpt2 = read_model_preset("gpt2").architecture
    assert gpt2
    assert (Product("head", 50257, 768, True), 1) in operators(gpt2, 1, 1).products


H100, A100 = {"fp8": 1.0, "bf16": 1.0, "int8": 1.0}, {"bf16": 1.0, "int8": 1.0}
KERNELS = [
    ("bf16", H100, "bf16", False), ("fp16", A100, "bf16", False), ("fp8", H100, "fp8", False),
    ("fp8", A100, "int8-weights", False), ("fp8-block128", H100, "fp8-block", False), ("w8a8", A100, "int8", False),
    ("awq-int4-g128", H100, "int4-weights", False), ("nvfp4", H100, "int4-weights", False),
    ("mxfp4-triton", H100, "mxfp4-weights", False), ("mxfp4", {"fp4": 1.0}, "mxfp4-mxfp8", False),
    ("q4_k", H100, "gguf", False), ("nf4", H100, "bf16", True), ("gptq-int8-g128", A100, "int8-weights", False),
]  # fmt: skip


@pytest.mark.parametrize(("word", "peaks", "kernel", "unpacked"), KERNELS, ids=lambda value: str(value)[:16])
def test_what_multiplies_with_stored_weights(word: str, peaks: dict[str, float], kernel: str, unpacked: bool) -> None:
    assert kernel_of(word, peaks) == (kernel, unpacked)


DEPLOYMENTS: list[tuple[str, str, dict[str, Any]]] = [
    ("llama-3.1-8b", "h100", {"engine": "vllm"}),
    ("llama-3.1-8b", "h100", {"engine": "vllm", "weights": "fp8", "tp": 4, "batch": 64}),
    ("llama-3.1-70b", "b200", {"engine": "tensorrt-llm", "weights": "nvfp4", "batch": 256}),
    ("deepseek-v3", "h200", {"engine": "sglang", "ep": 16, "batch": 32}),
    ("gpt-oss-120b", "h100", {"engine": "vllm", "tp": 2, "batch": 8}),
    ("qwen3-next-80b-a3b", "h200", {"engine": "sglang", "tp": 4, "batch": 4}),
    ("falcon-mamba-7b", "a100", {"engine": "vllm", "batch": 16}),
    ("llama-3.1-8b", "rtx-4090", {"engine": "llama.cpp", "weights": "Q4_K_M"}),
    ("llama-3.1-70b", "a100", {"engine": "vllm", "weights": "nf4", "pp": 2, "batch": 16}),
    ("qwen3-8b", "l40s", {"engine": "transformers", "batch": 2}),
    ("gemma-3-27b", "mi300x", {"batch": 8}),
]  # fmt: skip
IDS = [f"{model} {gpu}" for model, gpu, _ in DEPLOYMENTS]


@pytest.mark.parametrize(("model", "gpu", "settings"), DEPLOYMENTS, ids=IDS)
def test_never_faster_than_the_roofline(model: str, gpu: str, settings: dict[str, Any]) -> None:
    """All peaks reached in full and all resources at once is the least time there is."""
    law = found(model, gpu, context=4096, **settings)
    roof = found(model, gpu, context=4096, mfu=1.0, mbu=1.0, link_efficiency=1.0, **settings)
    assert law["law"] is not None
    assert roof["law"] is None, "shares were given: the roofline alone"
    assert law["decode_seconds"] >= roof["decode"]["memory_seconds"] * 0.999
    assert law["decode_seconds"] >= roof["decode"]["compute_seconds"] * 0.999
    assert law["prefill_seconds"] >= roof["prefill"]["compute_seconds"] * 0.95, "the head, all tokens' norms"
    assert all(value >= 0 for value in (*law["law"]["decode"].values(), *law["law"]["prefill"].values()))


@pytest.mark.parametrize(("model", "gpu", "settings"), DEPLOYMENTS, ids=IDS)
def test_a_better_device_is_never_slower(model: str, gpu: str, settings: dict[str, Any]) -> None:
    base = size_serving(model, gpu, context=2048, **settings)
    assert base.gpu
    assert base.gpu.bandwidth
    before = found(model, gpu, context=2048, **settings)
    for better in ({"gpu_bandwidth": base.gpu.bandwidth * 1.5}, {"gpu_bandwidth": base.gpu.bandwidth * 8}):
        after = found(model, gpu, context=2048, **settings, **better)
        assert after["decode_seconds"] <= before["decode_seconds"] * 1.0001
        assert after["prefill_seconds"] <= before["prefill_seconds"] * 1.0001


@pytest.mark.parametrize(("model", "gpu", "settings"), DEPLOYMENTS, ids=IDS)
def test_ranges_hold_the_point(model: str, gpu: str, settings: dict[str, Any]) -> None:
    under = found(model, gpu, **settings, **LENGTHS, concurrency=16)
    for speed in (found(model, gpu, context=2048, max_new_tokens=100, **settings), under):
        for key in ("ttft_seconds", "tpot_seconds", "requests_per_second"):
            assert 0 < speed[f"{key}_low"] <= speed[key] <= speed[f"{key}_high"]


def test_messages_of_tensor_parallelism_take_time_at_batch_1() -> None:
    """Llama 3 8B, one request, TensorRT-LLM and vLLM on H100 (Argonne LLM-Inference-Bench): four GPUs are 1.6 to 2.6 times as
    fast as one, not 4 times."""
    one, four = (found("llama-3-8b", "h100", engine="vllm", context=1024, tp=tp)["tpot_seconds"] for tp in (1, 4))
    assert 1.5 < one / four < 3.2


def test_links_between_nodes_are_slower_than_inside() -> None:
    eight, sixteen = (found("llama-3.1-405b", "h100", engine="vllm", weights="fp8", context=2048, tp=tp) for tp in (8, 16))
    assert sixteen["law"]["decode"]["messages"] > 2 * eight["law"]["decode"]["messages"]
    assert sixteen["law"]["decode"]["products"] < eight["law"]["decode"]["products"]


def test_totals_are_those_of_the_deployment() -> None:
    one, two = (found("llama-3.1-8b", "h100", engine="vllm", batch=8, context=2048, dp=dp) for dp in (1, 2))
    for key in ("decode_tokens_per_second", "prefill_tokens_per_second"):
        assert two[key] == pytest.approx(2 * one[key])
    groups = found("qwen3-235b-a22b", "h200", engine="vllm", batch=8, context=2048, ep=8)
    assert groups["decode_tokens_per_second"] == pytest.approx(64 / groups["decode_seconds"])
    shared = found("llama-3.1-8b", "h100", engine="vllm", dp=2, concurrency=64, **LENGTHS)
    alone = found("llama-3.1-8b", "h100", engine="vllm", concurrency=32, **LENGTHS)
    assert shared["requests_per_second"] == pytest.approx(2 * alone["requests_per_second"])
    assert shared["tpot_seconds"] == pytest.approx(alone["tpot_seconds"])


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm", "llama.cpp"])
def test_a_load_slows_each_request_and_serves_more(engine: str) -> None:
    weights = {"weights": "Q8_0"} if engine == "llama.cpp" else {}
    loads = [found("llama-3.1-8b", "h100", engine=engine, concurrency=n, **weights, **LENGTHS) for n in (1, 4, 16, 64, 256)]
    for less, more in pairwise(loads):
        assert more["tpot_seconds"] >= less["tpot_seconds"]
        assert more["ttft_seconds"] >= less["ttft_seconds"]
        assert more["requests_per_second"] >= less["requests_per_second"] * 0.999
    for load, requests in zip(loads, (1, 4, 16, 64, 256), strict=True):
        assert load["load"]["decoding_sequences"] <= requests
        # Little's law: requests in flight are those that arrive in the time that one is there; a burst's wait is beside it
        there = load["ttft_seconds"] + LENGTHS["output_len"] * load["tpot_seconds"]
        assert load["requests_per_second"] * there >= 0.99 * requests


LOADED: list[tuple[str, str, dict[str, Any]]] = [
    ("llama-3.1-8b", "h100", {"engine": "vllm"}),
    ("llama-3.1-70b", "h100", {"engine": "tensorrt-llm", "tp": 4, "weights": "fp8", "kv_dtype": "fp8"}),
    ("llama-3.1-70b", "h100", {"engine": "vllm", "tp": 2, "pp": 2}),
    ("qwen3-30b-a3b", "h100", {"engine": "vllm", "ep": 4}),
    ("qwen3-30b-a3b", "h100", {"engine": "sglang", "ep": 4}),
    ("deepseek-v3", "b200", {"engine": "tensorrt-llm", "ep": 8, "weights": "nvfp4"}),
    ("deepseek-v3", "h200", {"engine": "sglang", "tp": 8, "ep": 8}),
    ("llama-3.1-8b", "rtx-4090", {"engine": "llama.cpp", "weights": "Q4_K_M"}),
    ("llama-3.1-8b", "m4-max", {"engine": "mlx", "weights": "mlx-4bit"}),
    ("deepseek-v3", "h200", {"engine": "vllm", "tp": 8, "draft": "mtp", "draft_tokens": 1, "acceptance": 0.8}),
]


@pytest.mark.parametrize(("input_len", "output_len"), [(1000, 200), (200, 2000)])
@pytest.mark.parametrize(("model", "gpu", "settings"), LOADED, ids=lambda value: str(value)[:24])
def test_more_in_flight_is_never_faster_for_one_nor_slower_for_all(
    model: str, gpu: str, settings: dict[str, Any], input_len: int, output_len: int
) -> None:
    loads = [
        found(model, gpu, concurrency=n, input_len=input_len, output_len=output_len, **settings) for n in (1, 3, 8, 24, 80, 300)
    ]
    for less, more in pairwise(loads):
        assert more["tpot_seconds"] >= less["tpot_seconds"] * 0.999
        assert more["ttft_seconds"] >= less["ttft_seconds"] * 0.999
        assert more["requests_per_second"] >= less["requests_per_second"] * 0.99


@pytest.mark.parametrize(("model", "gpu", "settings"), LOADED, ids=lambda value: str(value)[:24])
def test_under_a_load_more_bandwidth_is_never_slower(model: str, gpu: str, settings: dict[str, Any]) -> None:
    bandwidth = size_serving("gpt2", gpu).gpu.bandwidth  # type: ignore[union-attr]
    assert bandwidth
    speeds = [found(model, gpu, concurrency=64, gpu_bandwidth=bandwidth * n, **LENGTHS, **settings) for n in (1, 1.5, 6)]
    for slow, fast in pairwise(speeds):
        assert fast["tpot_seconds"] <= slow["tpot_seconds"] * 1.001
        assert fast["ttft_seconds"] <= slow["ttft_seconds"] * 1.001
        assert fast["requests_per_second"] >= slow["requests_per_second"] * 0.999


def test_groups_wait_for_the_one_that_reads_a_prompt() -> None:
    """Attention data parallelism: eight groups with four requests each read eight times as many prompts, which all wait for."""
    settings: dict[str, Any] = {"engine": "tensorrt-llm", "weights": "fp8", "input_len": 4000, "output_len": 400}
    one = found("qwen3-30b-a3b", "h200", concurrency=4, **settings)
    many = found("qwen3-30b-a3b", "h200", ep=8, concurrency=32, **settings)
    share = (one["tpot_seconds"] / one["decode_seconds"], many["tpot_seconds"] / many["decode_seconds"])
    assert share[1] > share[0]


def test_vllm_admits_more_than_have_room_for_all_of_their_answers() -> None:
    """Blocks are given as answers grow (v1/core/sched/scheduler.py); TensorRT-LLM sets all aside (GUARANTEED_NO_EVICT)."""
    settings: dict[str, Any] = {"concurrency": 2000, "input_len": 200, "output_len": 4000}
    sized = size_serving("llama-3.1-8b", "l40s", engine="vllm", max_sequences=4096, **settings)
    assert sized.capacity_there
    most = sized.capacity_there.max_batch
    assert most
    running = sized.to_dict()["speed"]["load"]["decoding_sequences"]
    assert 1.5 * most < running < 2.1 * most
    whole = size_serving("llama-3.1-8b", "l40s", engine="tensorrt-llm", **settings)
    assert whole.capacity_there
    assert whole.to_dict()["speed"]["load"]["decoding_sequences"] <= whole.capacity_there.max_batch  # type: ignore[operator]


@pytest.mark.parametrize(
    ("gpu", "settings"),
    [("rtx-4090", {"engine": "llama.cpp", "weights": "Q4_K_M"}), ("rtx-4090", {"engine": "llama.cpp", "pp": 4}),
     ("h100", {"engine": "vllm", "max_batched_tokens": 1024})],
)  # fmt: skip
def test_parts_of_a_prompt_in_chunks_are_of_all_of_them(gpu: str, settings: dict[str, Any]) -> None:
    speed = found("llama-3.1-8b", gpu, context=8192, **settings)
    assert sum(speed["law"]["prefill"].values()) == pytest.approx(speed["prefill_seconds"], rel=0.05)


def test_prompts_take_time_from_those_that_generate() -> None:
    short, long = (
        found("llama-3.1-8b", "h100", engine="vllm", concurrency=32, input_len=n, output_len=200) for n in (100, 8000)
    )
    assert long["load"]["prompt_tokens_of_such_a_step"] > short["load"]["prompt_tokens_of_such_a_step"] > 0
    assert long["tpot_seconds"] > 2 * short["tpot_seconds"]


def test_requests_beyond_the_memory_wait() -> None:
    fits, waits = (found("llama-3.1-8b", "l4", engine="vllm", weights="fp8", concurrency=n, **LENGTHS) for n in (32, 4096))
    assert waits["ttft_seconds"] > 10 * fits["ttft_seconds"]
    assert waits["load"]["decoding_sequences"] < 1000


def test_speculation() -> None:
    """Leviathan et al. 2023, equation 1: (1 − α^(γ + 1)) / (1 − α)."""
    assert tokens_of_a_pass(0.8, 4) == pytest.approx((1 - 0.8**5) / 0.2)
    target: dict[str, Any] = {"engine": "vllm", "tp": 4, "context": 2048}
    plain = found("llama-3.1-70b", "h100", **target)["tpot_seconds"]
    never, often, always = (
        found("llama-3.1-70b", "h100", draft="llama-3.2-1b", acceptance=share, **target)["tpot_seconds"]
        for share in (0.0, 0.8, 1.0)
    )
    assert always < often < plain < never
    assert always > plain / 5
    assert found("llama-3.1-70b", "h100", draft="llama-3.2-1b", **target)["tpot_seconds"] is None


def test_layers_in_host_memory() -> None:
    """Each layer that moves to the GPU saves time; a decode step reads the others' bytes at the host's bandwidth."""
    settings: dict[str, Any] = {"engine": "llama.cpp", "weights": "Q4_K_M", "context": 2048}
    steps = [found("llama-3.1-8b", "rtx-4090", gpu_layers=n, **settings)["decode_seconds"] for n in (0, 10, 20, 33)]
    assert all(fewer > more for fewer, more in pairwise(steps))
    slow = found("llama-3.1-8b", "rtx-4090", gpu_layers=0, host_bandwidth=40e9, **settings)["decode_seconds"]
    assert slow == pytest.approx(4.6e9 / 40e9, rel=0.1)  # 4.92 GB less the token table
    experts = found("gpt-oss-120b", "rtx-4090", engine="llama.cpp", context=2048, n_cpu_moe=30)
    assert experts["decode_seconds"] > 0.01
    assert experts["bound"] is None, "no roofline of bytes that move elsewhere"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"concurrency": 8}, "a load needs lengths"),
    ({"input_len": 100}, "give both"),
    ({"input_len": 100, "output_len": 10, "context": 4096}, "give lengths, or context"),
    ({"acceptance": 0.5}, "name one with draft"),
    ({"concurrency": 0, "input_len": 1, "output_len": 1}, "concurrency"),
]


@pytest.mark.parametrize(("settings", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_loads_that_make_no_sense(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        size_serving("llama-3.1-8b", "h100", engine="vllm", **settings)


def test_without_a_peak_a_step_and_no_prompt() -> None:
    card: dict[str, Any] = {"gpu_memory": 24 * 10**9, "gpu_bandwidth": 5e11}
    speed = size_serving("llama-3.1-8b", weights="Q4_K_M", **card, **LENGTHS, concurrency=4).to_dict()["speed"]
    assert speed["decode_seconds"] > 4.6e9 / card["gpu_bandwidth"]
    assert speed["tpot_seconds"] > 0
    for key in ("ttft_seconds", "prefill_seconds", "requests_per_second", "load"):
        assert speed[key] is None


@pytest.mark.parametrize("engine", ["llama.cpp", "mlx", None])
def test_prompts_on_accelerators_whose_peak_is_worked_out(engine: str | None) -> None:
    speed = found("llama-3.1-8b", "m3-max", engine=engine, **LENGTHS)
    assert speed["prefill_seconds"] > 2 * 7e9 * LENGTHS["input_len"] / 14.1e12


def test_every_quantity_has_a_range_of_all_rows() -> None:
    for quantity in ("tpot", "ttft", "ttft_load", "requests_per_second"):
        whole = next(row for row in RANGES if row.quantity == quantity)
        assert (whole.engine, whole.kind) == ("", "")
        assert speed_range(quantity, "no engine", "dense").quantity == quantity


def test_more_arithmetic_a_second_is_never_slower() -> None:
    settings: dict[str, Any] = {"engine": "vllm", **LENGTHS, "concurrency": 32}
    slow, fast = (found("llama-3.1-8b", "h100", gpu_flops=peak, **settings) for peak in (4e14, 8e14))
    for key in ("prefill_seconds", "decode_seconds", "tpot_seconds", "ttft_seconds"):
        assert fast[key] <= slow[key]
    assert fast["requests_per_second"] >= slow["requests_per_second"]


@pytest.mark.parametrize("model", ["llama-3.2-1b", "deepseek-v2-lite"])
def test_prompts_in_fp32_are_no_faster_than_its_peak(model: str) -> None:
    """Attention too: at 16 bits' rate a long prompt came to a third of the arithmetic's own time."""
    speed = size_serving(model, "a100", engine="vllm", precision="fp32", context=32768).to_dict()["speed"]
    assert speed["compute_format"] == "fp32"
    assert speed["prefill_seconds"] >= speed["mfu"] * speed["prefill"]["compute_seconds"]
