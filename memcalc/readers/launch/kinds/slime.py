"""slime and miles: Megatron's arguments beside those of the rollout (slime/utils/arguments.py)."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import IDLE, world
from memcalc.readers.launch.kinds.megatron import KEYS as MEGATRON_KEYS
from memcalc.readers.launch.meanings import Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.reading import Reading

WHY = "slime's default"
SCORE = Ignored("of how answers are scored or drawn")
KEYS: KeyTable = {
    "hf_checkpoint": "hf_checkpoint", "actor_num_nodes": "nodes", "actor_num_gpus_per_node": "gpus_per_node",
    "num_gpus_per_node": "gpus_per_node", "rollout_num_gpus": "rollout_gpus",
    "rollout_num_gpus_per_engine": "rollout_gpus_per_engine", "colocate": "colocate",
    **alike("offload offload_train offload_rollout", Unmodelled("what leaves the device between rollout and training", ())),
    "max_tokens_per_gpu": "max_tokens_per_gpu", "use_dynamic_batch_size": "dynamic_batch",
    "rollout_max_response_len": "response_len", "rollout_max_prompt_len": "prompt_len", "n_samples_per_prompt": "n_samples",
    "rollout_batch_size": "rollout_batch", "advantage_estimator": "advantage_estimator", "use_kl_loss": "kl_loss",
    "sglang_mem_fraction_static": "mem_fraction_static",
    "critic_num_nodes": "critic_nodes", "critic_num_gpus_per_node": "critic_gpus_per_node",
    "log_probs_chunk_size": Unmodelled("log-probabilities by chunks"),
    **alike("sglang_ep_size sglang_dp_size sglang_enable_dp_attention sglang_tp_size sglang_kv_cache_dtype",
            Unmodelled("how generation is divided")),
    **alike("sglang_* rollout_* ref_load ref_ckpt_step num_rollout num_steps_per_rollout over_sampling* dynamic_sampling* "
            "balance_data rm_type "
            "rm_* reward_key custom_* kl_* entropy_coef eps_clip* eval_* n_samples_* input_key label_key prompt_data "
            "apply_chat_template* "
            "calculate_* num_epoch global_dataset use_tis tis_* use_rollout* update_weight* keep_old_actor debug_* "
            "train_* save_* load_* wandb* use_wandb use_tensorboard megatron_to_hf_mode model_name buffer_filter* "
            "partial_rollout "
            "mask_offpolicy* loss_mask* multimodal_keys router_* use_slime* use_miles* use_fault* metadata_key tool_key "
            "hf_validate "
            "use_routing* ci_* generate_* pause_* data_source* dump_* prefill_* async_* use_critic disable_* get_mismatch* "
            "policy_loss* reset_* qkv_format allgather_cp force_* use_train* use_opsm* normalize_* gamma lambd value_* "
            "recompute_loss* "
            "only_train* use_kl* use_distributed_post* true_on_policy* deterministic* opd_* env_* group_rm", SCORE),
    "train_backend": "backend", "lora_rank": "lora_rank", "lora_alpha": IDLE, "lora_dropout": "lora_dropout",
    "target_modules": "lora_targets", "loss_type": IDLE,
}  # fmt: skip
KEYS = {**KEYS, "use_kl_loss": "kl_loss"}


def _finish(out: Reading) -> None:
    facts = out.facts
    if "hf_checkpoint" in facts:
        out.follow("model", facts["hf_checkpoint"].value, "hf_checkpoint")
    world(out)
    if "lora_rank" in facts:
        out.follow("method", "lora", "lora_rank")
    out.default(WHY, n_samples=1, rollout_engine="sglang", nodes=1, recompute="none", optimizer="adam", precision="bf16")
    out.default("Megatron-LM's default", tp=1, pp=1)
    out.default(WHY, advantage_estimator="grpo")
    if "advantage_estimator" in facts:
        out.follow("algorithm", facts["advantage_estimator"].value, "advantage_estimator")
    if out.says("kl_loss", True):
        out.follow("reference", "frozen", "kl_loss")


SLIME = Kind("slime", "slime", (KEYS, MEGATRON_KEYS),
             has(any_=("hf_checkpoint", "rollout_num_gpus_per_engine", "rollout_num_gpus", "actor_num_nodes")),
             _finish)  # fmt: skip
