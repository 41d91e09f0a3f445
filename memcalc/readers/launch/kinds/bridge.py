"""Megatron-Bridge's and NeMo's YAML and overrides: Megatron's names under model, train, dataset …; what is absent is "
    "the recipe's.

NeMo 1's own names: nemo/examples/nlp/language_modeling/conf/megatron_gpt_config.yaml.
"""

import re

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import DATA, IDLE, LOGGING, SCHEDULE, world
from memcalc.readers.launch.kinds.megatron import KEYS as MEGATRON_KEYS
from memcalc.readers.launch.kinds.megatron import cpu_offload, set_
from memcalc.readers.launch.meanings import By, Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.reading import Reading
from memcalc.readers.launch.values import Read

WHY = "Megatron-Bridge's default"
PRECISIONS: dict[str, Read] = {"bf16": "bf16-mixed", "bf16_mixed": "bf16-mixed", "16": "fp16-mixed",
    "16_mixed": "fp16-mixed", "fp16": "fp16-mixed",
    "fp16_mixed": "fp16-mixed", "32": "fp32", "fp32": "fp32", "32_true": "fp32"}  # fmt: skip
OPTIMIZERS = ("distributed_fused_adam", "mcore_distributed_optim")  # NeMo's names of a distributed Adam


def _optimizer(value: Value) -> dict[str, Read]:
    name = str(value)
    return {"optimizer": "adam", "distributed_optimizer": True} if name in OPTIMIZERS else {"optimizer": name}


def _activation(value: Value) -> dict[str, Read]:
    return {"swiglu": str(value) in ("swiglu", "fast-swiglu", "silu")}


def _peft(value: Value) -> dict[str, Read]:
    word = str(value).lower()
    return {"method": word} if word in ("lora", "dora") else {"method": "lora"} if word == "canonical_lora" else {}


