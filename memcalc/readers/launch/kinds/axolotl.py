"""axolotl's YAML (axolotl/utils/schemas)."""

from memcalc.readers.launch.facts import Fact
from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.accelerate import FSDP
from memcalc.readers.launch.kinds.common import IDLE, PEFT, TRAINING_IDLE, checkpointing, half
from memcalc.readers.launch.kinds.transformers import TRL_KEYS, deepspeed, finish, fsdp, optim
from memcalc.readers.launch.meanings import By, Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.reading import Reading
from memcalc.readers.launch.values import Read, words

PLUGINS: dict[str, dict[str, Read]] = {"CutCrossEntropyPlugin": {"loss": "fused"}, "LigerPlugin": {"kernels": "liger"}}
WHY = "axolotl's default"


def _plugins(value: Value) -> dict[str, Read]:
    listed = words(value)
    found: dict[str, Read] = {}
    for each in listed if isinstance(listed, list) else [listed]:
        found |= PLUGINS.get(each.rpartition(".")[2], {})
    return found


def _attention(name: str) -> Coded:
    return Coded("attention", {"true": name, "false": "", "1": name})


KEYS: KeyTable = {
    "base_model": "model",
    "micro_batch_size": "micro_batch",
    "batch_size": "global_batch",
    "sequence_len": "seq_len",
    **alike("sample_packing", "packing"),
    **alike("pad_to_sequence_len eval_sample_packing multipack_real_batches sample_packing_* group_by_length "
            "curriculum_sampling",
            Ignored("a packed row is as long as the sequence", True)),
    "bf16": half("bf16"), "bfloat16": half("bf16"), "fp16": half("fp16"), "float16": half("fp16"), "tf32": IDLE,
    "fp8": Unmodelled("fp8 through torchao"),
    "adapter": Coded("method", {"lora": "lora", "qlora": "qlora", "none": "full", "": "full"}),
    "lora_target_linear": Coded("lora_targets", {"true": "all-linear", "false": ""}),
    **alike("lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_embedding_kernel", Unmodelled("fused kernels of adapters")),
    "gradient_checkpointing": By(checkpointing, "recompute"),
    "activation_checkpointing": By(checkpointing, "recompute"),
    "activation_offloading": "activation_offloading",
    "optimizer": By(optim, "optimizer"),
    "deepspeed": By(deepspeed),
    "fsdp": By(fsdp),
    "fsdp_version": Coded("strategy", {"1": "fsdp1", "2": "fsdp2"}),
    **{f"fsdp_config.{key}": row for key, row in FSDP.items()},
    "fsdp_config.state_dict_type": IDLE, "fsdp_final_state_dict_type": IDLE,
    "dp_shard_size": "shard_size", "dp_replicate_size": "replicas",
    "tensor_parallel_size": "tp", "context_parallel_size": "cp", "sequence_parallel_degree": "cp",
    "expert_parallel_size": "ep",
    **alike("flash_attention", _attention("flash_attention_2")), "sdp_attention": _attention("sdpa"),
    "xformers_attention": _attention("xformers"), "flex_attention": _attention("flex_attention"),
    "eager_attention": _attention("eager"),
    "s2_attention": Unmodelled("shifted sparse attention"), "attn_implementation": "attention",
    **alike("flash_attn_* flash_optimum flex_attn_compile_kwargs* heads_k_stride ring_attn_func", Ignored("fused kernels",
        True)),
    "plugins": By(_plugins),
    "liger_*": Coded("kernels", {"true": "liger", "false": "", "*": ""}),
    "cut_cross_entropy": Coded("loss", {"true": "fused", "false": ""}),
    "chunked_cross_entropy": Coded("loss", {"true": "chunked", "false": ""}),
    "chunked_cross_entropy_num_chunks": IDLE,
    "torch_compile": "compile", "torch_compile_backend": IDLE, "torch_compile_mode": IDLE,
    **alike("unsloth_*", Coded("kernels", {"true": "unsloth", "false": ""})),
    "rl": "algorithm", "reward_model": Coded("algorithm", {"true": "reward", "false": ""}),
    "process_reward_model": Coded("algorithm", {"true": "reward", "false": ""}),
    "trl.num_generations": "n_samples", "trl.max_completion_length": "response_len", "trl.use_vllm": "use_vllm",
    "trl.vllm_mode": "vllm_mode", "trl.beta": "beta", "trl.*": Ignored("of how answers are scored or drawn"),
    "vllm.gpu_memory_utilization": "gpu_memory_utilization", "vllm.tensor_parallel_size": "rollout_tp",
    "vllm.max_model_len": "context", "vllm.dtype": IDLE, "vllm.*": IDLE, "rl_beta": "beta",
    **alike("dpo_* orpo_alpha kto_* simpo_gamma cpo_alpha rl_*", Ignored("of how answers are scored")),
    "unfrozen_parameters": Unmodelled("which parameters are trained"),
    "freeze_mm_modules": Coded("freeze", {"true": ["vision"], "false": ""}),
    "quantize_moe_experts": Unmodelled("experts left in 16 bits beside quantised matrices", ("true", "yes", "on", "1", "")),
    "qat": Coded("method", {"*": "qat"}), "qat.*": Coded("method", {"*": "qat"}), "quantization.*": Ignored("after training",
        True),
    **alike("gptq", Coded("base_format", {"true": "gptq", "false": ""})), "gptq_disable_exllama": IDLE, "gptq_groupsize": IDLE,
    **alike("relora_steps relora_prune_ratio relora_warmup_steps jagged_restart*", Unmodelled("ReLoRA")),
    "lisa_*": Unmodelled("LISA"), "galore_*": IDLE, "optim_target_modules": Unmodelled("which matrices an optimizer projects"),
    "llama4_linearized_experts": Unmodelled("experts as linear layers"),
    "tiled_mlp": Unmodelled("a tiled feed-forward"),
    "mean_resizing_embeddings": IDLE, "resize_token_embeddings_to_32x": IDLE,
    **alike("model_config.* model_kwargs.* overrides_of_model_config.* overrides_of_model_kwargs.*",
            Unmodelled("settings of the model other than its own")),
    "rope_scaling.*": IDLE,
    **alike("processor_type image_size image_resize_algorithm is_multimodal", IDLE),
    **alike("saves_per_epoch evals_per_epoch auto_resume_from_checkpoints local_rank gpu_memory_limit lora_model_dir "
            "xformers_* "
            "early_stopping_patience revision_of_model merge_lora_* sft_* dataloader_* chat_template_jinja lora_fan_in_fan_out "
            "lora_dtype lora_modules_* fix_untrained_tokens peft.* kd_* use_ray ray_* hf_mlflow* use_kernels "
            "experts_implementation "
            "use_onebitllms attention_dropout raft* low_memory* special_tokens.* axolotl_* peft_* seed",
            IDLE),
    **alike("torchdistx_path gptq_model_v1 push_dataset_to_hub max_packed_sequence_len min_sample_len eot_tokens*", IDLE),
    "gemma4_hybrid_attn_impl": Unmodelled("another attention in some layers"),
    "fp8_enable_fsdp_float8_all_gather": Unmodelled("parameters gathered in fp8"),
    "unsloth_lora_*": Coded("kernels", {"true": "unsloth", "false": ""}),
}  # fmt: skip
GENERAL: KeyTable = {**PEFT, **{key: row for key, row in TRL_KEYS.items() if key not in ("loss_type",)}, **TRAINING_IDLE,
                     "gradient_accumulation_steps": "grad_accum", "max_grad_norm": "max_grad_norm"}  # fmt: skip


