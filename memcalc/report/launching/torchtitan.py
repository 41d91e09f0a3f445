"""torchtitan's TOML (torchtitan/config/job_config.py)."""

from typing import Any

from memcalc.report.launching.launch import Launch, Written, toml, torchrun

HEAD = "# model.name and model.flavor are as torchtitan calls the model\n"
SCHEDULES = {"1f1b": "1F1B", "interleaved": "Interleaved1F1B", "gpipe": "GPipe", "zero-bubble": "ZBVZeroBubble"}


def write(launch: Launch) -> tuple[Written, ...]:
    fsdp = launch.get("fsdp")
    shards = launch.copies if fsdp == "full" else min(launch.gpus_per_node, launch.copies) if fsdp == "hybrid" else 1
    shards = launch.get("shard_size") or shards
    parallelism: dict[str, Any] = {
        "data_parallel_replicate_degree": launch.copies // shards, "data_parallel_shard_degree": shards,
        "fsdp_reshard_after_forward": "never" if fsdp == "grad-op" else "default",
        "tensor_parallel_degree": launch.get("tp", 1), "context_parallel_degree": launch.get("cp", 1),
        "pipeline_parallel_degree": launch.get("pp", 1), "expert_parallel_degree": launch.get("ep", 1),
    }  # fmt: skip
    if launch.get("tp_overlap") == "on":
        parallelism["enable_async_tensor_parallel"] = True
    if launch.get("pp", 1) > 1:
        parallelism["pipeline_parallel_schedule"] = SCHEDULES[launch.get("pipeline_schedule", "1f1b")]
        parallelism["pipeline_parallel_microbatch_size"] = launch.get("micro_batch", 1)
    mode = launch.get("recompute", "none")
    tables = {
        "model": {"name": launch.model},
        "training": {
            "local_batch_size": launch.get("micro_batch", 1) * (launch.get("grad_accum", 1) if launch.get("pp", 1) > 1 else 1),
            "global_batch_size": launch.global_batch, "seq_len": launch.get("seq_len", 4096),
            "mixed_precision_param": "float32" if launch.get("precision") == "fp32" else "bfloat16",
        },
        "parallelism": parallelism,
        "activation_checkpoint": {"mode": mode, **({"selective_ac_option": "op"} if mode == "selective" else {})},
    }  # fmt: skip
    run = torchrun(launch, "-m torchtitan.train", ["--job.config_file train.toml"])
    return (Written("train.toml", f"{HEAD}{toml(tables)}"), Written("launch.sh", run))
