"""Memory per GPU of one training step: model states exactly, activations by the textbook, the peak of three moments."""

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.dtypes import number_format
from memcalc.estimates.adapters import adapters, quantised
from memcalc.estimates.lines import COMPONENTS, Line, line, total
from memcalc.estimates.placement import Held, Stage, partitioned_elements, sharded_elements, stages
from memcalc.formulas import activations, model_states
from memcalc.formulas.engines import (
    ALLOCATOR_SEGMENT,
    COMMUNICATOR_BYTES,
    CONTEXT_BYTES,
    DEEPSPEED,
    FSDP_LAYERS_IN_FLIGHT,
)
from memcalc.formulas.formula import ceil_div
from memcalc.formulas.optimizers import elementwise_bytes_per_parameter, optimizer, state_bytes
from memcalc.formulas.precision import Precision, precision
from memcalc.specs.training import Training


class TrainingEstimate(NamedTuple):
    """What one step needs on the heaviest rank; bytes, all from `lines`."""

    lines: tuple[Line, ...]
    stage: int  # pipeline stage of the heaviest rank
    components: dict[str, int]
    steady: int
    after_forward: int
    peak_forward_backward: int
    peak_optimizer_step: int
    host_per_node: int
    nvme_per_node: int
    trainable: int
    assumptions: tuple[str, ...]

    @property
    def peak(self) -> int:
        return max(self.peak_forward_backward, self.peak_optimizer_step)

    @property
    def peak_moment(self) -> str:
        return "forward and backward" if self.peak_forward_backward >= self.peak_optimizer_step else "optimizer step"

    @property
    def reserved(self) -> int:
        return ceil_div(self.peak, ALLOCATOR_SEGMENT) * ALLOCATOR_SEGMENT

    @property
    def device(self) -> int:
        return self.reserved + self.components["overhead"]


class Group(NamedTuple):
    """Tensors that shard over the same ranks: the dense ones, or the routed experts."""

    name: str
    shards: int
    frozen: tuple[Held, ...]
    quantised: tuple[Held, ...]
    trained: tuple[Held, ...]


def estimate(architecture: Architecture, run: Training) -> TrainingEstimate:
    """The heaviest rank's memory for one architecture under one training setting.

    Raises SpecError where setting and model contradict each other (tp does not divide the heads, …).
    """
    p = run.parallelism
    shape = _shape(architecture)
    p.check_model(heads=shape.heads, layers=shape.layers, experts=shape.experts)
    candidates = [
        _on_stage(architecture, run, stage) for stage in stages(architecture, p.tp, p.pp, p.ep, p.etp)
    ]
    return max(candidates, key=lambda found: found.peak)


def estimate_parameters(parameters: int, run: Training) -> TrainingEstimate:
    """The same from nothing but a parameter count: one flat tensor, activations by the rule of thumb."""
    held = (Held("parameters", "mlp", (parameters,), 1, False, True),)
    return _assemble(run, Stage(0, held, 0, True, 0, 0), _rule_of_thumb_activations(parameters, run), parameters)


class ModelShape(NamedTuple):
    """The few sizes that the textbook formulas ask for."""

    heads: int
    layers: int
    experts: int


@lru_cache(maxsize=256)
def _shape(architecture: Architecture) -> ModelShape:
    heads = layers = experts = 0
    for part in architecture.parts:
        for stack in part.stacks:
            layers += stack.depth if part.name in ("language", "encoder", "decoder") else 0
            for layer in stack.layers:
                for _, block in layer.blocks:
                    if part.name in ("language", "encoder", "decoder"):
                        heads = heads or getattr(block, "heads", 0)
                    experts = experts or getattr(block, "experts", 0)
    return ModelShape(heads, layers or 1, experts)


def _on_stage(architecture: Architecture, run: Training, stage: Stage) -> TrainingEstimate:
    return _assemble(run, stage, _textbook_activations(architecture, run, stage), 0)


def _assemble(run: Training, stage: Stage, activation_lines: list[Line], flat: int) -> TrainingEstimate:
    formats = precision(run.precision, fsdp=run.fsdp)
    groups = _groups(run, stage)
    lines = [entry for group in groups for entry in _state_lines(run, formats, group)]
    lines += _communication_lines(run, formats, stage, groups)
    lines += activation_lines
    communicators = 0 if run.parallelism.gpus == 1 else 1
    lines.append(
        line("overhead/context", "always", model_states.context_bytes, context=CONTEXT_BYTES,
             communicators=communicators, communicator=COMMUNICATOR_BYTES)
    )  # fmt: skip
    components = {name: total(lines, name) for name in COMPONENTS}
    steady = components["parameters"] + components["optimizer_states"]
    # gradients of earlier micro-batches are there during the forward pass
    carried = components["gradients"] if run.grad_accum > 1 else 0
    after_forward = steady + carried + components["activations"] + components["communication"]
    peak_backward = steady + components["gradients"] + components["activations"] + components["communication"]
    ranks_on_node = min(run.parallelism.gpus, run.parallelism.gpus_per_node)
    return TrainingEstimate(
        tuple(lines),
        stage.index,
        components,
        steady,
        after_forward,
        peak_backward,
        steady + components["gradients"],
        ranks_on_node * sum(total(lines, name, "host") for name in COMPONENTS),
        ranks_on_node * sum(total(lines, name, "nvme") for name in COMPONENTS),
        sum(entry.elements for group in groups for entry in group.trained),
        tuple(_assumptions(run, formats, flat)),
    )


