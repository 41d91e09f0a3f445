"""torchtune's YAML (torchtune/recipes/configs): components by name, everything in bf16."""

import re

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import IDLE, TRAINING_IDLE, checkpointing, offloading, world
from memcalc.readers.launch.meanings import By, Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.reading import Reading
from memcalc.readers.launch.values import Read, word, words

BUILDER = re.compile(r"torchtune\.models\.(?P<family>\w+)\.(?P<method>lora_|qlora_|dora_|qdora_)?(?P<name>\w+)$")
OPTIMIZERS = {"AdamW": "adamw", "Adam": "adam", "SGD": "sgd", "PagedAdamW": "paged-adamw", "PagedAdamW8bit": "paged-adamw-8bit",
              "AdamW8bit": "adamw-8bit", "CPUOffloadOptimizer": "adamw", "AdamWFp8": "adamw-fp8",
              "AdamW4bit": "adamw-4bit"}  # fmt: skip
LOSSES = {"LinearCrossEntropyLoss": "chunked", "CEWithChunkedOutputLoss": "chunked", "CrossEntropyLoss": "full"}


def model_name(builder: str) -> str:
    """torchtune's builder as the model's usual name.

    >>> model_name("torchtune.models.llama3_2.lora_llama3_2_3b"), model_name("torchtune.models.qwen2_5.qwen2_5_7b_base")
    ('llama-3.2-3b', 'qwen2.5-7b')
    """
    found = BUILDER.match(builder)
    if not found:
        return ""
    name = re.sub(r"(?<=\d)_(?=\d(?:_|$))", ".", found["name"])
    name = re.sub(r"_(base|instruct)(?=_|$)", "", name).replace("_", "-")
    return re.sub(r"^(llama|phi|gemma)(\d)", lambda part: f"{part[1]}-{part[2]}", name)


def _component(value: Value) -> dict[str, Read]:
    text = word(value if isinstance(value, str) else "")
    found = BUILDER.match(text)
    if not found:
        return {"model_component": text}
    prefix = (found["method"] or "").rstrip("_")
    method = {"": "full", "lora": "lora", "qlora": "qlora", "dora": "dora", "qdora": "qdora"}[prefix]
    return {"model_component": text, "model": model_name(text), "method": method}


def _optimizer(value: Value) -> dict[str, Read]:
    name = word(value if isinstance(value, str) else "").rpartition(".")[2]
    return {"optimizer": OPTIMIZERS.get(name, name)}


