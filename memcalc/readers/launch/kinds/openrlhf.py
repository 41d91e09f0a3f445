"""OpenRLHF's options in both spellings (openrlhf/cli)."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import IDLE, TRAINING_IDLE, half
from memcalc.readers.launch.kinds.megatron import set_
from memcalc.readers.launch.meanings import FULL, By, Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.reading import Reading

WHY = "OpenRLHF's default"
SCORE = Ignored("of how answers are scored or drawn")
ROLES = ("actor", "critic", "ref", "reward")
KEYS: KeyTable = {
    **alike("pretrain actor.model_name_or_path model.model_name_or_path", "model"),
    **alike("reward_pretrain reward.model_name_or_path", "reward_model"),
    **alike("critic_pretrain critic.model_name_or_path", "critic_model"),
    **alike("ref_pretrain ref.model_name_or_path", "reference_model"),
    **alike("micro_train_batch_size train.micro_batch_size", "micro_batch"),
    **alike("train_batch_size train.batch_size", "global_batch"),
    **alike("micro_rollout_batch_size rollout.micro_batch_size", "micro_rollout_batch"),
    **alike("rollout_batch_size rollout.batch_size", "rollout_batch"),
    **alike("n_samples_per_prompt rollout.n_samples_per_prompt", "n_samples"),
    **alike("prompt_max_len data.prompt_max_len", "prompt_len"),
    **alike("generate_max_len rollout.generate_max_len rollout.max_new_tokens", "response_len"),
    **alike("max_len data.max_len", "seq_len"),
    **alike("zero_stage ds.zero_stage", "zero_stage"), "bf16": half("bf16"),
    **alike("param_dtype ds.param_dtype", Coded("precision", {"bf16": "bf16", "fp16": "fp16", "fp32": "fp32"})),
    **alike("gradient_checkpointing actor.gradient_checkpointing_enable model.gradient_checkpointing_enable "
            "train.gradient_checkpointing ds.gradient_checkpointing", Coded("recompute", {**FULL, "": "full"})),
    **alike("adam_offload ds.adam_offload", "adam_offload"), **alike("ref_reward_offload ref.offload", "ref_param_offload"),
    **alike("packing_samples ds.packing_samples train.packing_samples", "packing"),
    **alike("max_tokens_per_gpu train.max_tokens_per_gpu", "max_tokens_per_gpu"),
    **alike("use_dynamic_batch train.dynamic_batch_enable", "dynamic_batch"),
    **alike("vllm_num_engines vllm.num_engines", "vllm_engines"),
    **alike("vllm_tensor_parallel_size vllm.tensor_parallel_size", "rollout_tp"),
    **alike("vllm_gpu_memory_utilization vllm.gpu_memory_utilization", "gpu_memory_utilization"),
    **alike("vllm_enable_sleep vllm.enable_sleep", "vllm_sleep"),
    **alike("deepspeed_enable_sleep ds.enable_sleep", "ds_sleep"),
    **alike("colocate_all_models train.colocate_all", "colocate_all"),
    **alike("colocate_actor_ref train.colocate_actor_ref colocate_critic_reward train.colocate_critic_reward",
            Unmodelled("two roles on one set of devices")),
    **{f"{role}_num_gpus_per_node": f"{role}_gpus_per_node" for role in ROLES},
    **{f"{role}_num_nodes": f"{role}_nodes" for role in ROLES},
    **{f"{role}.num_gpus_per_node": f"{role}_gpus_per_node" for role in ROLES},
    **{f"{role}.num_nodes": f"{role}_nodes" for role in ROLES},
    **alike("lora_rank lora.rank ds.lora.rank",
        By(lambda value: {"lora_rank": int(str(value))} if str(value).isdigit() and int(str(value)) else {})),
    **alike("lora_dropout", "lora_dropout"), "target_modules": "lora_targets", "load_in_4bit": set_("quantization_bit", 4),
    **alike("advantage_estimator algo.advantage.estimator", "advantage_estimator"),
    **alike("ring_attn_size ds.ring_attn_size", "cp"), **alike("ds_tensor_parallel_size ds.tensor_parallel_size", "tp"),
    **alike("flash_attn ds.flash_attn", set_("attention", "flash")),
    **alike("attn_implementation ds.attn_implementation", "attention"),
    **alike("zpg overlap_comm ds.zpg ds.overlap_comm", IDLE),
    **alike("init_kl_coef algo.kl.init_coef", "kl_coef"),
    "learning_rate": IDLE,
    **alike("actor.* critic.* ref.* reward.* rollout.* train.* ds.* vllm.* data.* eval.* algo.* logger.* ckpt.* lora.* "
            "vllm_* ring_* use_kl_loss kl_* normalize_reward reward_* remote_rm_url agent_* async_* save_* eval_* "
            "temperature top_p "
            "enable_* eps_* lambd gamma freezing* actor_* critic_* apply_* perf load_checkpoint num_episodes max_samples "
            "dynamic_filtering* grad_accum_dtype disable_* use_* value_* ptx_* policy_* no_* aux_* partial* duplicate* "
            "logging_steps "
            "drop_* entropy_* vllm max_epochs", SCORE),
    **TRAINING_IDLE,
}  # fmt: skip


def _finish(out: Reading) -> None:
    facts = out.facts
    if out.says("adam_offload", True):
        out.follow("offload", ["optimizer"], "adam_offload")
    script = str(facts["script"].value) if "script" in facts else ""
    for name in ("dpo", "kto", "rm", "sft", "kd"):
        if script.endswith((f"train_{name}", f"train_{name}.py")):
            out.follow("algorithm", name, "script")
    if "ppo_ray" in script:
        out.follow("algorithm_cli", "ppo_ray", "script")
        estimator = str(facts["advantage_estimator"].value) if "advantage_estimator" in facts else "gae"
        out.follow("algorithm", "ppo" if estimator == "gae" else estimator, "script", "advantage_estimator")
        out.default(WHY, rollout_engine="vllm")
    out.default(WHY, zero_stage=2, recompute="none", packing=False, adam_offload=False, micro_batch=1)
    out.stage()
    out.default("no adapter is named", method="lora" if "lora_rank" in facts else "full")

    def devices(role: str) -> int:
        per, nodes = (facts[name].value if name in facts else 0 for name in (f"{role}_gpus_per_node", f"{role}_nodes"))
        return per * (nodes or 1) if isinstance(per, int) and isinstance(nodes, int) else 0

    if devices("actor"):
        per_node = facts["actor_gpus_per_node"].value
        if out.says("colocate_all", True):
            out.follow("gpus", devices("actor"), "actor_gpus_per_node", "actor_nodes", "colocate_all")
            out.follow("gpus_per_node", per_node, "actor_gpus_per_node")


OPENRLHF = Kind("openrlhf", "OpenRLHF", (KEYS,),
    has(any_=("micro_train_batch_size", "train.batch_size", "rollout.batch_size",
                "micro_rollout_batch_size", "actor.model_name_or_path", "ds.zero_stage")), _finish)  # fmt: skip