KEYS: KeyTable = {
    "recipe": "recipe", "recipe_name": "recipe", **alike("hf_path hf_model_id hf_model_path", "model"),
    **alike("peft peft_scheme model.peft.peft_scheme", By(_peft, "method")),
    **alike("step_func mode dataset", IDLE), "seq_length": "seq_len",
    **{f"model.{key}": row for key, row in MEGATRON_KEYS.items() if "*" not in key},
    **{f"{table}.{key}": MEGATRON_KEYS[key] for table in ("train", "trainer") for key in ("micro_batch_size",
        "global_batch_size")},
    **alike("dataset.seq_length dataset.sequence_length data.seq_length model.encoder_seq_length model.data.seq_length "
            "data.max_seq_length model.data.train_ds.max_seq_length", "seq_len"),
    "dataset.offline_packing_specs.packed_sequence_size": "seq_len",
        "dataset.packed_sequence_specs.packed_sequence_size": "seq_len",
    "dataset.enable_offline_packing": "packing",
    "ddp.use_distributed_optimizer": "distributed_optimizer", "ddp.grad_reduce_in_fp32": set_("main_grads_dtype", "fp32"),
    "ddp.use_megatron_fsdp": "megatron_fsdp",
        "ddp.data_parallel_sharding_strategy": MEGATRON_KEYS["data_parallel_sharding_strategy"],
    "dist.use_megatron_fsdp": "megatron_fsdp",
    "optimizer.use_distributed_optimizer": "distributed_optimizer",
    "optimizer.optimizer": "optimizer", "optimizer.optimizer_cpu_offload": By(cpu_offload),
    "optimizer.optimizer_offload_fraction": "offload_fraction",
    "optimizer.use_precision_aware_optimizer": "precision_aware_optimizer",
    **{f"optimizer.{name}": name for name in ("main_grads_dtype", "main_params_dtype", "exp_avg_dtype", "exp_avg_sq_dtype")},
    "mixed_precision": Coded("precision", {**PRECISIONS, "*": "fp8-mixed"}),
    "mixed_precision.grad_reduce_in_fp32": set_("main_grads_dtype", "fp32"),
    "model.num_moe_experts": "experts",
    "model.teacher.*": Unmodelled("the teacher of a distillation"), "model.optim.grad_sync_dtype": "reduce_dtype",
    **alike("trainer.precision trainer.strategy.precision model.precision", Coded("precision", PRECISIONS)),
    **alike("trainer.devices trainer.num_gpus", "gpus_per_node"), "trainer.num_nodes": "nodes",
    "trainer.accumulate_grad_batches": Ignored("the global batch says it"), "trainer.gradient_clip_val": "max_grad_norm",
    "model.activations_checkpoint_granularity": "recompute", "model.activations_checkpoint_method": "recompute_method",
    "model.activations_checkpoint_num_layers": "recompute_layers",
    **alike("model.activations_checkpoint_layers_per_pipeline model.num_micro_batches_with_partial_activation_checkpoints",
            Unmodelled("checkpoints of a part of the pipeline's layers")),
    "model.virtual_pipeline_model_parallel_size": "virtual_stages",
    "model.share_embeddings_and_output_weights": "tied", "model.activation": By(_activation),
    "model.use_flash_attention": set_("flash", True), "model.optim.name": By(_optimizer, "optimizer"),
    "model.fp8": Coded("fp8", {"false": "", "none": "", "true": "hybrid", "hybrid": "hybrid", "e4m3": "e4m3"}),
    **alike("model.fp8_e4m3 model.fp8_hybrid", Ignored("which of fp8's formats, where model.fp8 is on", True)),
    "model.fp8_params": Unmodelled("parameters that are kept in fp8"),
    "model.restore_from_path": "model",
    "model.peft.lora_tuning.adapter_dim": "lora_rank", "model.peft.lora_tuning.adapter_dropout": "lora_dropout",
    "model.peft.lora_tuning.target_modules": "lora_targets", "model.peft.*": IDLE,
    "peft.dim": "lora_rank",
    "peft.share_expert_adapters": Coded("expert_adapters", {"true": "shared", "false": "own"}),
    "peft.target_modules": "lora_targets", "peft.dropout": "lora_dropout", "peft.alpha": IDLE,
        "peft.*": IDLE,
    **alike("model.freeze_language_model model.freeze_vision_model model.freeze_vision_projection model.freeze_sound_*",
            Unmodelled("what is frozen of a multimodal model")),
    **alike("optimizer.* model.optim.* scheduler.*", SCHEDULE), **alike("model.data.* dataset.* data.*", DATA),
    **{f"model.{key}": row for key, row in MEGATRON_KEYS.items() if "*" in key},
    **alike("logger.* checkpoint.* exp_manager.* run.* profiling.* validation.* model.tokenizer.* tokenizer.*", LOGGING),
    **alike("train.* trainer.* rng.* dist.* comm_overlap.* ft.* ddp.* mixed_precision.* rerun_state_machine.* "
        "inference.* model.*",
            IDLE),
}  # fmt: skip


def _finish(out: Reading) -> None:
    facts = out.facts
    devices = facts.get("gpus_per_node")
    if not (devices and devices.entry and devices.entry.key.startswith("trainer.") and "nodes" not in facts):
        world(out)  # NeMo is told how many nodes there are when it starts
    recipe = str(facts["recipe"].value) if "recipe" in facts else ""
    if re.search(r"peft|lora", recipe):
        out.follow("method", "lora", "recipe")
    if out.says("method", "lora", "dora"):  # megatron/bridge/peft/lora.py: linear_qkv, linear_proj, linear_fc1, linear_fc2
        out.default(WHY, lora_rank=32, lora_targets="all-linear", lora_dropout=0.0)
    if out.says("distributed_optimizer", True):
        out.follow("strategy", "zero-1", "distributed_optimizer")
    if out.says("flash", True):
        out.follow("attention", "flash", "flash")


BRIDGE = Kind("megatron-bridge-yaml", "Megatron-Bridge", (KEYS,), has(any_=("model.tensor_model_parallel_size",
              "train.global_batch_size", "train.train_iters", "model.seq_length")), _finish)  # fmt: skip
