"""axolotl's YAML (axolotl/utils/schemas) for adapters."""

from typing import Any

from memcalc.report.launching.launch import Launch, Written, yaml

ADAPTERS = {"lora": "lora", "qlora": "qlora"}
OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw-8bit": "adamw_bnb_8bit", "paged-adamw-8bit": "paged_adamw_8bit"}


def write(launch: Launch) -> tuple[Written, ...]:
    method = str(launch.get("method"))
    values: dict[str, Any] = {
        "base_model": launch.model, "adapter": ADAPTERS[method], "load_in_4bit": method == "qlora",
        "lora_r": launch.get("lora_rank", 16), "lora_target_linear": True, "sequence_len": launch.get("seq_len", 4096),
        "micro_batch_size": launch.get("micro_batch", 1), "gradient_accumulation_steps": launch.get("grad_accum", 1),
        "optimizer": OPTIMIZERS.get(launch.get("optimizer", "adamw"), launch.get("optimizer", "adamw")),
        "bf16": True, "gradient_checkpointing": launch.get("recompute") == "full",
    }  # fmt: skip
    if launch.engine == "deepspeed":
        values["deepspeed"] = "ds_config.json"
    elif launch.get("fsdp") not in (None, "none"):
        values["fsdp_version"] = 1 if launch.engine == "accelerate" else 2
        values["fsdp_config"] = {"reshard_after_forward": launch.get("fsdp") != "grad-op",
                                 "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}  # fmt: skip
    return (Written("axolotl.yaml", yaml(values)),)
