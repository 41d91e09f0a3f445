"""verl's supervised fine-tuning (verl/trainer/config/sft_trainer.yaml, sft_trainer_engine.yaml)."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import DATA, IDLE, LOGGING, SCHEDULE, world
from memcalc.readers.launch.meanings import FULL, Coded, KeyTable, Unmodelled, alike
from memcalc.readers.launch.reading import Reading

WHY = "verl's default"
F, E = "model.fsdp_config.", "engine."
KEYS: KeyTable = {
    **alike("model.partial_pretrain model.path", "model"),
    **alike("data.micro_batch_size_per_gpu data.micro_batch_size", "micro_batch"), "data.train_batch_size": "global_batch",
    "data.max_length": "seq_len", "data.use_dynamic_bsz": "dynamic_batch", "data.max_token_len_per_gpu": "max_tokens_per_gpu",
    **alike("model.enable_gradient_checkpointing engine.enable_gradient_checkpointing", Coded("recompute", FULL)),
    "model.lora_rank": "lora_rank", "model.target_modules": "lora_targets",
    "model.use_liger": Coded("kernels", {"true": "liger", "false": ""}),
    **alike("use_remove_padding model.use_remove_padding", "remove_padding"),
    **alike("ulysses_sequence_parallel_size engine.ulysses_sequence_parallel_size", "sp"),
    **alike("model.strategy engine.strategy", "strategy"), **alike(f"{E}fsdp_size {F}fsdp_size", "shard_size"),
    **alike(f"{E}param_offload {F}cpu_offload {F}offload_params {E}offload_policy", "param_offload"),
    f"{E}optimizer_offload": "optimizer_offload", **alike(f"{F}model_dtype {E}model_dtype", "model_dtype"),
    f"{E}tensor_model_parallel_size": "tp", f"{E}pipeline_model_parallel_size": "pp", f"{E}context_parallel_size": "cp",
    f"{E}expert_model_parallel_size": "ep", f"{E}expert_tensor_parallel_size": "etp",
    f"{E}virtual_pipeline_model_parallel_size": "virtual_stages",
    "optim.clip_grad": "max_grad_norm", "optim.optimizer": "optimizer", **alike("optim optim.*", SCHEDULE),
    "model.override_config.attn_implementation": "attention",
    "model.override_config.*": Unmodelled("settings of the model other than its own", ("0", "0.0", "false", "true")),
    "trainer.n_gpus_per_node": "gpus_per_node", "trainer.nnodes": "nodes",
    **alike("trainer.* checkpoint.*", LOGGING), "data.*": DATA, **alike("model.* engine engine.* profiler.*", IDLE),
}  # fmt: skip


def _finish(out: Reading) -> None:
    """Adapters where a rank is said; FSDP over all ranks, weights in fp32 and computation in bf16 (sft_trainer.yaml)."""
    if out.says("lora_rank", 0):
        out.facts.pop("lora_rank")
    if out.says("strategy", "fsdp"):
        out.facts["strategy"] = out.facts["strategy"]._replace(value="fsdp1")
    offloaded = [
        name for name, key in (("parameters", "param_offload"), ("optimizer", "optimizer_offload")) if out.says(key, True)
    ]
    if offloaded:
        out.follow("offload", offloaded, "param_offload", "optimizer_offload")
    if out.says("lora_rank"):
        out.follow("method", "lora", "lora_rank")
    out.default("no adapter is named", method="full")
    out.follow("algorithm", "sft", "script")
    out.default(WHY, recompute="full", seq_len=1024, precision="bf16")
    if not any("megatron" in str(row.entry.value) for row in out.imported if row.entry.key == "engine"):
        out.default(WHY, strategy="fsdp1", fsdp="full")
    world(out)


VERL_SFT = Kind("verl-sft", "verl", (KEYS,), has("data.train_files", any_=("model.partial_pretrain", "model.path")), _finish)
