"""verl's supervised fine-tuning (verl/trainer/config/sft_trainer.yaml, sft_trainer_engine.yaml)."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import DATA, IDLE, LOGGING, SCHEDULE
from memcalc.readers.launch.kinds.verl_shared import CHECKPOINTING, TRAINER, actor, of_model
from memcalc.readers.launch.meanings import KeyTable, alike
from memcalc.readers.launch.reading import Reading

WHY = "verl's default"
F, E = "model.fsdp_config.", "engine."
KEYS: KeyTable = {
    **of_model("model."), "model.partial_pretrain": "model", "engine.enable_gradient_checkpointing": CHECKPOINTING,
    **alike("data.micro_batch_size_per_gpu data.micro_batch_size", "micro_batch"), "data.train_batch_size": "global_batch",
    "data.max_length": "seq_len", "data.use_dynamic_bsz": "dynamic_batch", "data.max_token_len_per_gpu": "max_tokens_per_gpu",
    "use_remove_padding": "remove_padding",
    **alike("ulysses_sequence_parallel_size engine.ulysses_sequence_parallel_size", "sp"),
    **alike("model.strategy engine.strategy", "strategy"), **alike(f"{E}fsdp_size {F}fsdp_size", "shard_size"),
    **alike(f"{E}param_offload {F}cpu_offload {F}offload_params {E}offload_policy", "param_offload"),
    f"{E}optimizer_offload": "optimizer_offload", **alike(f"{F}model_dtype {E}model_dtype", "model_dtype"),
    f"{E}tensor_model_parallel_size": "tp", f"{E}pipeline_model_parallel_size": "pp", f"{E}context_parallel_size": "cp",
    f"{E}expert_model_parallel_size": "ep", f"{E}expert_tensor_parallel_size": "etp",
    f"{E}virtual_pipeline_model_parallel_size": "virtual_stages",
    "optim.clip_grad": "max_grad_norm", "optim.optimizer": "optimizer", **alike("optim optim.*", SCHEDULE),
    **TRAINER, **alike("trainer.* checkpoint.*", LOGGING), "data.*": DATA, **alike("model.* engine engine.* profiler.*", IDLE),
}  # fmt: skip


def _finish(out: Reading) -> None:
    """Adapters where a rank is said; FSDP over all ranks, weights in fp32 and computation in bf16 (sft_trainer.yaml)."""
    if out.says("strategy", "fsdp"):
        out.facts["strategy"] = out.facts["strategy"]._replace(value="fsdp1")
    actor(out)
    out.follow("algorithm", "sft", "script")
    out.default(WHY, recompute="full", seq_len=1024, precision="bf16")
    if not any("megatron" in str(row.entry.value) for row in out.imported if row.entry.key == "engine"):
        out.default(WHY, strategy="fsdp1", fsdp="full", optimizer="adamw_torch", optimizer_impl="foreach")


VERL_SFT = Kind("verl-sft", "verl", (KEYS,), has("data.train_files", any_=("model.partial_pretrain", "model.path")), _finish)
