"""transformers' Trainer under accelerate: its YAML (accelerate/utils/dataclasses.py) and a script's arguments."""

from typing import Any

from memcalc.report.launching.launch import Launch, Written, argument, command, yaml

# transformers/training_args.py: OptimizerNames, and precision words
OPTIMIZERS = {
    "adamw": "adamw_torch_fused", "adamw-8bit": "adamw_bnb_8bit", "paged-adamw": "paged_adamw_32bit",
    "paged-adamw-8bit": "paged_adamw_8bit", "adafactor": "adafactor", "sgd": "sgd", "lion": "lion_32bit",
    "lion-8bit": "lion_8bit",
}  # fmt: skip
WRAPPED = {"full": True, "hybrid": True, "grad-op": False}  # reshard_after_forward
STRATEGIES = {"full": "FULL_SHARD", "grad-op": "SHARD_GRAD_OP", "hybrid": "HYBRID_SHARD", "none": "NO_SHARD"}


def write(launch: Launch) -> tuple[Written, ...]:
    return (Written("accelerate.yaml", yaml(configuration(launch))), Written("launch.sh", script(launch, "accelerate.yaml")))


def configuration(launch: Launch) -> dict[str, Any]:
    fsdp, precision = launch.get("fsdp"), str(launch.get("precision", "bf16-mixed"))
    out: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "FSDP" if fsdp and fsdp != "none" else "MULTI_GPU" if launch.gpus > 1 else "NO",
        "mixed_precision": "no" if precision in ("fp32", "bf16", "fp16") else precision.partition("-")[0],
        "num_machines": launch.nodes,
        "num_processes": launch.gpus,
    }
    if out["distributed_type"] == "FSDP":
        two = launch.engine != "accelerate"
        out["fsdp_config"] = {
            "fsdp_version": 2 if two else 1,
            **({"fsdp_reshard_after_forward": WRAPPED[fsdp]} if two else {"fsdp_sharding_strategy": STRATEGIES[fsdp]}),
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_activation_checkpointing": launch.get("recompute") == "full",
            "fsdp_offload_params": "parameters" in launch.get("offload", ()),
            "fsdp_state_dict_type": "SHARDED_STATE_DICT",
        }
    degrees = {name: launch.get(name, 1) for name in ("tp", "cp")}
    if fsdp == "hybrid" or any(degree > 1 for degree in degrees.values()):
        shards = launch.get("shard_size") or (launch.gpus_per_node if fsdp == "hybrid" else launch.copies)
        shards = min(shards, launch.copies) if fsdp else 1
        out["parallelism_config"] = {
            "parallelism_config_dp_replicate_size": launch.copies // shards,
            "parallelism_config_dp_shard_size": shards,
            "parallelism_config_tp_size": degrees["tp"],
            "parallelism_config_cp_size": degrees["cp"],
        }
    return out


def script(launch: Launch, configuration_file: str) -> str:
    return command(["accelerate", "launch", "--config_file", configuration_file, "train.py"], trainer_arguments(launch))


def trainer_arguments(launch: Launch) -> list[str]:
    """transformers' TrainingArguments and TRL's, as `train.py` reads them."""
    precision = str(launch.get("precision", "bf16-mixed"))
    out = [
        argument("model_name_or_path", launch.model),
        argument("per_device_train_batch_size", launch.get("micro_batch", 1)),
        argument("gradient_accumulation_steps", launch.get("grad_accum", 1)),
        argument("max_length", launch.get("seq_len", 4096)),
        argument("optim", OPTIMIZERS.get(launch.get("optimizer", "adamw"), launch.get("optimizer", "adamw"))),
    ]
    if precision.endswith(("mixed", "amp")):
        out.append(argument("fp16" if precision.startswith("fp16") else "bf16", "true"))
    checkpointed = "fsdp" in launch.settings and launch.get("fsdp") != "none"  # the launcher's file says it then
    if launch.get("recompute") == "full" and not checkpointed:
        out.append(argument("gradient_checkpointing", "true"))
    if launch.adapts:
        out += [argument("use_peft", "true"), argument("lora_r", launch.get("lora_rank", 16)),
                argument("lora_target_modules", "all-linear")]  # fmt: skip
    if launch.get("method") == "qlora":
        out.append(argument("load_in_4bit", "true"))
    return out
