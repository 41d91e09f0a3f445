"""`memcalc check` on launch files: the same verdict as `train|infer --from`, beside sizing files, errors with their file."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
EXAMPLES = Path(__file__).parents[2] / "examples" / "launch"
TITAN = '[model]\nname = "llama3"\nflavor = "8B"\n[training]\nlocal_batch_size = 1\nseq_len = 4096\n[parallelism]\n'


@pytest.mark.parametrize("gpu", ["h100", "l4"])
def test_a_launch_file_has_the_verdict_that_from_gives_it(memcalc: Run, gpu: str) -> None:
    file = str(EXAMPLES / "train.sh")
    said = memcalc("train", "--from", file, "--gpu", gpu, "--get", "gpu.verdict").out.strip()
    found = memcalc("check", file, "--gpu", gpu, "--format", "json")
    (scenario,) = found.document["scenarios"]
    assert [(check["limit"], check["value"], check["allowed"]) for check in scenario["checks"]] == [("verdict", said, "tight")]
    assert found.code == int(said == "no")


def test_every_server_of_a_file_is_a_scenario(memcalc: Run) -> None:
    file = str(EXAMPLES / "docker-compose.yml")
    names = [each["name"] for each in memcalc("check", file, "--gpu", "h100", "--format", "json").document["scenarios"]]
    assert names == ["chat", "small"]
    one = memcalc("check", file, "--gpu", "h100", "--filter", "small", "--format", "json").document["scenarios"]
    assert [each["name"] for each in one] == ["small"]


def test_launch_files_and_sizing_files_together(memcalc: Run, tmp_path: Path) -> None:
    sizing = tmp_path / "memcalc.toml"
    sizing.write_text('model = "gpt2"\ngpu = "l4"\ntraining = {}\n[limits]\nverdict = "fits"\n')
    document = memcalc("check", str(EXAMPLES / "train.sh"), str(sizing), "--gpu", "h100", "--format", "json").document
    assert [each["name"] for each in document["scenarios"]] == ["train", "default"]


def test_what_a_launch_file_lacks_is_said_with_its_name(memcalc: Run, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "launch")
    found = memcalc("check", str(tmp_path / "launch" / "train.sh"))
    assert found.code == 2
    assert "train.sh" in found.err
    assert "add --gpu" in found.err
    titan = tmp_path / "train.toml"
    titan.write_text(TITAN)
    assert "add --gpus" in memcalc("check", str(titan), "--gpu", "h100").err  # how many GPUs, no line says
    assert memcalc("check", str(titan), "--gpu", "h100", "--gpus", "8").code == 0
    assert memcalc("check", str(titan), "--gpu", "h100", "--gpus", "1").code == 1


def test_gpus_are_those_of_files_that_say_none(memcalc: Run) -> None:
    file = str(EXAMPLES / "train.sh")
    assert memcalc("check", file, "--gpu", "h100", "--gpus", "1").out == memcalc("check", file, "--gpu", "h100").out


MEGATRON = """GPT_ARGS=(--num-layers 32 --hidden-size 4096 --ffn-hidden-size 11008 --num-attention-heads 32 --swiglu
  --seq-length 4096 --max-position-embeddings 4096 --vocab-size 32000 --untie-embeddings-and-output-weights)
torchrun --nproc_per_node 8 pretrain_gpt.py ${GPT_ARGS[@]} --micro-batch-size 1 --global-batch-size 8 --bf16 \\
  --tensor-model-parallel-size 2 --use-distributed-optimizer --use-flash-attn --recompute-activations
