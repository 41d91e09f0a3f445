"""verl's Hydra overrides (verl/trainer/config)."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import IDLE
from memcalc.readers.launch.kinds.megatron import cpu_offload
from memcalc.readers.launch.kinds.verl_shared import TRAINER, actor, of_model
from memcalc.readers.launch.meanings import By, Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.reading import Reading

A, R, F = "actor_rollout_ref.actor.", "actor_rollout_ref.rollout.", "actor_rollout_ref.ref."
M, C = "actor_rollout_ref.model.", "critic."
WHY = "verl's default"
SCORE = Ignored("of how answers are scored or drawn")
KEYS: KeyTable = {
    "algorithm.adv_estimator": "algorithm", "algorithm.use_kl_in_reward": IDLE, "algorithm.*": SCORE,
    "data.train_batch_size": "train_batch", "data.max_prompt_length": "prompt_len", "data.max_response_length": "response_len",
    "data.*": Ignored("data", True),
    **of_model(M), f"{M}*": IDLE,
    f"{A}strategy": "strategy", f"{A}ppo_mini_batch_size": "mini_batch",
    f"{A}ppo_micro_batch_size_per_gpu": "micro_batch", f"{A}ppo_micro_batch_size": "micro_batch",
    f"{A}use_dynamic_bsz": "dynamic_batch", f"{A}ppo_max_token_len_per_gpu": "max_tokens_per_gpu", f"{A}use_kl_loss": "kl_loss",
    f"{A}ulysses_sequence_parallel_size": "sp",
    f"{A}fsdp_config.param_offload": "param_offload", f"{A}fsdp_config.optimizer_offload": "optimizer_offload",
    f"{A}fsdp_config.model_dtype": "model_dtype", f"{A}fsdp_config.fsdp_size": "shard_size",
    **alike(f"{A}fsdp_config.dtype {A}fsdp_config.mixed_precision.param_dtype {A}fsdp_config.mixed_precision.buffer_dtype "
            f"{A}megatron.dtype {A}megatron.use_distributed_optimizer {M}torch_dtype {M}lora_alpha {M}lora_adapter_path", IDLE),
    f"{A}fsdp_config.mixed_precision.reduce_dtype": "reduce_dtype", f"{A}fsdp_config.offload_policy": "param_offload",
    f"{A}fsdp_config.ulysses_sequence_parallel_size": "sp",
    f"{A}fsdp_config.qat.enable": Unmodelled("weights that pass a fake quantiser"),
    f"{A}fsdp_config.*": IDLE,
    f"{A}megatron.tensor_model_parallel_size": "tp", f"{A}megatron.pipeline_model_parallel_size": "pp",
    f"{A}megatron.context_parallel_size": "cp", f"{A}megatron.expert_model_parallel_size": "ep",
    f"{A}megatron.expert_tensor_parallel_size": "etp", f"{A}megatron.param_offload": "param_offload",
    f"{A}megatron.optimizer_offload": "optimizer_offload", f"{A}megatron.grad_offload": "grad_offload",
    f"{A}megatron.override_transformer_config.recompute_granularity": "recompute",
    f"{A}megatron.override_transformer_config.recompute_method": "recompute_method",
    f"{A}megatron.override_transformer_config.recompute_num_layers": "recompute_layers",
    f"{A}megatron.override_transformer_config.recompute_modules": "recompute_modules",
    f"{A}megatron.virtual_pipeline_model_parallel_size": "virtual_stages",
    f"{A}megatron.sequence_parallel": "sequence_parallel",
    f"{A}megatron.override_transformer_config.num_layers_in_first_pipeline_stage": "first_stage_layers",
    f"{A}megatron.override_transformer_config.num_layers_in_last_pipeline_stage": "last_stage_layers",
    f"{A}megatron.*": IDLE,
    f"{A}optim.optimizer": "optimizer", f"{A}optim.override_optimizer_config.optimizer_cpu_offload": By(cpu_offload),
    f"{A}optim.override_optimizer_config.optimizer_offload_fraction": "offload_fraction",
    f"{A}optim.override_optimizer_config.use_precision_aware_optimizer": "precision_aware_optimizer", f"{A}optim.*": SCORE,
    f"{A}freeze_vision_tower": Coded("freeze", {"true": ["vision"], "false": ""}),
    f"{A}entropy_coeff": Unmodelled("an entropy over the whole vocabulary in the loss", ("0", "0.0", "0.", "")),
    f"{A}entropy_checkpointing": Unmodelled("an entropy that is made again in the backward"), f"{A}*": SCORE,
    f"{R}name": "rollout_engine", f"{R}tensor_model_parallel_size": "rollout_tp",
    f"{R}gpu_memory_utilization": "gpu_memory_utilization", f"{R}n": "n_samples",
    f"{R}max_num_batched_tokens": "max_batched_tokens",
    f"{R}max_num_seqs": "max_sequences", f"{R}max_model_len": "context", f"{R}enforce_eager": "eager",
    f"{R}free_cache_engine": "free_cache", f"{R}log_prob_micro_batch_size_per_gpu": "log_prob_micro_batch",
    f"{R}log_prob_micro_batch_size": "log_prob_micro_batch", f"{R}dtype": IDLE,
    **alike(f"{R}data_parallel_size {R}expert_parallel_size {R}pipeline_model_parallel_size {R}quantization",
            Unmodelled("how generation is divided", ("1", "none", "null", ""))),
    **alike(f"{R}prompt_length {R}response_length {R}log_prob_use_dynamic_bsz {R}log_prob_max_token_len_per_gpu "
            f"{R}enable_sleep_mode {R}multi_turn.max_tool_response_length {R}multi_turn.max_parallel_calls", IDLE),
    f"{R}*": SCORE,
    f"{F}fsdp_config.param_offload": "ref_param_offload", f"{F}megatron.param_offload": "ref_param_offload",
    f"{F}log_prob_micro_batch_size_per_gpu": IDLE,
    **alike(f"{F}log_prob_* {F}megatron.* {F}fsdp_config.* {F}ulysses_sequence_parallel_size {F}use_torch_compile {F}entropy_*",
            Ignored("of the reference, laid out as the actor is", True)), f"{F}*": IDLE,
    "actor_rollout_ref.hybrid_engine": "colocate", "actor_rollout_ref.nccl_timeout": IDLE, "actor_rollout_ref.*": SCORE,
    f"{C}model.path": "critic_model", f"{C}*": Ignored("of the value model, which no memory is counted for yet", True),
    "reward_model.model.path": "reward_model", "reward.reward_model.model_path": "reward_model",
    **alike("reward_model.* reward.*", Ignored("of the model that scores answers, which no memory is counted for yet", True)),
    **alike("ray_kwargs.* global_profiler.*", Ignored("of the cluster", True)),
    **alike("custom_reward_function.* env.* ray_init.* hydra.* "
            "searchpath* transfer_queue.* async_training.* rollout.* model_engine config_path config_name", IDLE),
    **TRAINER, "trainer.*": Ignored("of logging and saving", True),
}  # fmt: skip


def _finish(out: Reading) -> None:
    facts = out.facts
    out.default(WHY, algorithm="gae", recompute="full", remove_padding=True, kl_loss=False, dynamic_batch=False, nodes=1)
    out.default(WHY, mini_batch=256, train_batch=1024, prompt_len=512, response_len=512, n_samples=1, param_offload=False,
                optimizer_offload=False, rollout_tp=2, gpu_memory_utilization=0.5)  # fmt: skip
    if "strategy" not in facts:
        out.default(WHY, strategy="megatron" if any("megatron" in row.entry.key for row in out.imported) else "fsdp")
    actor(out)
    out.follow("reference", "frozen" if out.says("kl_loss", True) else "none", "kl_loss")


VERL = Kind("verl", "verl", (KEYS,), has(any_=("actor_rollout_ref.", "algorithm.adv_estimator")), _finish)
