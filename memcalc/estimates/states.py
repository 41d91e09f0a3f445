"""Model states on one rank: parameters, gradients, optimizer states, master copies, whole or sharded or offloaded."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from memcalc.dtypes import number_format
from memcalc.estimates.adapters import adapters, embeddings, quantised
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage, Tensors
from memcalc.formulas import model_states
from memcalc.formulas.engines import DEEPSPEED
from memcalc.formulas.formula import ceil_div
from memcalc.formulas.optimizers import elementwise_bytes_per_parameter, optimizer, state_bytes
from memcalc.formulas.precision import Precision, precision
from memcalc.specs.training import Training


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


def make_setting(run: Training) -> Setting:
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
    if not run.adapts:
        sizes = (formats.bytes_of("weights"), formats.bytes_of("gradients"), formats.bytes_of("master"),
                 formats.bytes_of("states"))  # fmt: skip
        if run.engine_row.fp32_gradients and formats.master:  # Megatron accumulates into fp32 main gradients
            sizes = (sizes[0], 4, *sizes[2:])
    elif not run.engine_row.peft:
        each = formats.bytes_of("weights")
        sizes = (each, each, 0, each)
    else:  # PEFT keeps adapters in fp32 beside 16-bit frozen weights (autocast_adapter_dtype): no master copy
        sizes = (4, 4, 0, 4)
    return Setting(run, formats, *sizes, formats.bytes_of("compute"), zero, fsdp, parameters_at, gradients_at, optimizer_at)


def make_groups(run: Training, stage: Stage) -> list[Group]:
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
        if not run.adapts:
            trained, frozen = _apart(held, "embeddings" in run.freeze)
            out.append(Group(name, shards, frozen, None, trained))
            continue
        low, rest = quantised(held) if run.method == "qlora" else (None, held)
        trained = adapters(held, run.lora_targets, run.lora_rank, run.method == "dora") if name == "dense" else None
        out.append(Group(name, shards, rest, low, trained))
    return out


def _apart(held: Tensors, embeddings_frozen: bool) -> tuple[Tensors | None, Tensors | None]:
    """What is trained, and what is not: tensors that no gradient ever reaches, and embeddings where they are frozen."""
    trained, never = held.by_training
    if not embeddings_frozen:
        return trained, never
    tables, rest = embeddings(trained)
    return rest, Tensors(never.held + tables.held) if never and tables else never or tables


def state_lines(setting: Setting, group: Group) -> list[Line]:
    at = setting.parameters_at
    out = []
    if group.frozen:  # a frozen base is kept as it is computed with; what is frozen alone, as its trained neighbours
        each = setting.compute if setting.run.adapts else setting.weights
        out.append(_parameters(setting, f"{group.name}/frozen", group, group.frozen, each, at))
    if group.quantised:
        out.append(_quantised_parameters(setting, group, at))
    if group.trained:
        name = group.name if not setting.run.adapts else f"{group.name}/adapters"
        out.append(_parameters(setting, name, group, group.trained, setting.weights, at))
        out.append(_gradients(setting, group))
        if setting.master:
            out.append(_optimizer_part(setting, group, "master weights", setting.master))
        out.append(_optimizer_states(setting, group))
    return [entry for entry in out if entry.bytes]


def buffer_lines(setting: Setting, stage: Stage) -> Iterator[Line]:
    """Constants beside the parameters, where the library's own modules run (engines that PyTorch traces)."""
    if not setting.run.engine_row.traced:
        return
    each = setting.compute if setting.run.adapts else setting.weights
    sizes = [(buffer.elements * copies, buffer.each or each) for buffer, copies in stage.buffers]
    for bytes_each in sorted({size for _, size in sizes}):
        elements = sum(count for count, size in sizes if size == bytes_each)
        yield line("parameters", "buffers", "always", model_states.whole_bytes, elements=elements, bytes_each=bytes_each)


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
    low = number_format(setting.run.base_format)
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
