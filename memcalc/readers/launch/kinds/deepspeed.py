"""DeepSpeed's JSON (deepspeed/runtime/config.py, runtime/zero/config.py, zero/offload_config.py)."""

from collections.abc import Callable

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import IDLE
from memcalc.readers.launch.meanings import By, Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.reading import Reading
from memcalc.readers.launch.values import Read, flag

GATHERED = "how much ZeRO 3 gathers ahead"


def _device(what: str) -> By:
    def read(value: Value) -> dict[str, Read]:
        device = (value if isinstance(value, str) else "").strip().lower()
        return {} if device in ("none", "") else {"offload": [what], "offload_to": device}

    return By(read)


def _half(name: str) -> By:
    def read(value: Value) -> dict[str, Read]:
        text = (value if isinstance(value, str) else "").strip().lower()
        return {"precision": "auto"} if text == "auto" else {"precision": name} if flag(text) else {}

    return By(read)


def _stage(value: Value) -> dict[str, Read]:
    from memcalc.readers.launch.values import count

    stage = count(value if isinstance(value, str) else "")
    return {"zero_stage": stage} if stage == "auto" else {"zero_stage": stage, "strategy": f"zero-{stage}"}


def _positive(name: str) -> Callable[[Value], dict[str, Read]]:
    """A size that is one only above 1."""
    return lambda value: {name: int(str(value))} if str(value).isdigit() and int(str(value)) > 1 else {}


