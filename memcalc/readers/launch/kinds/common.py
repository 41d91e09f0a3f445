"""Keys that several trainers share: what changes nothing, PEFT's, and what a strategy is called."""

from collections.abc import Mapping

from memcalc.readers.launch.meanings import FULL, By, Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.reading import Reading
from memcalc.readers.launch.values import Read, Unreadable, flag, words

IDLE = Ignored("changes no byte that memcalc counts")
DATA = Ignored("data", True)
SCHEDULE = Ignored("of the schedule of learning", True)
LOGGING = Ignored("of logging, saving and the hub", True)

TRAINING_IDLE: KeyTable = {
    **alike("learning_rate lr *_lr min_lr* lr_* warmup* weight_decay* adam_* beta1 beta2 beta_1 beta_2 betas eps epsilon "
            "momentum "
            "num_train_epochs num_epochs epochs n_epochs max_steps steps total_steps train_steps train_iters train_samples "
            "max_epochs lr_scheduler* scheduler* cosine_* cosine* constant_* embedding_lr* loraplus_lr* max_train_steps "
            "num_warmup_steps num_steps total_epochs max_train_samples* num_mini_batches gamma lambd tau",
            SCHEDULE),
    **alike("seed *_seed data_seed random_state full_determinism deterministic* disable_tqdm trust_remote_code* do_train "
            "do_eval do_predict do_test ddp_timeout *_timeout timeout local_rank ignore_data_skip remove_unused_columns "
            "include_* label_names* label_smoothing* neftune* rslora use_rslora lora_alpha alpha *_lora_alpha lora_bias "
            "peft_use_rslora init_lora_weights lora_init* bias dataloader_* preprocessing_num_workers group_by_length "
            "length_column_name save_only_model restore_callback* jit_mode_eval use_ipex tf32 torch_empty_cache_steps "
            "use_fast* tokenizer* chat_template* strict base_model_config model_type is_*_derived_model special_tokens* "
            "added_tokens* tokens* bos_token eos_token pad_token *pad_token* type_of_model model_revision revision token "
            "hf_token use_auth_token cache_dir gc_steps resume* auto_resume* ignore_mismatched_sizes padding_side "
            "loss_watchdog* debug verbose device low_cpu_mem_usage ddp_find_unused_parameters ddp_broadcast_buffers "
            "ddp_backend gradient_checkpointing_kwargs* accelerator_config* past_index optim_args task_type "
            "lora_weight_type unwrap* seq_length_warmup* distributed_backend nccl_* use_cpu no_cuda use_cpu_initialization",
            IDLE),
    **alike("dataset* datasets* data_* train_data* eval_data* val_data* test_data* valid_data* data media_dir template "
            "template.* "
            "train_file validation_file test_file val_size val_set_size test_datasets* pretraining_dataset* shuffle* "
            "streaming buffer_size mix_strategy interleave_* overwrite_cache preprocessing_* num_proc dataset_num_proc "
            "train_on_inputs train_on_input train_on_prompt mask_history text_column prompt_column input_key label_key "
            "prompt_key output_key "
            "apply_chat_template tool_key *_column* *_field chat_template train_split valid_split split *_split columns* "
            "roles_to_train train_on_eos excess_length_strategy group_by_modality_length remove_columns default_system "
            "system_prompt system dataset_prepared_path prompt_format* message_*  prompt_template* dataset_processes "
            "skip_prepare_dataset dataset_kwargs* assistant_only_loss completion_only_loss add_special_tokens "
            "append_concat_token input_template prompt_data", DATA),
    **alike("logging_* log_* save_* saves_* output_dir run_name report_to wandb* mlflow* comet* swanlab* trackio* "
            "tensorboard* hub_* "
            "push_to_hub* eval_strategy evaluation_strategy eval_steps eval_delay eval_on_start evals_per_epoch "
            "eval_table* eval_sample_packing eval_max_new_tokens eval_causal_lm_metrics* eval_interval eval_iters "
            "load_best_model* metric_for_best_model greater_is_better early_stopping* metrics* plot_loss overwrite_output_dir "
            "ckpt_path ckpt_* checkpoint* load_checkpoint save load logger* project project_name experiment_name exp_name "
            "default_hdfs_dir default_local_dir val_before_train test_freq save_freq log logging* xformers_dummy "
            "include_tokens_per_second include_num_input_tokens_seen use_tensorboard use_wandb profiler* profile* show_* "
            "print_* "
            "metric_logger* resume_from_checkpoint add_version create_checkpoint_symlink use_swanlab torch_profiler* "
            "logits_save* exit_on* log_dir max_ckpt* wandb", LOGGING),
}  # fmt: skip

