"""Runs share their ranks only where nothing that ranks depend on differs: each field of the spec is changed in turn."""

from typing import Any

import pytest

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.predicting import predicting
from memcalc.estimates.training.estimate import estimate
from memcalc.readers.models import read_model
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.training import Training

# One other value of every field, with what it needs beside it.
DISTRIBUTED: dict[str, Any] = {"engine": "megatron", "parallelism": {"gpus": 8, "zero": 1}}
OTHER: dict[str, dict[str, Any]] = {
    "parallelism": {"parallelism": {"gpus": 8, "zero": 2}},
    "precision": {"precision": "bf16"},
    "optimizer": {"optimizer": "sgd"},
    "micro_batch": {"micro_batch": 3},
    "grad_accum": {"grad_accum": 4},
    "global_batch": {"micro_batch": 2, "grad_accum": 4, "global_batch": 8},
    "seq_len_max": {"seq_len": 1000, "seq_len_max": 3000},
    "tokens_per_batch": {"tokens_per_batch": 8192},
    "grad_accum_dtype": {"parallelism": {"gpus": 8, "zero": 3}, "grad_accum_dtype": "fp32"},
    "tiled_mlp": {"tiled_mlp": True},
    "mlp_tiles": {"tiled_mlp": True, "mlp_tiles": 8},
    "max_grad_norm": {"max_grad_norm": 1.0},
    "objective": {"objective": "embed"},
    "labels": {"objective": "classify", "labels": 9},
    "passages": {"objective": "embed", "passages": 4},
    "passage_len": {"objective": "embed", "passage_len": 9000},
    "cached_batch": {"objective": "embed", "micro_batch": 8, "cached_batch": 2},
    "images": {"images": 2, "image_size": "640x480"},
    "image_size": {"images": 2, "image_size": "1280x960"},
    "image_tokens": {"images": 2, "image_tokens": 256},
    "keep_output": {"keep_output": True},
    "use_cache": {"use_cache": True, "keep_output": True, "recompute": "full"},
    "eval_batch": {"eval_batch": 16},
    "eval_accumulation": {"eval_batch": 16, "eval_accumulation": 3},
    "seq_len": {"seq_len": 1000},
    "recompute": {"recompute": "full"},
    "recompute_every": {"recompute": "full", "recompute_every": 2},
    "recompute_layers": {"recompute": "full", "recompute_layers": 3},
    "recompute_method": {"recompute": "full", "recompute_method": "block"},
    "recompute_num_layers": {"recompute": "full", "recompute_method": "uniform", "recompute_num_layers": 2},
    "recompute_modules": {"engine": "megatron", "recompute": "selective", "recompute_modules": ("moe_act",)},
    "main_grads_dtype": {"engine": "megatron", "main_grads_dtype": "bf16"},
    "main_params_dtype": {**DISTRIBUTED, "main_params_dtype": "fp16"},
    "exp_avg_dtype": {**DISTRIBUTED, "exp_avg_dtype": "bf16"},
    "exp_avg_sq_dtype": {**DISTRIBUTED, "exp_avg_sq_dtype": "fp8"},
    "offload_fraction": {"parallelism": {"gpus": 8, "zero": 3}, "offload": ("optimizer",), "offload_fraction": 0.5},
    "ema": {"ema": "fp32"},
    "optimizer_in_backward": {"optimizer_in_backward": True},
    "expert_imbalance": {"parallelism": {"gpus": 8, "ep": 4}, "expert_imbalance": 1.5},
    "capacity_factor": {"capacity_factor": 1.25},
    "pad_to_capacity": {"capacity_factor": 1.25, "pad_to_capacity": True},
    "attention": {"attention": "eager"},
    "kernels": {"kernels": "liger"},
    "loss": {"loss": "chunked"},
    "library": {"library": "transformers==4.46"},
    "optimizer_impl": {"optimizer_impl": "foreach"},
    "allocator": {"allocator": "expandable-segments"},
    "max_split_size": {"max_split_size": 64},
    "engine": {"engine": "megatron"},
    "method": {"method": "qlora"},
    "freeze": {"freeze": ("embeddings",)},
    "lora_rank": {"method": "lora", "lora_rank": 64},
    "lora_targets": {"method": "lora", "lora_targets": ("q",)},
    "lora_dropout": {"method": "lora", "lora_dropout": 0.1},
    "adapter_dtype": {"method": "lora", "adapter_dtype": "half"},
    "expert_adapters": {"engine": "megatron", "method": "lora", "expert_adapters": "own"},
    "base_format": {"method": "qlora", "base_format": "nf4"},
    "virtual_tokens": {"method": "prompt-tuning", "virtual_tokens": 64},
    "reference": {"objective": "dpo", "reference": "precomputed"},
    "mtp_layers": {"engine": "megatron", "mtp_layers": 1},
    "train_layers": {"train_layers": 2},
    "train_also": {"method": "lora", "train_also": ("head",)},
    "kbit_prepare": {"method": "qlora", "kbit_prepare": "all"},
    "offload": {"parallelism": {"gpus": 8, "zero": 3}, "offload": ("optimizer",)},
    "offload_to": {"parallelism": {"gpus": 8, "zero": 3}, "offload": ("optimizer",), "offload_to": "nvme"},
}
GPUS = {"gpus": 8}
OTHER_PARALLELISM: dict[str, dict[str, Any]] = {
    "gpus": {"gpus": 4},
    "gpus_per_node": {"gpus": 8, "fsdp": "hybrid", "gpus_per_node": 4},
    "ddp": {"gpus": 8, "ddp": True},
    "zero": {"gpus": 8, "zero": 3},
    "fsdp": {"gpus": 8, "fsdp": "full"},
    "shard_size": {"gpus": 8, "fsdp": "full", "shard_size": 2},
    "tp": {"gpus": 8, "tp": 2},
    "pp": {"gpus": 8, "pp": 2},
    "cp": {"gpus": 8, "cp": 2},
    "cp_kind": {"gpus": 8, "cp": 2, "cp_kind": "all-gather"},
    "ep": {"gpus": 8, "ep": 2},
    "etp": {"gpus": 8, "ep": 2, "etp": 2},
    "sequence_parallel": {"gpus": 8, "tp": 2, "sequence_parallel": True},
    "tp_overlap": {"gpus": 8, "tp": 2, "sequence_parallel": True, "tp_overlap": "off"},
    "pipeline_schedule": {"gpus": 8, "pp": 4, "pipeline_schedule": "gpipe"},
    "virtual_stages": {"gpus": 8, "pp": 4, "virtual_stages": 2},
    "first_stage_layers": {"gpus": 8, "pp": 4, "first_stage_layers": 5},
    "last_stage_layers": {"gpus": 8, "pp": 4, "last_stage_layers": 2},
    "count_embedding": {"gpus": 6, "pp": 3, "count_embedding": True},
    "count_loss": {"gpus": 6, "pp": 3, "count_loss": True},
    "reduce_bucket_size": {"gpus": 8, "zero": 2, "reduce_bucket_size": 10**8},
    "auto_buckets": {"gpus": 8, "zero": 2, "auto_buckets": True, "reduce_bucket_size": 4096**2},
    "max_live_parameters": {"gpus": 8, "zero": 3, "max_live_parameters": 10**8},
    "sub_group_size": {"gpus": 8, "zero": 3, "sub_group_size": 10**8},
    "overlap_comm": {"gpus": 8, "zero": 2, "overlap_comm": True},
    "quantized_frozen": {"gpus": 8, "zero": 3, "quantized_frozen": True},
    "hpz_partition_size": {"gpus": 8, "zero": 3, "hpz_partition_size": 4},
    "backward_prefetch": {"gpus": 8, "fsdp": "full", "backward_prefetch": "none"},
    "sync_each_batch": {"gpus": 8, "fsdp": "full", "sync_each_batch": True},
    "pipeline_layout": {"gpus": 8, "pp": 2, "pipeline_layout": "Et*20|t*12L"},
}
BASE: list[dict[str, Any]] = [
    {},
    {"recompute": "full"},
    {"method": "lora"},
    {"method": "qlora"},
    {"capacity_factor": 1.25},
    {"parallelism": {"gpus": 8, "ep": 4}},
    {"parallelism": {"gpus": 8, "zero": 3}, "offload": ("optimizer",)},
    *({"parallelism": {"gpus": 8, **more}, "grad_accum": 16} for more in (
        {}, {"pp": 4}, {"pp": 2}, {"cp": 2}, {"tp": 2}, {"ep": 2}, {"fsdp": "hybrid"}, {"fsdp": "full"})),
]  # fmt: skip
BESIDE: dict[str, dict[str, Any]] = {  # what a field needs of the run
    "quantized_frozen": {"method": "lora", "precision": "fp16-mixed"}, "tp_overlap": {"engine": "megatron"},
}  # fmt: skip
CHANGED = [
    *OTHER.items(),
    *((name, {"parallelism": p, "grad_accum": 16, **BESIDE.get(name, {})}) for name, p in OTHER_PARALLELISM.items()),
]


