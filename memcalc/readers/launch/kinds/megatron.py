"""Megatron-LM's arguments (megatron/training/arguments.py)."""

from collections.abc import Collection

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import DATA, IDLE, LOGGING, SCHEDULE, world
from memcalc.readers.launch.meanings import By, Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.reading import Reading
from memcalc.readers.launch.values import Read, flag

WHY = "Megatron-LM's default"
NATIVE = "vocab-parallel"  # fused or not (megatron/core/fusions/fused_cross_entropy.py, tensor_parallel/cross_entropy.py)
EMPTY = ("", "true", "1", "yes")  # a flag stands alone on a command line


def set_(name: str, value: Read) -> Coded:
    """A flag that says one thing."""
    return Coded(name, {**dict.fromkeys(EMPTY, value), "false": ""})


def cpu_offload(value: Value) -> dict[str, Read]:
    on = flag(str(value))
    return {"optimizer_cpu_offload": True, "offload": ["optimizer"]} if on else {"optimizer_cpu_offload": False}


def _sharding(value: Value) -> dict[str, Read]:
    stages = {"no_shard": 0, "optim": 1, "optim_grads": 2, "optim_grads_params": 3}
    return {"zero_stage": stages[str(value)]} if str(value) in stages else {}


KEYS: KeyTable = {
    "num_layers": "layers", "hidden_size": "hidden", "ffn_hidden_size": "ffn", "num_attention_heads": "heads",
    "group_query_attention": "gqa", "num_query_groups": "kv_heads", "kv_channels": "head_dim", "swiglu": "swiglu",
    "untie_embeddings_and_output_weights": "untied", "vocab_size": "vocab", "padded_vocab_size": "vocab",
    "pad_vocab_size_to": "vocab", "make_vocab_size_divisible_by": "vocab_multiple",
    "num_experts": "experts", "moe_router_topk": "topk", "moe_ffn_hidden_size": "expert_ffn",
    "moe_shared_expert_intermediate_size": "shared_ffn",
    "multi_latent_attention": "mla", "q_lora_rank": "q_lora", "kv_lora_rank": "kv_lora", "mtp_num_layers": "mtp",
    "max_position_embeddings": "positions", "position_embedding_type": "position", "normalization": "normalization",
    "disable_bias_linear": "no_bias", "moe_grouped_gemm": "grouped_gemm",
    **alike("qk_head_dim qk_pos_emb_head_dim v_head_dim qk_layernorm add_qkv_bias moe_first_k_dense_replace "
            "hybrid_* mamba_* is_hybrid_model decoder_num_layers encoder_num_layers num_shared_experts",
            Unmodelled("a detail of the model's shape: name the model, or its config.json")),
    **alike("tensor_model_parallel_size model_parallel_size", "tp"),
    **alike("pipeline_model_parallel_size pipe_parallel_size", "pp"), "context_parallel_size": "cp",
    "expert_model_parallel_size": "ep", "expert_tensor_parallel_size": "etp",
    "sequence_parallel": "sequence_parallel", "tp_comm_overlap": "tp_overlap",
    "micro_batch_size": "micro_batch", "global_batch_size": "global_batch", "seq_length": "seq_len",
    "batch_size": "micro_batch",
    "bf16": set_("precision", "bf16"), "fp16": set_("precision", "fp16"),
    "fp8_format": "fp8", "fp8": "fp8", "fp4_format": "fp4",
    **alike("use_distributed_optimizer", "distributed_optimizer"),
    "data_parallel_sharding_strategy": By(_sharding), "use_megatron_fsdp": "megatron_fsdp", "use_custom_fsdp": "megatron_fsdp",
    "use_torch_fsdp2": set_("strategy", "fsdp2"),
    "zero_stage": "zero_stage",
    "recompute_activations": set_("recompute", "selective"), "recompute_granularity": "recompute",
    "recompute_method": "recompute_method", "recompute_num_layers": "recompute_layers",
    "recompute_modules": "recompute_modules",
    **alike("checkpoint_activations", set_("recompute", "full")), "checkpoint_num_layers": "recompute_layers",
    **alike("partition_activations deepspeed_activation_checkpointing", Unmodelled("DeepSpeed's checkpoints of activations")),
    "num_layers_per_virtual_pipeline_stage": "virtual_stage_layers", "num_virtual_stages_per_pipeline_rank": "virtual_stages",
    "decoder_first_pipeline_num_layers": "first_stage_layers", "decoder_last_pipeline_num_layers": "last_stage_layers",
    "pipeline_model_parallel_layout": "virtual_layout", "account_for_embedding_in_pipeline_split": "count_embedding",
    "account_for_loss_in_pipeline_split": "count_loss", "pp_partition_method": IDLE,
    "optimizer": "optimizer", "optimizer_cpu_offload": By(cpu_offload), "optimizer_offload_fraction": "offload_fraction",
    "use_precision_aware_optimizer": "precision_aware_optimizer", "main_grads_dtype": "main_grads_dtype",
    "main_params_dtype": "main_params_dtype", "exp_avg_dtype": "exp_avg_dtype", "exp_avg_sq_dtype": "exp_avg_sq_dtype",
    "accumulate_allreduce_grads_in_fp32": set_("main_grads_dtype", "fp32"),
    "grad_reduce_in_bf16": set_("main_grads_dtype", "bf16"),
    "use_flash_attn": set_("flash", True), "use_flash_attn_v2": set_("flash", True),
    "attention_backend": Coded("attention",
        {"flash": "flash", "fused": "flash", "unfused": "eager", "local": "eager", "auto": ""}),
    "cross_entropy_loss_fusion": Coded("loss", {"true": "", "false": NATIVE, "": ""}),
    "cross_entropy_fusion_impl": Coded("loss", {"te": "te", "native": NATIVE}),
    "cp_comm_type": "cp_kind", "transformer_impl": Coded("te", {"transformer_engine": True, "local": False}),
    "moe_expert_capacity_factor": Unmodelled("an expert's capacity (--capacity-factor says it)"),
    "moe_pad_expert_input_to_capacity": Unmodelled("padded experts (--pad-to-capacity says it)"),
    "moe_layer_recompute": Unmodelled("recomputed experts"),
    **alike("moe_use_upcycling moe_token_drop_policy", IDLE),
    **alike("fine_grained_activation_offloading offload_modules cpu_offloading cpu_offloading_num_layers",
            Unmodelled("activations in host memory, by module or layer")),
    **alike("external_cuda_graph enable_cuda_graph cuda_graph_impl cuda_graph_scope", Unmodelled("CUDA graphs in training")),
    "rampup_batch_size": Ignored("the batch grows to the global one", True),
        "ddp_bucket_size": Unmodelled("the size of gradient buckets"),
    "clip_grad": "max_grad_norm",
    **alike("fsdp_double_buffer use_nccl_ub megatron_fsdp_*", Unmodelled("buffers and formats of Megatron's FSDP")),
    **alike("freeze_ViT freeze_LM", Unmodelled("what is frozen of a multimodal model")),
    "use_bnb_optimizer": Unmodelled("bitsandbytes' optimizer in Megatron-DeepSpeed"),
    "fp8_param_gather": Unmodelled("parameters gathered in fp8"), "fp8_param": Unmodelled("parameters kept in fp8"),
    "fp8_recipe": IDLE, **alike("fp8_amax* fp8_margin fp8_interval fp8_wgrad first_last_layers_bf16 num_layers_at_*", IDLE),
    **alike("layernorm_zero_centered_gamma apply_layernorm_1p embed_layernorm norm_epsilon layernorm_epsilon rotary_* "
            "attention_dropout hidden_dropout init_method_std no_position_embedding use_rotary* squared_relu openai_gelu "
            "attention_softmax_in_fp32 apply_query_key_layer_scaling no_* masked_softmax_fusion bias_* moe_aux* "
            "moe_router_* moe_z* "
            "moe_token_dispatcher_type moe_permute_fusion moe_enable_deepep moe_shared_expert_overlap moe_per_layer_logging "
            "overlap_* delay_wgrad* tp_comm* use_mcore* use_cpu_initialization init_model_with_meta_device manual_gc* "
            "empty_unused_memory_level calculate_per_token_loss te_rng* deterministic* distributed_* use_dist_ckpt* dist_ckpt* "
            "ckpt_* auto_detect* async_save use_rope_scaling rope_* enable_experimental disable_* ddp_* "
            "gradient_accumulation_fusion "
            "inference_* mock_* reset_* eod_* create_attention* num_workers vision* image_* img* num_channels classes "
            "decoupled_* "
            "use_checkpoint* override_* exit_* finetune nccl_* high_priority* enable_ft* straggler* log_* make_* outer* world* "
            "num_floating* fused_* use_legacy_models retro_* bert_* mask_* short_seq* allow_ambiguous* sync_* abort_on* "
            "deepspeed deepspeed_config universal_checkpoint kill_switch_path codecarbon_dir hostfile skip_train* "
            "patch_dim use_persistent* spec data_parallel_* use_sharp* grad_* gradient_reduce* preserve_fp32* keep_fp8* "
            "iterations_to_skip padding local_rank mtp_loss* moe_* calculate_* dsa_* experimental_* mup_* mlp_* use_fused* "
            "window_* linear_* attention_output_gate group_* enable_* qk_* softmax_* swa_* glu_* heterogeneous* suggested_*",
            IDLE),
    **alike("train_iters train_samples lr lr_* min_lr weight_decay* adam_* sgd_momentum start_weight* end_weight* "
            "dataloader_type "
            "muon_* seed", SCHEDULE),
    **alike("data_path train_data_path* valid_data_path* test_data_path* split* tokenizer* vocab_file merge_file data_* "
            "train_weighted* "
            "valid_weighted* tiktoken* num_dataset* dataset* sft* merge* encoder_seq_length decoder_seq_length prompt_* "
            "per_split_data* bin_* test_* valid_* s3_* reset_position*", DATA),
    **alike("save save_* load load_* log_* tensorboard* wandb* eval_* eval_interval eval_iters logging* profile* timing* "
            "pretrained* "
            "rank0* loss_scale initial_loss_scale hysteresis *_loss_scale* record_memory* memory_snapshot* one_logger* "
            "non_persistent*",
            LOGGING),
}  # fmt: skip
# Megatron Core's YAML keeps them in two tables
KEYS = {**KEYS, **{f"{table}.{key}": row for table in ("language_model", "model_parallel") for key, row in KEYS.items()
                   if "*" not in key}, "language_model.num_moe_experts": "experts"}  # fmt: skip
