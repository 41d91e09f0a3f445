"""The settings of a training run, as documents and in words."""

from typing import Any

from memcalc.readers.models import Model
from memcalc.specs.pipeline import SETTINGS as PIPELINE
from memcalc.specs.training import Training


def run_document(run: Training) -> dict[str, Any]:
    """The settings, as the sizing file spells them."""
    p = run.parallelism
    names = ("precision", "optimizer", "micro_batch", "grad_accum", "seq_len", "recompute", "attention", "method")
    out: dict[str, Any] = {name: getattr(run, name) for name in names}
    out |= {"engine": run.engine_row.name, "kernels": run.kernels_used, "loss": run.loss_used,
            "optimizer_impl": run.optimizer_impl_used}  # fmt: skip
    out |= {name: value for name in ("optimizer_in_backward", "max_grad_norm", "ema") if (value := getattr(run, name))}
    if run.adapts:
        row = run.method_row
        out |= {"lora_rank": run.lora_rank} if row.ranked else {}
        out |= {"virtual_tokens": run.virtual_tokens} if run.prompt or run.prefix else {}
        out |= {"lora_targets": list(run.adapter_targets)} if row.targets else {}
        out |= {"lora_dropout": run.lora_dropout} if row.dropout else {}
        out |= {name: value for name in ("adapter_dtype", "expert_adapters") if (value := getattr(run, name))}
    if run.method_row.quantised:
        out |= {"base_format": run.base_format, "kbit_prepare": run.upcast or "none"}
    out |= {name: list(words) for name in ("train_also", "freeze") if (words := getattr(run, name))}
    out |= batch_document(run)
    choices = ("train_layers", "recompute_every", "recompute_layers", "recompute_method", "recompute_num_layers",
               "main_grads_dtype",
               "main_params_dtype", "exp_avg_dtype", "exp_avg_sq_dtype", "capacity_factor")  # fmt: skip
    out |= {name: value for name in choices if (value := getattr(run, name)) is not None}
    if run.recompute_modules:
        out["recompute_modules"] = list(run.recompute_modules)
    if run.offload_fraction < 1:
        out["offload_fraction"] = run.offload_fraction
    if run.capacity_factor:
        out["pad_to_capacity"] = run.pad_to_capacity
    if run.expert_imbalance > 1:
        out["expert_imbalance"] = run.expert_imbalance
    out["offload"] = list(run.offload)
    degrees = ("gpus", "gpus_per_node", "tp", "pp", "cp", "ep", "etp", "zero", "fsdp")
    out["parallelism"] = {name: getattr(p, name) for name in degrees}
    if p.cp > 1:
        out["parallelism"]["cp_kind"] = p.cp_kind
    if p.tp_overlap:
        out["parallelism"]["tp_overlap"] = p.tp_overlap
    if p.pp > 1:
        out["parallelism"] |= {name: value for name in PIPELINE if (value := getattr(p, name)) not in (None, False)}
    out["parallelism"] |= {"strategy": p.strategy, "data_parallel": p.data_parallel, "shard_size": p.fsdp_shards}
    return out


def batch_document(run: Training) -> dict[str, Any]:
    """What was said of batches beside their size."""
    choices = ("global_batch", "seq_len_max", "tokens_per_batch", "grad_accum_dtype", "mlp_tiles", "eval_batch", "objective",
               "reference", "passage_len", "cached_batch", "images", "image_size", "image_tokens")  # fmt: skip
    out = {name: value for name in choices if (value := getattr(run, name)) is not None}
    out |= {name: True for name in ("tiled_mlp", "keep_output", "use_cache") if getattr(run, name)}
    beside = {"labels": run.objective in ("classify", "token-classify"), "passages": run.objective == "embed",
              "eval_accumulation": run.eval_batch is not None}  # fmt: skip
    return out | {name: getattr(run, name) for name, said in beside.items() if said}


def settings(model: Model, run: Training) -> str:
    """What the numbers depend on, beside the model and the GPUs."""
    p = run.parallelism
    degrees = [f"{name} {getattr(p, name)}" for name in ("tp", "pp", "cp", "ep", "etp") if getattr(p, name) > 1]
    tokens = batch_words(run) if model.architecture else ""
    method = "" if not run.adapts else f"{run.method} rank {run.lora_rank}" if run.method_row.ranked else run.method
    recompute = "" if run.recompute == "none" else f"recompute {run.recompute}"
    parts = [p.strategy, *degrees, run.precision, run.optimizer, method, recompute, tokens, run.engine_row.name]
    return ", ".join(part for part in parts if part)


def batch_words(run: Training) -> str:
    if run.tokens_per_batch:
        return f"packed {run.tokens_per_batch:,} tokens"
    length = f"{run.seq_len:,} to {run.seq_len_max:,}" if run.seq_len_max else f"{run.seq_len:,}"
    return f"micro-batch {run.micro_batch} × {length} tokens"
