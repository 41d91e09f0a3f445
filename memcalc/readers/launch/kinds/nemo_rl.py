"""NeMo RL's YAML (examples/configs): a policy, its generation and a cluster."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import IDLE, world
from memcalc.readers.launch.meanings import FULL, Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.reading import Reading

P, D, M, G = "policy.", "policy.dtensor_cfg.", "policy.megatron_cfg.", "policy.generation."
KEYS: KeyTable = {
    f"{P}model_name": "model", f"{P}precision": "precision", f"{P}train_micro_batch_size": "micro_batch",
    f"{P}train_global_batch_size": "global_batch", f"{P}max_total_sequence_length": "seq_len",
    f"{P}activation_checkpointing": Coded("recompute", FULL), f"{D}activation_checkpointing": Coded("recompute", FULL),
    f"{M}activation_checkpointing": Coded("recompute", FULL), f"{P}logprob_batch_size": "log_prob_micro_batch",
    **alike(f"{D}tensor_parallel_size {M}tensor_model_parallel_size", "tp"), f"{M}pipeline_model_parallel_size": "pp",
    **alike(f"{D}context_parallel_size {M}context_parallel_size", "cp"), f"{M}expert_model_parallel_size": "ep",
    **alike(f"{D}sequence_parallel {M}sequence_parallel", "sequence_parallel"), f"{M}enabled": IDLE,
    f"{D}cpu_offload": Unmodelled("states in host memory"), f"{P}sequence_packing.enabled": "packing",
    f"{P}dynamic_batching.enabled": Unmodelled("micro-batches that are filled by tokens"),
    f"{G}vllm_cfg.tensor_parallel_size": "rollout_tp", f"{G}vllm_cfg.gpu_memory_utilization": "gpu_memory_utilization",
    f"{G}backend": "rollout_engine", f"{G}max_new_tokens": "response_len", f"{G}colocated.enabled": "colocate",
    "cluster.gpus_per_node": "gpus_per_node", "cluster.num_nodes": "nodes",
    "grpo.num_generations_per_prompt": "n_samples", "grpo.num_prompts_per_step": "rollout_batch",
    "loss_fn.reference_policy_kl_penalty": "kl_coef",
    "defaults": Unmodelled("what another file says, which this one changes", ()),
    **alike("policy.* cluster.* grpo.* dpo.* sft.* loss_fn.* data.* env.* logger.* checkpointing.* teacher.* distillation.*",
            Ignored("of how answers are scored or drawn, of data, logging and saving")),
}  # fmt: skip


def _finish(out: Reading) -> None:
    tables = {row.entry.key.partition(".")[0] for row in out.imported}
    out.follow("algorithm", next((name for name in ("grpo", "dpo", "sft") if name in tables), "sft"))
    world(out)
    out.default("no adapter is named", method="full")
    out.default("NeMo RL's DTensor shards over all ranks", strategy="fsdp2", fsdp="full")


NEMO_RL = Kind(
    "nemo-rl-yaml", "NeMo RL", (KEYS,), has("policy.model_name", any_=("cluster.", "policy.train_micro_batch_size")), _finish
)
