"""Activations of one rank: played from the ledger of saved tensors, or the textbook where a block cannot play yet."""

from functools import lru_cache
from typing import NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.communication import traffic
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage
from memcalc.estimates.profiles import input_leaf, profile_of, saved_by_block, shared_tables
from memcalc.estimates.states import Group, Setting
from memcalc.estimates.timeline import Moment, Plan, Step, step
from memcalc.formulas import activations
from memcalc.formulas.formula import ceil_div
from memcalc.specs.training import Training


class Played(NamedTuple):
    """A rank's activations: the lines of what stays after the forward, every candidate moment, and what waits on the host."""

    lines: list[Line]
    moments: tuple[Moment, ...]
    host: int
    leaf: int  # what PEFT's input leaf still holds at the optimizer step


def play_step(architecture: Architecture, setting: Setting, stage: Stage, groups: list[Group], gradients: int) -> Played:
    """One micro-batch played through the ledger. Raises Unsupported for a block that cannot play."""
    played = step(plan(architecture, setting, stage, groups, gradients))
    leaf = 2 * input_leaf(architecture, setting.run, profile_of(setting.run, architecture))
    return Played(activation_lines(architecture, setting, stage, played), played.moments, played.host, leaf)


def plan(architecture: Architecture, setting: Setting, stage: Stage, groups: list[Group], gradients: int) -> Plan:
    """One rank's step in the timeline's terms."""
    run, p = setting.run, setting.run.parallelism
    here = run.seq_len // p.cp
    tokens = run.micro_batch * here
    profile = profile_of(run, architecture)
    # gradients of earlier micro-batches stand throughout; so does an engine's main-gradient buffer
    standing = run.grad_accum > 1 or (run.engine_row.fp32_gradients and setting.master > 0)
    tied = architecture.tied and bool(stage.entry) and bool(stage.exit) and profile.trained
    vocabulary = ceil_div(architecture.vocabulary, p.tp)
    return Plan(
        stage,
        profile,
        architecture.hidden,
        tokens,
        tokens * run.seq_len,
        run.recompute == "full",
        "activations" in run.offload,
        gradients if standing else 0,
        micro_batches_in_flight(run, stage),
        traffic(setting, groups),
        shared_tables(architecture, run, profile),
        vocabulary * architecture.hidden * profile.weights if tied else 0,
        run.method == "full" or run.recompute == "full",
    )


def activation_lines(architecture: Architecture, setting: Setting, stage: Stage, played: Step) -> list[Line]:
    """What the forward leaves for the backward, by block, from the ledger of saved tensors."""
    run, p = setting.run, setting.run.parallelism
    tokens = run.micro_batch * (run.seq_len // p.cp)
    profile = profile_of(run, architecture)
    out = [
        line("activations", name, "forward and backward", activations.saved_tensor_bytes, **inputs)
        for name, inputs in saved_by_block(stage, profile, architecture.hidden, run.recompute == "full",
                                           "activations" in run.offload, micro_batches_in_flight(run, stage),
                                           tokens, tokens * run.seq_len)
    ]  # fmt: skip
    rest = played.saved - sum(entry.bytes for entry in out)
    if rest:  # below zero where the first layer, behind a frozen embedding, keeps less than the others
        out.append(line("activations", "rotary tables, masks, first layer", "forward and backward",
                        activations.saved_tensor_bytes, per_token=0, tokens=tokens, per_pair=0, pairs=0, fixed=rest,
                        layers=1))  # fmt: skip
    return out


def textbook_step(architecture: Architecture, setting: Setting, stage: Stage, groups: list[Group], gradients: int) -> Played:
    """The formula of Korthikanti et al. 2022 for models with blocks that cannot play yet: an approximation, marked as such."""
    run, p, each = setting.run, setting.run.parallelism, setting.compute
    tokens, hidden = run.micro_batch * (run.seq_len // p.cp), architecture.hidden
    split = p.tp if p.sequence_parallel else 1
    layer = {
        "tokens": tokens, "hidden": hidden, "heads": shape(architecture).heads, "seq_len": run.seq_len, "tp": p.tp,
        "split": split, "scores": int(run.attention == "eager" and run.recompute == "none"), "bytes_each": each,
    }  # fmt: skip
    if run.recompute == "full":
        kept = activations.recomputed_layer_bytes(tokens=tokens, hidden=hidden, split=split, bytes_each=each)
    else:
        kept = activations.layer_activation_bytes(**layer)
    lines = [line("activations", "layers (textbook)", "forward and backward", activations.textbook_activation_bytes,
                  per_layer=kept, layers=stage.layers * micro_batches_in_flight(run, stage))]  # fmt: skip
    working = 0
    if run.recompute == "full" and stage.layers:
        working = activations.layer_activation_bytes(**layer | {"scores": int(run.attention == "eager")})
    logits = 12 * tokens * architecture.vocabulary // p.tp if stage.last else 0  # log-softmax, its gradient, the logits'
    saved = sum(entry.bytes for entry in lines)
    traffic_ = traffic(setting, groups)
    gathered = traffic_.each * (stage.root + 2 * stage.largest_layer) if traffic_.gathers else 0
    communication = traffic_.buffers + gathered
    carried = gradients if run.grad_accum > 1 else 0
    moments = (
        Moment("after forward", saved, carried, traffic_.buffers),
        Moment("gradient of the loss", saved + logits, carried, communication),
        Moment("backward of the first layer", working, gradients, communication),
    )
    return Played(lines, moments, 0, 0)


def micro_batches_in_flight(run: Training, stage: Stage) -> int:
    """Micro-batches whose activations a stage holds at once: all of them under GPipe, at most the stages left under 1F1B."""
    pp = run.parallelism.pp
    if pp == 1:
        return 1
    if run.parallelism.pipeline_schedule == "gpipe":
        return run.grad_accum
    return min(pp - stage.index, run.grad_accum)


def rule_of_thumb_activations(parameters: int, setting: Setting) -> list[Line]:
    return [line("activations", "rule of thumb", "forward and backward", activations.rule_of_thumb_activation_bytes,
                 parameters=parameters, bytes_per_parameter=2 * setting.compute)]  # fmt: skip


class ModelShape(NamedTuple):
    """The few sizes that the textbook formulas ask for."""

    heads: int
    layers: int
    experts: int


@lru_cache(maxsize=256)
def shape(architecture: Architecture) -> ModelShape:
    heads = layers = experts = 0
    for part in architecture.parts:
        main = part.name in ("language", "encoder", "decoder")
        for stack in part.stacks:
            layers += stack.depth if main else 0
            for layer in stack.layers:
                for _, block in layer.blocks:
                    heads = heads or (getattr(block, "heads", 0) if main else 0)
                    experts = experts or getattr(block, "experts", 0)
    return ModelShape(heads, layers or 1, experts)
