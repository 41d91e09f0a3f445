"""Serving: formats and degrees."""

from typing import Any

import pytest

from memcalc.formulas.allocatable import reserve_bytes
from memcalc.specs.serving import Serving
from memcalc.specs.spec import SpecError

# settings, the fields that the refusal names, what it says
REFUSED: list[tuple[dict[str, Any], tuple[str, ...], str]] = [
    ({"weights": "bf61"}, ("weights",), "did you mean bf16?"),
    ({"kv_dtype": "fp99"}, ("kv_dtype",), "`memcalc formats`"),
    ({"context": 0}, ("context",), "between 1 and 2,147,483,648, not 0"),
    ({"batch": 2**30}, ("batch",), "between 1 and 16,777,216"),
    ({"tp": 0}, ("tp",), "between 1 and 65,536"),
    ({"gpu_memory_utilization": 0}, ("gpu_memory_utilization",), "between 0.01 and 1.0, not 0"),
    ({"gpu_memory_utilization": 90}, ("gpu_memory_utilization",), "between 0.01 and 1.0, not 90"),
    ({"gpu_memory_utilization": float("nan")}, ("gpu_memory_utilization",), "not nan"),
    ({"tp": 4, "ep": 6}, ("ep", "tp"), "one must be a multiple of the other"),
    ({"tp": 6, "ep": 4}, ("ep", "tp"), "one must be a multiple of the other"),
]


@pytest.mark.parametrize(("settings", "fields", "said"), REFUSED, ids=lambda value: str(value)[:60])
def test_refused(settings: dict[str, Any], fields: tuple[str, ...], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        Serving(**settings)
    message = str(caught.value)
    assert caught.value.fields == fields, message
    assert message.startswith(", ".join(fields) + ": "), message
    assert said in message


# degrees, GPUs, why
GPUS: list[tuple[dict[str, int], int, str]] = [
    ({}, 1, "one"),
    ({"tp": 8}, 8, "tensor parallel"),
    ({"tp": 8, "pp": 2}, 16, "two stages of eight"),
    ({"tp": 8, "ep": 8}, 8, "experts spread over the same GPUs (vLLM: EP = TP × DP)"),
    ({"tp": 2, "ep": 8}, 8, "four data-parallel attention groups of two"),
    ({"tp": 8, "ep": 2, "pp": 3}, 24, "experts cut in four as well"),
]


@pytest.mark.parametrize(("degrees", "gpus", "why"), GPUS)
def test_gpus(degrees: dict[str, int], gpus: int, why: str) -> None:
    found = Serving(**degrees).gpus
    assert found == gpus, f"{degrees}: {found} GPUs, expected {gpus}: {why}"


# GiB of the GPU, --tp, a pass's tokens where given → tokens of a pass, sequences of the largest CUDA graph, share of the GPU.
# Steps: comments of sglang/srt/server_args.py, "A10, 4090, 5090 (chunked_prefill_size 2k, cuda_graph_max_bs 24 if tp < 4 else
# 80)" and its neighbours; the share by hand, (MiB − 512 − 1.5 × tokens − 2 × graph − 128 × tp) / MiB to three digits.
SGLANG: list[tuple[int, int, int | None, tuple[int, int, float]]] = [
    (16, 1, None, (2048, 8, 0.772)),  # T4: 3728 MiB reserved
    (24, 1, None, (2048, 24, 0.847)),  # RTX 4090: 3760
    (24, 4, None, (2048, 80, 0.827)),  # 4256
    (40, 1, None, (4096, 32, 0.833)),  # A100: 6848
    (48, 8, None, (4096, 160, 0.837)),  # L40S: 8000
    (80, 1, None, (8192, 256, 0.836)),  # H100: 13440
    (80, 8, None, (8192, 512, 0.819)),  # 14848
    (141, 2, None, (8192, 256, 0.906)),  # H200: 13568
    (180, 1, None, (16384, 512, 0.858)),  # B200: 26240
    (80, 1, 2048, (2048, 256, 0.875)),  # 4224, but 10240 at least above 60 GiB
    (48, 1, 1024, (1024, 32, 0.923)),  # no fewer than 2048 tokens are reserved for: 3776
    (1, 1, None, (2048, 8, 0.01)),  # never nothing
]


@pytest.mark.parametrize(("gib", "tp", "tokens", "expected"), SGLANG)
def test_sglang_sizes_itself_by_the_gpu(gib: int, tp: int, tokens: int | None, expected: tuple[int, int, float]) -> None:
    run, memory = Serving(engine="sglang@0.5.9", tp=tp, max_batched_tokens=tokens), gib * 2**30
    process = memory - reserve_bytes(memory)  # what a process can get of it
    assert (run.batched_tokens(memory), run.step_sequences(memory), run.utilization(process)) == expected
