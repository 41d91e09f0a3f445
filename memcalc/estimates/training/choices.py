"""What a run chooses that only some models can do: rules against the model."""

from memcalc.blocks.architecture import Architecture, Layer, prediction_layers_of
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.mlp import MLP
from memcalc.estimates.placement import main_parts
from memcalc.estimates.routing import check_routing
from memcalc.estimates.training.adapters import adapter_names, expert_names, linear_names
from memcalc.estimates.training.images import check_images
from memcalc.specs.fine_tuning import FROZEN_PARTS
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training


def check_choices(architecture: Architecture, run: Training, deepest: int) -> None:
    """Raises SpecError where model and run contradict each other. `deepest`: layers of the deepest pipeline stage."""
    for name in ("recompute_every", "recompute_layers", "recompute_num_layers"):
        if (asked := getattr(run, name)) is not None and asked > deepest:
            raise SpecError(f"{asked}, but the deepest pipeline stage has {deepest} layers", name)
    if run.predicting != (there := prediction_layers_of(architecture)):
        raise SpecError(f"{run.predicting}, but the architecture has {there}; size_training adds them", "mtp_layers")
    _check_modules(architecture, run)
    check_batches(architecture, run)
    check_images(architecture, run)
    names = {part.name for part in architecture.parts}
    for word in run.freeze:
        if (parts := FROZEN_PARTS.get(word)) and not names.intersection(parts):
            raise SpecError(f"the model has no part for {word} (its parts: {', '.join(sorted(names))})", "freeze")
    if (count := run.train_layers) and (count >= deepest or len(main_parts(architecture)) > 1):
        said = f"{count} of {deepest}" if count >= deepest else "of one stack alone, not of an encoder with a decoder"
        raise SpecError(f"says how many of the layers are trained, fewer than all: {said}", "train_layers")
    _check_adapters(architecture, run)
    _check_copies(architecture, run)
    check_routing(architecture, run)
    if run.parallelism.cp_kind == "all-to-all":
        from memcalc.estimates.training.context_parallel import check_heads

        check_heads(architecture, run)


def _check_adapters(architecture: Architecture, run: Training) -> None:
    """Raises SpecError for adapters that a model's matrices cannot have."""
    row = run.method_row
    if run.expert_adapters in ("own", "shared") and not expert_names(architecture, ("all-linear",)):
        raise SpecError("is about routed experts, of which the model has none", "expert_adapters")
    if (run.prompt or run.prefix) and len(main_parts(architecture)) > 1:
        raise SpecError("is modelled for models that are one stack, not for an encoder with a decoder", "method")
    if row.adapters and not linear_names(architecture):
        raise SpecError("the model has no linear layers that adapters could stand on: its matrices are convolutions", "method")
    if not row.adapters or row.pairs or run.prompt:
        return
    layers = [layer for part in main_parts(architecture) for stack in part.stacks for layer in stack.layers]
    blocks = [block for layer in layers for _, block in layer.blocks]
    if run.prefix:
        _check_prefix(layers)
        return
    attention = any(isinstance(block, Attention) and block.projections.transposed for block in blocks)
    if attention or any(isinstance(block, MLP) and block.transposed for block in blocks):
        raise SpecError(
            f"this model's matrices are Conv1D modules, beside which {run.method} is not modelled; lora is", "method"
        )
    if not adapter_names(architecture, run.adapter_targets):
        raise SpecError(
            f"the model has none of {run.method}'s usual matrices ({', '.join(row.targets)}); add lora_targets", "method"
        )


def _check_prefix(layers: list[Layer]) -> None:
    """Raises SpecError where not every layer has keys and values of one width, as PEFT gives them to all layers."""
    mixers = [[block for _, block in layer.blocks if block.traits.heads] for layer in layers]
    own = [block for found in mixers for block in found if isinstance(block, Attention) and block.causal]
    own = [block for block in own if not block.shares_cache]
    widths = {(block.shape.key_size, block.shape.value_size) for block in own}
    if any(len(found) != 1 for found in mixers) or len(own) != len(layers) or len(widths) != 1:
        raise SpecError(
            "prefix tuning is modelled for decoders whose layers all have softmax attention, with as many key-value heads",
            "method",
        )


def _check_copies(architecture: Architecture, run: Training) -> None:
    """Raises SpecError where there is nothing to train a copy of."""
    if run.train_also and len(main_parts(architecture)) > 1:
        raise SpecError("is modelled for models that are one stack, not for an encoder with a decoder", "train_also")
    blocks = [block for part in main_parts(architecture) for _, block in (*part.entry, *part.exit)]
    for word, kind in (("head", Head), ("embeddings", Embedding)):
        if word in run.train_also and not any(isinstance(block, kind) for block in blocks):
            raise SpecError(
                f"{word}, but the model has none of its own kind ({kind.__name__.lower()} over a vocabulary)", "train_also"
            )


MODULES_OF = {"mla_up_proj": "latent attention", "moe": "experts", "moe_act": "experts", "shared_experts": "shared experts"}


def _check_modules(architecture: Architecture, run: Training) -> None:
    """Raises SpecError for parts that no layer of the model has (megatron/core/transformer/transformer_config.py)."""
    if not run.recompute_modules:
        return
    layers = [layer for part in main_parts(architecture) for stack in part.stacks for layer in stack.layers]
    traits = [block.traits for layer in layers for _, block in layer.blocks]
    there = {
        "latent attention": any(of.kv_lora_rank for of in traits),
        "experts": any(of.experts for of in traits),
        "shared experts": any(of.shared_feed_forward for of in traits),
    }
    for module in run.recompute_modules:
        if not there.get(MODULES_OF.get(module, ""), True):
            raise SpecError(f"{module}, but the model has no {MODULES_OF[module]}", "recompute_modules")


def check_batches(architecture: Architecture, run: Training) -> None:
    """Raises SpecError for what a model's parts or the pipeline do not allow."""
    parts = len(main_parts(architecture)) > 1
    for name in ("tokens_per_batch", "eval_batch", "use_cache"):
        if parts and getattr(run, name):
            raise SpecError("is modelled for models that are one stack, not for an encoder with a decoder", name)
    if parts and run.parallelism.pp > 1:
        what = (
            "an encoder with a decoder is not split into stages: every stage of the decoder would need the encoder's result too"
        )
        raise SpecError(what, "pp")
    if run.eval_batch and run.parallelism.pp > 1:
        raise SpecError("an evaluation over pipeline stages is not modelled", "eval_batch", "pp")
    if not (run.tiled_mlp or run.use_cache):
        return
    blocks = [b for part in main_parts(architecture) for s in part.stacks for layer in s.layers for _, b in layer.blocks]
    if run.tiled_mlp and not any(isinstance(block, MLP) for block in blocks):
        raise SpecError("no layer of this model has a dense feed-forward to be tiled", "tiled_mlp")
    if run.use_cache and any(b.traits.heads and not (isinstance(b, Attention) and b.traits.causal) for b in blocks):
        raise SpecError("a cache that the training forward fills is modelled for softmax attention", "use_cache")


def check_countable(run: Training) -> None:
    """Raises SpecError for what a bare parameter count says nothing about."""
    for name in (
        "recompute_every",
        "recompute_layers",
        "recompute_method",
        "recompute_modules",
        "freeze",
        "train_layers",
        "capacity_factor",
    ):
        if getattr(run, name):
            raise SpecError("needs an architecture; a parameter count knows neither layers nor embeddings nor experts", name)
