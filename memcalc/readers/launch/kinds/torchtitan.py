"""torchtitan's TOML in its three schemas (torchtitan config/job_config.py)."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import IDLE, offloading, world
from memcalc.readers.launch.meanings import Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.reading import Reading

WHY = "torchtitan's default"
A, T, P, E = "activation_checkpoint.", "training.", "parallelism.", "experimental."
KEYS: KeyTable = {
    "model.name": "recipe", "model.flavor": "model", "model.converters": "converters",
    **alike(f"{T}local_batch_size {T}batch_size", "micro_batch"), f"{T}global_batch_size": "global_batch",
    f"{T}seq_len": "seq_len",
    **alike(f"{P}data_parallel_shard_degree {T}data_parallel_shard_degree {T}data_parallel_degree", "shard_size"),
    **alike(f"{P}data_parallel_replicate_degree {T}data_parallel_replicate_degree", "replicas"),
    **alike(f"{P}tensor_parallel_degree {T}tensor_parallel_degree", "tp"),
    **alike(f"{P}pipeline_parallel_degree {E}pipeline_parallel_degree {T}pipeline_parallel_degree", "pp"),
    **alike(f"{P}context_parallel_degree {E}context_parallel_degree", "cp"),
    f"{P}expert_parallel_degree": "ep", f"{P}expert_tensor_parallel_degree": "etp",
    **alike(f"{P}pipeline_parallel_schedule {E}pipeline_parallel_schedule", "pipeline_schedule"),
    **alike(f"{P}pipeline_parallel_layers_per_stage {P}pipeline_parallel_first_stage_less_layers "
            f"{P}pipeline_parallel_split_points "
            f"{P}pipeline_parallel_last_stage_less_layers {P}module_fqns_per_model_part {E}pipeline_parallel_split_points",
            Unmodelled("how stages share the layers in torchtitan's own words")),
    f"{P}pipeline_parallel_microbatch_size": Unmodelled("the pipeline's own micro-batch"),
    f"{P}pipeline_parallel_*": IDLE, f"{E}pipeline_parallel_*": IDLE,
    **alike(f"{P}enable_async_tensor_parallel {E}enable_async_tensor_parallel", "tp_overlap"),
    f"{P}fsdp_reshard_after_forward": Coded("fsdp", {"default": "full", "always": "full", "never": "grad-op"}),
    **alike(f"{P}disable_loss_parallel {P}enable_loss_parallel {T}disable_loss_parallel {P}context_parallel_rotate_method "
            f"{E}custom_* {P}enable_compiled_autograd "
            f"{E}enable_compiled_autograd {E}context_parallel_rotate_method {P}expert_parallel_* {E}*", IDLE),
    f"{A}mode": "recompute", f"{A}selective_ac_option": "recompute_option",
    f"{A}memory_budget": Unmodelled("a memory budget for recomputation"), f"{A}*": IDLE,
    **alike(f"{T}compile compile.enable", "compile"), "compile.*": IDLE,
    f"{T}enable_float8_linear": Coded("precision", {"true": "fp8-mixed", "false": ""}),
    "float8.enable_float8_linear": Coded("precision", {"true": "fp8-mixed", "false": ""}),
    "quantize.*": IDLE, "float8.*": IDLE, "mx.*": IDLE, "nvfp4.*": IDLE,
    f"{T}mixed_precision_param": Coded("precision", {"bfloat16": "bf16-mixed", "float32": "fp32"}),
    f"{T}mixed_precision_reduce": "reduce_dtype", f"{T}dtype": "model_dtype",
    f"{T}enable_cpu_offload": offloading("parameters"),
    f"{T}max_norm": "max_grad_norm", f"{T}gradient_accumulation_steps": "grad_accum",
    "optimizer.name": "optimizer", "optimizer.implementation": Coded("optimizer_impl", {"fused": "fused", "foreach": "foreach",
                                                                                        "for_loop": "for-loop"}),
    "optimizer.fused": Coded("optimizer_impl", {"true": "fused", "false": ""}),
    "optimizer.early_step_in_backward": "optimizer_in_backward",
    **alike("optimizer.* lr_scheduler.*", Ignored("of the schedule of learning", True)),
    **alike("job.* profiling.* metrics.* comm.* checkpoint.* validation.* fault_tolerance.* memory_estimation.* debug.* "
            f"{T}* model.* import.* encoder.* preprocess.* deepep.* custom_* actor.* blt.* inference.*", IDLE),
}  # fmt: skip
KEYS = {**KEYS, "model.print_after_conversion": IDLE}


def _finish(out: Reading) -> None:
    facts = out.facts
    if "recipe" in facts and "model" in facts:
        facts["model"] = facts["model"]._replace(value=f"{facts['recipe'].value} {facts['model'].value}")
    converters = facts["converters"].value if "converters" in facts else ()
    listed = converters if isinstance(converters, list) else [converters]
    for each, named in (("float8", "fp8-mixed"), ("mx", "fp8-mixed"), ("nvfp4", "nvfp4-mixed")):
        if any(str(item).startswith((each, f"quantize.linear.{each}")) for item in listed):
            facts["precision"] = facts["converters"]._replace(value=named)
    world(out)
    out.default(WHY, micro_batch=8, seq_len=2048, tp=1, pp=1, replicas=1, shard_size=-1, recompute="selective", compile=False)
    out.default(WHY, strategy="fsdp2", fsdp="full", optimizer="AdamW", optimizer_impl="fused", precision="bf16-mixed")
    if not out.says("tp", 1):
        out.default("torchtitan's tensor parallelism (models/llama3/infra/parallelize.py, SequenceParallel)",
                    sequence_parallel=True)  # fmt: skip
    if out.says("recompute", "selective"):
        out.default(
            WHY, recompute_option="2" if any(row.entry.key.startswith("experimental") for row in out.imported) else "op"
        )


TORCHTITAN = Kind("torchtitan-toml", "torchtitan", (KEYS,), has("model.name", any_=("training.", "parallelism.")), _finish)
