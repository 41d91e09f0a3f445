"""What a run chooses that only some models can do: rules against the model, and what each choice takes for granted."""

from collections.abc import Iterator

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.mlp import MLP
from memcalc.blocks.predicting import prediction_layers_of
from memcalc.estimates.placement import main_parts
from memcalc.estimates.routing import check_routing, routing_sentences
from memcalc.estimates.training.adapters import adapter_names
from memcalc.estimates.training.images import check_images, seen_by, vision_of
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
    if (run.prompt or run.prefix) and len(main_parts(architecture)) > 1:
        raise SpecError("is modelled for models that are one stack, not for an encoder with a decoder", "method")
    if not row.adapters or row.adapter in ("lora", "prompt"):
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


def batch_sentences(run: Training) -> Iterator[str]:
    """What was taken for granted about batches and what is kept of them."""
    if run.tokens_per_batch:
        mask = (
            "flash attention needs no mask"
            if run.attention_used == "flash"
            else f"{run.attention} needs a mask over the whole row"
        )
        yield f"packed: one row of {run.tokens_per_batch:,} tokens without padding; {mask}"
    if run.objective == "embed":
        how = f"{run.cached_batch} at a time, whose gradients are added up (GradCache)" if run.cached_batch else "all at once"
        yield (
            f"{run.micro_batch} queries with {run.passages} passages each are encoded {how}, by one model; their scores, "
            f"in-batch negatives, are small beside and left out"
        )
    elif run.objective == "reward":
        yield f"{run.micro_batch} pairs are {run.rows} sequences, chosen and rejected together (TRL's RewardTrainer)"
    elif run.objective_row.scored:
        yield from _preference_sentences(run)
    if run.seq_len_max:
        yield f"lengths vary: memory is a batch's of {run.seq_len_max:,} tokens; the usual length is {run.seq_len:,}"
    if run.tiled_mlp:
        yield "tiled feed-forwards keep their input alone and run again in the backward, tile by tile (DeepSpeed's TiledMLP)"
    if run.keep_output:
        yield "the loop holds the model's output until the backward is over, not into the optimizer's step"
    if run.use_cache:
        yield (
            "the model returns the keys and values of all layers; a recomputed layer hands them out once, as tuples (a cache "
            "object of newer transformers would be filled again, and its gradient checkpointing switches it off)"
        )
    if run.eval_batch and run.engine_row.trainer:
        yield (
            f"evaluation: {run.eval_batch} sequences per GPU at a time; the logits of all ranks and of {run.eval_accumulation} "
            f"passes stay on each GPU, as transformers' Trainer keeps them without eval_accumulation_steps for all passes"
        )
    elif run.eval_batch:
        yield f"evaluation: {run.eval_batch} sequences per GPU at a time; this engine keeps the loss alone"


def _preference_sentences(run: Training) -> Iterator[str]:
    """What an objective of preferences takes for granted."""
    row = run.objective_row
    if row.sequences > 1:
        yield f"{run.micro_batch} pairs are {run.rows} sequences, chosen and rejected in one pass ({row.source})"
    yield {
        "frozen": "reference: a frozen copy beside the model, divided as parameters are; its pass keeps nothing but its logits",
        "same": "reference: the model with its adapters switched off, in a pass that keeps nothing but its logits",
        "precomputed": "reference: its log-probabilities were computed before training, which is not in the peak",
        "none": f"{row.name} has no reference",
    }[run.reference_used]
    if row.unrelated:
        yield "answers of other prompts pass model and reference without a gradient (KTO's estimate of the divergence)"
    yield "sequences are as long as is said; real pairs are often shorter than their limit, for which this is a bound"


def image_sentences(architecture: Architecture, run: Training) -> Iterator[str]:
    """What is taken for granted about images; where they are left out, that they are."""
    if seen := seen_by(architecture, run):
        assert run.images
        yield (
            f"images: {run.images} in each sequence, {seen.patches:,} patches each for the tower, {seen.tokens:,} tokens of "
            f"the sequence; the tower runs before the language model, recomputed as it is"
        )
    elif vision_of(architecture) and run.images is None:
        yield "images are left out: the vision tower's weights are counted, what it keeps of images is not (--images N)"
    if any(part.name == "language" for part in architecture.parts) and any(part.name == "audio" for part in architecture.parts):
        yield "sound is left out: the audio tower's weights are counted, what it keeps of recordings is not modelled"


def _what_is_trained(run: Training) -> Iterator[str]:
    """What is trained where it is neither everything nor adapters on the usual matrices."""
    if run.prompt:
        yield f"{run.prompt} virtual tokens before each sequence, whose embeddings alone are trained"
    if run.prefix:
        yield f"{run.prefix} virtual tokens, whose keys and values in every layer alone are trained"
    if run.train_layers:
        yield f"trained: the last {run.train_layers} layers, not embeddings, final norm and head"
    if run.adapts and run.method_row.targets not in ((), ("all-linear",)):
        targets = ", ".join(run.adapter_targets)
        yield f"{run.method} on {targets} where the model has them (PEFT's own choice differs by family)"
    if run.train_also:
        yield (
            f"trained beside the adapters: copies of {', '.join(run.train_also)} in their originals' type, which stay "
            f"(PEFT's modules_to_save)"
        )


def choice_sentences(architecture: Architecture, run: Training) -> Iterator[str]:
    """What was taken for granted about each choice, one sentence each."""
    p, names = run.parallelism, {part.name for part in architecture.parts}
    if run.recompute_every:
        yield f"each layer whose number in its stage, from 1, divides by {run.recompute_every} is recomputed whole"
    if run.chunk > 1:
        yield f"{run.chunk} layers are recomputed together, from the input of the first (Megatron's uniform)"
    if run.recompute_modules:
        yield f"recomputed alone: {', '.join(run.recompute_modules)} (Megatron's recompute_modules)"
    if run.first_layers:
        yield f"the first {run.first_layers} layers of each pipeline stage are recomputed whole (Megatron's block)"
    yield from _what_is_trained(run)
    if run.frozen_parts:
        yield f"frozen: nothing of {' and '.join(sorted(run.frozen_parts & names))} is trained"
    if "embeddings" in run.freeze:
        tied = ", a tied head with them," if architecture.tied else ""
        yield f"frozen: what is looked up by token and position{tied} has neither gradient nor optimizer states"
    if ("embeddings" in run.freeze or run.train_layers) and run.recompute == "full":
        how = "are a leaf, as transformers makes them" if run.engine_row.leaf else "need no gradient"
        yield f"embedded tokens {how}; recomputation is non-reentrant, so the first layer is trained all the same"
    yield from batch_sentences(run)
    yield from image_sentences(architecture, run)
    yield from routing_sentences(architecture, run)
    if p.cp > 1:
        from memcalc.estimates.training.context_parallel import SENTENCES

        yield f"context parallelism, {p.cp_kind}: {SENTENCES[p.cp_kind]}"
