"""Model states on one rank: parameters, gradients, optimizer states, master copies, whole or sharded or offloaded."""

from collections.abc import Iterator, Sequence
from math import prod

from memcalc.autograd.profile import KERNELS
from memcalc.caches import cached
from memcalc.estimates.lines import Line, LineTensor, line
from memcalc.estimates.placement import Stage, Tensors
from memcalc.estimates.training.adapters import (
    adapters,
    embeddings,
    expert_adapters,
    part_of,
    prefix,
    prompt,
    quantised,
    shared_elements,
    trained_copies,
    upcast,
    without,
)
from memcalc.estimates.training.sharding import Around, Places, Strategy, strategy_of
from memcalc.estimates.training.sharding.strategy import whole
from memcalc.formulas import model_states
from memcalc.formulas.optimizer_states import Optimizer
from memcalc.formulas.optimizers import (
    beside_tables,
    elementwise_bytes_per_parameter,
    host_bytes,
    optimizer,
    paged_bytes,
    state_bytes,
)
from memcalc.formulas.precision import BYTES, Precision, precision
from memcalc.frozen import NamedTuple
from memcalc.specs.fine_tuning import MIXED
from memcalc.specs.training import Training

ALWAYS, STEP = "always", "optimizer step"  # when lines live


class ShardGroup(NamedTuple):
    """Tensors that shard over the same ranks: the dense ones, or the routed experts."""

    name: str
    shards: int
    frozen: Tensors | None
    quantised: Tensors | None
    trained: Tensors | None
    itemsize: int = 0  # of what is trained where it differs from the setting's

    @property
    def elements(self) -> int:
        """All elements of this rank, were nothing sharded."""
        return sum(part.elements() for part in (self.frozen, self.quantised, self.trained) if part)


class StateSetting(NamedTuple):
    """What the formulas below read of a run, looked up once."""

    run: Training
    strategy: Strategy
    places: Places
    weights: int  # bytes of an element of trained parameters
    gradients: int
    master: int
    states: int
    compute: int

    @property
    def frozen(self) -> int:
        """Of what is not trained: a frozen base is kept as it is computed with, what is frozen alone as its neighbours."""
        return self.compute if self.run.adapts else self.weights


def make_setting(run: Training) -> StateSetting:
    strategy = strategy_of(run.parallelism)
    formats = precision(run.precision, fsdp=strategy.fp32_shards)
    return StateSetting(run, strategy, strategy.places(run), **_itemsizes(run, formats), compute=formats.bytes_of("compute"))


def _itemsizes(run: Training, formats: Precision) -> dict[str, int]:
    """Bytes of an element of what is trained: weights, gradients, master copy and optimizer states."""
    sizes = {part: formats.bytes_of(part) for part in ("weights", "gradients", "master", "states")}
    if not run.adapts or run.engine_row.fp32_gradients:  # Megatron's optimizer treats adapters as any parameter
        if run.engine_row.fp32_gradients and run.precision != "fp16-mixed":  # Megatron's main gradients
            sizes["gradients"] = run.bytes_of("main_grads_dtype")
        if run.grad_accum_dtype:
            sizes["gradients"] = BYTES[run.grad_accum_dtype]
        if run.precision_aware and run.parallelism.zero:  # fp32 main parameters: the 16 bits that bf16 lacks
            sizes["master"] = 2
        return sizes
    # PEFT keeps adapters in fp32 beside 16-bit frozen weights (autocast_adapter_dtype): no master copy
    each = 4 if run.fp32_adapters else sizes["weights"]
    return {"weights": each, "gradients": each, "master": 0, "states": each}


