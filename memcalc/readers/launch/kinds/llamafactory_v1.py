"""LLaMA-Factory's YAML of its version 1 (src/llamafactory/v1/config, v1/plugins; examples/v1)."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.accelerate import reshard
from memcalc.readers.launch.kinds.common import IDLE, PEFT, TRAINING_IDLE, offloading
from memcalc.readers.launch.kinds.transformers import finish, optim
from memcalc.readers.launch.meanings import FULL, By, Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.reading import Reading

WHY = "LLaMA-Factory v1's default"
P, Q, D, K = "peft_config.", "quant_config.", "dist_config.", "kernel_config."
PADS_NOTHING = Coded("packing", {"padding_free": True, "dynamic_padding_free": True, "*": ""})
KEYS: KeyTable = {
    "model": "model", "model_class": Unmodelled("another head than the language model's", ("llm",)),
    "micro_batch_size": "micro_batch", "global_batch_size": "global_batch", "cutoff_len": "seq_len",
    "max_grad_norm": "max_grad_norm", "bf16": Coded("precision", {"true": "pure-bf16", "false": "fp32"}),
    "enable_activation_checkpointing": Coded("recompute", FULL), "flash_attn": "attention",
    "batching_strategy": PADS_NOTHING,
    "cp_size": "cp", "cp_mode": "cp_kind",
    "mp_replicate_size": "replicas", "mp_shard_size": "shard_size", "dp_size": IDLE,
    f"{P}name": Coded("method", {"lora": "lora", "freeze": "freeze", "none": "full"}),
    **{f"{P}{key}": row for key, row in PEFT.items() if "*" not in key},
    f"{P}freeze_trainable_layers": "train_layers",
    **alike(f"{P}freeze_trainable_modules {P}freeze_extra_modules",
            Unmodelled("which matrices of the layers are trained", ("all", "", "null"))),
    **alike(f"{P}lora_alpha {P}use_rslora {P}adapter_name_or_path {P}export_* {P}infer_dtype", IDLE),
    f"{Q}name": Coded("base_format", {"auto": "", "bnb": "", "*": ""}), f"{Q}quantization_bit": "quantization_bit",
    **alike(f"{Q}double_quantization", "double_quant"), f"{Q}quantization_type": "base_format",
    f"{Q}compute_dtype": Ignored("of products with frozen matrices", True),
    f"{K}name": Coded("kernels", {"liger_kernel": "liger", "auto": "", "*": ""}),
    **alike(f"{K}*", Ignored("which kernels run", True)),
    f"{D}name": Coded("strategy", {"fsdp2": "fsdp2", "fsdpturbo": "fsdp2", "deepspeed": "deepspeed", "ddp": "ddp"}),
    f"{D}config_file": "deepspeed_file", f"{D}ep_size": "ep", f"{D}reshard_after_forward": By(reshard),
    f"{D}offload_params": offloading("parameters"),
    **alike(f"{D}dcp_path {D}pin_memory {D}ep_dispatcher {D}hook_modules* {D}fsdp_implementation", IDLE),
    f"{D}fsdp_ignored_modules*": Unmodelled("what is not sharded"),
    "optim_config.name": By(optim, "optimizer"), **alike("optim_config.* lr_scheduler_config.*", Ignored("of the step", True)),
    "pref_loss": Coded("algorithm", {"sigmoid": "dpo", "orpo": "orpo", "simpo": "simpo"}),
    **alike("pref_beta pref_ftx simpo_gamma dpo_label_smoothing ld_alpha", Ignored("of how answers are scored")),
    **alike("train_dataset eval_dataset batching_workers custom_chat_template trust_remote_code init_config.* dist_timeout "
            "full_determinism save_ckpt_as_hf sample_backend max_new_tokens quant_config peft_config kernel_config dist_config "
            "init_config optim_config lr_scheduler_config", IDLE),
}  # fmt: skip


def _finish(out: Reading) -> None:
    out.default(WHY, algorithm="sft", micro_batch=1, seq_len=2048, recompute="full", precision="pure-bf16")
    finish(out)
    if out.says("method", "lora", "qlora", "dora"):
        out.default(WHY, lora_rank=8, lora_targets="all", lora_dropout=0.05)
        if out.says("quantization_bit"):
            out.default(WHY, double_quant=True, base_format="nf4")
    if out.says("method", "freeze"):
        out.default(WHY, train_layers=2)
    if out.says("strategy", "fsdp2"):
        out.default(WHY, fsdp="full", reshard_after_forward=True)
    if out.says("offload", ["parameters"]):  # whose step then runs on the host
        out.facts["offload"] = out.facts["offload"]._replace(value=["parameters", "optimizer"])
    if out.says("algorithm", "dpo"):
        out.default(WHY, reference="same" if out.says("method", "lora", "qlora", "dora") else "frozen")
    out.default("torch.optim.AdamW, as its trainer builds it", optimizer="adamw_torch", optimizer_impl="foreach")


LLAMAFACTORY_V1 = Kind("llamafactory-v1", "LLaMA-Factory", (KEYS, TRAINING_IDLE),
    has("model", "cutoff_len", any_=("train_dataset", "dist_config.name", "peft_config.name")), _finish)  # fmt: skip
