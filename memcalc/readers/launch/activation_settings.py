"""A training run's facts → what it keeps, recomputes and with which kernels; what only Megatron-LM has."""

import re

from memcalc.readers.launch.settings import Making

FLASH = re.compile(r"flash|fa2|fa3|kernels-community")


def activations(making: Making) -> None:
    """Recomputation, attention, kernels and loss."""
    value = making.value
    mode, option = str(value("recompute") or ""), str(value("recompute_option") or "")
    if mode == "selective" and option.isdigit():
        making.set("recompute", "full", "recompute", "recompute_option")
        making.set("recompute_every", int(option), "recompute_option") if int(option) > 1 else None
    elif mode:
        making.set("recompute", mode, "recompute", "recompute_option")
    attention = str(value("attention") or "").lower()
    if FLASH.search(attention):
        making.set("attention", "flash", "attention", "flash")
    elif attention in ("xformers", "flex_attention"):
        making.set("attention", "sdpa", "attention")
        making.warn(f"{attention} is counted as sdpa: no scores are kept", "attention")
    elif attention in ("sdpa", "eager"):
        making.copy("attention")
    elif attention and attention not in ("auto", "none"):
        making.warn(f"attention {attention!r:.40} is not modelled", "attention")
    _kernels(making)


def _kernels(making: Making) -> None:
    value = making.value
    kernels = value("kernels")
    titan = making.job.kind.name == "torchtitan-toml"
    if kernels:
        making.copy("kernels")
    elif value("compile") and not titan:
        making.set("kernels", "compiled", "compile")
    elif titan and value("compile") is False:
        making.set("kernels", "eager", "compile")
    loss = str(value("loss") or "")
    if loss in ("fused", "chunked", "te", "full", "vocab-parallel", "chunked-nll"):
        making.copy("loss")
    elif loss:
        making.warn(f"the loss {loss!r:.60} is not modelled", "loss")
    if value("fused_kernels"):
        making.warn("verl's fused kernels of the loss are not modelled; --loss fused is nearest", "fused_kernels")


def megatron(making: Making) -> None:
    """What only Megatron-LM has."""
    value = making.value
    recompute = value("recompute")
    if recompute == "full" and value("recompute_method") in ("uniform", "block"):
        making.copy("recompute_method")
        making.copy("recompute_layers=recompute_num_layers")
    if recompute == "selective" and value("recompute_modules"):
        modules = value("recompute_modules")
        making.set("recompute_modules", tuple(modules if isinstance(modules, list) else [modules]), "recompute_modules")
    if value("mtp"):
        making.copy("mtp=mtp_layers")
    pp = value("pp") or 1
    if pp > 1:
        per, layers = value("virtual_stage_layers"), value("layers")
        if isinstance(per, int) and isinstance(layers, int) and per and layers % (pp * per) == 0 and layers // (pp * per) > 1:
            making.set("virtual_stages", layers // (pp * per), "virtual_stage_layers", "layers", "pp")
            making.set("pipeline_schedule", "interleaved", "virtual_stage_layers")
        elif isinstance(value("virtual_stages"), int) and value("virtual_stages") > 1:
            making.copy("virtual_stages")
            making.set("pipeline_schedule", "interleaved", "virtual_stages")
        making.copy("first_stage_layers", "last_stage_layers", "virtual_layout=pipeline_layout")
        for name in ("count_embedding", "count_loss"):
            if value(name):
                making.copy(name)
    if "precision" in making.settings and making.settings["precision"].value in ("bf16-mixed", "fp8-mixed"):
        making.copy("main_grads_dtype")
        if value("precision_aware_optimizer"):
            making.copy("main_params_dtype", "exp_avg_dtype", "exp_avg_sq_dtype")
    if value("optimizer") == "adam":
        making.set("optimizer", "adamw", "optimizer")  # megatron/core/optimizer: decoupled weight decay is the default
