"""`memcalc compare`: the same figures as each command alone, the difference to the first, a picture of two settings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memcalc as package
from memcalc.errors import MemcalcError
from memcalc.report.heatmap import HeatMap

Run = Callable[..., Any]
TRAIN = ("compare", "train", "llama-3.1-8b", "--gpus", "8", "--gpu", "h100")
VARIED = (*TRAIN, "--vary", "zero=1,3", "--vary", "recompute=none,full")


def test_a_case_has_what_its_own_command_prints(memcalc: Run) -> None:
    document = memcalc(*VARIED, "--format", "json").document
    assert [case["settings"] for case in document["cases"]] == [
        {"zero": zero, "recompute": word} for zero in (1, 3) for word in ("none", "full")
    ]
    for case in document["cases"]:
        words = case["command"].split()[1:]
        for column, value in case["values"].items():
            assert memcalc(*words, "--get", column).out.strip() == (value if isinstance(value, str) else json.dumps(value))


def test_differences_are_to_the_first_case(memcalc: Run) -> None:
    document = memcalc(*VARIED, "--column", "per_gpu.peak", "--format", "json").document
    peaks = [case["values"]["per_gpu.peak"] for case in document["cases"]]
    assert document["cases"][0]["changes"] == {"per_gpu.peak": None}
    assert [case["changes"]["per_gpu.peak"] for case in document["cases"][1:]] == [peak / peaks[0] - 1 for peak in peaks[1:]]


def test_two_settings_make_a_heat_map(memcalc: Run) -> None:
    assert "per_gpu.needed: zero down, recompute across" in memcalc(*VARIED).out
    svg = memcalc(*VARIED, "--format", "svg").out
    assert svg.count("fill-opacity") == 4
    one = memcalc(*TRAIN, "--vary", "zero=1,3")
    assert "across" not in one.out


def test_model_and_gpu_may_be_varied(memcalc: Run) -> None:
    document = memcalc(
        "compare", "infer", "gpt2", "--vary", "model=gpt2,llama-3.1-8b", "--vary", "gpu=l4,h100", "--format", "json"
    ).document
    assert [case["values"]["gpu.verdict"] for case in document["cases"]] == ["fits"] * 4
    assert "--gpu h100" in document["cases"][3]["command"]
    assert "llama-3.1-8b" in document["cases"][3]["command"]


def test_a_refused_case_says_why_and_the_others_stand(memcalc: Run) -> None:
    found = memcalc(*TRAIN, "--vary", "tp=1,3", "--format", "json").document["cases"]
    assert found[0]["refused"] is None
    assert "must divide gpus" in found[1]["refused"]
    assert "1 case of 2 could not be sized" in memcalc(*TRAIN, "--vary", "tp=1,3").out


def test_csv_is_one_table_of_raw_numbers(memcalc: Run) -> None:
    head, first, *_ = memcalc(*VARIED, "--column", "per_gpu.peak", "--format", "csv").out.splitlines()
    assert head == "case,peak [B]"
    assert first.rpartition(",")[2].isdecimal()


def test_sizing_files_stand_side_by_side(memcalc: Run, tmp_path: Path) -> None:
    text = 'model = "gpt2"\ngpu = "l4"\n[limits]\nverdict = "fits"\n[scenario.a]\ntraining = {}\n[scenario.b]\nserving = {}\n'
    (tmp_path / "one.toml").write_text(text)
    (tmp_path / "two.toml").write_text(text)
    found = memcalc("compare", str(tmp_path / "one.toml"), str(tmp_path / "two.toml"), "--format", "json").document
    assert [case["name"] for case in found["cases"]] == ["one.toml: a", "one.toml: b", "two.toml: a", "two.toml: b"]
    assert found["cases"][0]["values"] == found["cases"][2]["values"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--vary", "zeroo=1,2"), "no setting 'zeroo'; did you mean zero?"),
        (("--vary", "zero"), "is no setting with values"),
        (("--vary", "zero=1,many"), "zero: "),
        (("--vary", "sequence_parallel=on,perhaps"), "neither on nor off"),
        (("--vary", "gpus=8,16"), "gpus is varied; leave it out"),
        ((), "nothing is varied"),
        (("--vary", "micro_batch=" + ",".join(map(str, range(1, 400)))), "at most 256"),
        (("--vary", "zero=1,2", "--column", "per_gpu.peek"), "did you mean peak?"),
        (("--vary", "zero=1,2", "--column", "per_gpu"), "no single value"),
        (("--vary", "tp=3,5"), "must divide gpus"),
    ],
)
def test_a_wrong_question_is_one_line(memcalc: Run, words: tuple[str, ...], said: str) -> None:
    found = memcalc(*TRAIN, *words)
    assert found.code == 2
    assert said in found.err
    assert len(found.err.splitlines()) == 1


def test_a_model_alone_is_trained_and_a_file_that_is_not_there_is_named(memcalc: Run) -> None:
    assert memcalc("compare", "gpt2", "--vary", "zero=1,2", "--gpus", "2").code == 0
    found = memcalc("compare", "nosuch.toml")
    assert found.code == 2
    assert "nosuch.toml" in found.err


def test_the_same_from_python() -> None:
    found = package.compare("train", "gpt2", vary={"micro_batch": (1, 2)}, columns=["per_gpu.peak"])
    first, second = (case.values["per_gpu.peak"] for case in found.cases)
    assert first < second
    with pytest.raises(MemcalcError, match="vary"):
        package.compare("train", "gpt2", vary={})


def test_a_map_shades_from_the_lowest_to_the_highest() -> None:
    found = HeatMap("", ("a", "b"), ("x", "y"), ((1.0, 2.0), (3.0, None)), (("1", "2"), ("3", "none")))
    assert [found.heat(0, 0), found.heat(0, 1), found.heat(1, 0), found.heat(1, 1)] == [0.0, 0.5, 1.0, None]
    assert "more columns have no room" in found.drawn(8)
