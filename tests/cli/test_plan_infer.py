"""`memcalc plan infer`: deployments that `infer` agrees with, goals that are kept, what one GPU can run."""

import json
import shlex
from collections.abc import Callable
from time import process_time
from typing import Any

import pytest

from memcalc.sizing.planning_serving import plan_serving

Run = Callable[..., Any]
PLAN = ("plan", "infer", "llama-3.1-8b", "--gpu", "h100", "--engine", "vllm", "--context", "8192")


def rows(memcalc: Run, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = memcalc(*words, "--format", "json").document["plan"]
    return found


def test_its_commands_run_and_say_the_same(memcalc: Run) -> None:
    for row in rows(memcalc, *PLAN, "--gpus", "1,2"):
        _, *words = shlex.split(row["command"])
        assert json.loads(memcalc(*words, "--get", "per_gpu.needed").out) == row["per_gpu"]["needed"]
        assert json.loads(memcalc(*words, "--get", "speed.tpot_seconds").out) == row["service"]["tpot_seconds"]


def test_the_cheapest_or_the_fastest_first(memcalc: Run) -> None:
    cheap = [row["service"]["usd_per_m_output_tokens"] for row in rows(memcalc, *PLAN, "--gpus", "1-4")]
    assert cheap == sorted(cheap)
    fast = [row["service"]["tokens_per_second"] for row in rows(memcalc, *PLAN, "--gpus", "1-4", "--rank", "speed")]
    assert fast == sorted(fast, reverse=True)


def test_money_is_gpu_time_at_the_price(memcalc: Run) -> None:
    for row in rows(memcalc, *PLAN, "--gpus", "2", "--price", "3.6"):
        service = row["service"]
        expected = service["gpus"] * 3.6 / 3600 / service["tokens_per_second"] * 1e6
        assert service["usd_per_m_output_tokens"] == pytest.approx(expected)


def test_copies_share_the_load(memcalc: Run) -> None:
    words = (*PLAN, "--gpus", "4", "--concurrency", "64", "--input-len", "1000", "--output-len", "200", "--weights", "bf16")
    for row in rows(memcalc, *words):
        settings, service = row["settings"], row["service"]
        assert service["replicas"] * settings.get("tp", 1) * settings.get("pp", 1) == 4
        assert service["tokens_per_second"] == pytest.approx(service["requests_per_second"] * 200)


def test_data_parallel_copies_are_gpus_too(memcalc: Run) -> None:
    for row in rows(memcalc, *PLAN, "--gpus", "4", "--dp", "2"):
        settings, service = row["settings"], row["service"]
        assert service["replicas"] * 2 * settings.get("tp", 1) * settings.get("pp", 1) == service["gpus"] == 4


def test_expert_parallelism_is_tried_as_said(memcalc: Run) -> None:
    words = ("plan", "infer", "qwen3-30b-a3b", "--gpu", "h100", "--gpus", "2", "--tp", "2", "--engine", "vllm", "--weights",
             "bf16", "--context", "4096")  # fmt: skip
    assert {row["settings"].get("ep", 1) for row in rows(memcalc, *words, "--vary", "ep=2")} == {2}


def test_goals_are_kept(memcalc: Run) -> None:
    every = rows(memcalc, *PLAN, "--gpus", "1-8", "--top", "100")
    limit = sorted(row["service"]["tpot_seconds"] for row in every)[len(every) // 2]
    kept = rows(memcalc, *PLAN, "--gpus", "1-8", "--top", "100", "--tpot", str(limit))
    assert 0 < len(kept) < len(every)
    assert all(row["service"]["tpot_seconds"] <= limit for row in kept)
    found = memcalc(*PLAN, "--gpus", "1", "--tpot", "1e-5")
    assert found.code == 1
    assert "tpot above" in found.out


def test_without_a_number_as_few_as_do_it(memcalc: Run) -> None:
    found = rows(memcalc, "plan", "infer", "llama-3.1-70b", "--gpu", "h100", "--engine", "vllm", "--weights", "bf16",
                 "--context", "8192")  # fmt: skip
    assert {row["service"]["gpus"] for row in found} == {2}


def test_launch_lines(memcalc: Run) -> None:
    (row, *_) = rows(memcalc, *PLAN, "--gpus", "2", "--tp", "2", "--weights", "fp8")
    assert row["launch"] == "vllm serve llama-3.1-8b --tensor-parallel-size 2 --max-model-len 8192 --quantization fp8"


def test_what_one_gpu_can_run(memcalc: Run) -> None:
    found = rows(memcalc, "plan", "infer", "--gpu", "rtx-4090", "--context", "8k")
    assert len(found) == 8
    assert all(row["gpu"]["verdict"] in ("fits", "tight") and row["offloaded_layers"] == 0 for row in found)
    with_ram = rows(memcalc, "plan", "infer", "--gpu", "rtx-4090", "--context", "8k", "--ram", "64GiB")
    assert [row["model"] for row in with_ram[:8]] == [row["model"] for row in found]
    assert with_ram[8:]
    assert all(row["offloaded_layers"] > 0 for row in with_ram[8:])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plan", "infer", "7B", "--gpu", "h100"), "name a model"),
        (("plan", "infer", "gpt2", "--gpu", "h100", "--vary", "foo=1"), "no setting 'foo'"),
        (("plan", "infer", "--gpu", "h100", "--gpu", "l4"), "without a MODEL"),
        (("plan", "infer", "gpt2", "--gpu", "h100", "--gpus", "9-2"), "ends below its start"),
        (("plan", "infer", "gpt2", "--gpu", "h100", "--concurrency", "99999999"), "--concurrency"),
        (("plan", "infer", "gpt2"), "--gpu"),
    ],
)
def test_a_wrong_question_is_one_line(memcalc: Run, words: tuple[str, ...], said: str) -> None:
    found = memcalc(*words)
    assert found.code == 2
    assert said in found.err
    assert len(found.err.splitlines()) == 1


