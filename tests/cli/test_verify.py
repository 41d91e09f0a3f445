"""`memcalc verify`: logs of engines and training loops beside the prediction; hostile logs are harmless."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
# Lines as the programs write them; numbers of the vLLM log: llm-d-incubation/llm-d-planner pull request 205, gemma-2-27b-it.
VLLM = """\
(APIServer pid=1) INFO 02-01 23:01:25 [utils.py:250] non-default args: {'model': 'google/gemma-2-27b-it', \
'max_model_len': 8192, 'gpu_memory_utilization': 0.95}
(EngineCore_0 pid=2) INFO 02-01 23:01:39 [core.py:75] Initializing a V1 LLM engine (v0.19.0) with config: \
model='google/gemma-2-27b-it', dtype=torch.bfloat16, max_seq_len=8192, tensor_parallel_size=1, pipeline_parallel_size=1, \
quantization=None, enforce_eager=False, kv_cache_dtype=auto,
INFO 02-01 23:01:43 [config.py:1712] Chunked prefill is enabled with max_num_batched_tokens=8192.
\x1b[1;36m(EngineCore_0 pid=2)\x1b[0m INFO 02-01 23:02:39 [gpu_model_runner.py:19] Model loading took 50.72 GiB and 5.9 seconds
(EngineCore_0 pid=2) INFO 02-01 23:02:40 [gpu_worker.py:277] Available KV cache memory: 20.59 GiB
(EngineCore_0 pid=2) INFO 02-01 23:02:40 [kv_cache_utils.py:849] GPU KV cache size: 58,672 tokens
(EngineCore_0 pid=2) INFO 02-01 23:02:40 [kv_cache_utils.py:853] Maximum concurrency for 8,192 tokens per request: 7.16x
"""
DRAFTED = """\
(APIServer pid=1) INFO 07-07 19:59:04 [api_utils.py:273] non-default args: {'model': '~/models/qwen3.6-27b-autoround', \
'dtype': 'float16', 'max_model_len': 262144, 'quantization': 'auto_round', 'tensor_parallel_size': 2, \
'gpu_memory_utilization': 0.92, 'kv_cache_dtype': 'fp8_e5m2', 'max_num_batched_tokens': 8192, 'max_num_seqs': 2, \
'speculative_config': {'method': 'mtp', 'num_speculative_tokens': 3}}
INFO 07-08 15:37:00 [core.py:114] Initializing a V1 LLM engine (v0.25.0) with config: model='~/models/qwen3.6-27b-autoround'
INFO 07-08 15:37:40 [gpu_model_runner.py:5405] Model loading took 9.05 GiB memory and 6.356814 seconds
INFO 07-08 15:38:03 [gpu_worker.py:508] Available KV cache memory: 11.05 GiB
INFO 07-08 15:38:03 [kv_cache_utils.py:2146] GPU KV cache size: 623,873 tokens
INFO 07-08 15:38:03 [kv_cache_utils.py:2147] Maximum concurrency for 262,144 tokens per request: 2.38x
"""
LLAMA = """\
print_info: general.name     = Llama 3.1 8B
print_info: file type   = Q4_K - Medium
load_tensors: offloaded 33/33 layers to GPU
load_tensors:        CUDA0 model buffer size =  4403.50 MiB
load_tensors:   CPU_Mapped model buffer size =   281.81 MiB
llama_context: n_ctx         = 8192
llama_kv_cache_unified:      CUDA0 KV buffer size =  1024.00 MiB
llama_context:      CUDA0 compute buffer size =   560.00 MiB
"""
MEGATRON = (
    "[Rank 0] (after 2 iterations) memory (MB) | allocated: 2000.0 | max allocated: {peak} | reserved: 1 | "
    "max reserved: {reserved}\n"
)
SGLANG = """\
server_args=ServerArgs(model_path='meta-llama/Llama-3.1-8B-Instruct', tp_size=1, context_length=None, \
mem_fraction_static=0.85, kv_cache_dtype='auto', quantization=None)
[2026-01-01 00:00:00] Load weight end. type=LlamaForCausalLM, dtype=torch.bfloat16, avail mem=63.53 GB, mem usage=14.98 GB.
[2026-01-01 00:00:00] KV Cache is allocated. #tokens: 427000, K size: 26.06 GB, V size: 26.06 GB
"""


@pytest.fixture
def log(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "engine.log"
        path.write_text(text)
        return str(path)

    return write


def errors(memcalc: Run, *words: str) -> dict[str, float]:
    return {row["quantity"]: row["error"] for row in memcalc("verify", *words, "--format", "json").document["rows"]}


def test_a_vllm_log_is_predicted_from_its_own_settings(memcalc: Run, log: Callable[[str], str]) -> None:
    document = memcalc("verify", log(VLLM), "--gpu", "h100", "--format", "json").document
    assert {row["quantity"] for row in document["rows"]} == {"weights", "cache", "kv_tokens", "max_concurrency"}
    assert all(abs(row["error"]) < 0.01 for row in document["rows"])
    settings = {each["name"]: (each["value"], each["source"]) for each in document["settings"]}
    assert settings["engine"] == ("vllm@0.19", "line 2")
    assert settings["gpu_memory_utilization"] == (0.95, "line 1")
    assert settings["max_batched_tokens"] == (8192, "line 3")


def test_what_is_said_goes_before_the_log(memcalc: Run, log: Callable[[str], str]) -> None:
    other = errors(memcalc, log(VLLM), "--gpu", "h100", "--set", "tp=2", "--set", "gpu_memory_utilization=0.9")
    assert other["weights"] == pytest.approx(-0.5, abs=0.02)
    assert "differs:" in memcalc("verify", log(VLLM), "--gpu", "h100", "--set", "tp=2").out


def test_a_llama_cpp_log(memcalc: Run, log: Callable[[str], str]) -> None:
    """Published for this file: 4,403.50 MiB on the device, 1,024 MiB of cache (llama.cpp's own log)."""
    found = errors(memcalc, log(LLAMA), "llama-3.1-8b", "--gpu", "rtx-3060")
    assert abs(found["weights"]) < 0.01
    assert found["kv_cache"] == 0.0


def test_an_sglang_log(memcalc: Run, log: Callable[[str], str]) -> None:
    found = errors(memcalc, log(SGLANG), "--gpu", "h100")
    assert abs(found["weights"]) < 0.01
    assert abs(found["kv_tokens"]) < 0.1


def test_a_draft_and_a_format_in_the_name_are_read(memcalc: Run, log: Callable[[str], str]) -> None:
    """vLLM 0.25 with Qwen3.6-27B by AutoRound on two RTX 3090: 623,873 tokens (noonghunna/club-3090, issue 642)."""
    document = memcalc("verify", log(DRAFTED), "--gpu", "3090", "--format", "json").document
    assert all(abs(row["error"]) < 0.02 for row in document["rows"] if row["error"] is not None)
    settings = [(each["name"], each["value"]) for each in document["settings"]]
    assert {("draft", "mtp"), ("draft_tokens", 3), ("weights", "gptq-int4-g128")} <= set(settings)
    assert [name for name, _ in settings].count("weights") == 1
    words = ("--gpu", "3090", "--set", "weights=fp8", "--format", "json")
    said = memcalc("verify", log(DRAFTED), *words).document["settings"]
    assert [each["source"] for each in said if each["name"] == "weights"][-1] == "--set"


@pytest.mark.parametrize(
    ("model", "quantization", "weights"),
    [
        ("nvidia/Qwen3.6-35B-A3B-NVFP4", "modelopt_mixed", "nvfp4-mlp-fp8-attn"),  # sgl-project/sglang pull 27906
        ("RedHatAI/Qwen3.6-35B-A3B-NVFP4", "compressed-tensors", "nvfp4"),
        ("nvidia/Llama-3.1-8B-Instruct-FP8", "modelopt", "fp8"),
    ],
)
def test_mixtures_of_a_name(memcalc: Run, log: Callable[[str], str], model: str, quantization: str, weights: str) -> None:
    """The arguments say modelopt, the engine's config which of its checkpoints it is."""
    text = VLLM.replace("google/gemma-2-27b-it", model).replace("quantization=None", f"quantization={quantization}")
    text = text.replace("'max_model_len'", "'quantization': 'modelopt', 'max_model_len'")
    document = memcalc("verify", log(text), "--gpu", "h100", "--format", "json").document
    assert [each["value"] for each in document["settings"] if each["name"] == "weights"] == [weights]


def test_a_lone_word_of_a_draft_says_nothing(memcalc: Run, log: Callable[[str], str]) -> None:
    """A model as a draft is not known by the word; its tokens alone would be refused."""
    text = VLLM.replace(
        "'max_model_len'", "'speculative_config': {'method': 'medusa', 'num_speculative_tokens': 3}, 'max_model_len'"
    )
    document = memcalc("verify", log(text), "--gpu", "h100", "--format", "json").document
    assert not {"draft", "draft_tokens"} & {each["name"] for each in document["settings"]}


def test_sglang_and_llama_cpp_settings(memcalc: Run, log: Callable[[str], str]) -> None:
    """The length that SGLang takes of the model, and llama.cpp's slots in one pool."""
    text = SGLANG.replace("mem_fraction", "chunked_prefill_size=4096, cuda_graph_max_bs=64, mem_fraction")
    text += "[2026-01-01 00:00:00] max_total_num_tokens=427000, max_running_requests=2048, context_len=131072\n"
    found = memcalc("verify", log(text), "--gpu", "h100", "--format", "json").document["settings"]
    said = {each["name"]: each["value"] for each in found}
    assert (said["context"], said["max_batched_tokens"], said["max_graph_batch"]) == (131072, 4096, 64)
    text = LLAMA + "llama_context: n_seq_max     = 4\nllama_context: n_ubatch      = 256\nllama_context: kv_unified    = true\n"
    words = ("llama-3.1-8b", "--gpu", "rtx-3060", "--format", "json")
    said = {each["name"]: each["value"] for each in memcalc("verify", log(text), *words).document["settings"]}
    assert (said["slots"], said["unified"], said["max_batched_tokens"]) == (4, True, 256)
    alone = memcalc("verify", log(text.replace("= 4", "= 1")), *words).document["settings"]
    assert not {"slots", "unified"} & {each["name"] for each in alone}


def test_a_training_log_beside_what_train_says(memcalc: Run, log: Callable[[str], str]) -> None:
    words = ("--gpus", "8", "--tp", "2", "--zero", "1", "--engine", "megatron", "--gpu", "h100")
    peak, reserved = (
        int(memcalc("train", "llama-3.1-8b", *words, "--get", f"per_gpu.{name}").out) for name in ("peak", "reserved")
    )
    text = MEGATRON.format(peak=peak / 2**20, reserved=reserved / 2**20 / 2)
    found = errors(memcalc, log(text), "llama-3.1-8b", "--gpu", "h100", "--set", "gpus=8", "--set", "tp=2", "--set", "zero=1")
    assert found["peak"] == pytest.approx(0.0, abs=1e-6)
    assert found["reserved"] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("nothing here\n", ("--gpu", "h100"), "no line that speaks of memory is known"),
        (VLLM, (), "add a gpu"),
        (MEGATRON.format(peak=1, reserved=1), ("--gpu", "h100"), "give MODEL"),
        (VLLM, ("--gpu", "h100", "--set", "tpp=2"), "did you mean tp or"),
        (VLLM, ("--gpu", "h100", "--set", "tp"), "no setting with a value"),
        ("Model loading took 1.0 GiB\n", ("--gpu", "h100"), "give MODEL"),
    ],
)
def test_what_is_missing_is_one_line(
    memcalc: Run, log: Callable[[str], str], text: str, words: tuple[str, ...], said: str
) -> None:
    found = memcalc("verify", log(text), *words)
    assert found.code == 2
    assert said in found.err
    assert len(found.err.splitlines()) == 1


def test_hostile_logs_are_harmless(memcalc: Run, log: Callable[[str], str], tmp_path: Path) -> None:
    evil = VLLM.replace("google/gemma-2-27b-it", "\x1b]0;owned\x07gemma").replace("5.9 seconds", "\x1b[31m" + "9" * 50_000)
    found = memcalc("verify", log(evil), "gemma-2-27b", "--gpu", "h100", "--format", "json")
    assert found.code == 0
    assert "\x1b" not in found.out
    assert memcalc("verify", "/dev/zero", "--gpu", "h100").code == 2
    assert memcalc("verify", str(tmp_path), "--gpu", "h100").code == 2
    huge = "GPU KV cache size: " + "1" * 400 + " tokens\nModel loading took nan GiB\n"
    assert memcalc("verify", log(huge), "gpt2", "--gpu", "h100").code in (0, 2)


# Lines as ollama 0.30 (which starts llama-server), 0.20 (its own runner) and TensorRT-LLM write them; buffers of Llama 3.1 8B
# as above, 131,072 bytes of cache a token.
OLLAMA = """\
time=2026-06-10T10:00:00Z level=INFO source=routes.go:1800 msg="Listening on 127.0.0.1:11434 (version 0.30.2)"
time=2026-06-10T10:00:05Z level=INFO source=llama_server.go:440 msg="starting llama-server" cmd="/usr/lib/ollama/llama-server \
--model /models/blobs/sha256-abc --port 37733 -c 16384 -np 2 --flash-attn auto -b 1024 -ub 1024"
print_info: general.name     = Llama 3.1 8B
print_info: file type   = Q4_K - Medium
load_tensors: offloaded 33/33 layers to GPU
load_tensors:        CUDA0 model buffer size =  4403.50 MiB
llama_kv_cache:      CUDA0 KV buffer size =  2048.00 MiB
"""
RUNNER = """\
time=2026-03-10T10:00:00Z level=INFO source=routes.go:1800 msg="Listening on 127.0.0.1:11434 (version 0.20.2)"
time=2026-03-10T10:00:05Z level=INFO source=server.go:430 msg="starting runner" cmd="/usr/bin/ollama runner --port 37733"
time=2026-03-10T10:00:05Z level=INFO source=ggml.go:136 msg="" architecture=llama file_type=Q4_K_M name="Llama 3.1 8B" \
description="" num_tensors=292
time=2026-03-10T10:00:06Z level=INFO source=runner.go:1271 msg=load request="{Operation:commit LoraPath:[] Parallel:1 \
BatchSize:512 FlashAttention:Enabled KvSize:8192 KvCacheType:q8_0 NumThreads:8 GPULayers:33[ID:GPU-1 Layers:33(0..32)]}"
time=2026-03-10T10:00:06Z level=INFO source=device.go:240 msg="model weights" device=CUDA0 size="4.3 GiB"
time=2026-03-10T10:00:06Z level=INFO source=device.go:245 msg="model weights" device=CPU size="281.8 MiB"
time=2026-03-10T10:00:06Z level=INFO source=device.go:251 msg="kv cache" device=CUDA0 size="544.0 MiB"
"""
TENSORRT = """\
[TensorRT-LLM] TensorRT-LLM version: 1.0.0
[07/01/2026-09:38:53] [TRT-LLM] [I] LLM Args: model='meta-llama/Llama-3.1-8B-Instruct' tensor_parallel_size=1 dtype='auto'
[07/01/2026-09:38:58] [TRT-LLM] [I] Memory used after loading model weights (inside torch) in memory usage profiling: 14.99 GiB
[TensorRT-LLM][INFO] [MemUsageChange] Allocated 1.02 GiB for max tokens in paged KV cache (8352).
[07/01/2026-09:39:10] [TRT-LLM] [I] Peak memory during memory usage profiling (torch + non-torch): 18.20 GiB, available KV \
cache memory when calculating max tokens: 54.60 GiB, fraction is set 0.9, kv size is 131072. device total memory 79.11 GiB
[TensorRT-LLM][INFO] Number of tokens per block: 32.
[TensorRT-LLM][INFO] [MemUsageChange] Allocated 54.60 GiB for max tokens in paged KV cache (447296).
[07/01/2026-09:39:12] [TRT-LLM] [I] max_seq_len=131072, max_num_requests=2048, max_num_tokens=8192
"""


def read(memcalc: Run, *words: str) -> tuple[dict[str, float], dict[str, Any]]:
    document = memcalc("verify", *words, "--format", "json").document
    return ({row["quantity"]: row["error"] for row in document["rows"]},
            {each["name"]: each["value"] for each in document["settings"]})  # fmt: skip


def test_an_ollama_log(memcalc: Run, log: Callable[[str], str]) -> None:
    """llama-server's lines in it are ollama's; its context is that of all requests together."""
    found, said = read(memcalc, log(OLLAMA), "--gpu", "rtx-4090")
    assert abs(found["weights"]) < 1e-4
    assert found["kv_cache"] == 0.0
    assert said == {"engine": "ollama@0.30.2", "context": 16384, "batch": 2, "max_batched_tokens": 1024, "weights": "Q4_K_M",
                    "gpu_layers": 33}  # fmt: skip


def test_an_ollama_log_of_its_own_runner(memcalc: Run, log: Callable[[str], str]) -> None:
    found, said = read(memcalc, log(RUNNER), "--gpu", "rtx-4090")
    assert abs(found["weights"]) < 0.01
    assert abs(found["kv_cache"]) < 1e-3
    assert (said["engine"], said["context"], said["kv_dtype"], said["flash_attention"]) == ("ollama@0.20.2", 8192, "q8_0", "on")


def test_the_last_of_several_starts_counts(memcalc: Run, log: Callable[[str], str]) -> None:
    """A server starts one process a model, and anew with other settings: buffers don't add up over them."""
    first, second = OLLAMA, OLLAMA.split("\n", 1)[1].replace("-c 16384 -np 2", "-c 4096 -np 1").replace("2048.00", "512.00")
    found, said = read(memcalc, log(first + second), "--gpu", "rtx-4090")
    assert found["kv_cache"] == 0.0
    assert abs(found["weights"]) < 1e-4
    assert (said["engine"], said["context"]) == ("ollama@0.30.2", 4096)


def test_a_tensorrt_llm_log(memcalc: Run, log: Callable[[str], str]) -> None:
    """The pool of the profile's run is not the one that serves; 54.60 GiB / 131,072 B are 447,284 tokens, in blocks of 32."""
    found, said = read(memcalc, log(TENSORRT), "--gpu", "h100")
    assert set(found) == {"weights", "cache", "kv_tokens"}
    assert abs(found["weights"]) < 0.01
    assert found["cache"] == pytest.approx(found["kv_tokens"], abs=1e-3)  # its peak is no run's: 18.20 GiB
    assert (said["engine"], said["block_size"], said["gpu_memory_utilization"]) == ("tensorrt-llm@1.0", 32, 0.9)


@pytest.mark.parametrize(
    ("text", "words", "kinds"),
    [
        (VLLM, ("gemma-2-27b", "--gpu", "h100"), {"weights", "kv_tokens", "max_concurrency"}),
        (OLLAMA, ("--gpu", "rtx-4090"), {"weights", "kv_cache"}),
        (TENSORRT, ("--gpu", "h100"), {"weights", "kv_tokens"}),
        (MEGATRON.format(peak=40_000, reserved=42_000),
         ("llama-3.1-8b", "--gpu", "h100", "--set", "gpus=8", "--set", "tp=2", "--set", "zero=1"), {"allocated", "reserved"}),
    ],
)  # fmt: skip
def test_a_saved_row_is_read_back(
    memcalc: Run, log: Callable[[str], str], tmp_path: Path, text: str, words: tuple[str, ...], kinds: set[str]
) -> None:
    """`validate --presets` has the same measured and predicted numbers as `verify`."""
    own = tmp_path / "own"
    found = memcalc("verify", log(text), *words, "--save", str(own), "--format", "json")
    assert "saved as" in found.err
    shown = memcalc("validate", "--presets", str(own), "--format", "json").document
    rows = [*shown["serving"]["residuals"], *shown["residuals"]]
    assert {row["kind"] for row in rows} == kinds
    names = {"allocated": "peak"}
    by_quantity = {row["quantity"]: row for row in found.document["rows"]}
    for row in rows:
        before = by_quantity[names.get(row["kind"], row["kind"])]
        assert row["measured"] == pytest.approx(before["measured"], rel=1e-6)
        off = 5e-3 if row["kind"] == "max_concurrency" else 1e-6  # a row's is of the cache's memory as logged
        assert row["predicted"] == pytest.approx(before["predicted"], rel=off)


def test_what_cannot_be_saved(memcalc: Run, log: Callable[[str], str], tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"model_type": "qwen2", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, '
                      '"vocab_size": 1024, "num_attention_heads": 4, "num_key_value_heads": 2}')  # fmt: skip
    found = memcalc("verify", log(VLLM), str(config), "--gpu", "h100", "--save", str(tmp_path / "own"))
    assert (found.code, "names models by preset" in found.err) == (2, True)
    assert memcalc("verify", log(VLLM), "--gpu", "h100", "--save", str(config)).code == 2
    assert memcalc("validate", "--presets", str(tmp_path)).code == 2


def test_hostile_logs_take_bounded_time(memcalc: Run, log: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that patterns try long at are read for a minute at most, here a second."""
    import memcalc.readers.logs.read as reader

    monkeypatch.setattr(reader, "MAX_SECONDS", 1)
    evil = "Operation:a LLM engine v Graph capturing finished in starting llama-server msg= KV " * 190 + "\n"
    found = memcalc("verify", log(evil * 400), "gpt2", "--gpu", "h100")
    assert found.code == 2
    assert len(found.err.splitlines()) == 1


# vLLM with Qwen3.6-27B by AutoRound on two RTX 3090 (noonghunna/club-3090, issues 142 and 91): a build of the main branch, and
# a patch release whose log counts the tokens of whole requests, as later releases do.
@pytest.mark.parametrize(
    ("version", "release", "tokens", "requests", "tolerance"),
    [("0.20.2rc1.dev129+g1acd67a79", "vllm@0.21", "623,873", 2.38, 0.015), ("0.20.1", "vllm@0.20", "619,479", 2.36, 0.025),
     ("0.25.0", "vllm@0.25", "623,873", 2.38, 0.015)],
)  # fmt: skip
def test_the_release_of_a_build_and_what_its_tokens_count(
    memcalc: Run, log: Callable[[str], str], version: str, release: str, tokens: str, requests: float, tolerance: float
) -> None:
    text = (
        "non-default args: {'model': '~/.cache/huggingface/qwen3.6-27b-autoround-int4', 'dtype': 'float16', 'max_model_len': "
        "262144, 'quantization': 'auto_round', 'tensor_parallel_size': 2, 'kv_cache_dtype': 'fp8_e5m2', "
        "'max_num_batched_tokens': 8192, 'max_num_seqs': 2, 'speculative_config': {'method': 'mtp', "
        "'num_speculative_tokens': 3}}\n"
        f"Initializing a V1 LLM engine (v{version}) with config: model='~/.cache/huggingface/qwen3.6-27b-autoround-int4'\n"
        f"[kv_cache_utils.py:1710] GPU KV cache size: {tokens} tokens\n"
        f"[kv_cache_utils.py:1711] Maximum concurrency for 262,144 tokens per request: {requests}x\n"
    )
    document = memcalc("verify", log(text), "--gpu", "3090", "--format", "json").document
    assert {row["quantity"] for row in document["rows"]} == {"kv_tokens", "max_concurrency"}
    assert all(abs(row["error"]) < tolerance for row in document["rows"])
    assert [each["value"] for each in document["settings"] if each["name"] == "engine"] == [release]


def test_tokens_of_a_group_are_not_compared_with_those_of_requests(memcalc: Run, log: Callable[[str], str]) -> None:
    """vLLM 0.19's log of a hybrid model says both (vllm-project/vllm, issue 40691); a line shows a later release's habits."""
    text = (
        "Initializing a V1 LLM engine (v0.19.0) with config: model='Qwen/Qwen3.5-27B', max_seq_len=32768\n"
        "CUDA graph memory profiling is enabled (default since v0.21.0). The current --gpu-memory-utilization=0.9200\n"
        "GPU KV cache size: 290,864 tokens\nMaximum concurrency for 32,768 tokens per request: 33.04x\n"
    )
    document = memcalc("verify", log(text), "--gpu", "h200", "--format", "json").document
    assert next(each["value"] for each in document["settings"] if each["name"] == "engine") == "vllm@0.21"
    assert next(row for row in document["rows"] if row["quantity"] == "kv_tokens").get("error") is None


def test_experts_over_all_ranks(memcalc: Run, log: Callable[[str], str]) -> None:
    text = (
        "non-default args: {'model': 'Qwen/Qwen3-30B-A3B', 'tensor_parallel_size': 2, 'data_parallel_size': 2, "
        "'enable_expert_parallel': True, 'max_model_len': 8192, 'max_cudagraph_capture_size': 256, 'block_size': 32}\n"
        "Model loading took 15.3 GiB memory\n"
    )
    settings = memcalc("verify", log(text), "--gpu", "h100", "--format", "json").document["settings"]
    said = {each["name"]: each["value"] for each in settings}
    assert (said["ep"], said["tp"], said["max_graph_batch"], said["block_size"]) == (4, 2, 256, 32)
    assert "dp" not in said


def test_fp8_by_blocks_on_a_gpu_without_fp8(memcalc: Run, log: Callable[[str], str]) -> None:
    """vLLM 0.24 with Qwen3.6-27B-FP8 on two RTX 3090 (noonghunna/club-3090, pull 594): Marlin's scales are one for each output
    and 128 inputs, 0.18 GiB more of each rank's weights than blocks of 128 × 128 have."""
    text = DRAFTED.replace("qwen3.6-27b-autoround", "qwen3.6-27b-fp8").replace("'auto_round'", "'fp8'")
    document = memcalc("verify", log(text), "--gpu", "3090", "--format", "json").document
    settings = {each["name"]: each["value"] for each in document["settings"]}
    assert settings["weights"] == "fp8-block128"
    (cache,) = [row["predicted"] for row in document["rows"] if row["quantity"] == "cache"]
    assert cache / 2**30 == pytest.approx(5.33, rel=0.03)


BREAKDOWN = """\
print_info: general.name     = Llama 3.1 8B
print_info: file type   = Q4_K - Medium
load_tensors: offloaded 33/33 layers to GPU
llama_context: n_ctx         = 8192
llama_context: n_ubatch      = 512
common_memory_breakdown_print: |   - CUDA0 (RTX 3060)   | 12044 = 11000 + ( 9999 =  9000 +     500 +     499) +       -9999 |
llama_memory_breakdown_print: | memory breakdown [MiB] | total   free    self   model   context   compute    unaccounted |
llama_memory_breakdown_print: |   - CUDA0 (RTX 3060)   | 12044 = 5700 + (5685 =  4403 +    1024 +     258) +         658 |
llama_memory_breakdown_print: |   - Host               |                  300 =   281 +       0 +      24                |
"""


def test_a_breakdown_of_llama_cpp(memcalc: Run, log: Callable[[str], str]) -> None:
    """Printed at exit and while parameters are fitted (llama.cpp pull 15860, common/fit.cpp): the last of each device counts,
    and only where no buffer's own line says it."""
    words = ("llama-3.1-8b", "--gpu", "rtx-3060", "--format", "json")
    document = memcalc("verify", log(BREAKDOWN), *words).document
    measured = {row["quantity"]: row["measured"] / 2**20 for row in document["rows"]}
    assert measured == {"weights": 4403, "kv_cache": 1024, "compute_buffer": 258}
    assert all(abs(row["error"]) < 0.01 for row in document["rows"] if row["quantity"] != "compute_buffer")
    buffers = BREAKDOWN + "llama_kv_cache:      CUDA0 KV buffer size =  1000.00 MiB\n" + BREAKDOWN
    document = memcalc("verify", log(buffers), *words).document
    assert {row["quantity"]: row["measured"] / 2**20 for row in document["rows"]}["kv_cache"] == 1000


@pytest.mark.parametrize(
    ("said", "draft"),
    [("speculative_algorithm='EAGLE', speculative_draft_model_path=None", "mtp"),
     ("speculative_algorithm='EAGLE', speculative_draft_model_path='Qwen/Qwen3.6-27B'", "mtp"),
     ("speculative_algorithm='NEXTN', speculative_draft_model_path=None", "mtp"),
     ("speculative_algorithm='EAGLE', speculative_draft_model_path='someone/head'", "eagle"),
     ("speculative_algorithm='EAGLE3', speculative_draft_model_path='someone/head'", "eagle3"),
     ("speculative_algorithm=None, speculative_draft_model_path=None", None)],
)  # fmt: skip
def test_how_sglang_guesses(memcalc: Run, log: Callable[[str], str], said: str, draft: str | None) -> None:
    text = (
        f"server_args=ServerArgs(model_path='Qwen/Qwen3.6-27B', tp_size=2, context_length=32768, mem_fraction_static=0.8, "
        f"{said}, speculative_num_draft_tokens=4)\nKV Cache is allocated. #tokens: 300000, K size: 1.0 GB, V size: 1.0 GB\n"
    )
    settings = memcalc("verify", log(text), "--gpu", "h100", "--format", "json").document["settings"]
    found = {each["name"]: each["value"] for each in settings}
    assert found.get("draft") == draft
    assert ("draft_tokens" in found) == (draft is not None)
