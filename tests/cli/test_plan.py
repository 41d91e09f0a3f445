"""`memcalc plan train`: exit codes, the document, one-line refusals, a command that can be run as it stands."""

import json
import shlex
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]
PLAN = ("plan", "train", "llama-3.1-8b", "--gpu", "h100", "--seq-len", "4096")


def test_the_document(memcalc: Run) -> None:
    document = memcalc(*PLAN, "--gpus", "8", "--tokens", "10B", "--format", "json").document
    first, *others = document["plan"]
    assert first["rank"] == 1
    assert first["gpu"]["verdict"] in ("fits", "tight")
    assert sum(first["time"]["parts"].values()) == pytest.approx(first["time"]["step_seconds"])
    assert first["time"]["days"] * 86_400 * first["time"]["tokens_per_second"] == pytest.approx(1e10)
    assert first["time"]["cost_usd"] > 0
    assert all(row["lost"] for row in others if row["time"]["step_seconds"] > 1.01 * first["time"]["step_seconds"])
    assert document["plan_of"]["candidates"] >= document["plan_of"]["estimated"] >= document["plan_of"]["fitting"] > 0


def test_its_command_runs_and_says_the_same(memcalc: Run) -> None:
    first = memcalc(*PLAN, "--gpus", "8", "--format", "json").document["plan"][0]
    program, *words = shlex.split(first["command"])
    assert program == "memcalc"
    assert json.loads(memcalc(*words, "--get", "per_gpu.peak").out) == first["per_gpu"]["peak"]


def test_prediction_layers_are_those_of_the_engine_that_is_planned_for(memcalc: Run) -> None:
    asked = ("--gpus", "8", "--global-batch", "16", "--engine", "megatron", "--get", "plan.0.time.step_seconds")
    model = ("plan", "train", "deepseek-v2-lite", "--gpu", "h200", "--seq-len", "4096")
    assert float(memcalc(*model, *asked, "--mtp-layers", "1").out) > float(memcalc(*model, *asked).out)


def test_nothing_fits_is_exit_code_1(memcalc: Run) -> None:
    found = memcalc("plan", "train", "llama-3.1-70b", "--gpu", "4090", "--gpus", "2")
    assert found.code == 1
    assert "no layout fits" in found.out
    assert "nearest:" in found.out


def test_numbers_of_gpus_are_drawn(memcalc: Run) -> None:
    found = memcalc(*PLAN, "--gpus", "8,16", "--tokens", "1B")
    assert "days over GPUs" in found.out
    assert "worth it" in found.out


def test_any_engine_and_method(memcalc: Run) -> None:
    document = memcalc(*PLAN, "--gpus", "8", "--engine", "any", "--method", "any", "--top", "40", "--format", "json").document
    assert {row["settings"]["engine"] for row in document["plan"]} >= {"torchtitan", "megatron"}
    assert {row["settings"].get("method", "full") for row in document["plan"]} >= {"full", "lora"}
    assert all(row["settings"]["method"] == "full" for row in document["plan"] if row["settings"]["engine"] == "megatron")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gpus", "0"), "gpus"),
        (("--gpus", "16-8"), "ends below its start"),
        (("--gpus", ""), "--gpus: '' is not a count"),
        (("--gpus", "0x8"), "--gpus: '0x8' is not a count"),
        (("--gpus", "many"), "many"),
        (("--gpus", "8", "--deadline", "3"), "of how many tokens?"),
        (("--gpus", "8", "--engine", "megatrom"), "did you mean megatron?"),
        (("--gpus", "8", "--engine", "megatron", "--method", "lora"), "does not train by lora"),
        (("--gpus", "8", "--vary", "gpus=8,16"), "several numbers of GPUs are gpus 8,16"),
        (("--gpus", "8", "--vary", "global_batch=32,64"), "give it as such"),
        (("--gpus", "8", "--vary", "cp_kind=ring,all-gather"), "follows from the layout"),
        (("--gpus", "8", "--pp", "2", "--pipeline-layout", "Et|tL"), "shares the layers over stages itself"),
        (("--gpus", "8", "--vary", "foo=1"), "no setting 'foo'"),
        (("--gpus", "8", "--tp", "2", "--vary", "tp=1,2"), "tp is varied"),
    ],
)
def test_a_wrong_question_is_one_line(memcalc: Run, words: tuple[str, ...], said: str) -> None:
    found = memcalc(*PLAN, *words)
    assert found.code == 2
    assert said in found.err
    assert len(found.err.splitlines()) == 1


def test_a_way_to_shard_that_the_engine_has_not_is_named(memcalc: Run) -> None:
    found = memcalc(*PLAN, "--gpus", "8", "--engine", "torchtitan", "--fsdp", "grad-op")
    assert found.code == 1
    assert "shards by one of ddp, fsdp full, fsdp hybrid, not by fsdp grad-op" in " ".join(found.out.split())


def test_a_ceiling_needs_a_price(memcalc: Run) -> None:
    words = ("plan", "train", "gpt2", "--gpu", "rtx-a5000", "--gpus", "1", "--tokens", "1B", "--budget", "5")
    assert "no price of NVIDIA RTX A5000 is known" in memcalc(*words).err
    assert memcalc(*words, "--price", "0.3").code in (0, 1)


def test_a_bare_count_has_no_layers_to_divide(memcalc: Run) -> None:
    found = memcalc("plan", "train", "7B", "--gpu", "h100")
    assert found.code == 2
    assert "name a model" in found.err


NOT_TO_BE = [
    ("train gpt2 --gpu-memory 24GiB", "--gpu: a plan needs a gpu"),
    ("train gpt2 --gpu h100 --gpus 8 --tp 0", "--tp: must be"),
    ("train gpt2 --gpu h100 --gpus 8 --vary tp=0,2", "--tp: must be"),
    ("train gpt2 --gpu h100 --virtual-stages 0", "--virtual-stages: must be"),
    ("train gpt2 --gpu h100 --micro-batch 0", "--micro-batch: must be"),
    ("infer gpt2 --gpu h100 --tp 0", "--tp: must be"),
    ("infer gpt2 --gpu h100 --dp 0", "--dp: must be"),
]


@pytest.mark.parametrize(("line", "said"), NOT_TO_BE)
def test_what_no_layout_can_be_is_refused_by_name(memcalc, line, said):
    found = memcalc("plan", *line.split())
    assert found.code == 2
    assert said in found.err
    assert found.err.count("\n") == 1
