"""nanotron's YAML (nanotron/config): the model in numbers, the product of its degrees are the devices."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import IDLE, LOGGING
from memcalc.readers.launch.meanings import Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.reading import Reading

M, P, T, OPT = "model.model_config.", "parallelism.", "tokens.", "optimizer."
KEYS: KeyTable = {
    f"{M}hidden_size": "hidden", f"{M}intermediate_size": "ffn", f"{M}num_hidden_layers": "layers",
    f"{M}num_attention_heads": "heads", f"{M}num_key_value_heads": "kv_heads", f"{M}vocab_size": "vocab",
    f"{M}tie_word_embeddings": "tied", f"{M}max_position_embeddings": "positions",
    f"{M}moe_num_experts": "experts", f"{M}num_local_experts": "experts", f"{M}moe_top_k": "topk",
    f"{M}num_experts_per_tok": "topk",
    f"{M}moe_config.num_experts": "experts", f"{M}moe_config.top_k": "topk",
    f"{M}moe_config.moe_intermediate_size": "expert_ffn",
    f"{M}moe_config.shared_expert_intermediate_size": "shared_ffn", f"{M}moe*": Unmodelled("nanotron's experts"),
    f"{M}head_dim": "head_dim",
    f"{M}_attn_implementation": "attention", f"{M}pad_vocab_size_multiple": "vocab_multiple", f"{M}*": IDLE,
    "model.dtype": "precision", "model.make_vocab_size_divisible_by": "vocab_multiple", "model.*": IDLE,
    f"{P}dp": "dp", f"{P}tp": "tp", f"{P}pp": "pp", f"{P}context_parallel_size": "cp", f"{P}expert_parallel_size": "ep",
    f"{P}pp_engine": "pipeline_schedule",
    f"{P}tp_mode": Coded("sequence_parallel", {"reduce_scatter": True, "all_reduce": False}),
    f"{P}recompute_layer": Coded("recompute", {"true": "full", "false": "none"}), f"{P}*": IDLE,
    f"{T}micro_batch_size": "micro_batch", f"{T}batch_accumulation_per_replica": "grad_accum", f"{T}sequence_length": "seq_len",
    f"{T}*": Ignored("of the schedule of learning", True),
    f"{OPT}zero_stage": "zero_stage", f"{OPT}accumulate_grad_in_fp32": "grad_accum_fp32",
    f"{OPT}optimizer_factory.name": "optimizer",
    f"{OPT}clip_grad": "max_grad_norm", f"{OPT}*": Ignored("of the schedule of learning", True),
    "model.ddp_bucket_cap_mb": IDLE, "lighteval": LOGGING,
    **alike("general.* data_stages* checkpoints.* logging.* profiler* s3_upload.* lighteval.* tokenizer.* data.* doremi.* "
            "metrics_logging.* sft* preprocess*", LOGGING),
}  # fmt: skip


def _finish(out: Reading) -> None:
    out.default("nanotron's default", pp=1, dp=1, tp=1, zero_stage=0, grad_accum=1, recompute="none")
    sizes = [out.facts[name].value for name in ("dp", "tp", "pp", "cp", "ep") if name in out.facts]
    product = 1
    for size in sizes:
        product *= size if isinstance(size, int) else 1
    out.follow("gpus", product, "dp", "tp", "pp", "cp", "ep")
    out.stage()
    batch = [out.facts[name].value for name in ("micro_batch", "grad_accum", "dp") if name in out.facts]
    if len(batch) == 3 and all(isinstance(value, int) for value in batch):
        out.follow("global_batch", batch[0] * batch[1] * batch[2], "micro_batch", "grad_accum", "dp")  # type: ignore[operator]


NANOTRON = Kind("nanotron-yaml", "nanotron", (KEYS,), has("parallelism.", "tokens."), _finish)