def _model(name: str = "mixtral-8x7b") -> Architecture:
    found = read_model(name).architecture
    assert found
    return found


def _predicted(run: Training) -> Architecture:
    return predicting(_model(), run.predicting) if run.predicting else _model()


def _answer(architecture: Architecture, run: Training) -> tuple[Any, ...]:
    found = estimate(architecture, run)
    return found.peak, found.components, found.host_per_node, found.nvme_per_node, found.steady


def test_every_field_is_changed() -> None:
    assert OTHER.keys() == Training.model_fields.keys()
    assert OTHER_PARALLELISM.keys() == Parallelism.model_fields.keys()


@pytest.fixture(scope="module")
def warm() -> Architecture:
    """A model whose ranks were worked out for all the settings that a field is changed from."""
    architecture = _model()
    for settings in BASE:
        estimate(architecture, Training(**settings))
    return architecture


@pytest.mark.parametrize(("name", "changes"), CHANGED, ids=[name for name, _ in CHANGED])
def test_a_changed_field_is_never_forgotten(name: str, changes: dict[str, Any], warm: Architecture) -> None:
    run = Training(**changes)
    if run.predicting:
        warm = predicting(warm, run.predicting)
    if other := "llama-3.2-1b" if run.tiled_mlp else "qwen2-vl-2b" if run.images else "":  # mixtral has none of that
        warm = _model(other)
        for settings in ({}, {"tiled_mlp": True}, *({"images": 2, "image_tokens": 64},) * bool(run.images)):
            estimate(warm, Training(**settings))
        assert _answer(warm, run) == _answer(_model(other), run), f"{name} does not reach the key of the ranks"
        return
    assert _answer(warm, run) == _answer(_predicted(run), run), f"{name} does not reach the key of the ranks"