def make_groups(setting: StateSetting, stage: Stage) -> list[ShardGroup]:
    """Dense and routed tensors apart, each split into frozen, quantised and trained ones."""
    run = setting.run
    dense_shards, routed_shards = setting.strategy.ranks(run.parallelism)
    out = []
    for name, held, shards in (("dense", stage.dense, dense_shards), ("experts", stage.routed, routed_shards)):
        if not held.held:
            continue
        if not run.adapts:
            trained, frozen = _apart(held, "embeddings" in run.freeze, run.frozen_parts)
            out.append(ShardGroup(name, shards, frozen, None, trained))
            continue
        head = KERNELS[run.kernels_used].quantised_head
        low, rest = quantised(held, head) if run.method_row.quantised else (None, held)
        trained = _beside(run, stage, held) if name == "dense" else _beside_experts(run, held)
        out.append(ShardGroup(name, shards, rest, low, trained))
        if name == "dense" and run.train_also:
            out += _copies(setting, held, shards, stage.last)
    return out


def _beside(run: Training, stage: Stage, held: Tensors) -> Tensors:
    """What is trained beside these frozen weights."""
    if run.prompt:
        return prompt(held, run.prompt)
    if run.prefix:
        return prefix(stage.sequence.kinds, stage.sequence.counts, run.prefix)
    row = run.method_row
    return adapters(without(held, run.frozen_parts), run.adapter_targets, run.lora_rank, row.magnitude, row.adapter)


def _beside_experts(run: Training, held: Tensors) -> Tensors | None:
    used = run.expert_adapters_used
    return None if used == "none" else expert_adapters(held, run.adapter_targets, run.lora_rank, used == "own")


def _copies(setting: StateSetting, held: Tensors, shards: int, last: bool) -> Iterator[ShardGroup]:
    """Copies that are trained beside adapters, in the type of their originals; FSDP's mixed precision upcasts what it trains
    (accelerate, accelerator.py: "Upcasted low precision parameters")."""
    wide = setting.strategy.fp32_shards and setting.run.precision in MIXED
    for name, which, tensors in zip(COPIES, ("norms", "all"), trained_copies(held, setting.run.train_also, last), strict=True):
        if tensors:
            upcast = setting.run.upcast == "all" or setting.run.upcast == which
            yield ShardGroup(name, shards, None, None, tensors, 4 if wide or upcast else setting.compute)


COPIES = ("norm copies", "copies")


def setting_of(setting: StateSetting, group: ShardGroup) -> StateSetting:
    """A setting with the types of what a group trains. DeepSpeed keeps an fp32 copy of what is 16 bit; else the optimizer works
    on the weights as they are."""
    each = group.itemsize
    if not each:
        return setting
    zero = setting.run.parallelism.zero is not None
    return setting._replace(weights=each, gradients=each, master=4 if zero and each == 2 else 0, states=4 if zero else each)


def _apart(held: Tensors, embeddings_frozen: bool, parts: frozenset[str]) -> tuple[Tensors | None, Tensors | None]:
    """What is trained, and what is not: tensors that no gradient ever reaches, and embeddings and parts that are frozen."""
    trained, never = without(held, parts).by_training
    if idle := tuple(entry for entry in held.held if part_of(entry) in parts):
        never = Tensors((never.held if never else ()) + idle)
    if not embeddings_frozen:
        return trained, never
    tables, rest = embeddings(trained)
    return rest, Tensors(never.held + tables.held) if never and tables else never or tables


def around_layer(setting: StateSetting, groups: Sequence[ShardGroup]) -> Around:
    """What is gathered and reduced around each layer of a rank."""
    around = setting.strategy.around_layer(setting.run, most_shards(groups), setting.compute, setting.gradients)
    return around._replace(away=True) if setting.run.gradients_leave else around