KEYS = {**KEYS, "moe_layer_freq": Unmodelled("which layers have experts: name the model, or its config.json", ("1",))}


def finish(out: Reading) -> None:
    """Megatron's own rules: what a degree is where nobody says it, what the batch comes to."""
    facts = out.facts
    if out.says("distributed_optimizer", True):
        out.follow("strategy", "zero-1", "distributed_optimizer")
    if out.says("megatron_fsdp", True) and "zero_stage" in facts:
        out.follow("strategy", f"zero-{facts['zero_stage'].value}", "zero_stage")
    if out.says("flash", True):
        out.follow("attention", "flash", "flash")
    world(out)
    out.default(WHY, recompute="none", optimizer="adam", tp=1, pp=1, precision="fp32", loss=NATIVE)
    if out.says("experts"):
        out.default(WHY, ep=1)
    accumulation(out)


def accumulation(out: Reading) -> None:
    """Passes of a step: sequences of a step over what all data-parallel ranks take at once."""
    sizes = {
        name: out.facts[name].value for name in ("gpus", "tp", "pp", "cp", "micro_batch", "global_batch") if name in out.facts
    }
    sizes.setdefault("cp", 1)
    if len(sizes) < 6 or not all(isinstance(value, int) and value > 0 for value in sizes.values()):
        return
    ranks = sizes["gpus"] // (sizes["tp"] * sizes["pp"] * sizes["cp"])  # type: ignore[operator]
    at_once = ranks * sizes["micro_batch"]  # type: ignore[operator]
    if ranks and sizes["global_batch"] % at_once == 0:  # type: ignore[operator]
        out.follow("grad_accum", sizes["global_batch"] // at_once, *sizes)  # type: ignore[operator]


def _is_one(keys: Collection[str]) -> bool:
    """An option that only Megatron-LM has, or a model's shape in its words."""
    return has(any_=OPTIONS)(keys) or has("num_layers", "hidden_size", "num_attention_heads")(keys)


OPTIONS = (
    "tensor_model_parallel_size",
    "pipeline_model_parallel_size",
    "num_query_groups",
    "use_distributed_optimizer",
    "seq_length",
)
MEGATRON = Kind("megatron-args", "Megatron-LM", (KEYS,), _is_one, finish)
