"""Memory per GPU of one training step: model states exactly, activations by the textbook, the peak of three moments."""

from functools import lru_cache
from typing import NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.dtypes import number_format
from memcalc.estimates.adapters import adapters, check_targets, quantised
from memcalc.estimates.lines import COMPONENTS, Line, line, totals
from memcalc.estimates.placement import Held, Stage, Tensors, stages
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
from memcalc.specs.rules import SpecError
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
    run: Training

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What was taken for granted, one sentence each."""
        run = self.run
        out = [f"{run.precision}: {precision(run.precision, fsdp=run.fsdp).note}"]
        if any(entry.name == "rule of thumb" for entry in self.lines):
            out.append("only a parameter count is known: activations are 2 × compute bytes per parameter, a rule of thumb")
        else:
            out.append("activations: the textbook formula of Korthikanti et al. 2022, an approximation for this model")
        if run.parallelism.zero is not None:
            out.append("ZeRO buffers: DeepSpeed's default bucket sizes")
        if run.method == "qlora":
            out.append("QLoRA: matrices in the layers are NF4, doubly quantised; embeddings, norms and head stay 16 bit")
        if run.method != "full":
            out.append("adapters, their gradients and states are fp32, as PEFT keeps them")
        out.append("reserved: peak rounded to the allocator's 2 MiB segments, fragmentation not included")
        return tuple(out)

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
    frozen: Tensors | None
    quantised: Tensors | None
    trained: Tensors | None

    @property
    def elements(self) -> int:
        """All elements of this rank, were nothing sharded."""
        return sum(part.elements() for part in (self.frozen, self.quantised, self.trained) if part)


class Setting(NamedTuple):
    """What the formulas below read of a run, looked up once."""

    run: Training
    formats: Precision
    weights: int  # bytes each of trained parameters
    gradients: int
    master: int
    states: int
    compute: int
    zero: int
    fsdp: bool
    parameters_at: str
    gradients_at: str
    optimizer_at: str


def estimate(architecture: Architecture, run: Training) -> TrainingEstimate:
    """The heaviest rank's memory for one architecture under one training setting.

    Raises SpecError where setting and model contradict each other (tp does not divide the heads, …).
    """
    p = run.parallelism
    shape = _shape(architecture)
    p.check_model(heads=shape.heads, layers=shape.layers, experts=shape.experts)
    if run.method != "full":
        check_targets(architecture, run.lora_targets)
    setting = _setting(run)
    found = [
        _assemble(setting, stage, _textbook_activations(architecture, setting, stage))
        for stage in stages(architecture, p.tp, p.pp, p.ep, p.etp)
    ]
    return found[0] if len(found) == 1 else max(found, key=lambda rank: rank.peak)


def estimate_parameters(parameters: int, run: Training) -> TrainingEstimate:
    """The same from nothing but a parameter count: one flat tensor, activations by the rule of thumb."""
    p = run.parallelism
    if p.tp * p.pp * p.ep * p.etp > 1:
        raise SpecError("needs an architecture to place; a parameter count says nothing about layers", "tp", "pp", "ep")
    if run.method != "full":
        raise SpecError("needs an architecture: adapters stand on matrices that a parameter count does not know", "method")
    setting = _setting(run)
    held = (Held("parameters", "mlp", (parameters,), 1, False, True),)
    stage = Stage.of(0, held, 0, True, 0)
    return _assemble(setting, stage, _rule_of_thumb_activations(parameters, setting))


class ModelShape(NamedTuple):
    """The few sizes that the textbook formulas ask for."""

    heads: int
    layers: int
    experts: int


@lru_cache(maxsize=256)
def _shape(architecture: Architecture) -> ModelShape:
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


def _setting(run: Training) -> Setting:
    p = run.parallelism
    fsdp, zero = p.fsdp is not None, p.zero or 0
    formats = precision(run.precision, fsdp=fsdp)
    optimizer_at = parameters_at = "gpu"
    off = "nvme" if run.offload_to == "nvme" else "host"
    if "parameters" in run.offload:
        parameters_at = off
    if "optimizer" in run.offload or (fsdp and "parameters" in run.offload):
        optimizer_at = off
    gradients_at = "host" if optimizer_at != "gpu" and (zero >= 2 or parameters_at != "gpu") else "gpu"
    if run.method == "full":
        sizes = (formats.bytes_of("weights"), formats.bytes_of("gradients"), formats.bytes_of("master"),
                 formats.bytes_of("states"))  # fmt: skip
    else:  # PEFT keeps adapters in fp32 beside 16-bit frozen weights (autocast_adapter_dtype): no master copy
        sizes = (4, 4, 0, 4)
    return Setting(run, formats, *sizes, formats.bytes_of("compute"), zero, fsdp, parameters_at, gradients_at, optimizer_at)


def _assemble(setting: Setting, stage: Stage, activation_lines: list[Line]) -> TrainingEstimate:
    run = setting.run
    groups = _groups(run, stage)
    lines = [entry for group in groups for entry in _state_lines(setting, group)]
    lines += _communication_lines(setting, stage, groups)
    lines += activation_lines
    lines.append(
        line("overhead", "context", "always", model_states.context_bytes, context=CONTEXT_BYTES,
             communicators=int(run.parallelism.gpus > 1), communicator=COMMUNICATOR_BYTES)
    )  # fmt: skip
    sums = totals(lines, COMPONENTS)
    gpu = sums["gpu"]
    steady = gpu["parameters"] + gpu["optimizer_states"]
    gradients, working = gpu["gradients"], gpu["activations"] + gpu["communication"]
    # gradients of earlier micro-batches are there during the forward pass
    after_forward = steady + working + (gradients if run.grad_accum > 1 else 0)
    ranks_on_node = min(run.parallelism.gpus, run.parallelism.gpus_per_node)
    return TrainingEstimate(
        tuple(lines),
        stage.index,
        gpu,
        steady,
        after_forward,
        steady + gradients + working,
        steady + gradients,
        ranks_on_node * sum(sums["host"].values()),
        ranks_on_node * sum(sums["nvme"].values()),
        sum(group.trained.elements() for group in groups if group.trained),
        run,
    )


# --- model states -----------------------------------------------------------------------------------------------------


def _groups(run: Training, stage: Stage) -> list[Group]:
    """Dense and routed tensors apart, each split into frozen, quantised and trained ones."""
    p = run.parallelism
    dense_shards, routed_shards = p.shard_ranks, p.expert_shard_ranks
    if p.fsdp is not None:
        replicas = p.shard_ranks // p.fsdp_shards
        dense_shards, routed_shards = p.fsdp_shards, max(1, p.expert_shard_ranks // replicas)
    out = []
    for name, held, shards in (("dense", stage.dense, dense_shards), ("experts", stage.routed, routed_shards)):
        if not held.held:
            continue
        if run.method == "full":
            out.append(Group(name, shards, None, None, held))
            continue
        low, rest = quantised(held) if run.method == "qlora" else (None, held)
        trained = adapters(held, run.lora_targets, run.lora_rank) if name == "dense" else None
        out.append(Group(name, shards, rest, low, trained))
    return out


def _state_lines(setting: Setting, group: Group) -> list[Line]:
    at = setting.parameters_at
    out = []
    if group.frozen:
        out.append(_parameters(setting, f"{group.name}/frozen", group, group.frozen, setting.compute, at))
    if group.quantised:
        out.append(_quantised_parameters(setting, group, at))
    if group.trained:
        name = group.name if setting.run.method == "full" else f"{group.name}/adapters"
        out.append(_parameters(setting, name, group, group.trained, setting.weights, at))
        out.append(_gradients(setting, group))
        if setting.master:
            out.append(_optimizer_part(setting, group, "master weights", setting.master))
        out.append(_optimizer_states(setting, group))
    return [entry for entry in out if entry.bytes]


def _parameters(setting: Setting, name: str, group: Group, held: Tensors, each: int, place: str) -> Line:
    if setting.fsdp:
        elements = held.elements("rows", group.shards)
        return line("parameters", name, "always", model_states.fsdp_shard_bytes, place, sharded_elements=elements,
                    bytes_each=each)  # fmt: skip
    if setting.zero == 3:
        elements = held.elements("flat", group.shards)
        return line("parameters", name, "always", model_states.zero3_partition_bytes, place,
                    partitioned_elements=elements, bytes_each=each)  # fmt: skip
    return line("parameters", name, "always", model_states.whole_bytes, elements=held.elements(), bytes_each=each)


def _quantised_parameters(setting: Setting, group: Group, place: str) -> Line:
    assert group.quantised
    low = number_format("nf4-dq")
    sharded = setting.fsdp or setting.zero == 3
    elements = group.quantised.elements("flat", group.shards if sharded else 1)
    return line("parameters", f"{group.name}/nf4", "always", model_states.block_format_bytes, place,
                elements=elements, block=low.block_size, bytes_per_block=low.block_bytes)  # fmt: skip


def _gradients(setting: Setting, group: Group) -> Line:
    if setting.zero == 1:  # only optimizer states are cut
        return _whole("gradients", group.name, "backward", group, setting.gradients, setting.gradients_at)
    return _sharded("gradients", group.name, "backward", setting, group, setting.gradients, setting.gradients_at)


def _optimizer_part(setting: Setting, group: Group, name: str, each: int) -> Line:
    """A copy of `each` bytes per trained parameter, sharded as optimizer states are."""
    return _sharded("optimizer_states", f"{group.name}/{name}", "always", setting, group, each, setting.optimizer_at)


def _sharded(component: str, name: str, phase: str, setting: Setting, group: Group, each: int, place: str) -> Line:
    """The group's trained tensors as the strategy shards them: rows under FSDP, one flat partition under ZeRO, or whole."""
    assert group.trained
    if setting.fsdp:
        return line(component, name, phase, model_states.fsdp_shard_bytes, place,
                    sharded_elements=group.trained.elements("rows", group.shards), bytes_each=each)  # fmt: skip
    if setting.zero:
        return line(component, name, phase, model_states.zero_partition_bytes, place, elements=group.trained.elements(),
                    shards=group.shards, alignment=DEEPSPEED.alignment, bytes_each=each)  # fmt: skip
    return _whole(component, name, phase, group, each, place)


