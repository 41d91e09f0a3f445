"""accelerate's YAML (accelerate/commands/config, utils/dataclasses.py) and the same words as options of `accelerate launch`."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import IDLE, offloading, world
from memcalc.readers.launch.kinds.deepspeed import _device as offload_device
from memcalc.readers.launch.meanings import FULL, By, Coded, Ignored, KeyTable, Meaning, Unmodelled, alike
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.reading import Reading
from memcalc.readers.launch.values import Read, word

TYPES = {"no": "single", "multi_gpu": "ddp", "fsdp": "fsdp", "deepspeed": "deepspeed", "megatron_lm": "megatron",
    "multi_npu": "ddp",
         "none": "single", "tp": "tp"}  # fmt: skip
SHARDINGS = {"full_shard": "full", "1": "full", "shard_grad_op": "grad-op", "2": "grad-op", "no_shard": "none", "3": "none",
             "hybrid_shard": "hybrid", "4": "hybrid", "hybrid_shard_zero2": "hybrid", "5": "hybrid"}  # fmt: skip
NUMBERED = {"1": "FULL_SHARD", "2": "SHARD_GRAD_OP", "3": "NO_SHARD", "4": "HYBRID_SHARD", "5": "HYBRID_SHARD_ZERO2"}


def sharding(value: Value) -> dict[str, Read]:
    """FSDP1's strategy, by name or number."""
    text = word(value if isinstance(value, str) else "")
    from memcalc.readers.launch.values import Unreadable

    if text.lower() not in SHARDINGS:
        raise Unreadable("is no sharding strategy")
    found = SHARDINGS[text.lower()]
    return {"sharding": NUMBERED.get(text, text.upper()), "fsdp": found}


def reshard(value: Value) -> dict[str, Read]:
    """FSDP2's flag; version 1 takes its strategy there too."""
    text = word(value if isinstance(value, str) else "").lower()
    if text in ("true", "false", "yes", "no", "1", "0", "on", "off"):
        full = text in ("true", "yes", "1", "on")
        return {"reshard_after_forward": full, "fsdp": "full" if full else "grad-op"}
    return {**sharding(value), "reshard_after_forward": word(value if isinstance(value, str) else "")}


def _fsdp(prefix: str) -> dict[str, Meaning]:
    return {
        f"{prefix}version": Coded("strategy", {"1": "fsdp1", "2": "fsdp2"}),
        f"{prefix}sharding_strategy": By(sharding),
        f"{prefix}reshard_after_forward": By(reshard),
        f"{prefix}offload_params": offloading("parameters"),
        f"{prefix}activation_checkpointing": Coded("recompute", FULL),
        f"{prefix}activation_cpu_offload": offloading("activations"),
        f"{prefix}backward_prefetch": Coded(
            "backward_prefetch", {"backward_pre": "pre", "backward_post": "post", "no_prefetch": "none", "null": ""}
        ),
        f"{prefix}min_num_params": Unmodelled("units by size in place of layers"),
        f"{prefix}auto_wrap_policy": Unmodelled("other units than layers", ("transformer_based_wrap", "true", "null", "")),
        f"{prefix}forward_prefetch": Unmodelled("a unit that is gathered ahead in the forward"),
        **alike(
            f"{prefix}transformer_layer_cls_to_wrap {prefix}backward_prefetch_policy "
            f"{prefix}use_orig_params "
            f"{prefix}sync_module_states {prefix}state_dict_type {prefix}final_state_dict_type "
            f"{prefix}cpu_ram_efficient_loading "
            f"{prefix}limit_all_gathers {prefix}cpu_offload_pin_memory {prefix}xla*",
            Ignored("a layer is one unit, gathered whole, whatever these say", True),
        ),
        f"{prefix}mixed_precision_policy*": Unmodelled("a mixed precision of FSDP's own"),
    }


