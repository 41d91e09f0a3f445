"""Hugging Face's TrainingArguments as YAML, JSON or options (transformers 5.24, training_args.py), and TRL's beside them."""

from collections.abc import Collection
from math import prod

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.accelerate import FSDP, finish_strategy
from memcalc.readers.launch.kinds.common import IDLE, PEFT, TRAINING_IDLE, checkpointing, half, offloading, world
from memcalc.readers.launch.meanings import By, Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.reading import Reading
from memcalc.readers.launch.values import Read, word, words

HF = "transformers' default"
IMPLS = {"adamw_torch_fused": "fused", "adamw_torch": "foreach", "adamw_apex_fused": "fused"}
OF_OBJECTIVE = "of an objective that is not modelled"


def optim(value: Value) -> dict[str, Read]:
    """The optimizer, and how its step runs where the word says that too."""
    name = word(value if isinstance(value, str) else "")
    found: dict[str, Read] = {"optimizer": name}
    return found | ({"optimizer_impl": IMPLS[name]} if name in IMPLS else {})


def fsdp(value: Value) -> dict[str, Read]:
    """ "full_shard auto_wrap offload": strategy and what goes with it; also the number 1 and true."""
    from memcalc.readers.launch.kinds.accelerate import SHARDINGS

    listed = words(value)
    found: dict[str, Read] = {}
    for each in listed if isinstance(listed, list) else [listed]:
        if each.lower() in SHARDINGS or each.lower() == "true":
            found |= {"strategy": "fsdp1", "fsdp": SHARDINGS.get(each.lower(), "full")}
        elif each.lower() == "offload":
            found["offload"] = ["parameters"]
    return found


def deepspeed(value: Value) -> dict[str, Read]:
    """A path, or the name of a file that the tool ships (zero3, zero2_offload)."""
    import re

    text = word(value if isinstance(value, str) else "")
    named = re.fullmatch(r"(?:default-)?zero([0-3])(_offload)?", text)
    if named:
        stage = int(named[1])
        found: dict[str, Read] = {"strategy": f"zero-{stage}", "zero_stage": stage}
        offloaded = ["optimizer", "parameters"] if stage == 3 else ["optimizer"]
        return found | ({"offload": offloaded, "offload_to": "cpu"} if named[2] else {})
    return {} if text.lower() in ("true", "false", "") else {"deepspeed_file": text}


def _accelerate(value: Value) -> dict[str, Read]:
    """The name of a file that TRL ships (zero3), or a path."""
    named = deepspeed(value)
    return named if "strategy" in named else {"accelerate_file": word(str(value))}


KEYS: KeyTable = {
    **PEFT,
    **alike("model_name_or_path model_name model_id pretrained_model_name_or_path", "model"),
    **alike("per_device_train_batch_size per_device_batch_size per_gpu_train_batch_size", "micro_batch"),
    "per_device_eval_batch_size": "eval_batch",
    "gradient_accumulation_steps": "grad_accum",
    **alike("gradient_checkpointing use_gradient_checkpointing activation_checkpointing", By(checkpointing, "recompute")),
    "bf16": half("bf16"), "fp16": half("fp16"),
    **alike("torch_dtype dtype", "model_dtype"),
    **alike("optim optimizer", By(optim, "optimizer")),
    "deepspeed": By(deepspeed),
    "deepspeed_config": "deepspeed_file",
    "zero_stage": By(lambda value: {"zero_stage": int(str(value)), "strategy": f"zero-{int(str(value))}"}),
    "offload": offloading("optimizer"),  # DeepSpeed-Chat's flag
    "deepspeed_stage": By(lambda value: {"zero_stage": int(str(value)), "strategy": f"zero-{int(str(value))}"}),
    "zero_hpz_partition_size": "hpz_partition",
    **alike("use_peft_lora use_lora", Coded("method", {"true": "lora", "false": ""})),
    **alike("use_4bit_quantization use_4bit_qunatization use_qlora", Coded("quantization_bit", {"true": 4, "false": ""})),
    **alike("use_8bit_quantization use_8bit_qunatization", Coded("quantization_bit", {"true": 8, "false": ""})),
    **alike("use_unsloth_lora", Coded("kernels", {"true": "unsloth", "false": ""})),
    **alike("compile_model", "compile"),
    **alike("activation_memory_budget", Unmodelled("a memory budget for recomputation")),
    **alike("lora_module_name only_optimize_lora", Unmodelled("DeepSpeed-Chat's own adapters")),
    **alike("num_samples_per_prompt_rollout", "n_samples"), **alike("max_prompt_token_length", "prompt_len"),
    **alike("use_reentrant use_slow_tokenizer with_tracking mixer_list* max_samples splits try_* average_tokens_* "
            "packing_strategy "
            "keep_last_* ephemeral_* oe_eval* eval_* hf_entity priority cluster budget workspace description image preemptible",
            IDLE),
    "fsdp": By(fsdp),
    **{f"fsdp_config.{key}": row for key, row in FSDP.items()},
    "fsdp_config": "accelerate_file",
    "torch_compile": "compile",
    **alike("use_liger_kernel use_liger", Coded("kernels", {"true": "liger", "false": ""})),
    "use_unsloth": Coded("kernels", {"true": "unsloth", "false": ""}),
    **alike("attn_implementation", "attention"),
    **alike("use_flash_attn use_flash_attention_2 use_flash_attention",
        Coded("attention", {"true": "flash_attention_2", "false": ""})),
    **alike("max_seq_length max_length model_max_length block_size cutoff_len max_seq_len", "seq_len"),
    "packing": "packing", "padding_free": "padding_free",
    "auto_find_batch_size": "batch_search",
    "max_grad_norm": "max_grad_norm",
    "activation_offloading": "activation_offloading",
    "use_cache": IDLE,
    "accelerate_config": By(_accelerate),
    "config_file": "accelerate_file",
    "parallelism_config*": Unmodelled("a parallelism_config in place of accelerate's file"),
    "use_peft": Coded("method", {"true": "lora", "false": "full"}),
    **alike("ddp_bucket_cap_mb", Unmodelled("the size of DDP's buckets")),
    "torch_compile_*": IDLE,
    **alike("liger_kernel_config*", Unmodelled("some of Liger's kernels alone")),
    "use_liger_loss": "use_liger_loss_",
    "eval_accumulation_steps": Ignored("of evaluation", True),
    **TRAINING_IDLE,
    "env.*": Ignored("an environment variable", True),
}  # fmt: skip
KEYS = {key: row for key, row in KEYS.items() if row != "use_liger_loss_"}

