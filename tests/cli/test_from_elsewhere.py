"""`--from FILE` of `plan` and `compare`: the run that `train|infer --from` sizes; its layout is sought or varied."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
EXAMPLES = Path(__file__).parents[2] / "examples" / "launch"
SCRIPT = str(EXAMPLES / "train.sh")  # 8 GPUs, micro-batch 4 × 8: 256 sequences a step
SERVER = str(EXAMPLES / "docker-compose.yml") + "#chat"  # tp 2


def test_a_case_of_a_comparison_is_what_from_says_with_that_option(memcalc: Run) -> None:
    document = memcalc(
        "compare", "train", "--from", SCRIPT, "--gpu", "h100", "--vary", "zero=1,2,3", "--format", "json"
    ).document
    for case in document["cases"]:
        zero = str(case["settings"]["zero"])
        alone = memcalc("train", "--from", SCRIPT, "--gpu", "h100", "--zero", zero, "--get", "per_gpu.peak").out.strip()
        assert str(case["values"]["per_gpu.peak"]) == alone
    assert document["imported"]


def test_what_says_the_same_in_other_words_gives_way(memcalc: Run) -> None:
    """The script says ZeRO 3 with its buckets, which no FSDP has."""
    document = memcalc(
        "compare", "train", "--from", SCRIPT, "--gpu", "h100", "--vary", "fsdp=full,grad-op", "--format", "json"
    ).document
    assert not any(case.get("refused") for case in document["cases"])
    assert all("--zero" not in case["command"] for case in document["cases"])


@pytest.mark.parametrize(("file", "command"), [(SCRIPT, "train"), (SERVER, "infer")])
def test_a_comparison_is_of_what_the_file_starts(memcalc: Run, file: str, command: str) -> None:
    found = memcalc("compare", "--from", file, "--gpu", "h100", "--vary", "tp=1,2", "--format", "json")
    assert found.code == 0
    assert {case["command"].split()[1] for case in found.document["cases"]} == {command}


def test_models_are_compared_in_a_files_setting(memcalc: Run) -> None:
    found = memcalc("compare", "--from", SCRIPT, "--gpu", "h100", "--vary", "model=qwen3-8b,gpt2", "--format", "json").document
    assert [case["command"].split()[2] for case in found["cases"]] == ["qwen3-8b", "gpt2"]


def test_launch_files_stand_beside_sizing_files(memcalc: Run) -> None:
    found = memcalc("compare", SCRIPT, str(EXAMPLES.parent / "memcalc.toml"), "--gpu", "h100", "--format", "json").document
    alone = memcalc("train", "--from", SCRIPT, "--gpu", "h100", "--get", "per_gpu.peak").out.strip()
    assert str(found["cases"][0]["values"]["per_gpu.peak"]) == alone
    assert len(found["cases"]) > 1


@pytest.mark.parametrize("gpus", [8, 4])
def test_a_plan_keeps_the_run_and_seeks_the_layout(memcalc: Run, gpus: int) -> None:
    plan = memcalc("plan", "train", "--from", SCRIPT, "--gpu", "h100", "--gpus", str(gpus), "--format", "json").document
    assert plan["plan_of"]["candidates"] > 20
    for row in plan["plan"]:
        settings = row["settings"]
        copies = gpus // (settings.get("tp", 1) * settings.get("pp", 1) * settings.get("cp", 1))
        assert settings["micro_batch"] * settings["grad_accum"] * copies == 256
        assert (settings["seq_len"], settings["offload"], settings["gpus"]) == (4096, ["optimizer"], gpus)
    again = memcalc(*plan["plan"][0]["command"].split()[1:], "--get", "per_gpu.peak")
    assert again.out.strip() == str(plan["plan"][0]["per_gpu"]["peak"])
    assert plan["imported"]


def test_an_option_of_the_layout_stays(memcalc: Run) -> None:
    plan = memcalc("plan", "train", "--from", SCRIPT, "--gpu", "h100", "--zero", "3", "--format", "json").document["plan"]
    assert {row["settings"]["zero"] for row in plan} == {3}
    plan = memcalc("plan", "train", "--from", SCRIPT, "--gpu", "h100", "--vary", "zero=2,3", "--format", "json").document[
        "plan"
    ]
    assert {row["settings"]["zero"] for row in plan} <= {2, 3}


def test_a_server_is_planned_on_as_many_gpus(memcalc: Run) -> None:
    plan = memcalc("plan", "infer", "--from", SERVER, "--gpu", "l40s", "--format", "json").document["plan"]
    assert {row["service"]["gpus"] for row in plan} == {2}
    assert {row["settings"]["context"] for row in plan} == {16000}
    more = memcalc("plan", "infer", "--from", SERVER, "--gpu", "l40s", "--gpus", "4", "--format", "json").document["plan"]
    assert {row["service"]["gpus"] for row in more} == {4}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plan", "train", "--gpu", "h100"), "MODEL is missing"),
        (("plan", "train", "--from", SCRIPT), "--gpu: a plan needs a gpu"),
        (("plan", "train", "--from", SERVER, "--gpu", "h100"), "memcalc infer sizes it"),
        (("plan", "infer", "--from", SCRIPT, "--gpu", "h100"), "memcalc train sizes it"),
        (("plan", "infer", "--from", SERVER.partition("#")[0], "--gpu", "h100"), "choose one with --from FILE#NAME"),
        (("compare", "train", "--vary", "zero=1,2"), "MODEL is missing"),
        (("compare", "--from", "no-such-file", "--vary", "zero=1,2"), "no-such-file: no such file"),
        (("compare", "--from"), "requires an argument"),
        (("compare", "--from", SCRIPT, "--gpu", "h100"), "nothing is varied"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(memcalc: Run, words: tuple[str, ...], said: str) -> None:
    found = memcalc(*words)
    assert found.code == 2
    assert said in found.err
    assert found.err.count("\n") == 1
