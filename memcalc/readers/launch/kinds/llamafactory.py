"""LLaMA-Factory's YAML, JSON and options (src/llamafactory/hparams)."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import IDLE
from memcalc.readers.launch.kinds.transformers import KEYS as HF_KEYS
from memcalc.readers.launch.kinds.transformers import finish
from memcalc.readers.launch.meanings import By, Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.reading import Reading
from memcalc.readers.launch.values import Read, word

WHY = "LLaMA-Factory's default"


def _quantised(value: Value) -> dict[str, Read]:
    text = word(value if isinstance(value, str) else "").lower()
    return {} if text in ("bnb", "") else {"base_format": text}


KEYS: KeyTable = {
    "stage": "algorithm",
    "finetuning_type": "method",
    "quantization_bit": "quantization_bit",
    "quantization_method": By(_quantised),
    "pure_bf16": Coded("precision", {"true": "pure-bf16", "false": ""}),
    "disable_gradient_checkpointing": Coded("recompute", {"true": "none", "false": "full"}),
    "use_unsloth_gc": Unmodelled("Unsloth's checkpointing, which moves what it keeps to the host"),
    "enable_liger_kernel": Coded("kernels", {"true": "liger", "false": ""}),
    "flash_attn": Coded("attention", {"auto": "", "disabled": "eager", "sdpa": "sdpa", "fa2": "fa2", "fa3": "fa3"}),
    "packing": "packing", "neat_packing": "packing",
    "upcast_layernorm": "upcast_norms",
    **alike("upcast_lmhead_output", Unmodelled("parts of the model in fp32")),
    "use_galore": Coded("optimizer", {"true": "galore", "false": ""}),
    "use_apollo": Coded("optimizer", {"true": "apollo", "false": ""}),
    "use_adam_mini": Coded("optimizer", {"true": "adam-mini", "false": ""}),
    "use_muon": Coded("optimizer", {"true": "muon", "false": ""}),
    "use_badam": Coded("optimizer", {"true": "badam", "false": ""}),
    **alike("galore_rank apollo_rank", Unmodelled("the rank of a projected optimizer")),
    **alike("galore_* apollo_* badam_*", IDLE),
    "freeze_trainable_layers": "train_layers",
    **alike("freeze_trainable_modules freeze_extra_modules", Unmodelled("which layers are trained")),
    "freeze_vision_tower": Coded("freeze", {"true": ["vision"], "false": ""}),
    "freeze_multi_modal_projector": Coded("freeze", {"true": ["projector"], "false": ""}),
    "freeze_language_model": Unmodelled("a frozen language model beside trained towers"),
    **alike("train_mm_proj_only", Unmodelled("a frozen language model beside trained towers")),
    **alike("shift_attn mixture_of_depths", Unmodelled("another attention, or fewer tokens in some layers")),
    "pref_loss": Coded("algorithm", {"orpo": "orpo", "simpo": "simpo", "*": "dpo"}),
    "ref_model": "reference_model", "reward_model": "reward_model",
    "reward_model_type": Ignored("whether the reward model is an adapter"),
    **alike("ppo_* pref_* kto_* simpo_* ref_model_* reward_model_* dpo_label* bco* asft* dft* use_dft_loss use_asft_loss "
            "use_eaft_loss "
            "eaft*", IDLE),
    **alike("create_new_adapter adapter_name_or_path adapter_folder", Ignored("where adapters are read from", True)),
    **alike("loraplus_lr_ratio pissa_*", IDLE),
    "oft_*": Unmodelled("OFT"),
    **alike("image_max_pixels image_min_pixels video_max_pixels video_*", Unmodelled("how large images may be")),
    **alike("crop_to_bbox image_* audio_*", IDLE),
    **alike("infer_backend infer_dtype vllm_* sglang_* export_* infer_*", Ignored("of serving, not of training", True)),
    **alike("rope_scaling resize_vocab add_tokens offload_folder use_kv_cache use_v1* moe_aux_loss_coef double_quantization_ "
            "compute_accuracy disable_version_check print_param_status use_ray ray_* placement_strategy num_workers predict_* "
            "max_new_tokens top_p top_k temperature num_beams do_sample use_modelscope_hub new_special_tokens_config "
            "init_special_tokens ms_hub_token om_hub_token use_kt kt_* mca_* train_from_scratch enable_thinking "
            "split_special_tokens "
            "tool_format use_swanlab freeze_* use_audio* neat_* early_stopping_steps include_* tokenized_path "
            "average_tokens* llamaboard",
            IDLE),
    **alike("max_samples use_reentrant_gc", IDLE),
    "use_mca": Unmodelled("Megatron in place of transformers"),
    "use_fp8": Unmodelled("fp8 by a library of its own"), "fp8": Unmodelled("fp8 by a library of its own"), "fp8_*": IDLE,
    **alike("use_hyper_parallel hyper_parallel_args* use_llama_pro", Unmodelled("another way of training")),
    "deepspeed": "deepspeed_file",
    **alike("tensor_model_parallel_size", "tp"), **alike("pipeline_model_parallel_size", "pp"),
    "expert_model_parallel_size": "ep", "context_parallel_size": "cp", "sequence_parallel": "sequence_parallel",
    "recompute_granularity": "recompute",
    "use_distributed_optimizer": "distributed_optimizer",
}  # fmt: skip


def _finish(out: Reading) -> None:
    facts = out.facts
    out.default(WHY, algorithm="sft", method="lora", micro_batch=8, grad_accum=1, seq_len=2048, recompute="full")
    if out.says("algorithm", "orpo", "simpo") or (
        out.says("algorithm", "dpo") and any(row.entry.key == "pref_loss" for row in out.imported)
    ):
        preference = [row for row in out.imported if row.entry.key == "pref_loss"]
        chosen = str(preference[-1].entry.value).lower() if preference else ""
        if chosen in ("orpo", "simpo"):
            facts["algorithm"] = facts["algorithm"]._replace(value=chosen, entry=preference[-1].entry)
    if out.says("method", "freeze"):
        out.default(WHY, train_layers=2)
    if not out.says("method", "full", "freeze", "oft"):
        out.default(WHY, lora_rank=8, lora_targets="all", lora_dropout=0.0)
        if out.says("quantization_bit"):
            out.default(WHY, double_quant=True, base_format="nf4")
    if out.says("algorithm", "orpo", "simpo"):
        out.default("the objective has none", reference="none")
    elif out.says("algorithm", "dpo", "kto", "ppo"):
        out.default(WHY, reference="same" if out.says("method", "lora") else "frozen")
    if out.says("precision", "bf16", "fp16", "auto"):
        out.follow("model_dtype", "float32" if out.says("method", "full") else "bfloat16", "precision")
    if out.says("precision", "pure-bf16"):
        out.follow("model_dtype", "bfloat16", "precision")
    finish(out)
    out.default("transformers' default", precision="fp32")
    out.default_optimizer("transformers' default")


WORDS = ("finetuning_type", "stage", "cutoff_len", "lora_target", "quantization_bit", "template")
LLAMAFACTORY = Kind("llamafactory", "LLaMA-Factory", (KEYS, HF_KEYS), has("model_name_or_path", any_=WORDS), _finish)