def _whole(component: str, name: str, phase: str, group: Group, each: int, place: str) -> Line:
    assert group.trained
    return line(component, name, phase, model_states.whole_bytes, place, elements=group.trained.elements(), bytes_each=each)


def _optimizer_states(setting: Setting, group: Group) -> Line:
    assert group.trained
    rate = _rate(setting.run.optimizer, setting.states)
    if rate is not None and rate == int(rate):
        return _optimizer_part(setting, group, setting.run.optimizer, int(rate))
    name = f"{group.name}/{setting.run.optimizer}"
    if setting.zero:  # one flat fp32 partition, which the optimizer sees as a vector
        elements = ceil_div(group.trained.elements(), group.shards)
        flat = state_bytes(optimizer(setting.run.optimizer), (elements,), parameter_bytes=setting.states)
        return line("optimizer_states", name, "always", model_states.shaped_state_bytes, setting.optimizer_at,
                    state_bytes=flat, tensors=1)  # fmt: skip
    states = _shaped_states(group.trained, setting.run.optimizer, group.shards if setting.fsdp else 1, setting.states)
    return line("optimizer_states", name, "always", model_states.shaped_state_bytes, setting.optimizer_at,
                state_bytes=states, tensors=group.trained.count)  # fmt: skip


@lru_cache(maxsize=1024)
def _rate(name: str, bytes_each: int) -> float | None:
    return elementwise_bytes_per_parameter(optimizer(name), bytes_each)