FSDP: KeyTable = {**_fsdp("fsdp_"), **_fsdp("")}
P, M, D = "parallelism_config.parallelism_config_", "megatron_lm_config.megatron_lm_", "deepspeed_config."
KEYS: KeyTable = {
    "distributed_type": Coded("strategy", TYPES),
    "mixed_precision": "precision",
    "num_processes": "processes",
    "num_machines": "nodes",
    "fsdp_config.": IDLE,
    **{f"fsdp_config.{key}": row for key, row in {**_fsdp("fsdp_"), **_fsdp("")}.items()},
    f"{D}zero_stage": By(lambda value: {"zero_stage": int(str(value)), "strategy": f"zero-{int(str(value))}"}),
    f"{D}offload_optimizer_device": offload_device("optimizer"),
    f"{D}offload_param_device": offload_device("parameters"),
    f"{D}gradient_accumulation_steps": "grad_accum",
    f"{D}gradient_clipping": "max_grad_norm",
    f"{D}deepspeed_config_file": "deepspeed_file",
    **alike(f"{D}zero3_init_flag {D}zero3_save_16bit_model {D}deepspeed_multinode_launcher {D}deepspeed_hostfile "
            f"{D}deepspeed_moe_layer_cls_names {D}offload_*nvme_path {D}deepspeed_exclusion_filter "
            f"{D}deepspeed_inclusion_filter",
            IDLE),
    "parallelism_config.use_parallelism_config": IDLE,
    f"{P}tp_size": "tp", f"{P}cp_size": "cp", f"{P}sp_size": "sp", f"{P}dp_shard_size": "shard_size",
    f"{P}dp_replicate_size": "replicas",
    f"{P}cp_comm_strategy": Coded("cp_kind", {"allgather": "all-gather", "alltoall": "ring"}),
    f"{P}*": IDLE,
    f"{M}tp_degree": "tp", f"{M}pp_degree": "pp", f"{M}num_micro_batches": "grad_accum",
    f"{M}recompute_activations": Coded("recompute", {"true": "selective", "false": "none", "yes": "selective", "no": "none"}),
    f"{M}sequence_parallelism": "sequence_parallel", f"{M}use_distributed_optimizer": "distributed_optimizer",
    f"{M}gradient_clipping": "max_grad_norm",
    f"{M}expert_model_parallel_size": "ep", f"{M}context_parallel_size": "cp",
    "dynamo_config.dynamo_backend": Coded("compile", {"no": False, "*": True}),
    "dynamo_backend": Coded("compile", {"no": False, "*": True}),
    "dynamo_config*": IDLE,
    "fp8_config.backend": IDLE, "fp8_config.*": IDLE,
    "gradient_accumulation_steps": "grad_accum",
    "gradient_clipping": "max_grad_norm",
    "gpu_ids": IDLE,
    "use_cpu": Unmodelled("training on CPUs"),
    **alike("compute_environment debug downcast_bf16 enable_cpu_affinity machine_rank main_training_function "
            "main_process_* rdzv_* "
            "same_network tpu_* command_file commands deepspeed_fields_from_accelerate_config mpirun_config.* ipex_config.* "
            "fsdp dynamo_* kt_config* env.* use_megatron_lm use_deepspeed use_fsdp multi_gpu module no_python rdzv_backend "
            "deepspeed_multinode_launcher deepspeed_hostfile megatron_lm_config.* num_cpu_threads_per_process max_restarts "
            "role log_dir tee main_process_ip main_process_port monitor_interval quiet machine_rank", IDLE),
    "deepspeed_config_file": "deepspeed_file",
    "zero_stage": By(lambda value: {"zero_stage": int(str(value)), "strategy": f"zero-{int(str(value))}"}),
    "offload_optimizer_device": offload_device("optimizer"),
    "offload_param_device": offload_device("parameters"),
    **alike("zero3_init_flag zero3_save_16bit_model", IDLE),
    "config_file": "accelerate_file",
}  # fmt: skip


def finish_strategy(out: Reading) -> None:
    """fsdp without a version is version 1; deepspeed without a stage is 2 in accelerate's questionnaire."""
    facts = out.facts
    if out.says("strategy", "fsdp"):
        facts["strategy"] = facts["strategy"]._replace(value="fsdp1")
    if out.says("strategy", "deepspeed") and "deepspeed_file" not in facts:
        stage = facts["zero_stage"].value if "zero_stage" in facts else 2
        facts["strategy"] = facts["strategy"]._replace(value=f"zero-{stage}")
    if out.says("strategy", "fsdp1", "fsdp2"):
        out.default("accelerate's default", fsdp="full")
    if out.says("strategy", "fsdp2") and "fsdp" in facts and facts["fsdp"].value == "full":
        out.default("accelerate's default", reshard_after_forward=True)


def _finish(out: Reading) -> None:
    version = [row for row in out.imported if row.entry.key.endswith("fsdp_version")]
    if version and out.says("strategy", "ddp", "fsdp"):
        out.facts["strategy"] = out.facts["strategy"]._replace(value=f"fsdp{version[-1].entry.value}")
    finish_strategy(out)
    if out.says("strategy", "fsdp1", "fsdp2"):
        out.default("accelerate's default", recompute="none")
    out.default("accelerate's default", precision="no", offload=[])
    out.default("accelerate's default", nodes=1)
    world(out)


ACCELERATE = Kind(
    "accelerate-yaml", "accelerate", (KEYS,), has(any_=("distributed_type", "compute_environment")), _finish,
)  # fmt: skip
