"""What a training estimate takes for granted, one sentence each: of the run, of what it chooses, of what it rests on."""

from collections.abc import Iterator

from memcalc.autograd.profile import KERNELS
from memcalc.blocks.architecture import Architecture
from memcalc.estimates.routing import routing_sentences
from memcalc.estimates.training.images import seen_by, vision_of
from memcalc.formulas.optimizer_steps import UNTRACED
from memcalc.formulas.precision import precision
from memcalc.formulas.residuals import MIN_ROWS, Range
from memcalc.specs.fine_tuning import OF_EXPERTS
from memcalc.specs.training import Training


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
        if run.masks_padding and run.attention_used == "sdpa":
            yield "padded rows have a mask, which each layer keeps in its own format, and copies keys and values for every head"
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
    if run.method_row.quantised and any(counted.weight.routed for counted in architecture.weights):
        yield (
            "routed experts are quantised too, and whole while they are used (axolotl's quantize_moe_experts); "
            "transformers 5 alone leaves stacked experts in 16 bits"
        )
    yield from batch_sentences(run)
    yield from image_sentences(architecture, run)
    yield from routing_sentences(architecture, run)
    if p.cp > 1:
        from memcalc.estimates.training.context_parallel import SENTENCES

        yield f"context parallelism, {p.cp_kind}: {SENTENCES[p.cp_kind]}"


BESIDE = {  # what k-bit preparation makes of the other parameters
    "": "embeddings, norms and head stay 16 bit",
    "all": "prepare_model_for_kbit_training casts embeddings, norms and head to fp32, and the residual stream with them",
    "norms": "norms are fp32, and the residual stream with them; embeddings and head stay 16 bit",
}


def run_sentences(run: Training, *, counted: bool) -> Iterator[str]:
    """What the words of a run stand for; `counted`: nothing but a parameter count is known."""
    yield f"{run.precision}: {precision(run.precision, fsdp=run.fsdp).note}"
    if counted:
        yield "only a parameter count is known: activations are 2 × compute bytes per parameter, a rule of thumb"
    else:
        yield f"engine {run.engine_row.name}: {run.engine_row.note}"
        yield f"kernels {run.kernels_used}: {KERNELS[run.kernels_used].note}"
        yield f"loss {run.loss_used}, optimizer {run.optimizer_impl_used}, attention {run.attention}"
    if run.steps_in_backward:
        yield "each tensor is updated as its gradient is made: no gradients are kept, and no step follows"
    if run.optimizer in UNTRACED:
        yield f"what {run.optimizer}'s step allocates beside its states is not counted: nobody has traced it"


def state_sentences(run: Training) -> Iterator[str]:
    """Buckets of gradients, and formats of frozen weights."""
    if run.parallelism.zero is not None:
        yield f"ZeRO's bucket: {run.parallelism.bucket_elements:,} elements (DeepSpeed's default 5e8; hidden² with adapters)"
    if run.method_row.quantised:
        if run.base_format.startswith("nf4"):
            how = f"NF4{', doubly quantised' if run.base_format == 'nf4-dq' else ''}"
        else:
            how = run.base.note
        if KERNELS[run.kernels_used].quantised_head:
            yield f"QLoRA: matrices in the layers and the head are {how}; embeddings and norms stay 16 bit"
        else:
            yield f"QLoRA: matrices in the layers are {how}; {BESIDE[run.upcast]}"
    if run.engine_row.unties:
        yield "the head is a matrix of its own, whatever the model's config ties"
    if run.engine_row.holds_graph:
        yield "the loop holds a micro-batch's logits, and with them its graph, until the next forward is over"


def adapter_sentences(run: Training, absent: tuple[str, ...] = ()) -> Iterator[str]:
    """Formats of adapters, where they are. `absent`: targets that the model lacks."""
    if not run.adapts:
        return
    if run.fp32_adapters:
        yield "adapters, their gradients and states are fp32, as PEFT keeps them"
    else:
        whose = "" if run.adapter_dtype else f", as in {run.engine_row.name}"
        yield f"adapters, their gradients and states have the precision's own format{whose}"
    if absent:
        yield f"the model has no {', '.join(absent)}: adapters stand on the other targets, as with PEFT"
    if (beside := run.expert_adapters_used) != "none":
        yield f"routed experts that LoRA targets have adapters: {OF_EXPERTS[beside].partition(' (')[0]}"


def beyond_sentence(found: Range) -> str:
    """What the range of reserved memory and the device rests on."""
    rows = found.rows
    return f"measured runs hold {found.low:+.0%} to {found.high:+.0%} (four fifths of {rows.rows} readings, {rows.method})"


def range_sentence(found: Range) -> str:
    """What the range rests on."""
    rows, engine, method = found.rows.rows, found.rows.engine, found.rows.method
    whose = f"of all engines (fewer than {MIN_ROWS} of this one and method)" if found.pooled else f"of {engine}, {method}"
    return f"low to high: {found.low:+.1%} to {found.high:+.1%} of the peak, four fifths of {rows} measured runs {whose}"