# trl/trainer/*_config.py
TRL_KEYS: KeyTable = {
    "loss_type": By(lambda value: {"algorithm": "orpo"} if words(value) == "orpo" else {"loss_type_": ""}),
    "beta": "beta",
    "precompute_ref_log_probs": Coded("reference", {"true": "precomputed", "false": ""}),
    **alike("ref_model reference_model ref_model_name_or_path", "reference_model"),
    **alike("reward_model_path reward_model reward_model_name_or_path", "reward_model"),
    **alike("num_generations", "n_samples"),
    **alike("max_completion_length response_length max_new_tokens", "response_len"),
    **alike("max_prompt_length", "prompt_len"),
    "use_vllm": "use_vllm", "vllm_mode": "vllm_mode", "vllm_gpu_memory_utilization": "gpu_memory_utilization",
    "vllm_tensor_parallel_size": "rollout_tp", "vllm_enable_sleep_mode": "vllm_sleep",
    "vllm_max_model_length": "context",
    **alike("num_iterations steps_per_generation generation_batch_size", Unmodelled(OF_OBJECTIVE, ("1", "none", "null", ""))),
    **alike("use_liger_loss", Coded("kernels", {"true": "liger", "false": ""})),
    "algorithm": "algorithm", "rl": "algorithm", "advantage_estimator": "advantage_estimator",
    **alike("reward_* epsilon* delta temperature top_p top_k min_p repetition_penalty scale_rewards sync_ref_model ref_model_* "
            "log_completions num_completions_to_print vllm_server_* vllm_guided* vllm_* mask_truncated_completions "
            "importance_sampling* generation_kwargs* f_divergence* label_pad* truncation_mode max_target_length "
            "desirable_weight undesirable_weight simpo_gamma cpo_alpha rpo_alpha discopop* loss_weights generate_during_eval "
            "disable_dropout is_encoder_decoder stop_* kl_* cliprange* vf_coef whiten* use_transformers_paged "
            "code_* cosine_* repetition_* weighted_* max_resource* sft_* top_entropy* e2b_* parallel_code* callbacks "
            "benchmarks concatenate* num_ppo_epochs missing_eos_penalty", Ignored("of how answers are scored or drawn")),
    "kl_coef": "kl_coef",
}  # fmt: skip
OF_LOSS: dict[str, dict[str, Read]] = {
    "orpo": {"algorithm": "orpo"}, "nll": {"loss": "full"}, "dft": {"loss": "full"}, "chunked_nll": {"loss": "chunked-nll"},
}  # fmt: skip
TRL_KEYS = {**TRL_KEYS, "loss_type": By(lambda value: OF_LOSS.get(str(words(value)), {}))}


