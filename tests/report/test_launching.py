"""Launch files of a layout: read back with the formats' own readers they say what the layout is."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from memcalc.report.launching import written
from memcalc.report.launching.launch import Launch

Run = Callable[..., Any]


def files(**settings: Any) -> dict[str, str]:
    return {each.file: each.text for each in written("llama-3.1-8b", {"seq_len": 8192, **settings}, 8)}


def test_accelerate() -> None:
    found = files(engine="torch", gpus=16, fsdp="hybrid", tp=2, micro_batch=4, grad_accum=2, recompute="full")
    config = yaml.safe_load(found["accelerate.yaml"])
    assert (config["num_processes"], config["num_machines"], config["distributed_type"]) == (16, 2, "FSDP")
    assert config["fsdp_config"]["fsdp_version"] == 2
    assert config["fsdp_config"]["fsdp_activation_checkpointing"] is True
    sizes = {name.removeprefix("parallelism_config_"): size for name, size in config["parallelism_config"].items()}
    assert sizes == {"dp_replicate_size": 1, "dp_shard_size": 8, "tp_size": 2, "cp_size": 1}
    assert "--per_device_train_batch_size 4" in found["launch.sh"]
    assert "--gradient_checkpointing" not in found["launch.sh"]  # the launcher does it


@pytest.mark.parametrize(("fsdp", "word"), [("full", "FULL_SHARD"), ("grad-op", "SHARD_GRAD_OP"), ("hybrid", "HYBRID_SHARD")])
def test_fsdp_1_has_its_own_words(fsdp: str, word: str) -> None:
    config = yaml.safe_load(files(engine="accelerate", gpus=8, fsdp=fsdp)["accelerate.yaml"])
    assert (config["fsdp_config"]["fsdp_version"], config["fsdp_config"]["fsdp_sharding_strategy"]) == (1, word)


def test_deepspeed() -> None:
    found = files(engine="deepspeed", gpus=8, zero=3, micro_batch=2, grad_accum=4, offload=("optimizer", "parameters"))
    config = json.loads(found["ds_config.json"])
    assert config["train_batch_size"] == 64
    assert config["zero_optimization"]["stage"] == 3
    assert config["zero_optimization"]["offload_param"]["device"] == "cpu"
    assert config["bf16"] == {"enabled": True}
    assert "--deepspeed ds_config.json" in found["launch.sh"]


def test_megatron() -> None:
    text = files(engine="megatron", gpus=64, tp=4, pp=4, virtual_stages=2, sequence_parallel=True, zero=1, count_loss=True,
                 micro_batch=1, grad_accum=32, recompute="full")["launch.sh"]  # fmt: skip
    for words in ("--tensor-model-parallel-size 4", "--pipeline-model-parallel-size 4", "--sequence-parallel",
                  "--num-virtual-stages-per-pipeline-rank 2", "--use-distributed-optimizer", "--global-batch-size 128",
                  "--account-for-loss-in-pipeline-split", "--recompute-granularity full", "--nnodes=8"):  # fmt: skip
        assert words in text


def test_torchtitan() -> None:
    config = tomllib.loads(files(engine="torchtitan", gpus=32, fsdp="hybrid", tp=2, micro_batch=2, grad_accum=1)["train.toml"])
    assert config["parallelism"]["data_parallel_shard_degree"] * config["parallelism"]["data_parallel_replicate_degree"] == 16
    assert config["training"]["global_batch_size"] == 32


def test_axolotl_for_adapters_alone() -> None:
    config = yaml.safe_load(files(engine="torch", gpus=2, fsdp="full", method="qlora", lora_rank=8)["axolotl.yaml"])
    assert (config["adapter"], config["load_in_4bit"], config["lora_r"], config["fsdp_version"]) == ("qlora", True, 8, 2)
    assert "axolotl.yaml" not in files(engine="torch", gpus=2, fsdp="full")


def test_names_are_quoted_for_their_format() -> None:
    evil = 'a"b\n[x]; rm -rf $HOME #'
    for engine, settings in (("torch", {"fsdp": "full"}), ("deepspeed", {"zero": 1}), ("torchtitan", {"fsdp": "full"})):
        found = {each.file: each.text for each in written(evil, {"engine": engine, "gpus": 2, **settings}, 8)}
        if "train.toml" in found:
            assert tomllib.loads(found["train.toml"])["model"]["name"] == evil
        if engine != "torchtitan":
            assert "'a\"b\n[x]; rm -rf $HOME #'" in found["launch.sh"]


LAYOUTS: list[dict[str, Any]] = [
    {"engine": "torch", "gpus": 16, "fsdp": "full", "micro_batch": 2, "grad_accum": 4, "recompute": "full"},
    {"engine": "torch", "gpus": 8, "fsdp": "grad-op", "micro_batch": 1, "grad_accum": 1},
    {"engine": "torch", "gpus": 8, "fsdp": "full", "micro_batch": 2, "method": "qlora", "lora_rank": 32},
    {"engine": "torch", "gpus": 16, "fsdp": "full", "tp": 2, "micro_batch": 2, "sequence_parallel": True},
    {"engine": "accelerate", "gpus": 8, "fsdp": "hybrid", "micro_batch": 1, "grad_accum": 2},
    {"engine": "deepspeed", "gpus": 16, "zero": 3, "micro_batch": 2, "grad_accum": 8, "offload": ("optimizer",)},
    {"engine": "megatron", "gpus": 64, "tp": 4, "pp": 4, "cp": 2, "zero": 1, "micro_batch": 1, "grad_accum": 32,
     "virtual_stages": 2, "sequence_parallel": True, "recompute": "selective"},
    {"engine": "megatron", "gpus": 16, "ep": 8, "zero": 1, "micro_batch": 1, "grad_accum": 4, "recompute": "full"},
    {"engine": "torchtitan", "gpus": 32, "fsdp": "full", "tp": 8, "micro_batch": 2, "grad_accum": 1},
]  # fmt: skip
READ = ("engine", "gpus", "tp", "pp", "cp", "ep", "zero", "fsdp", "micro_batch", "recompute", "virtual_stages", "method",
        "offload", "lora_rank", "seq_len")  # fmt: skip


@pytest.mark.parametrize("settings", LAYOUTS, ids=lambda settings: f"{settings['engine']}-{settings['gpus']}")
def test_what_is_written_is_read_back(memcalc: Run, tmp_path: Path, settings: dict[str, Any]) -> None:
    """By `memcalc import`, which has tables of its own for what each engine's keys mean."""
    found = files(**settings)
    if settings["engine"] == "torchtitan":
        del found["launch.sh"]  # a line that starts torchtitan, and says nothing of the layout
    found.pop("axolotl.yaml", None)  # the same layout for another program
    for name, text in found.items():
        (tmp_path / name).write_text(text)
    read = memcalc("import", *(str(tmp_path / name) for name in found), "--format", "json").document["jobs"][0]["settings"]
    for name in READ:
        if name not in settings:
            continue
        said = list(settings[name]) if isinstance(settings[name], tuple) else settings[name]
        if name == "engine" and settings["engine"] == "torch":
            assert read.get(name, "torch") == "torch"
        elif name == "gpus" and settings["engine"] == "torchtitan":
            continue  # the launcher's line says it
        else:
            assert read.get(name) == said, name


def test_global_batch_is_that_of_all_copies() -> None:
    assert Launch("m", {"gpus": 64, "tp": 2, "pp": 4, "micro_batch": 2, "grad_accum": 8}).global_batch == 128


def test_the_sizing_file_of_a_plan_passes_its_own_check(memcalc: Run, tmp_path: Path) -> None:
    text = memcalc("plan", "train", "llama-3.1-8b", "--gpu", "h100", "--gpus", "8", "--get", "plan.0.sizing").out
    (tmp_path / "memcalc.toml").write_text(text)
    assert memcalc("check", str(tmp_path / "memcalc.toml")).code == 0
