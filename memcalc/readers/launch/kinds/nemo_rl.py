"""NeMo RL's YAML (examples/configs): a policy, its generation and a cluster. Tables that `enabled` switches off say nothing."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import DATA, IDLE, LOGGING, SCHEDULE, world
from memcalc.readers.launch.kinds.megatron import KEYS as MEGATRON_KEYS
from memcalc.readers.launch.kinds.megatron import cpu_offload
from memcalc.readers.launch.meanings import FULL, By, Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.reading import Reading
from memcalc.readers.launch.values import Read, flag

WHY = "NeMo RL's default"
SCORE = Ignored("of how answers are scored or drawn")
OTHERS = Ignored("of a model beside the policy, which no memory is counted for yet", True)
P, D, M, G = "policy.", "policy.dtensor_cfg.", "policy.megatron_cfg.", "policy.generation."
V = f"{G}vllm_cfg."
DIVIDED = (
    "tensor_model_parallel_size", "pipeline_model_parallel_size", "context_parallel_size", "expert_model_parallel_size",
    "expert_tensor_parallel_size", "sequence_parallel", "recompute_modules",
)  # fmt: skip


def _last(value: Value) -> dict[str, Read]:
    return {"optimizer": str(value).rpartition(".")[2]}


def _all_linear(value: Value) -> dict[str, Read]:
    return {"lora_targets": "all-linear"} if flag(str(value)) else {}


def _offload(value: Value) -> dict[str, Read]:
    return {"offload": ["parameters", "optimizer"]} if flag(str(value)) else {}


KEYS: KeyTable = {
    f"{P}model_name": "model", f"{P}precision": "precision", f"{P}train_micro_batch_size": "micro_batch",
    f"{P}train_global_batch_size": "global_batch", f"{P}max_total_sequence_length": "seq_len",
    f"{P}max_grad_norm": "max_grad_norm", f"{P}logprob_batch_size": "log_prob_micro_batch",
    **alike(f"{P}activation_checkpointing {D}activation_checkpointing {P}activation_checkpointing_enabled "
            f"{M}activation_checkpointing", Coded("recompute", FULL)),
    f"{P}sequence_packing.enabled": "packing",
    **alike(f"{P}dynamic_batching.enabled", "dynamic_batch"),
    **alike(f"{P}dynamic_batching.train_mb_tokens {P}sequence_packing.train_mb_tokens", "max_tokens_per_gpu"),
    **alike(f"{P}dynamic_batching.sequence_length_round {P}sequence_packing.sequence_length_round "
            f"{P}dynamic_batching.logprob_mb_tokens {P}sequence_packing.logprob_mb_tokens {P}sequence_packing.algorithm "
                f"{P}make_sequence_length_divisible_by", IDLE),
    f"{P}optimizer.name": By(_last, "optimizer"), f"{P}optimizer.kwargs.foreach": Coded("optimizer_impl", {"true": "foreach",
        "false": ""}),
    **alike(f"{P}optimizer.kwargs.exp_avg_dtype {P}optimizer.kwargs.exp_avg_sq_dtype {P}optimizer.kwargs.master_weights "
            f"{P}optimizer.kwargs.store_param_remainders",
            Unmodelled("formats of an optimizer's states", ("false", "torch.float32", "float32", ""))),
    f"{P}optimizer.kwargs.fused": Coded("optimizer_impl", {"true": "fused", "false": ""}), f"{P}optimizer*": SCHEDULE,
    f"{P}scheduler*": SCHEDULE, **alike(f"{P}tokenizer.*", DATA),
    f"{P}offload_optimizer_for_logprob": Unmodelled("the optimizer in host memory between passes"),
    **alike(f"{D}enabled {M}enabled {D}_v2", IDLE),
    f"{D}tensor_parallel_size": "tp", f"{D}context_parallel_size": "cp", f"{D}expert_parallel_size": "ep",
    f"{D}sequence_parallel": "sequence_parallel", f"{D}cpu_offload": By(_offload),
    f"{D}lora_cfg.enabled": Coded("method", {"true": "lora", "false": ""}), f"{M}peft.enabled": Coded("method",
        {"true": "lora", "false": ""}),
    **alike(f"{D}lora_cfg.dim {M}peft.dim", "lora_rank"), **alike(f"{D}lora_cfg.dropout {M}peft.dropout", "lora_dropout"),
    **alike(f"{D}lora_cfg.target_modules {M}peft.target_modules", "lora_targets"),
    f"{D}lora_cfg.match_all_linear": By(_all_linear, "lora_targets"), **alike(f"{D}lora_cfg.* {M}peft.*", IDLE),
    **{f"{M}{name}": MEGATRON_KEYS[name] for name in DIVIDED},
    f"{M}recompute_granularity": Ignored("activation_checkpointing says whether"),
    f"{M}num_layers_in_first_pipeline_stage": "first_stage_layers",
        f"{M}num_layers_in_last_pipeline_stage": "last_stage_layers",
    f"{M}optimizer.optimizer": "optimizer", f"{M}optimizer.use_distributed_optimizer": "distributed_optimizer",
    f"{M}optimizer.use_precision_aware_optimizer": "precision_aware_optimizer",
    f"{M}optimizer.optimizer_cpu_offload": By(cpu_offload), f"{M}optimizer.optimizer_offload_fraction": "offload_fraction",
    f"{M}optimizer.clip_grad": "max_grad_norm", f"{M}optimizer.params_dtype": IDLE, f"{M}optimizer.*": SCHEDULE,
    f"{M}scheduler.*": SCHEDULE,
    f"{M}distributed_data_parallel_config.grad_reduce_in_fp32": Coded("main_grads_dtype", {"true": "fp32", "false": ""}),
    f"{M}distributed_data_parallel_config.data_parallel_sharding_strategy": Ignored("of Megatron's FSDP, where that is on"),
    f"{M}distributed_data_parallel_config.use_custom_fsdp": "megatron_fsdp",
    f"{M}fp8_cfg.fp8": "fp8", f"{M}fp8_cfg.*": IDLE, f"{M}pipeline_dtype": IDLE,
    **alike(f"{M}fine_grained_activation_offloading {M}offload_modules", Unmodelled("activations in host memory, by module")),
    **alike(f"{M}use_fused_linear_logprobs {M}fused_linear_logprobs_chunk_size", Unmodelled("log-probabilities by chunks",
        ("false", "256"))),
    **alike(f"{P}freeze_config.* {D}freeze_config.*", Unmodelled("what is frozen of a multimodal model")),
    f"{V}tensor_parallel_size": "rollout_tp", f"{V}gpu_memory_utilization": "gpu_memory_utilization",
    f"{V}max_model_len": "context", f"{V}enforce_eager": "eager", f"{V}kv_cache_dtype": "kv_dtype",
    f"{G}backend": "rollout_engine", f"{G}max_new_tokens": "response_len", f"{G}colocated.enabled": "colocate",
    f"{G}colocated.resources.gpus_per_node": Unmodelled("devices of generation apart", ("null", "")),
    f"{G}colocated.resources.num_nodes": Unmodelled("nodes of generation apart", ("null", "")),
    **alike(f"{G}mcore_generation_config.* {G}refit_cfg.* {G}real_quant_export*",
        Ignored("of another back end of generation", True)),
    **alike(f"{G}stop_token_ids {V}precision {P}generation_batch_size", IDLE), f"{G}*": SCORE,
    **alike("reward_penalties.* data_plane.* on_policy_distillation* value_loss_fn.*",
        Ignored("of scores and their transport", True)),
    f"{M}freeze_moe_router": IDLE, f"{M}empty_unused_memory_level": IDLE, f"{M}cuda_graph*": IDLE, f"{M}env_vars.*": IDLE,
    "cluster.gpus_per_node": "gpus_per_node", "cluster.num_nodes": "nodes",
    "grpo.num_generations_per_prompt": "n_samples", "grpo.num_prompts_per_step": "rollout_batch",
    "loss_fn.reference_policy_kl_penalty": "kl_coef", "dpo.reference_policy_kl_penalty": "beta",
    "defaults": Unmodelled("what another file says, which this one changes", ()),
    **alike("data.* env.*", DATA), **alike("logger.* checkpointing.*", LOGGING),
    **alike("teacher.* teachers* value.* reward_model.*", OTHERS),
    **alike("grpo.* dpo.* sft.* rm.* ppo.* loss_fn.* distillation.*",
        Ignored("of how answers are scored or drawn, of data and evaluation", True)),
    **alike("policy.* cluster.*", SCORE),
}  # fmt: skip
ALGORITHMS = ("grpo", "ppo", "dpo", "rm", "distillation", "sft")


def _finish(out: Reading) -> None:
    tables = {row.entry.key.partition(".")[0] for row in out.imported}
    out.follow("algorithm", next((name for name in ALGORITHMS if name in tables), "sft"))
    world(out)
    megatron = any(
        row.entry.key == f"{M}enabled" and row.entry.value and str(row.entry.value).lower() == "true" for row in out.imported
    )
    if not out.says("method", "lora"):
        for name in ("lora_rank", "lora_targets", "lora_dropout"):
            out.facts.pop(name, None)
    out.default("no adapter is named", method="full")
    if megatron:
        out.default("its Megatron back end", strategy="megatron", distributed_optimizer=True)
    else:
        out.default("NeMo RL's DTensor shards over all ranks", strategy="fsdp2", fsdp="full")
    out.default(WHY, recompute="none")


NEMO_RL = Kind(
    "nemo-rl-yaml", "NeMo RL", (KEYS,), has("policy.model_name", any_=("cluster.", "policy.train_micro_batch_size")), _finish,
    switch="enabled",
)  # fmt: skip