def _finish(out: Reading) -> None:
    linear = [
        row.entry for row in out.imported if row.entry.key == "lora_target_linear" and str(row.entry.value).lower() == "true"
    ]
    if linear:  # all of them, whatever else is listed
        out.facts["lora_targets"] = Fact("all-linear", linear[-1])
    version = [row for row in out.imported if row.entry.key == "fsdp_version"]
    if version and out.says("strategy", "fsdp1"):
        out.facts["strategy"] = out.facts["strategy"]._replace(value=f"fsdp{version[-1].entry.value}")
    if any(row.entry.key.startswith("fsdp_config") for row in out.imported):
        out.default(WHY, strategy="fsdp1")
    out.default(
        WHY, micro_batch=1, grad_accum=1, seq_len=512, precision="auto", recompute="none", algorithm="sft", packing=False
    )
    out.default_optimizer(WHY)
    finish(out)
    if out.says("offload", ["parameters"]) and out.says("strategy", "fsdp1", "fsdp2"):  # whose step then runs on the host
        out.facts["offload"] = out.facts["offload"]._replace(value=["parameters", "optimizer"])


AXOLOTL = Kind("axolotl-yaml", "axolotl", (KEYS, GENERAL),
    has("base_model", any_=("micro_batch_size", "sequence_len", "datasets",
               "adapter", "num_epochs", "gradient_accumulation_steps", "datasets[0].path")), _finish)  # fmt: skip