def buckets(setting: StateSetting, groups: Sequence[ShardGroup], stage: Stage) -> tuple[Line, ...]:
    """The strategy's buffers that stand as long as the run does, and the engine's."""
    run = setting.run
    # DeepSpeed casts adapters with all else (engine.py)
    each = setting.compute if run.adapts and run.parallelism.zero else setting.gradients
    trained = sum(group.trained.elements() * min(group.itemsize or each, each) // each for group in groups if group.trained)
    made = setting.strategy.buckets(run, most_shards(groups), trained, each)
    if not run.main_gradients or not stage.sequence.layers:
        return made
    from memcalc.estimates.training.dummy_gradients import dummy_line

    return (*made, dummy_line(stage, run.parallelism.tp, setting.weights))


def most_shards(groups: Sequence[ShardGroup]) -> int:
    return max((group.shards for group in groups), default=1)


def state_lines(setting: StateSetting, group: ShardGroup) -> list[Line]:
    """Parameters, gradients, master weights and optimizer states of one group, as the strategy cuts them."""
    setting = setting_of(setting, group)
    cut_parameters, _, cut_states = setting.strategy.cutters
    at, out = setting.places, []
    if group.frozen:
        for name, held, each in _frozen(setting, group.frozen):
            cut = cut_parameters(held, group.shards)
            if name == IN_8_BITS:
                out.append(line("parameters", f"{group.name}/{name}", ALWAYS, model_states.block_format_bytes, at.parameters,
                                elements=held.elements("flat", group.shards), block=GROUP_8_BITS,
                                bytes_per_block=GROUP_8_BITS + 4))  # fmt: skip
                continue
            out.append(cut.line("parameters", f"{group.name}/{name}", ALWAYS, at.parameters, each))
    if group.quantised:
        out.append(_quantised_parameters(setting, group))
    if group.trained and (copies := setting.run.parallelism.hpz_partition_size):  # partition_parameters.py, ds_secondary_tensor
        elements = sum(part.elements("flat", copies) for part in (group.frozen, group.trained) if part)
        out.append(line("parameters", f"{group.name}/second copy (hpZ)", ALWAYS, model_states.zero3_partition_bytes,
                        partitioned_elements=elements, bytes_each=setting.compute))  # fmt: skip
    if group.trained:
        name = f"{group.name}/adapters" if setting.run.adapts and not group.itemsize else group.name
        cut = cut_parameters(group.trained, group.shards)
        out.append(cut.line("parameters", name, ALWAYS, at.parameters, setting.weights))
        run = setting.run
        out += gradient_lines(setting, group, deferred=run.defers_gradients)
        out += _host_copies(setting, group)
        cut = cut_states(group.trained, group.shards)
        if setting.master:
            whole = cut.line("optimizer_states", f"{group.name}/master weights", ALWAYS, at.optimizer, setting.master)
            out += _offloaded_share(whole, run.offload_fraction)
        if run.ema:
            each = 4 if run.ema == "fp32" else setting.weights
            out.append(cut.line("optimizer_states", f"{group.name}/moving average", ALWAYS, "gpu", each))
        rate = _rate(run.optimizer, setting.states, run.keeps_tables_wide)
        if run.precision_aware and run.parallelism.zero:
            rate = run.bytes_of("exp_avg_dtype") + run.bytes_of("exp_avg_sq_dtype")
        if rate is not None and rate == int(rate):
            whole = cut.line("optimizer_states", f"{group.name}/{run.optimizer}", ALWAYS, at.optimizer, int(rate))
            out += _offloaded_share(whole, run.offload_fraction)
        else:
            out += _shaped_states(setting, group)
        out += _host_states(setting, group)
    out += _reference(setting, group)
    return [entry for entry in out if entry.bytes]


def _reference(setting: StateSetting, group: ShardGroup) -> Iterator[Line]:
    """A frozen copy of the model, as it is computed with, cut as parameters are (trl/models/utils.py, prepare_deepspeed and
    prepare_fsdp; without either it is whole on each GPU)."""
    if setting.run.reference_used != "frozen" or group.name in COPIES:
        return
    cut_parameters = setting.strategy.cutters[0]
    kept = (group.frozen, group.quantised, None if setting.run.adapts else group.trained)
    held = tuple(entry for part in kept if part for entry in part.held)
    if held:
        each = setting.compute if setting.run.adapts or setting.master or setting.strategy.fp32_shards else setting.weights
        yield cut_parameters(Tensors(held), group.shards).line(
            "parameters", f"{group.name}/reference", ALWAYS, setting.places.parameters, each
        )


def gradient_lines(setting: StateSetting, group: ShardGroup, *, deferred: bool = False) -> Iterator[Line]:
    """Gradients of what is trained, and of the frozen weights of its layers where these share flat parameters. `deferred`: of
    earlier micro-batches, whole, in the format that layers compute in (FSDP's no_sync)."""
    if not group.trained or setting.run.gradients_leave:
        return
    _, shared, _ = setting.strategy.cutters
    held, cut = group.trained, whole if deferred else shared
    each = min(setting.compute, setting.gradients) if deferred else setting.gradients
    yield cut(held, group.shards).line("gradients", group.name, "backward", setting.places.gradients, each)
    layers = Tensors(tuple(entry for entry in group.frozen.held if entry.layered)) if group.frozen else None
    if setting.run.mixes_units and layers and layers.held:
        mixed = cut(layers, group.shards)
        yield mixed.line("gradients", f"{group.name}/of frozen weights", "backward", setting.places.gradients, setting.compute)


def _frozen(setting: StateSetting, held: Tensors) -> Iterator[tuple[str, Tensors, int]]:
    """What is not trained and not quantised, with the bytes of an element; what was upcast to fp32 apart."""
    wide, rest = upcast(held, setting.run.upcast)
    if wide:
        yield "upcast", wide, 4
    if rest and setting.run.parallelism.quantized_frozen:
        large = tuple(entry for entry in rest.held if prod(entry.shape) > NOT_QUANTISED)
        rest = Tensors(tuple(entry for entry in rest.held if entry not in large))
        yield IN_8_BITS, Tensors(large), 1
    if rest and rest.held:
        yield "frozen", rest, setting.frozen


IN_8_BITS = "frozen in 8 bits"
# deepspeed/runtime/engine.py, quantize_nontrainable_params; zero/partition_parameters.py, CUDAQuantizer: values of a group,
# which has an fp32 scale
NOT_QUANTISED, GROUP_8_BITS = 500_000, 8_000


def _offloaded_share(whole: Line, fraction: float) -> Iterator[Line]:
    """A line of states, and the part of them that stays on the GPU (megatron/core/optimizer/cpu_offloading/hybrid_optimizer.py,
    offload_fraction; DeepSpeed's offload_optimizer.ratio)."""
    if fraction == 1 or whole.place == "gpu":
        yield whole
        return
    for suffix, place, formula in (
        ("/offloaded", whole.place, model_states.offloaded_bytes), ("", "gpu", model_states.staying_bytes),
    ):  # fmt: skip
        yield line("optimizer_states", f"{whole.name}{suffix}", ALWAYS, formula, place, whole=whole.bytes, fraction=fraction)


def buffer_lines(setting: StateSetting, stage: Stage) -> Iterator[Line]:
    """Constants beside the parameters, where the library's own modules run (engines that PyTorch traces)."""
    run = setting.run
    if run.method_row.shared:
        elements = shared_elements(without(stage.dense, run.frozen_parts), run.adapter_targets, run.lora_rank)
        yield line("parameters", "shared projections", ALWAYS, model_states.whole_bytes, elements=elements, bytes_each=4)
    if not setting.run.engine_row.traced:
        return
    sizes = [(buffer.elements * copies, buffer.each or setting.frozen) for buffer, copies in stage.buffers]
    for bytes_each in sorted({size for _, size in sizes}):
        elements = sum(count for count, size in sizes if size == bytes_each)
        yield line("parameters", "buffers", ALWAYS, model_states.whole_bytes, elements=elements, bytes_each=bytes_each)


def _quantised_parameters(setting: StateSetting, group: ShardGroup) -> Line:
    assert group.quantised
    base = setting.run.base
    elements = group.quantised.elements("flat", group.shards if setting.strategy.cuts_parameters else 1)
    kind = "nf4" if base.name.startswith("nf4") else "quantised"
    return line("parameters", f"{group.name}/{kind}", ALWAYS, model_states.block_format_bytes, setting.places.parameters,
                elements=elements, block=base.block, bytes_per_block=base.bytes_per_block)  # fmt: skip


def _shaped_states(setting: StateSetting, group: ShardGroup) -> Iterator[Line]:
    """Optimizer states that depend on the shapes of tensors; paged ones are a line of their own, in host memory."""
    assert group.trained
    at = setting.places.optimizer
    for paged, suffix, place in ((False, "", at), (True, "/paged", "host" if at == "gpu" else at)):
        row = _row(setting.run.optimizer, setting.run.keeps_tables_wide)
        sizes = _state_sizes(group.trained, setting.strategy, group.shards, row, setting.states, paged)
        made = line("optimizer_states", f"{group.name}/{setting.run.optimizer}{suffix}", ALWAYS,
                    model_states.shaped_state_bytes, place, state_bytes=sum(part.bytes * part.copies for part in sizes),
                    tensors=sum(part.copies for part in sizes))  # fmt: skip
        yield made._replace(parts=sizes)


def _row(name: str, wide_tables: bool) -> Optimizer:
    return beside_tables(optimizer(name)) if wide_tables else optimizer(name)


@cached(1024)
def _rate(name: str, bytes_each: int, wide_tables: bool) -> float | None:
    """Bytes per parameter where the tensors' sizes do not matter: they decide what is paged."""
    row = _row(name, wide_tables)
    return None if row.paged else elementwise_bytes_per_parameter(row, bytes_each)


@cached(4096)
def _state_sizes(
    held: Tensors, strategy: Strategy, shards: int, row: Optimizer, bytes_each: int, paged: bool
) -> tuple[LineTensor, ...]:
    """The states of each tensor, as a rank's optimizer sees it: those in paged memory, or all others."""
    out = []
    for shape, role, copies in strategy.state_shapes(held, shards):
        size = paged_bytes(row, shape, parameter_bytes=bytes_each, role=role)
        if not paged:
            size = state_bytes(row, shape, parameter_bytes=bytes_each, role=role) - size
        out.append(LineTensor(f"{role} {list(shape)}", (), 0, size, copies))
    return tuple(part for part in out if part.bytes)


def _host_copies(setting: StateSetting, group: ShardGroup) -> Iterator[Line]:
    """What one GPU's optimizer on the host works on: pinned copies of parameters and gradients (torchao's
    optim/cpu_offload.py, CPUOffloadOptimizer)."""
    if setting.places.optimizer == "gpu" or setting.strategy.cuts_optimizer or not group.trained:
        return
    cut = whole(group.trained, 1)
    if not setting.master:  # else the master weights are that copy
        yield cut.line("parameters", f"{group.name}/copy on the host", ALWAYS, "host", setting.weights)
    yield cut.line("gradients", f"{group.name}/copy on the host", ALWAYS, "host", setting.gradients)


def _host_states(setting: StateSetting, group: ShardGroup) -> Iterator[Line]:
    """States that the library itself keeps in host memory."""
    assert group.trained
    if sizes := _host_sizes(group.trained, setting.strategy, group.shards, setting.run.optimizer, setting.states):
        made = line("optimizer_states", f"{group.name}/{setting.run.optimizer}/on the host", ALWAYS,
                    model_states.shaped_state_bytes, "host", state_bytes=sum(part.bytes * part.copies for part in sizes),
                    tensors=sum(part.copies for part in sizes))  # fmt: skip
        yield made._replace(parts=sizes)


@cached(4096)
def _host_sizes(held: Tensors, strategy: Strategy, shards: int, name: str, bytes_each: int) -> tuple[LineTensor, ...]:
    row = optimizer(name)
    return tuple(
        LineTensor(f"{role} {list(shape)}", (), 0, size, copies)
        for shape, role, copies in strategy.state_shapes(held, shards)
        if (size := host_bytes(row, shape, parameter_bytes=bytes_each, role=role))
    )