def test_a_mac_is_planned_with_mlx(memcalc: Run) -> None:
    rows = memcalc("plan", "infer", "--gpu", "m4", "--format", "json").document["plan"]
    assert rows
    assert {row["settings"]["engine"] for row in rows} == {"mlx"}
    assert {row["settings"]["weights"].split("-")[0] for row in rows} <= {"bf16", "mlx"}
    assert all(row["service"]["ttft_seconds"] > row["service"]["tpot_seconds"] > 0 for row in rows)
    assert all(row["launch"].startswith("mlx_lm.server") for row in rows)
    quick = memcalc("plan", "infer", "--gpu", "m4", "--ttft", "1", "--format", "json").document["plan"]
    assert len(quick) < len(rows)
    assert all(row["service"]["ttft_seconds"] <= 1 for row in quick)


@pytest.mark.parametrize(
    ("gpu", "engine", "formats"),
    [("rtx-4090", "exllamav3", "exl3-"), ("rtx-4090", "lmstudio", "Q"), ("m4-pro", "ollama", "Q")],
)
def test_other_engines_of_ones_own_machine(memcalc: Run, gpu: str, engine: str, formats: str) -> None:
    rows = memcalc("plan", "infer", "--gpu", gpu, "--engine", engine, "--format", "json").document["plan"]
    assert len(rows) > 3
    assert all(row["settings"]["weights"].startswith((formats, "BF16")) for row in rows)
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize(
    ("model", "settings"), [(None, {"ram": 64 * 2**30}), ("llama-3.1-8b", {"engine": "vllm", "gpus": "1-8"})]
)
def test_an_interrupt_keeps_what_was_found(model: str | None, settings: dict[str, Any]) -> None:
    def stop(done: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    found = plan_serving(model, "rtx-4090", context=8192, tick=stop, **settings)
    whole = plan_serving(model, "rtx-4090", context=8192, **settings)
    assert 0 < len(found.plan.ranked) < len(whole.plan.ranked)
    assert found.to_dict()["warnings"] == ["interrupted"]
    assert found.report().verdict.endswith("interrupted)")
    assert whole.to_dict()["warnings"] == []


def test_what_can_run_here_is_known_within_two_seconds_of_one_core() -> None:
    began = process_time()
    assert plan_serving(None, "rtx-3090", context=16384, ram=128 * 2**30).best
    assert process_time() - began < 2
