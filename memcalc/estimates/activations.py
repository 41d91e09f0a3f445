"""Activations of one rank: played from the ledger of saved tensors, or the textbook where a block cannot play yet."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.head import Head
from memcalc.estimates.communication import traffic
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage, main_parts
from memcalc.estimates.profiles import feeds_gradient, input_leaf, profile_of, saved_by_block, shared_tables
from memcalc.estimates.sequence import Pattern
from memcalc.estimates.states import Group, Setting
from memcalc.estimates.timeline import Form, Forms, Moment, Setup
from memcalc.formulas import activations
from memcalc.formulas.formula import ceil_div
from memcalc.specs.training import Training

PHASE = "forward and backward"


class Evaluated(NamedTuple):
    """A rank's activations in bytes."""

    saved: int  # what stays after the forward
    after_forward: Moment
    candidates: tuple[Moment, ...]  # those that can be the peak
    moments: Callable[[], tuple[Moment, ...]]  # all of them, for a report
    host: int = 0
    leaf: int = 0  # what PEFT's input leaf still holds at the optimizer step
    formula: Line | None = None  # the one line of an approximation


def setup_of(architecture: Architecture, setting: Setting, stage: Stage, groups: Sequence[Group]) -> Setup:
    """One rank's step in the timeline's terms."""
    run, p = setting.run, setting.run.parallelism
    profile = profile_of(run, architecture)
    trained = profile.method.trained and not profile.method.frozen_embeddings
    tied = architecture.tied and bool(stage.entry) and bool(stage.exit) and trained
    vocabulary = ceil_div(architecture.vocabulary, p.tp)
    width = next((block.size for _, block in stage.exit if isinstance(block, Head)), architecture.hidden)
    input_grad = feeds_gradient(run, stage, profile)
    return Setup(
        replace(stage, sequence=stage.sequence.marked(recomputed(run), input_grad=input_grad)),
        profile,
        architecture.hidden,
        run.recompute == "selective" and run.engine_row.by_operation,
        "activations" in run.offload,
        # gradients of earlier micro-batches stand throughout; so does an engine's main-gradient buffer
        run.grad_accum > 1 or (run.engine_row.fp32_gradients and setting.master > 0),
        micro_batches_in_flight(run, stage.index),
        traffic(setting, groups),
        vocabulary * width * profile.formats.weights if tied else 0,
        input_grad,
        run.engine_row.holds_inputs and setting.fsdp and run.adapts and run.recompute == "full",
    )


def recomputed(run: Training) -> Pattern:
    """Which layers of a stage a run recomputes whole."""
    if run.recompute != "full":
        return Pattern()
    return Pattern(every=run.recompute_every or 1, first=run.recompute_layers)


def evaluate(architecture: Architecture, run: Training, setup: Setup, played: Forms, gradients: int) -> Evaluated:
    """Fill batch and length into the forms."""
    here = run.seq_len // run.parallelism.cp
    tokens = run.micro_batch * here
    pairs = tokens * run.seq_len
    tables = shared_tables(architecture, run, setup.profile)
    carried = gradients if setup.standing else 0

    def fill(found: tuple[Form, ...]) -> tuple[Moment, ...]:
        return tuple(
            Moment(name, int(a[0] * tokens + a[1] * pairs + a[2] + a[3] * here) + tables, grads + carried, communication)
            for name, a, grads, communication in found
        )

    (after,) = fill(played.moments[:1])
    host = int(played.host.at(tokens, pairs, here)) if setup.offload else 0
    leaf = 2 * input_leaf(architecture, run, setup.profile) if run.adapts else 0
    return Evaluated(after.activations, after, fill(played.candidates), lambda: fill(played.moments), host, leaf)


def activation_lines(
    run: Training, architecture: Architecture | None, stage: Stage, setup: Setup | None, found: Evaluated
) -> Iterator[Line]:
    """What the forward leaves for the backward, by block."""
    if found.formula or architecture is None or setup is None:
        if found.formula:
            yield found.formula
        return
    here = run.seq_len // run.parallelism.cp
    tokens = run.micro_batch * here
    rest = found.saved
    for name, inputs in saved_by_block(stage, setup, tokens, tokens * run.seq_len, here):
        made = line("activations", name, PHASE, activations.saved_tensor_bytes, **inputs)
        rest -= made.bytes
        yield made
    if rest:
        yield line("activations", "rotary tables, masks, first layer", PHASE, activations.saved_tensor_bytes,
                   per_token=0, tokens=tokens, per_pair=0, pairs=0, per_position=0, positions=here, fixed=rest,
                   layers=1)  # fmt: skip


