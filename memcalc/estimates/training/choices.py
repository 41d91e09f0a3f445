"""What a run chooses that only some models can do: rules against the model, and what each choice takes for granted."""

from collections.abc import Iterator

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.placement import main_parts
from memcalc.estimates.routing import check_routing, routing_sentences
from memcalc.estimates.training.context_parallel import SENTENCES, check_context
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training


def check_choices(architecture: Architecture, run: Training, deepest: int) -> None:
    """Raises SpecError where model and run contradict each other. `deepest`: layers of the deepest pipeline stage."""
    for name in ("recompute_every", "recompute_layers", "recompute_num_layers"):
        if (asked := getattr(run, name)) is not None and asked > deepest:
            raise SpecError(f"{asked}, but the deepest pipeline stage has {deepest} layers", name)
    _check_modules(architecture, run)
    check_routing(architecture, run)
    check_context(architecture, run)


MODULES_OF = {"mla_up_proj": "latent attention", "moe": "experts", "moe_act": "experts", "shared_experts": "shared experts"}


def _check_modules(architecture: Architecture, run: Training) -> None:
    """Raises SpecError for parts that no layer of the model has (megatron/core/transformer/transformer_config.py)."""
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


def check_countable(run: Training) -> None:
    """Raises SpecError for what a bare parameter count says nothing about."""
    for name in ("recompute_every", "recompute_layers", "recompute_method", "recompute_modules", "freeze", "capacity_factor"):
        if getattr(run, name):
            raise SpecError("needs an architecture; a parameter count knows neither layers nor embeddings nor experts", name)


def choice_sentences(architecture: Architecture, run: Training) -> Iterator[str]:
    """What was taken for granted about each choice, one sentence each."""
    p = run.parallelism
    if run.recompute_every:
        yield f"each layer whose number in its stage, from 1, divides by {run.recompute_every} is recomputed whole"
    if run.chunk > 1:
        yield f"{run.chunk} layers are recomputed together, from the input of the first (Megatron's uniform)"
    if run.recompute_modules:
        yield f"recomputed alone: {', '.join(run.recompute_modules)} (Megatron's recompute_modules)"
    if run.first_layers:
        yield f"the first {run.first_layers} layers of each pipeline stage are recomputed whole (Megatron's block)"
    if run.freeze:
        tied = ", a tied head with them," if architecture.tied else ""
        yield f"frozen: what is looked up by token and position{tied} has neither gradient nor optimizer states"
    if run.freeze and run.recompute == "full":
        how = "are a leaf, as transformers makes them" if run.engine_row.leaf else "need no gradient"
        yield f"embedded tokens {how}; recomputation is non-reentrant, so the first layer is trained all the same"
    yield from routing_sentences(architecture, run)
    if p.cp > 1:
        yield f"context parallelism, {p.cp_kind}: {SENTENCES[p.cp_kind]}"
