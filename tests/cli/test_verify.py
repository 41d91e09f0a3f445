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