def textbook(
    architecture: Architecture, run: Training, setting: Setting, stage: Stage, setup: Setup, gradients: int
) -> Evaluated:
    """The formula of Korthikanti et al. 2022 for models with blocks that cannot play yet: an approximation."""
    p, each, around = run.parallelism, setting.compute, setup.traffic
    tokens, hidden = run.micro_batch * (run.seq_len // p.cp), architecture.hidden
    split = p.tp if p.sequence_parallel else 1
    layer = {
        "tokens": tokens, "hidden": hidden, "heads": shape(architecture).heads, "seq_len": run.seq_len, "tp": p.tp,
        "split": split, "scores": int(run.attention == "eager" and run.recompute == "none"), "bytes_each": each,
    }  # fmt: skip
    again, working = recomputed(run).before(stage.layers), 0
    if again:
        working = activations.layer_activation_bytes(**layer | {"scores": int(run.attention == "eager")})
    saved = line("activations", "layers (textbook)", PHASE, activations.textbook_activation_bytes,
                 per_layer=activations.layer_activation_bytes(**layer), layers=int((stage.layers - again) * setup.in_flight),
                 per_input=activations.recomputed_layer_bytes(tokens=tokens, hidden=hidden, split=split, bytes_each=each),
                 recomputed=int(again * setup.in_flight))  # fmt: skip
    logits = 12 * tokens * architecture.vocabulary // p.tp if stage.last else 0  # log-softmax, its gradient, the logits'
    gathered = around.each * (stage.root + 2 * stage.largest_layer) if around.gathers else 0
    carried = gradients if setup.standing else 0
    moments = (
        Moment("after forward", saved.bytes, carried, around.buffers),
        Moment("gradient of the loss", saved.bytes + logits, carried, around.buffers + gathered),
        Moment("backward of the first layer", working, gradients, around.buffers + gathered),
    )
    return Evaluated(saved.bytes, moments[0], moments, lambda: moments, formula=saved)


def rule_of_thumb(parameters: int, setting: Setting, gpu: dict[str, int]) -> Evaluated:
    """Activations of a bare parameter count."""
    made = line("activations", "rule of thumb", PHASE, activations.rule_of_thumb_activation_bytes,
                parameters=parameters, bytes_per_parameter=2 * setting.compute)  # fmt: skip
    gradients, communication = gpu["gradients"], gpu["communication"]
    moments = (
        Moment("after forward", made.bytes, gradients if setting.run.grad_accum > 1 else 0, communication),
        Moment("forward and backward", made.bytes, gradients, communication),
    )
    return Evaluated(made.bytes, moments[0], moments, lambda: moments, formula=made)


VIRTUAL_STAGES = 2  # chunks a rank holds under the interleaved schedule, the least that interleaves


def micro_batches_in_flight(run: Training, stage: int) -> float:
    """Micro-batches whose activations a pipeline stage holds at once.

    gpipe: all of them. 1f1b and zero-bubble: as many as there are stages from here on (Narayanan et al. 2021, section
    2.2.1; ZB-H1 of Qi et al. 2023 keeps 1F1B's memory). interleaved: (2 (p − s − 1) + (v − 1) p + 1) / v of chunks that are
    1/v of the stage (Megatron-LM, schedules.py, num_warmup_microbatches).
    """
    p, accumulated = run.parallelism.pp, run.grad_accum
    if p == 1:
        return 1
    if run.parallelism.pipeline_schedule == "gpipe":
        return accumulated
    if run.parallelism.pipeline_schedule == "interleaved":
        v = VIRTUAL_STAGES
        return min(2 * (p - stage - 1) + (v - 1) * p + 1, accumulated * v) / v
    return min(p - stage, accumulated)


class ModelShape(NamedTuple):
    """The few sizes that the textbook formulas ask for."""

    heads: int
    layers: int
    experts: int


@lru_cache(maxsize=256)
def shape(architecture: Architecture) -> ModelShape:
    heads = layers = experts = 0
    for part in main_parts(architecture):
        for stack in part.stacks:
            layers += stack.depth
            for layer in stack.layers:
                for _, block in layer.blocks:
                    heads = heads or getattr(block, "heads", 0)
                    experts = experts or getattr(block, "experts", 0)
    return ModelShape(heads, layers or 1, experts)