"""


def test_a_model_in_numbers_has_the_verdict_that_from_gives_it(memcalc: Run, tmp_path: Path) -> None:
    file = tmp_path / "pretrain.sh"
    file.write_text(MEGATRON)
    said = ("train", "--from", str(file), "--gpu", "h100", "--get", "gpu.verdict", "--get", "per_gpu.needed")
    verdict, needed = memcalc(*said).out.split()
    (scenario,) = memcalc("check", str(file), "--gpu", "h100", "--format", "json").document["scenarios"]
    assert (scenario["values"]["verdict"], str(scenario["values"]["device_memory"])) == (verdict, needed)


def test_a_launch_file_beside_another_and_beside_a_commit(memcalc: Run) -> None:
    file = str(EXAMPLES / "train.sh")
    assert memcalc("check", file, "--gpu", "h100", "--baseline", file).code == 0


GIT = ("git", "-c", "user.email=a@example.com", "-c", "user.name=a")


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_launch_files_and_what_they_name_as_they_were_at_a_commit(
    memcalc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(EXAMPLES, tmp_path / "launch")
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "one")):
        subprocess.run([*GIT, *words], check=True, capture_output=True)
    said = (
        "check",
        "launch/train.sh",
        "launch/docker-compose.yml",
        "--gpu",
        "h100",
        "--baseline",
        "HEAD",
        "--fail-on",
        "worse",
    )
    same = memcalc(*said, "--format", "json")
    changes = same.document["baseline"]["scenarios"]
    assert (same.code, [each["difference"]["device_memory"] for each in changes]) == (0, [0, 0, 0])
    named = tmp_path / "launch" / "ds_zero3.json"
    named.write_text(named.read_text().replace('"stage": 3', '"stage": 1'))
    worse = memcalc(*said, "--format", "json")
    assert worse.code == 1
    assert [each["worse"] for each in worse.document["baseline"]["scenarios"]] == [True, False, False]
    (tmp_path / "new.sh").write_text("vllm serve Qwen/Qwen3-0.6B\n")  # which was not there
    found = memcalc("check", "new.sh", "--gpu", "h100", "--baseline", "HEAD", "--format", "json")
    assert found.document["baseline"]["scenarios"][0]["before"] is None


def test_what_is_not_counted_is_told_at_its_line_in_every_format(memcalc: Run, tmp_path: Path) -> None:
    file = tmp_path / "serve.sh"
    file.write_text("vllm serve Qwen/Qwen3-0.6B \\\n  --made-up-cache-size 8 \\\n  --hf-overrides '{\"a\": 1}'\n")
    said = ("check", str(file), "--gpu", "h100", "--format")
    (scenario,) = memcalc(*said, "json").document["scenarios"]
    assert scenario["ok"]
    assert [place in text for place, text in zip((":3: hf-overrides", "made-up-cache-size"), scenario["warnings"], strict=True)]
    assert "hf-overrides" in memcalc(*said, "table").err + memcalc(*said, "table").out
    assert "hf-overrides" in memcalc(*said, "markdown").out
    notice, warning, other = memcalc(*said, "github").out.splitlines()
    assert notice.startswith("::notice")
    assert warning.startswith(f"::warning file={file},line=3,title=memcalc%3A serve::hf-overrides")
    assert other.startswith("::warning")
    levels = [each["level"] for each in json.loads(memcalc(*said, "sarif").out)["runs"][0]["results"]]
    assert levels == ["warning", "warning"]
    assert "<system-err>" in memcalc(*said, "junit").out


def test_a_part_of_a_run_is_told_where_it_belongs(memcalc: Run) -> None:
    assert "names no model: give the script that starts it" in memcalc("check", str(EXAMPLES / "ds_zero3.json")).err


# how many cards a llama-server's matrices are divided over: shown to it, in parts of their own, as a machine, or asked for
SERVER = "llama-server -hf bartowski/Qwen3-32B-GGUF:Q4_K_M -ngl 99 -c 8192 -fa on -sm {}"


@pytest.mark.parametrize("mode", ["row", "tensor"])
def test_matrices_are_divided_over_the_cards_that_a_server_sees(memcalc: Run, tmp_path: Path, mode: str) -> None:
    file = tmp_path / "serve.sh"
    said = ("--get", "per_gpu.needed")
    expected = memcalc("infer", "qwen3-32b", "--engine", "llama.cpp", "--weights", "Q4_K_M", "--context", "8192",
                       "--flash-attention", "on", "--split-mode", mode, "--pp", "2", "--gpu", "3090", *said).out  # fmt: skip
    line = SERVER.format(mode)
    for text in (f"CUDA_VISIBLE_DEVICES=0,1 {line}", f"{line} --device CUDA0,CUDA1"):
        file.write_text(text)
        assert memcalc("infer", "--from", str(file), "--gpu", "3090", *said).out == expected
        assert memcalc("check", str(file), "--gpu", "3090").code == 0
    file.write_text(line)
    assert "add --pp" in memcalc("infer", "--from", str(file), "--gpu", "3090").err
    assert "add --gpus" in memcalc("check", str(file), "--gpu", "3090").err
    assert memcalc("infer", "--from", str(file), "--gpu", "3090", "--pp", "2", *said).out == expected
    assert memcalc("infer", "--from", str(file), "--gpu", "3090+3090", *said).out == expected
    for more in (("--gpu", "3090", "--gpus", "2"), ("--gpu", "3090+3090")):
        (scenario,) = memcalc("check", str(file), *more, "--format", "json").document["scenarios"]
        assert scenario["values"]["verdict"] == "fits"


def test_an_exceeded_launch_file_names_the_line_to_change(memcalc: Run) -> None:
    found = memcalc("check", str(EXAMPLES / "train.sh"), "--gpu", "rtx-3060", "--format", "github")
    assert found.code == 1
    assert found.out.startswith("::error file=")
    assert "train.sh,line=" in found.out
