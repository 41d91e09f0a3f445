"""DeepSpeed's JSON (deepspeed/runtime/config.py, runtime/zero/config.py) beside transformers' arguments."""

import json
from typing import Any

from memcalc.report.launching.accelerate import trainer_arguments
from memcalc.report.launching.launch import Launch, Written, argument, command


def write(launch: Launch) -> tuple[Written, ...]:
    words = [
        "deepspeed",
        f"--num_gpus {launch.on_node}",
        *([f"--num_nodes {launch.nodes}"] if launch.nodes > 1 else []),
        "train.py",
    ]
    arguments = [*trainer_arguments(launch), argument("deepspeed", "ds_config.json")]
    return (
        Written("ds_config.json", json.dumps(configuration(launch), indent=2) + "\n"),
        Written("launch.sh", command(words, arguments)),
    )


def configuration(launch: Launch) -> dict[str, Any]:
    stage, precision = launch.get("zero", 0), str(launch.get("precision", "bf16-mixed"))
    zero: dict[str, Any] = {"stage": stage}
    for what, key in (("optimizer", "offload_optimizer"), ("parameters", "offload_param")):
        if what in launch.get("offload", ()):
            zero[key] = {"device": launch.get("offload_to", "cpu"), "pin_memory": True}
    for name in ("reduce_bucket_size", "sub_group_size"):
        if launch.get(name) is not None:
            zero[name] = launch.get(name)
    out: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": launch.get("micro_batch", 1),
        "gradient_accumulation_steps": launch.get("grad_accum", 1),
        "train_batch_size": launch.global_batch,
        "zero_optimization": zero,
    }
    if precision.startswith(("bf16", "fp16")):
        out[precision[:4]] = {"enabled": True}
    if launch.get("cp", 1) > 1:
        out["sequence_parallel_size"] = launch.get("cp")
    return out