LORA_IDLE = Ignored("of adapters' scale or first values", True)
OTHER_ADAPTERS = "another adapter than LoRA"


def lora_targets(value: Value) -> Mapping[str, Read]:
    """A list of modules, or a word for all linear layers."""
    found = words(value)
    return {"lora_targets": found} if found else {}


PEFT: KeyTable = {
    **alike("lora_r lora_rank lora_dim r", "lora_rank"),
    **alike("lora_dropout", "lora_dropout"),
    **alike("lora_target_modules target_modules lora_target lora_modules", By(lora_targets, "lora_targets")),
    **alike("modules_to_save lora_modules_to_save additional_target", "modules_to_save"),
    **alike("use_dora peft_use_dora", "dora"),
    **alike("load_in_4bit", Coded("quantization_bit", {"true": 4, "false": "", "1": 4, "0": "", "yes": 4, "no": ""})),
    **alike("load_in_8bit", Coded("quantization_bit", {"true": 8, "false": "", "1": 8, "0": "", "yes": 8, "no": ""})),
    **alike("bnb_4bit_use_double_quant use_bnb_nested_quant use_nested_quant double_quantization", "double_quant"),
    **alike("bnb_4bit_quant_type bnb_4bit_type quantization_type", "base_format"),
    "bnb_config_kwargs.bnb_4bit_use_double_quant": "double_quant",
    "bnb_config_kwargs.bnb_4bit_quant_type": "base_format",
    **alike(
        "bnb_4bit_compute_dtype bnb_4bit_quant_storage* bnb_config_kwargs*", Ignored("of products with frozen matrices", True)
    ),
    "loraplus*": LORA_IDLE,
    "lora_layers_to_transform": Unmodelled("adapters in some layers alone"),
    "layers_to_transform": Unmodelled("adapters in some layers alone"),
    "lora_model_dir": Ignored("where adapters are read from", True),
    "lora_on_cpu": Ignored("where adapters are read to first", True),
    "merge_lora": Ignored("after training", True),
}

# transformers training_args.py, OptimizerNames; the words that ours does not know stay as they are and are refused by name
CHECKPOINTING = {**FULL, "unsloth": "full", "offload": "full", "offload_disk": "full", "ddp": "full", "auto": "none"}


def checkpointing(value: Value) -> Mapping[str, Read]:
    """true, false, or axolotl's offload, which keeps what is saved in host memory."""
    text = (value if isinstance(value, str) else "").strip().lower()
    if text not in CHECKPOINTING:
        raise Unreadable(f"is not one of {', '.join(CHECKPOINTING)}")
    found: dict[str, Read] = {"recompute": CHECKPOINTING[text]}
    return found | ({"activation_offloading": True} if text.startswith("offload") else {})


def half(name: str) -> By:
    """bf16: true, fp16: true (and auto, full): the format, where it is on."""

    def read(value: Value) -> Mapping[str, Read]:
        text = (value if isinstance(value, str) else "").strip().lower()
        if text in ("auto", "full"):
            return {"precision": "auto" if text == "auto" else f"pure-{name}"}
        return {"precision": name} if flag(text) else {}

    return By(read, "precision")


def offloading(what: str) -> By:
    """true: that is offloaded."""
    return By(lambda value: {"offload": [what]} if flag(value if isinstance(value, str) else "") else {})


def world(out: Reading) -> None:
    """How many devices there are in all, where nodes and devices of a node say so, or the other way round."""
    facts = out.facts

    def whole(name: str) -> int:
        value = facts[name].value if name in facts else 0
        return value if isinstance(value, int) and not isinstance(value, bool) else 0

    if whole("processes"):
        out.follow("gpus", whole("processes"), "processes")
    if whole("gpus") and whole("nodes") and whole("gpus") % whole("nodes") == 0:
        out.follow("gpus_per_node", whole("gpus") // whole("nodes"), "gpus", "nodes")
    if whole("visible_gpus") and not whole("gpus_per_node"):
        out.follow("gpus_per_node", whole("visible_gpus"), "visible_gpus")
    if whole("gpus_per_node"):
        out.follow("gpus", whole("gpus_per_node") * max(1, whole("nodes")), "gpus_per_node", "nodes")
