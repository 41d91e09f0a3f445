"""ms-swift's options (swift pt|sft|rlhf, megatron pt|sft|rlhf)."""

from memcalc.readers.launch.facts import Fact
from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import IDLE, world
from memcalc.readers.launch.kinds.megatron import KEYS as MEGATRON_KEYS
from memcalc.readers.launch.kinds.megatron import NATIVE, accumulation
from memcalc.readers.launch.kinds.transformers import KEYS as HF_KEYS
from memcalc.readers.launch.kinds.transformers import TRL_KEYS, finish
from memcalc.readers.launch.meanings import Coded, KeyTable, Unmodelled, alike
from memcalc.readers.launch.reading import Reading

WHY = "ms-swift's default"
MIXED = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp16"}  # dtype of loading → what autocast computes in
KEYS: KeyTable = {
    **alike("model model_id_or_path", "model"), **alike("train_type tuner_type sft_type", "method"), "rlhf_type": "algorithm",
    "ENV.MAX_PIXELS": Unmodelled("how large images may be"), "ENV.*": IDLE,
    "quant_bits": "quantization_bit", "quant_method": IDLE, **alike("attn_impl", "attention"),
    "freeze_vit": "freeze_vit", "freeze_aligner": Coded("freeze", {"true": ["projector"], "false": ""}),
    "freeze_llm": Unmodelled("a frozen language model beside trained towers"),
    "freeze_parameters*": Unmodelled("which parameters are trained"),
    "trainable_parameters*": Unmodelled("which parameters are trained"),
    "sequence_parallel_size": "sp", "sequence_parallel": "sequence_parallel",
    "vllm_gpu_memory_utilization": "gpu_memory_utilization", "vllm_tensor_parallel_size": "rollout_tp",
    "vllm_mode": "vllm_mode",
    "vllm_max_model_len": "context", "use_vllm": "use_vllm", "sleep_level": "sleep_level", "offload_model": "offload_model",
    "offload_optimizer": "offload_optimizer", "move_model_batches": Unmodelled("how weights move to the engine"),
    "teacher_model": Unmodelled("a teacher model"), "teacher_*": IDLE, "num_generations": "n_samples",
    "max_completion_length": "response_len", "ref_model": "reference_model",
    "lisa_*": Unmodelled("LISA"), "use_galore": Coded("optimizer", {"true": "galore", "false": ""}), "galore_*": IDLE,
    "max_pixels": Unmodelled("how large images may be"),
    "task_type": Coded("head_task", {"causal_lm": "", "seq_cls": "seq_cls", "embedding": "embedding"}), "num_labels": "labels",
    "problem_type": IDLE,
    "packing": "packing", "packing_length": "seq_len", "max_length": "seq_len", "packing_cache": IDLE,
    "padding_free": "padding_free", "lazy_tokenize": IDLE, "gradient_checkpointing": HF_KEYS["gradient_checkpointing"],
    "vit_gradient_checkpointing": Unmodelled("recomputation of the tower alone", ("true", "false", "", "none")),
    "merge_lora": IDLE, "optimizer": HF_KEYS["optim"], "lora_rank": "lora_rank",
    **alike("load_safetensors save_safetensors model_author model_name external_plugins plugin* reward_funcs* agent_* use_hf "
            "dataset_shuffle* custom_* loss_scale* norm_bbox response_prefix truncation_strategy max_epochs torch_dtype_ "
            "system "
            "use_chat_template new_special_tokens add_version report_to mcore_* vllm_* sglang_* val_* cached_dataset* "
            "enable_channel_loss "
            "loss_type loss_weights router_aux* top_k temperature num_train_epochs dataset_num_proc split_dataset* "
            "deepspeed_autotp_size rollout_* async_generate multi_turn* max_turns use_async_engine "
            "completion_length_limit* stop_words "
            "streaming dynamic_sample overlong_filter advantage* log_entropy kl_in_reward repetition* sft_alpha lmbda "
            "seq_kd beta undesirable* "
            "desirable* rpo_alpha *_path resume* logging_dir create_checkpoint* use_logits_to_keep no_save* "
            "check_model truncat* model_type model_kwargs strict template_backend padding_side", IDLE),
}  # fmt: skip
KEYS = {**KEYS, "beta": "beta", "loss_type": TRL_KEYS["loss_type"]}
MEGATRON_ONLY: KeyTable = {key: row for key, row in MEGATRON_KEYS.items() if "*" not in key and key not in HF_KEYS}