# --- model states -----------------------------------------------------------------------------------------------------


def _groups(run: Training, stage: Stage) -> list[Group]:
    """Dense and routed tensors apart, each split into frozen, quantised and trained ones."""
    p = run.parallelism
    shards = {"dense": p.shard_ranks, "experts": p.expert_shard_ranks}
    if run.fsdp:
        replicas = p.shard_ranks // p.fsdp_shards
        shards = {"dense": p.fsdp_shards, "experts": max(1, p.expert_shard_ranks // replicas)}
    out = []
    for name, held in _split(stage.held).items():
        trained: tuple[Held, ...] = held
        frozen: tuple[Held, ...] = ()
        low: tuple[Held, ...] = ()
        if run.method != "full":
            frozen = held
            trained = adapters(stage.held, run.lora_targets, run.lora_rank) if name == "dense" else ()
        if run.method == "qlora":
            low, frozen = quantised(held)
        if held:
            out.append(Group(name, shards[name], frozen, low, trained))
    return out


@lru_cache(maxsize=1024)
def _split(held: tuple[Held, ...]) -> dict[str, tuple[Held, ...]]:
    return {
        "dense": tuple(entry for entry in held if not entry.routed),
        "experts": tuple(entry for entry in held if entry.routed),
    }


@lru_cache(maxsize=4096)
def _elements(held: tuple[Held, ...], rule: str, shards: int) -> int:
    """Elements on one rank: "whole", cut per tensor along rows ("rows"), or per flattened tensor ("flat")."""
    if rule == "rows":
        return sharded_elements(held, shards)
    if rule == "flat":
        return partitioned_elements(held, shards)
    return sum(entry.elements for entry in held)


@lru_cache(maxsize=4096)
def _shaped_states(held: tuple[Held, ...], name: str, shards: int, bytes_each: int) -> int:
    """Optimizer bytes of tensors whose states depend on their shape, each as its shard along rows."""
    row = optimizer(name)
    return sum(
        entry.copies
        * state_bytes(row, (-(-entry.shape[0] // shards), *entry.shape[1:]), parameter_bytes=bytes_each, role=entry.role)
        for entry in held
    )


def _state_lines(run: Training, formats: Precision, group: Group) -> list[Line]:
    zero = run.parallelism.zero or 0
    weight_bytes = _bytes(formats.weights)
    # PEFT keeps adapters in fp32 beside 16-bit frozen weights (autocast_adapter_dtype), so they need no master copy
    adapting = run.method != "full"
    trained_bytes = 4 if adapting else weight_bytes
    frozen_bytes = _bytes(formats.compute)
    gradient_bytes = 4 if adapting else _bytes(formats.gradients)
    parameters_at = "host" if "parameters" in run.offload and run.offload_to == "cpu" else "gpu"
    if "parameters" in run.offload and run.offload_to == "nvme":
        parameters_at = "nvme"
    optimizer_at = _optimizer_place(run)
    gradients_at = "host" if optimizer_at != "gpu" and (zero >= 2 or "parameters" in run.offload) else "gpu"
    out = []
    if group.frozen:
        out.append(_parameters(run, group, "frozen", group.frozen, frozen_bytes, parameters_at))
    if group.quantised:
        out.append(_quantised_parameters(run, group, parameters_at))
    if group.trained:
        out.append(_parameters(run, group, "adapters" if adapting else "", group.trained, trained_bytes, parameters_at))
        out.append(_gradients(run, group, gradient_bytes, gradients_at))
        if formats.master and not adapting:
            out.append(_optimizer_part(run, group, "master weights", _bytes(formats.master), optimizer_at))
        states = 4 if adapting else _bytes(formats.states)
        out.append(_optimizer_states(run, group, states, optimizer_at))
    return [entry for entry in out if entry.bytes]


def _optimizer_place(run: Training) -> str:
    if "optimizer" not in run.offload and not (run.fsdp and "parameters" in run.offload):
        return "gpu"
    return "nvme" if run.offload_to == "nvme" else "host"


def _path(component: str, group: Group, detail: str = "") -> str:
    return "/".join(part for part in (component, group.name, detail) if part)


def _parameters(run: Training, group: Group, detail: str, held: tuple[Held, ...], each: int, place: str) -> Line:
    path = _path("parameters", group, detail)
    if run.fsdp:
        elements = _elements(held, "rows", group.shards)
        return line(path, "always", model_states.fsdp_shard_bytes, place=place, sharded_elements=elements, bytes_each=each)
    if run.parallelism.zero == 3:
        elements = _elements(held, "flat", group.shards)
        return line(
            path, "always", model_states.zero3_partition_bytes, place=place, partitioned_elements=elements, bytes_each=each
        )
    return line(path, "always", model_states.whole_bytes, elements=_elements(held, "whole", 1), bytes_each=each)


def _quantised_parameters(run: Training, group: Group, place: str) -> Line:
    low = number_format("nf4-dq")
    sharded = run.fsdp or run.parallelism.zero == 3
    elements = _elements(group.quantised, "flat", group.shards if sharded else 1)
    return line(
        _path("parameters", group, "nf4"), "always", model_states.block_format_bytes, place=place,
        elements=elements, block=low.block_size, bytes_per_block=low.block_bytes,
    )  # fmt: skip


def _gradients(run: Training, group: Group, each: int, place: str) -> Line:
    path, zero = _path("gradients", group), run.parallelism.zero or 0
    if run.fsdp:
        elements = _elements(group.trained, "rows", group.shards)
        return line(
            path, "backward", model_states.fsdp_shard_bytes, place=place, sharded_elements=elements, bytes_each=each
        )
    if zero >= 2:
        return _flat(path, "backward", group, each, place)
    elements = _elements(group.trained, "whole", 1)
    return line(path, "backward", model_states.whole_bytes, place=place, elements=elements, bytes_each=each)


def _flat(path: str, phase: str, group: Group, each: int, place: str) -> Line:
    """A flat ZeRO partition of the group's trained tensors."""
    return line(
        path, phase, model_states.zero_partition_bytes, place=place, elements=_elements(group.trained, "whole", 1),
        shards=group.shards, alignment=DEEPSPEED.alignment, bytes_each=each,
    )  # fmt: skip


def _optimizer_part(run: Training, group: Group, detail: str, each: int, place: str) -> Line:
    """A copy of `each` bytes per trained parameter, sharded as optimizer states are."""
    path = _path("optimizer_states", group, detail)
    if run.fsdp:
        elements = _elements(group.trained, "rows", group.shards)
        return line(path, "always", model_states.fsdp_shard_bytes, place=place, sharded_elements=elements, bytes_each=each)
    if run.parallelism.zero:
        return _flat(path, "always", group, each, place)
    elements = _elements(group.trained, "whole", 1)
    return line(path, "always", model_states.whole_bytes, place=place, elements=elements, bytes_each=each)


def _optimizer_states(run: Training, group: Group, weight_bytes: int, place: str) -> Line:
    row = optimizer(run.optimizer)
    rate = elementwise_bytes_per_parameter(row, weight_bytes)
    if rate is not None and rate == int(rate):
        return _optimizer_part(run, group, row.name, int(rate), place)
    path = _path("optimizer_states", group, row.name)
    if run.parallelism.zero:  # one flat fp32 partition, which the optimizer sees as a vector
        elements = ceil_div(_elements(group.trained, "whole", 1), group.shards)
        flat = state_bytes(row, (elements,), parameter_bytes=weight_bytes)
        return line(path, "always", model_states.shaped_state_bytes, place=place, state_bytes=flat, tensors=1)
    states = _shaped_states(group.trained, row.name, group.shards if run.fsdp else 1, weight_bytes)
    tensors = sum(entry.copies for entry in group.trained)
    return line(path, "always", model_states.shaped_state_bytes, place=place, state_bytes=states, tensors=tensors)


def _bytes(name: str) -> int:
    return number_format(name).bytes_for(1)


# --- communication ----------------------------------------------------------------------------------------------------


def _communication_lines(run: Training, formats: Precision, stage: Stage, groups: list[Group]) -> list[Line]:
    p, zero = run.parallelism, run.parallelism.zero or 0
    ranks = max((group.shards for group in groups), default=1)
    compute = _bytes(formats.compute)
    local = sum(_elements(group.frozen + group.quantised + group.trained, "whole", 1) for group in groups)
    trained = sum(_elements(group.trained, "whole", 1) for group in groups)
    gradient_bytes = 4 if run.method != "full" else _bytes(formats.gradients)
    out = []
    if p.zero is None and (p.fsdp is None or p.fsdp_shards == 1) and p.shard_ranks > 1:
        out.append(
            line("communication/gradient buckets", "backward", model_states.ddp_bucket_bytes,
                 gradient_elements=trained, bytes_each=gradient_bytes)
        )  # fmt: skip
    if run.fsdp and ranks > 1:
        keeps = p.fsdp == "grad-op"
        out.append(
            line("communication/gathered parameters", "forward and backward", model_states.fsdp_gathered_bytes,
                 root=local if keeps else stage.root, largest_layer=stage.largest_layer,
                 layers_in_flight=0 if keeps else min(FSDP_LAYERS_IN_FLIGHT, stage.layers), bytes_each=compute)
        )  # fmt: skip
    if zero >= 2 and ranks > 1:
        out.append(
            line("communication/reduce buckets", "backward", model_states.zero_reduce_bucket_bytes,
                 elements=trained, bucket_elements=DEEPSPEED.reduce_bucket, buffers=DEEPSPEED.buffers[zero],
                 bytes_each=gradient_bytes)
        )  # fmt: skip
    if zero == 3 and ranks > 1:
        out.append(
            line("communication/gathered parameters", "forward and backward", model_states.zero3_gathered_bytes,
                 largest_layer=max(stage.largest_layer, _largest_root(stage.held)),
                 prefetch_elements=DEEPSPEED.prefetch_bucket, max_live=DEEPSPEED.max_live_parameters, elements=local,
                 bytes_each=compute)
        )  # fmt: skip
    return [entry for entry in out if entry.bytes]


@lru_cache(maxsize=1024)
def _largest_root(held: tuple[Held, ...]) -> int:
    return max((prod(entry.shape) for entry in held if not entry.layered), default=0)


# --- activations ------------------------------------------------------------------------------------------------------


def _textbook_activations(architecture: Architecture, run: Training, stage: Stage) -> list[Line]:
    p = run.parallelism
    shape = _shape(architecture)
    each = _bytes(precision(run.precision).compute)
    tokens, hidden = run.micro_batch * run.seq_len // p.cp, architecture.hidden
    split = p.tp if p.sequence_parallel else 1
    keeps_scores = int(run.attention == "eager" and run.recompute == "none")
    layer: dict[str, Any] = {
        "tokens": tokens, "hidden": hidden, "heads": shape.heads, "seq_len": run.seq_len, "tp": p.tp, "split": split,
        "scores": keeps_scores, "bytes_each": each,
    }  # fmt: skip
    if run.recompute == "full":
        kept = activations.recomputed_layer_bytes(tokens=tokens, hidden=hidden, split=split, bytes_each=each)
    else:
        kept = activations.layer_activation_bytes(**layer)
    in_flight = min(p.pp - stage.index, run.grad_accum) if p.pp > 1 and p.pipeline_schedule != "gpipe" else (
        run.grad_accum if p.pp > 1 else 1
    )  # fmt: skip
    out = [
        line("activations/layers", "forward and backward", activations.in_flight_activation_bytes,
             per_micro_batch=kept * stage.layers, in_flight=in_flight)
    ]  # fmt: skip
    if run.recompute == "full" and stage.layers:
        layer["scores"] = int(run.attention == "eager")
        out.append(line("activations/layer in flight", "backward", activations.layer_activation_bytes, **layer))
    if stage.last and architecture.vocabulary:
        out.append(
            line("activations/logits", "loss", activations.logits_bytes, tokens=tokens,
                 vocabulary=architecture.vocabulary, tp=p.tp, bytes_each=each)
        )  # fmt: skip
    return out


def _rule_of_thumb_activations(parameters: int, run: Training) -> list[Line]:
    each = 2 * _bytes(precision(run.precision).compute)
    return [
        line("activations/rule of thumb", "forward and backward", activations.rule_of_thumb_activation_bytes,
             parameters=parameters, bytes_per_parameter=each)
    ]  # fmt: skip


def _assumptions(run: Training, formats: Precision, flat: int) -> list[str]:
    out = [f"{run.precision}: {formats.note}"]
    if flat:
        out.append("only a parameter count is known: activations are the rule of thumb of 2 × compute bytes per parameter")
    else:
        out.append("activations: the textbook formula of Korthikanti et al. 2022, an approximation for this model")
    if run.parallelism.zero is not None:
        out.append("ZeRO buffers: DeepSpeed's default bucket sizes")
    if run.method == "qlora":
        out.append("QLoRA: matrices inside the layers in NF4 with double quantisation, embeddings, norms and head in 16 bit")
    if run.method != "full":
        out.append("adapters, their gradients and states in fp32, as PEFT keeps them")
    out.append("reserved: peak rounded to the allocator's 2 MiB segments, fragmentation not included")
    return out