def named_algorithm(out: Reading) -> str:
    """Which objective the keys of a file speak of."""
    keys = {row.entry.key.replace("-", "_").lstrip("_") for row in out.imported}
    if "num_generations" in keys or "max_completion_length" in keys:
        return "grpo"
    if keys & {"precompute_ref_log_probs", "max_prompt_length", "ref_model", "max_target_length"} or "beta" in keys:
        return "kto" if "desirable_weight" in keys else "dpo"
    return "sft"


def finish_peft(out: Reading) -> None:
    """What the adapters' keys come to: method, and how frozen matrices are stored."""
    adapts = out.says("method", "lora") or out.says("lora_rank") or out.says("lora_targets")
    if adapts or out.says("quantization_bit", 4):
        bits = out.facts["quantization_bit"].value if "quantization_bit" in out.facts else 0
        name = "dora" if out.says("dora", True) else "qlora" if bits == 4 else "lora"
        source = next(key for key in ("quantization_bit", "lora_rank", "method", "lora_targets") if key in out.facts)
        if not out.says("method", "full"):
            out.facts["method"] = out.facts[source]._replace(value=name)
    out.default("no adapter is named", method="full")


def finish(out: Reading) -> None:
    finish_strategy(out)
    finish_peft(out)
    world(out)
    _global_batch(out)


def _global_batch(out: Reading) -> None:
    """Sequences of a step, where no file says it or leaves it to the trainer: "auto" is what the other three come to."""
    if "global_batch" in out.facts and not out.says("global_batch", "auto"):
        return
    names = ("micro_batch", "grad_accum", "gpus", "tp", "cp", "pp")
    sizes = [out.facts[name].value if name in out.facts else 1 for name in names]
    if "gpus" in out.facts and all(isinstance(size, int) and size > 0 for size in sizes):
        micro, accum, gpus, *degrees = (int(str(size)) for size in sizes)
        out.facts.pop("global_batch", None)
        out.follow("global_batch", micro * accum * (gpus // prod(degrees)), "micro_batch", "grad_accum", "gpus")


def _transformers(out: Reading) -> None:
    out.default(HF, micro_batch=8, grad_accum=1)
    finish(out)
    out.default(HF, recompute="none", precision="fp32")
    out.default_optimizer(HF)


def _trl(out: Reading) -> None:
    algorithm = named_algorithm(out)
    out.follow("algorithm", algorithm)
    finish(out)
    fields: dict[str, Read] = {
        "micro_batch": 8,
        "grad_accum": 1,
        "recompute": "full",
        "precision": "bf16",
        "model_dtype": "float32",
    }
    out.default_optimizer("TRL's default")
    out.default("TRL's default", **fields)
    if out.says("algorithm", "sft", "dpo", "kto", "reward", "rm", "orpo"):
        out.default("TRL's default", seq_len=1024)
    if out.says("algorithm", "sft") and not out.says("kernels"):
        out.default("TRL's default since 1.6", loss="chunked-nll")
    if out.says("method", "lora", "qlora", "dora"):
        out.default("TRL's default", lora_rank=16, lora_dropout=0.05)
    if out.says("use_vllm", True):
        out.default("TRL uses vLLM alone", rollout_engine="vllm")
        out.default("TRL's default", vllm_mode="colocate", gpu_memory_utilization=0.3, rollout_tp=1)
    if out.says("algorithm", "grpo"):
        out.default("TRL's default", n_samples=8, response_len=512)
        out.default(
            "GRPO's beta", reference="none" if out.facts.get("beta") is None or not out.facts["beta"].value else "frozen"
        )
    elif out.says("algorithm", "dpo", "kto"):
        out.default("TRL's default", reference="same" if out.says("method", "lora", "qlora", "dora") else "frozen")
    elif out.says("algorithm", "orpo", "simpo"):
        out.default("the objective has none", reference="none")


OPTIONS = ("per_device_train_batch_size", "per_device_batch_size", "model_name_or_path")
TRL_ONLY = ("beta", "precompute_ref_log_probs", "num_generations", "max_completion_length", "max_prompt_length", "use_vllm",
    "use_peft",
            "lora_r", "dataset_mixture", "dataset_mixer", "accelerate_config", "load_in_4bit", "packing", "max_length",
            "loss_type",
            "max_seq_length", "env.", "reward_funcs")  # fmt: skip
TRL = Kind("trl-yaml", "TRL", ({**TRL_KEYS, **KEYS},), has("model_name_or_path", any_=TRL_ONLY), _trl)


def _is_one(keys: Collection[str]) -> bool:
    """TrainingArguments; MaxText has per_device_batch_size too, beside meshes of its own."""
    return has(any_=OPTIONS)(keys) and not any(key.startswith(("ici_", "dcn_")) for key in keys)


TRANSFORMERS = Kind("hf-args", "transformers", ({**KEYS, **TRL_KEYS},), _is_one, _transformers)