Z = "zero_optimization."
KEYS: KeyTable = {
    f"{Z}stage": By(_stage, "zero_stage"),
    "bf16.enabled": _half("bf16"), "bfloat16.enabled": _half("bf16"), "fp16.enabled": _half("fp16"),
    **alike("fp16.* amp.enabled amp.opt_level bf16.immediate_grad_update bf16.check_grad_overflow", Ignored("of the loss "
            "scale")),
    "train_micro_batch_size_per_gpu": "micro_batch",
    "gradient_accumulation_steps": "grad_accum",
    "train_batch_size": "global_batch",
    f"{Z}offload_optimizer.device": _device("optimizer"),
    f"{Z}offload_param.device": _device("parameters"),
    f"{Z}cpu_offload": By(lambda value: {"offload": ["optimizer"], "offload_to": "cpu"} if flag(str(value)) else {}),
    f"{Z}offload_optimizer.ratio": "offload_fraction",
    "optimizer.type": "optimizer",
    "optimizer.params.*": Ignored("of the schedule of learning", True),
    **alike("scheduler.* optimizer.legacy_fusion", Ignored("of the schedule of learning", True)),
    f"{Z}reduce_bucket_size": "reduce_bucket", f"{Z}allgather_bucket_size": "allgather_bucket",
    f"{Z}stage3_prefetch_bucket_size": "prefetch_bucket",
    f"{Z}prefetch_bucket_size": "prefetch_bucket",
    f"{Z}stage3_param_persistence_threshold": "persistence_threshold",
    f"{Z}param_persistence_threshold": "persistence_threshold",
    f"{Z}stage3_max_live_parameters": "max_live_parameters",
    f"{Z}max_live_parameters": "max_live_parameters",
    f"{Z}sub_group_size": "sub_group_size",
    f"{Z}overlap_comm": "overlap_comm",
    f"{Z}zero_hpz_partition_size": "hpz_partition",
    f"{Z}mics_shard_size": By(_positive("shard_size")),
    f"{Z}stage3_max_reuse_distance": Ignored("two layers are counted as gathered", True),
    f"{Z}max_reuse_distance": Ignored("two layers are counted as gathered", True),
    f"{Z}contiguous_gradients": Coded("strategy", {"true": ""}),
    **alike(f"{Z}round_robin_gradients {Z}reduce_scatter {Z}allgather_partitions {Z}offload_optimizer.pin_memory "
            f"{Z}offload_param.pin_memory {Z}offload_optimizer.fast_init {Z}offload_optimizer.pipeline* "
            f"{Z}load_from_fp32_weights "
            f"{Z}stage3_gather_16bit_weights_on_model_save {Z}stage3_gather_fp16_weights_on_model_save "
            f"{Z}gather_16bit_weights_on_model_save {Z}ignore_unused_parameters {Z}elastic_checkpoint {Z}legacy_stage1 "
            f"{Z}offload_*.nvme_path {Z}offload_*.buffer_* "
            f"{Z}memory_efficient_linear {Z}cpu_offload_use_pin_memory {Z}log_trace_cache_warnings {Z}param_names* "
            f"{Z}leaf_module* "
            f"{Z}use_multi_rank_bucket_allreduce {Z}allgather_sequential {Z}reduce_scatter_* "
            f"{Z}use_all_reduce_for_fetch_params",
            Ignored("changes no byte on the GPU that memcalc counts")),
    f"{Z}offload_*.max_in_cpu": Unmodelled("parameters that stay in host memory beside NVMe", ("auto", "0", "1e9",
        "1000000000")),
    f"{Z}cpu_offload_params": By(lambda value: {"offload": ["parameters"], "offload_to": "cpu"} if flag(str(value)) else {}),
    f"{Z}zero_quantized_nontrainable_weights": Unmodelled("frozen weights in 8 bits (add quantized_frozen)"),
    **alike(f"{Z}zero_quantized_weights {Z}zero_quantized_gradients", Unmodelled("ZeRO++'s quantised traffic")),
    **alike(f"{Z}offload_optimizer.super_offload* {Z}zenflow* {Z}offload_optimizer.zenflow*", Unmodelled("how the step on "
            "the host runs")),
    f"{Z}module_granularity_threshold": Unmodelled(GATHERED),
    "gradient_clipping": "max_grad_norm",
    **alike("bf16.bf16_master_weights_and_grads bf16.bf16_optimizer_states bf16.bf16_master_weights_and_gradients "
            "fp16.fp16_master_weights_and_grads", Unmodelled("master weights or states in 16 bits")),
    "data_types.grad_accum_dtype": "grad_accum_dtype",
    **alike("activation_checkpointing.partition_activations activation_checkpointing.cpu_checkpointing "
            "activation_checkpointing.number_checkpoints", Unmodelled("checkpoints that only a model built for them makes")),
    "activation_checkpointing.*": Ignored("of checkpoints that only a model built for them makes", True),
    "tensor_parallel.autotp_size": "tp", "autotp_size": "tp", "pipeline.stages": "pp", "sequence_parallel_size": "sp",
    "pipeline.*": IDLE,
    "torch_autocast.enabled": Unmodelled("DeepSpeed's autocast"),
    "torch_autocast.*": IDLE,
    "compile.enabled": "compile", "compile.deepcompile": Unmodelled("DeepCompile"), "compile.*": IDLE,
    **alike("steps_per_print wall_clock_breakdown dump_state zero_allow_untested_optimizer zero_force_ds_cpu_optimizer "
            "prescale_gradients gradient_predivide_factor communication_data_type fp32_allreduce sparse_gradients "
            "disable_allgather train_steps memory_breakdown tensorboard.* wandb.* csv_monitor.* comet.* flops_profiler.* aio.* "
            "elasticity.* comms_logger.* checkpoint.* zero_optimization_* local_rank seed monitor_config.* hybrid_engine.* "
            "use_data_before_expert_parallel_ data_efficiency.* curriculum_learning.* amp.* timers.* graph_harvesting nebula.* "
            "bfloat16.* bf16.* autotuning.* eigenvalue.* gradient_accumulation_dtype*", IDLE),
    "quantize_training.*": Unmodelled("quantisation in training"),
    "compression_training.*": Unmodelled("compression in training"),
    "sparse_attention.*": Unmodelled("sparse attention"), "progressive_layer_drop.*": Unmodelled("dropped layers"),
}  # fmt: skip


def _finish(out: Reading) -> None:
    out.default("DeepSpeed's default", strategy="zero-0", zero_stage=0)
    if not out.says("precision"):
        out.default("DeepSpeed's default", precision="fp32")
    out.default("DeepSpeed's default", offload=[])


DEEPSPEED = Kind(
    "deepspeed-json", "DeepSpeed", (KEYS,),
    has(any_=("zero_optimization.", "train_micro_batch_size_per_gpu", "train_batch_size", "fp16.enabled", "bf16.enabled")),
    _finish,
)  # fmt: skip
