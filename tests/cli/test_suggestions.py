"""What `train` and `infer` suggest: typed again, it gives the figures and the verdict that were printed."""

import contextlib
import io
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from memcalc.cli import main

Run = Callable[..., Any]
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # a failing command says enough: no time is spent on a shorter one


def answer(words: str) -> dict[str, Any]:
    """The JSON of a command; None where it is refused."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([*shlex.split(words), "--format", "json"])
    found: dict[str, Any] = json.loads(out.getvalue()) if ended.value.code == 0 else {}
    return found


def check_suggestions(words: str) -> list[dict[str, Any]]:
    """Every suggestion of a command, typed after it and as the command of its own."""
    asked = answer(words)
    if not asked:
        return []
    found: list[dict[str, Any]] = asked["suggestions"]
    assert asked["gpu"]["verdict"] != "fits" or not found, f"{words}: nothing needs to be changed"
    for each in found:
        assert each["gpu"]["verdict"] in ({"no": ("tight", "fits")}.get(asked["gpu"]["verdict"], ("fits",))), each
        added = () if "gpu" in each["changes"] else (f"{words} {each['flags']}",)  # in place of the first
        for again in (*added, each["command"].removeprefix("memcalc ")):
            document = answer(again)
            assert document, f"refused: {again}"
            for key in ("peak", "device", "needed", "needed_high"):
                assert document["per_gpu"][key] == each["per_gpu"][key], f"{again}: per_gpu.{key}"
            assert document["gpu"]["verdict"] == each["gpu"]["verdict"], again
            assert document["gpu"]["headroom"] == each["headroom"], again
        asked_run = flat(asked["run"])
        same = [name for name, value in each["changes"].items() if asked_run.get(name) == value]
        assert not same, f"{words}: {each['flags']} says again what {same} are"
    return found


def flat(run: dict[str, Any]) -> dict[str, Any]:
    """Settings of a run without its tables."""
    return {name: value for name, value in run.items() if not isinstance(value, dict)} | run.get("parallelism", {})


def one_of(option: str, *values: object) -> st.SearchStrategy[str]:
    return st.sampled_from(["", *(f"--{option} {value}" for value in values)])


TRAINED = ("llama-3.2-1b", "llama-3.1-8b", "qwen3-32b", "mixtral-8x7b", "gemma-2-2b", "bert-large", "mamba2-1.3b", "7B", "30B")
GPUS = ("rtx-3060", "rtx-4090", "a100-40gb", "h100", "mi300x", "m4-max", "l4")
SHARDINGS = (
    "", "--gpus 2", "--gpus 8", "--gpus 8 --ddp", "--gpus 8 --fsdp none", "--gpus 8 --zero 0", "--gpus 8 --zero 1",
    "--gpus 8 --fsdp hybrid --shard-size 2", "--gpus 8 --fsdp full --shard-size 8", "--gpus 8 --fsdp grad-op",
    "--gpus 8 --tp 2", "--gpus 8 --tp 2 --pp 2 --grad-accum 4", "--gpus 8 --cp 2 --fsdp full", "--gpus 6 --zero 2",
)  # fmt: skip
TRAINING = st.tuples(
    st.sampled_from(TRAINED),
    st.sampled_from(GPUS).map("--gpu {}".format),
    st.sampled_from(SHARDINGS),
    one_of("micro-batch", 4, 6),
    one_of("seq-len", "8k", 16384, 1000),
    one_of("recompute", "selective", "full", "full --recompute-every 2"),
    one_of("method", "lora", "qlora", "qat"),
    one_of("optimizer", "lion", "muon", "adamw-8bit"),
    one_of("engine", "torchtitan", "megatron", "deepspeed", "accelerate", "torchtune"),
    one_of("precision", "fp32", "bf16", "bf16-amp"),
    one_of("attention", "eager"),
    one_of("reserved", "2GiB"),
)


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow], phases=PHASES)
@given(TRAINING)
def test_training_suggestions_hold_when_typed(words: tuple[str, ...]) -> None:
    check_suggestions(" ".join(("train", *filter(None, words))))


SERVED = ("llama-3.1-8b", "llama-3.1-70b", "gemma-3-27b", "deepseek-v2-lite", "gpt-oss-20b", "mamba2-1.3b", "qwen3-30b-a3b")
SERVING = st.tuples(
    st.sampled_from(SERVED),
    st.sampled_from(GPUS).map("--gpu {}".format),
    one_of("engine", "vllm", "sglang", "tensorrt-llm", "llama.cpp", "transformers"),
    one_of("context", "32k", 131072),
    one_of("batch", 3, 64),
    one_of("weights", "fp8", "Q4_K_M", "fp32"),
    one_of("kv-dtype", "fp8", "q8_0"),
    one_of("reserved", "2GiB"),
    st.sampled_from(
        ["", "--max-new-tokens 900", "--kv-cache-memory 4GiB", "--draft llama-3.2-1b", "--gpu-layers 10", "--tp 2"]
    ),
)


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow], phases=PHASES)
@given(SERVING)
def test_serving_suggestions_hold_when_typed(words: tuple[str, ...]) -> None:
    check_suggestions(" ".join(("infer", *filter(None, words))))


# What a person would take: command, and words that one of the suggestions has. Reports of first use (D2 to D5, section 6).
TAKEN = (
    ("train llama-3.1-8b --gpu h100 --gpus 8 --fsdp full --seq-len 65536", ("recompute full", "loss chunked")),
    ("train qwen3-32b --gpus 4 --gpu a100-40gb", ("method lora", "fsdp full", "recompute full")),
    ("train qwen3-32b --gpus 4 --gpu a100-40gb", ("method qlora", "recompute full")),
    ("train qwen3-32b --gpus 4 --gpu a100-40gb", ("offload optimizer,parameters", "recompute full")),
    ("train qwen3-32b --gpus 8 --gpu h100", ("fsdp full", "recompute full", "optimizer adamw-8bit")),
    ("train qwen3-32b --gpus 8 --gpu h100", ("method lora", "recompute full")),
    ("train llama-3.2-1b --gpu 3060", ("precision bf16", "recompute full")),
    ("train llama-3.2-1b --gpu 3060", ("method lora", "recompute full")),
    ("train 13B --gpu a100-80gb", ("offload optimizer",)),
    ("train qwen2.5-0.5b --method lora --gpu rtx-4090 --eval-batch 16 --eval-accumulation 4", ("eval-batch 2",)),
    ("train 7B --gpus 8 --gpu h100 --precision fp32", ("fsdp full",)),
    ("train llama-3.1-8b --gpus 8 --ddp --gpu h100", ("zero 1", "no-ddp")),
    ("train llama-3.1-8b --gpus 8 --fsdp hybrid --shard-size 2 --gpu l40s", ("fsdp full", "shard-size 8", "recompute full")),
    ("train llama-3.1-8b --gpus 8 --gpu h100 --engine megatron", ("zero 1",)),
    ("infer llama-3.1-8b --gpu rtx-3060 --engine llama.cpp --context 4096", ("weights Q8_0",)),
    ("infer llama-3.1-8b --gpu rtx-3060 --engine llama.cpp --context 4096", ("gpu-layers",)),
    ("infer llama-3.1-70b --gpu h100 --engine vllm --context 4096", ("weights fp8",)),
    ("infer llama-3.1-70b --gpu h100 --engine vllm --context 4096", ("tp 2",)),
    ("infer gemma-3-27b --engine vllm --context 8k --batch 4 --gpu h100", ("kv-dtype fp8",)),
    ("infer llama-3.1-8b --gpu rtx-3060 --engine llama.cpp", ("context", "weights Q8_0")),  # the engine takes the maximum
    ("infer llama-3.1-8b --gpu rtx-4090 --engine vllm", ("context 32768",)),
    ("infer llama-3.1-70b --gpu h100 --engine vllm", ("context", "weights fp8")),
)  # fmt: skip


@pytest.mark.parametrize(("command", "words"), TAKEN)
def test_what_a_person_would_take(command: str, words: tuple[str, ...]) -> None:
    found = check_suggestions(command)
    flags = [each["flags"] for each in found]
    assert any(all(f"--{word}" in line for word in words) for line in flags), flags
    owned = [line for line in flags if "--gpus" not in line and "--gpu " not in line and "--tp" not in line]
    assert owned, flags


def test_never_other_hardware_first(memcalc: Run) -> None:
    """On one GPU what can be done there comes before more GPUs or larger ones."""
    found = memcalc("train llama-3.1-8b --gpu rtx-4090 --format json").document["suggestions"]
    assert not any("--gpu" in each["flags"] for each in found), [each["flags"] for each in found]


def test_costs_are_said(memcalc: Run) -> None:
    found = memcalc("train qwen3-32b --gpus 4 --gpu a100-40gb --format json").document["suggestions"]
    said = " ".join(cost for each in found for cost in each["costs"])
    for words in ("more FLOPs", "in host memory (488.19 GiB a node)", "only adapters (134M parameters) are trained"):
        assert words in said, said


def test_the_nearest_miss_is_named(memcalc: Run) -> None:
    result = memcalc("train 70B --gpus 2 --gpu rtx-3060")
    assert "no change that memcalc tries makes it fit; nearest: --" in " ".join(result.out.split()), result.out[-2000:]
    document = memcalc("train 70B --gpus 2 --gpu rtx-3060 --format json").document
    assert document["suggestions"] == []
    assert document["nearest_miss"]["headroom"] < 0
    assert document["nearest_miss"]["gpu"]["verdict"] == "no"


def test_a_count_says_what_it_cannot_try(memcalc: Run) -> None:
    assert "LoRA and QLoRA need layers" in " ".join(memcalc("train 7B --gpu 4090").out.split())


def test_a_tight_run_is_told_what_makes_it_sure(memcalc: Run) -> None:
    words = "train llama-3.1-8b --gpus 8 --zero 3 --gpu h100 --recompute full --seq-len 24576"
    found = memcalc(f"{words} --format json").document
    assert found["gpu"]["verdict"] == "tight"
    assert found["suggestions"]
    assert "Changes with which it surely fits" in memcalc(words).out


def test_an_engine_with_a_queue_starts(memcalc: Run) -> None:
    """vLLM logs a warning and lets the fourth request wait: the verdict of four at once stays no."""
    words = "infer gemma-3-27b --engine vllm --context 8k --batch 4 --gpu h100"
    document = memcalc(f"{words} --format json").document
    assert document["gpu"]["verdict"] == "no"
    assert (document["capacity"]["starts"], document["capacity"]["waiting"]) == (True, 1)
    assert "vllm starts: 3 at once, request 4 waits" in " ".join(memcalc(words).out.split())
    none = memcalc("infer llama-3.1-70b --engine vllm --gpu h100 --format json").document["capacity"]
    assert none["starts"] is False


def test_commands_are_quoted(memcalc: Run, folder: Callable[..., str], tmp_path: Path) -> None:
    place = tmp_path / "my model; rm"
    place.mkdir()
    (place / "config.json").write_bytes((Path(folder()) / "config.json").read_bytes())
    check_suggestions(f"train {shlex.quote(str(place))} --gpu 'RTX 4090' --offload optimizer --zero 1")


def test_changes_say_how_fast_they_run(memcalc):
    """Seconds where the law knows them: as the command itself says; not of activations that come and go over PCIe."""
    found = memcalc("train", "llama-3.1-8b", "--gpu", "h100", "--format", "json").document
    asked = found["time"]["tokens_per_second"]
    assert found["suggestions"]
    for each in found["suggestions"]:
        again = memcalc(*shlex.split(each["command"])[1:], "--format", "json").document["time"]["tokens_per_second"]
        said = f"{again:,.0f} tokens/s, {asked:,.0f} as asked"
        assert (said in each["costs"]) == ("activations" not in each["changes"].get("offload", ()))