KEYS: KeyTable = {
    "model._component_": By(_component, "method"),
    "model.lora_rank": "lora_rank", "model.lora_dropout": "lora_dropout",
    "model.lora_attn_modules": By(lambda value: {"lora_targets": words(value)}),
    "model.apply_lora_to_mlp": Coded("lora_targets", {"true": "mlp", "false": ""}),
    "model.apply_lora_to_output": Unmodelled("adapters on the head"),
    "model.quantize_base": Coded("quantization_bit", {"true": 4, "false": ""}),
    "model.use_dora": "dora", "model.lora_alpha": IDLE, "model.quantizer*": IDLE,
    "model.max_seq_len": IDLE, "model.image_size": IDLE,
    **alike("model.decoder_trainable model.encoder_trainable model.fusion_trainable", Unmodelled("what is frozen of towers")),
    "batch_size": "micro_batch", "gradient_accumulation_steps": "grad_accum",
    "tokenizer.max_seq_len": "seq_len", "tokenizer.*": IDLE, "dataset.packed": "packing",
    **alike("dataset.* dataset_val.*", Ignored("data", True)),
    "dtype": Coded("precision", {"bf16": "bf16", "fp32": "fp32", "fp16": "fp16"}),
    "optimizer._component_": By(_optimizer), "optimizer.fused": Coded("optimizer_impl", {"true": "fused", "false": ""}),
    "optimizer.*": Ignored("of the schedule of learning", True),
    "optimizer_in_bwd": "optimizer_in_backward",
    "enable_activation_checkpointing": By(checkpointing, "recompute"),
    **alike("ac_mode ac_option", Unmodelled("which layers are recomputed")),
    "enable_activation_offloading": "activation_offloading",
    "activation_offloading_use_streams": IDLE,
    "loss._component_": By(lambda value: {"loss": LOSSES.get(word(str(value)).rpartition(".")[2], word(str(value)))}),
    "loss.*": IDLE,
    "fsdp_cpu_offload": offloading("parameters"), "fsdp.cpu_offload": offloading("parameters"),
    "fsdp_reshard_after_forward": Coded("fsdp", {"true": "full", "false": "grad-op"}),
    "tensor_parallel_dim": "tp", "context_parallel_dim": "cp", "data_parallel_shard_dim": "shard_size",
    "data_parallel_replicate_dim": "replicas",
    **alike("custom_sharded_layers", Unmodelled("layers that are sharded by themselves")),
    "tensor_parallel_plan*": IDLE,
    "compile": "compile", "compile.*": IDLE,
    "clip_grad_norm": "max_grad_norm",
    "enable_fp8_training": Coded("precision", {"true": "fp8-mixed", "false": ""}), "fp8_recipe_name": IDLE,
    "quantizer._component_": By(lambda value: {"fake_quantised": True} if "QAT" in str(value) else {}), "quantizer.*": IDLE,
    "teacher_model.*": Unmodelled("a teacher model"), "teacher_checkpointer.*": IDLE,
    **alike("checkpointer.* lr_scheduler.* metric_logger.* profiler.* device epochs max_steps_per_epoch cudnn_* "
            "save_adapter_weights_only enable_async_checkpointing tasks limit output_dir base kd_* inference.* "
            "fake_quant_after_n_steps run_val_every_n_steps batch_size_val enable_kv_cache max_seq_length log_* name dcp* "
            "prompt.* instruct_template chat_format max_new_tokens temperature top_k ref_checkpointer.* policy_* num_steps "
            "ppo_* forward_batch_size grpo_size max_generated_tokens stop_token_ids generations_* orchestration.* "
            "postprocessing.* "
            "vllm.* training.* model_*", IDLE),
    "forward_batch_size": IDLE, "grpo_samples": "n_samples", "grpo_size": "n_samples", "max_generated_tokens": "response_len",
    "nproc_per_node": "gpus_per_node", "nnodes": "nodes",
    **TRAINING_IDLE,
}  # fmt: skip


def _finish(out: Reading) -> None:
    facts = out.facts
    listed = [row.entry for row in out.imported if row.entry.key == "model.lora_attn_modules"]
    if listed:
        mlp = [row.entry for row in out.imported if row.entry.key == "model.apply_lora_to_mlp"]
        both = mlp and str(mlp[-1].value).lower() == "true"
        found = words(listed[-1].value)
        targets = [*(found if isinstance(found, list) else [found]), *(["mlp"] if both else [])]
        facts["lora_targets"] = facts["lora_targets"]._replace(value=targets, entry=listed[-1])
    if out.says("dora", True) and out.says("method", "lora", "qlora"):
        facts["method"] = facts["method"]._replace(value="qdora" if out.says("quantization_bit", 4) else "dora")
    elif out.says("quantization_bit", 4) and out.says("method", "lora"):
        facts["method"] = facts["method"]._replace(value="qlora")
    if out.says("fake_quantised", True) and out.says("method", "full"):
        facts["method"] = facts["method"]._replace(value="qat", entry=facts["fake_quantised"].entry)
    if out.says("activation_offloading", True):
        out.follow("offload", ["activations"], "activation_offloading")
    if out.says("grpo_samples") or out.says("n_samples"):
        out.follow("algorithm", "grpo", "n_samples")
    world(out)
    if not out.says("recompute") and not out.says("method"):
        return
    out.default("torchtune's recipes", grad_accum=1, recompute="none")
    out.default("torchtune's recipes shard over all devices", strategy="fsdp2", fsdp="full")


TORCHTUNE = Kind("torchtune-yaml", "torchtune", (KEYS,), has("model._component_"), _finish)
