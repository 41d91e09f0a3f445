"""`memcalc check` on launch files: the same verdict as `train|infer --from`, beside sizing files, errors with their file."""

import shutil
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
    assert "is a launch file" in memcalc("check", file, "--gpu", "h100", "--baseline", "HEAD").err


def test_an_exceeded_launch_file_names_the_line_to_change(memcalc: Run) -> None:
    found = memcalc("check", str(EXAMPLES / "train.sh"), "--gpu", "rtx-3060", "--format", "github")
    assert found.code == 1
    assert found.out.startswith("::error file=")
    assert "train.sh,line=" in found.out