@lru_cache(maxsize=4096)
def _shaped_states(held: Tensors, name: str, shards: int, bytes_each: int) -> int:
    """Optimizer bytes of tensors whose states depend on their shape, each as its shard along rows."""
    row = optimizer(name)
    return sum(
        entry.copies
        * state_bytes(row, (-(-entry.shape[0] // shards), *entry.shape[1:]), parameter_bytes=bytes_each, role=entry.role)
        for entry in held.held
    )


# --- communication ----------------------------------------------------------------------------------------------------


def _communication_lines(setting: Setting, stage: Stage, groups: list[Group]) -> list[Line]:
    p, zero = setting.run.parallelism, setting.zero
    ranks = max((group.shards for group in groups), default=1)
    if ranks == 1 and p.shard_ranks == 1:
        return []
    trained = sum(group.trained.elements() for group in groups if group.trained)
    if p.zero is None and (p.fsdp is None or p.fsdp_shards == 1):
        return [line("communication", "gradient buckets", "backward", model_states.ddp_bucket_bytes,
                     gradient_elements=trained, bytes_each=setting.gradients)]  # fmt: skip
    local = sum(group.elements for group in groups)
    if setting.fsdp:
        keeps = p.fsdp == "grad-op"
        return [line("communication", "gathered parameters", "forward and backward", model_states.fsdp_gathered_bytes,
                     root=local if keeps else stage.root, largest_layer=stage.largest_layer,
                     layers_in_flight=0 if keeps else min(FSDP_LAYERS_IN_FLIGHT, stage.layers),
                     bytes_each=setting.compute)]  # fmt: skip
    out = []
    if zero >= 2:
        out.append(line("communication", "reduce buckets", "backward", model_states.zero_reduce_bucket_bytes,
                        elements=trained, bucket_elements=DEEPSPEED.reduce_bucket, buffers=DEEPSPEED.buffers[zero],
                        bytes_each=setting.gradients))  # fmt: skip
    if zero == 3:
        largest = max(stage.largest_layer, stage.largest_root)
        out.append(line("communication", "gathered parameters", "forward and backward",
                        model_states.zero3_gathered_bytes, largest_layer=largest,
                        prefetch_elements=DEEPSPEED.prefetch_bucket, max_live=DEEPSPEED.max_live_parameters,
                        elements=local, bytes_each=setting.compute))  # fmt: skip
    return out


# --- activations ------------------------------------------------------------------------------------------------------


def _textbook_activations(architecture: Architecture, setting: Setting, stage: Stage) -> list[Line]:
    run, p, each = setting.run, setting.run.parallelism, setting.compute
    tokens, hidden = run.micro_batch * run.seq_len // p.cp, architecture.hidden
    split = p.tp if p.sequence_parallel else 1
    layer = {
        "tokens": tokens, "hidden": hidden, "heads": _shape(architecture).heads, "seq_len": run.seq_len, "tp": p.tp,
        "split": split, "scores": int(run.attention == "eager" and run.recompute == "none"), "bytes_each": each,
    }  # fmt: skip
    if run.recompute == "full":
        kept = activations.recomputed_layer_bytes(tokens=tokens, hidden=hidden, split=split, bytes_each=each)
    else:
        kept = activations.layer_activation_bytes(**layer)
    out = [line("activations", "layers", "forward and backward", activations.in_flight_activation_bytes,
                per_micro_batch=kept * stage.layers, in_flight=_micro_batches_in_flight(run, stage))]  # fmt: skip
    if run.recompute == "full" and stage.layers:
        layer["scores"] = int(run.attention == "eager")
        out.append(line("activations", "layer in flight", "backward", activations.layer_activation_bytes, **layer))
    if stage.last and architecture.vocabulary:
        out.append(line("activations", "logits", "loss", activations.logits_bytes, tokens=tokens,
                        vocabulary=architecture.vocabulary, tp=p.tp, bytes_each=each))  # fmt: skip
    return out


def _micro_batches_in_flight(run: Training, stage: Stage) -> int:
    """Micro-batches whose activations a stage holds at once: all of them under GPipe, at most the stages left under 1F1B."""
    pp = run.parallelism.pp
    if pp == 1:
        return 1
    if run.parallelism.pipeline_schedule == "gpipe":
        return run.grad_accum
    return min(pp - stage.index, run.grad_accum)


def _rule_of_thumb_activations(parameters: int, setting: Setting) -> list[Line]:
    return [line("activations", "rule of thumb", "forward and backward", activations.rule_of_thumb_activation_bytes,
                 parameters=parameters, bytes_per_parameter=2 * setting.compute)]  # fmt: skip