def _precision(out: Reading) -> None:
    """Of the dtype of loading (swift/llm/argument/base_args/model_args.py, _init_mixed_precision)."""
    if out.says("precision"):
        return
    loaded = str(out.facts["model_dtype"].value).removeprefix("torch.") if out.says("model_dtype") else ""
    if loaded in MIXED:
        out.follow("precision", MIXED[loaded], "model_dtype")
    elif not loaded:
        out.default("ms-swift takes the format of the model's file", precision="bf16", model_dtype="bfloat16")


def _spread(out: Reading) -> None:
    """Layers over the GPUs of one process: device_map "auto" shares those that are there among the processes, which torchrun
    starts where NPROC_PER_NODE is set (swift/cli/main.py; swift/model/utils.py, get_default_device_map). One micro-batch is on
    its way at a time, as in a pipeline without any other."""
    seen, processes = (out.facts[name].value if name in out.facts else 0 for name in ("visible_gpus", "gpus_per_node"))
    processes = processes or 1
    if not isinstance(seen, int) or not isinstance(processes, int) or {"nodes", "processes", "gpus"} & out.facts.keys():
        return
    if seen > processes and seen % processes == 0:
        why = f"{seen} GPUs of {processes} processes, which share a model's layers (device_map)"
        out.facts.update(gpus=Fact(seen, None, why), gpus_per_node=Fact(seen, None, why), passes_on_way=Fact(1, None, why),
                         pp=Fact(seen // processes, None, why))  # fmt: skip


def _megatron(out: Reading) -> None:
    """Of `megatron sft|pt|rlhf` (swift/megatron/arguments/megatron_args.py)."""
    out.default(WHY, tp=1, pp=1, padding_free=True, optimizer="adam", distributed_optimizer=True, loss=NATIVE)
    if out.says("distributed_optimizer", True):
        out.follow("strategy", "zero-1", "distributed_optimizer")
    if out.says("method", "lora"):
        out.default("ms-swift's adapters (modelscope/mcore-bridge tuners/lora.py)", expert_adapters="own")
    accumulation(out)


def _finish(out: Reading) -> None:
    facts = out.facts
    theirs = any(row.entry.key == "micro_batch_size" for row in out.imported)  # a file says no command: Megatron's name of it
    command = str(facts["command"].value) if "command" in facts else "megatron sft" if theirs else "swift sft"
    for word in ("pt", "sft"):
        if command.endswith(f" {word}"):
            out.follow("algorithm", word, "command")
    if command.endswith("rlhf"):
        out.default("ms-swift's default", algorithm="dpo")
    megatron = command.startswith("megatron")
    if not megatron:
        _spread(out)
    world(out)
    if not out.says("method"):
        out.default(WHY, method="full" if megatron and "lora_rank" not in facts else "lora")
    _precision(out)
    if out.says("freeze_vit", True) and "freeze" not in facts:
        out.follow("freeze", ["vision"], "freeze_vit")
    if out.says("method", "lora", "qlora", "dora") or (not megatron and not out.says("method", "full")):
        out.default(WHY, lora_rank=8, lora_targets="all-linear")
    out.default(WHY, recompute="none" if megatron else "full", micro_batch=1)
    if out.says("quantization_bit", 4):
        out.default(WHY, base_format="nf4", double_quant=True)  # arguments/base_args/quant_args.py
    if megatron:
        _megatron(out)
    else:
        finish(out)
        out.default_optimizer(WHY)
    _objective(out)


def _objective(out: Reading) -> None:
    if out.says("algorithm", "dpo", "grpo", "kto", "ppo"):
        out.default(WHY, reference="same" if out.says("method", "lora", "qlora", "dora") else "frozen")
    if out.says("use_vllm", True):
        out.default(WHY, rollout_engine="vllm", rollout_tp=1, gpu_memory_utilization=0.9, vllm_mode="colocate")
    if out.says("algorithm", "grpo"):
        out.default(WHY, n_samples=8, response_len=512)


GENERAL: KeyTable = {**{key: row for key, row in TRL_KEYS.items() if key not in KEYS}}
SWIFT = Kind("ms-swift", "ms-swift", (KEYS, MEGATRON_ONLY, HF_KEYS, GENERAL, MEGATRON_KEYS),
             has("model", any_=("tuner_type", "train_type", "sft_type")), _finish)  # fmt: skip
