"""Memory per GPU of a training step: model states exactly, activations from the ledger, the peak from the timeline."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.profile import KERNELS
from memcalc.errors import Unsupported
from memcalc.estimates.activations import (
    Evaluated,
    activation_lines,
    evaluate,
    rule_of_thumb,
    setup_of,
    shape,
    textbook,
)
from memcalc.estimates.adapters import check_targets
from memcalc.estimates.choices import check_choices, check_countable, choice_sentences
from memcalc.estimates.communication import communication_lines, optimizer_moment
from memcalc.estimates.context_parallel import exchange_line
from memcalc.estimates.lines import COMPONENTS, Line, totals
from memcalc.estimates.overhead import overhead_lines
from memcalc.estimates.placement import Held, Stage, all_stages, main_parts, stages
from memcalc.estimates.profiles import of_batch_and_length
from memcalc.estimates.states import Group, Setting, buffer_lines, make_groups, make_setting, state_lines
from memcalc.estimates.timeline import Forms, Moment, Setup, forms
from memcalc.formulas.overhead import overhead, reserved_bytes
from memcalc.formulas.precision import precision
from memcalc.formulas.residuals import BEYOND, MIN_ROWS, Range, bound_bytes, measured_range
from memcalc.specs.rules import SpecError
from memcalc.specs.training import Training
from memcalc.units import format_bytes


class Rank(NamedTuple):
    """One pipeline stage's rank: all that depends on neither batch nor length, but for facts of its profile."""

    stage: Stage
    setting: Setting
    groups: tuple[Group, ...]
    lines: tuple[Line, ...]  # states and communication
    sums: dict[str, dict[str, int]]
    optimizer: Moment
    setup: Setup | None = None  # None: a bare parameter count
    forms: Forms | None = None  # None: a block cannot play, so the textbook stands in
    approximation: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class TrainingEstimate:
    """What one step needs on the heaviest rank; bytes."""

    run: Training
    architecture: Architecture | None
    rank: Rank
    evaluated: Evaluated
    generation: str = ""  # of the GPU (sm_90); decides only the overhead

    def __repr__(self) -> str:
        return f"<training: {format_bytes(self.peak)} at the peak, {format_bytes(self.device)} on the device>"

    @property
    def stage(self) -> int:
        """Pipeline stage of the heaviest rank."""
        return self.rank.stage.index

    @cached_property
    def moments(self) -> tuple[Moment, ...]:
        """What is alive beside the steady states at each moment, the optimizer's step last."""
        return (*self.evaluated.moments(), self.optimizer_step)

    @property
    def optimizer_step(self) -> Moment:
        """The optimizer's step, with what PEFT's input leaf still holds then."""
        moment = self.rank.optimizer
        return moment._replace(activations=moment.activations + self.evaluated.leaf) if self.evaluated.leaf else moment

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        return (
            *self.rank.lines,
            *((self.exchange,) if self.exchange else ()),
            *self._overhead,
            *activation_lines(self.run, self.architecture, self.rank.stage, self.rank.setup, self.evaluated),
        )

    @cached_property
    def components(self) -> dict[str, int]:
        beside = sum(entry.bytes for entry in self._overhead)
        found = self.rank.sums["gpu"] | {"activations": self.evaluated.saved, "overhead": beside}
        if self.exchange:
            found["communication"] += self.exchange.bytes
        return found

    @cached_property
    def exchange(self) -> Line | None:
        """The buffers of context-parallel attention."""
        p, setup = self.run.parallelism, self.rank.setup
        if p.cp == 1 or setup is None or self.rank.forms is None:
            return None
        return exchange_line(self.run, setup, self.run.micro_batch * (self.run.seq_len // p.cp))

    @property
    def steady(self) -> int:
        return self.rank.sums["gpu"]["parameters"] + self.rank.sums["gpu"]["optimizer_states"]

    @property
    def after_forward(self) -> int:
        return self.steady + self.evaluated.after_forward.bytes

    @property
    def peak_forward_backward(self) -> int:
        return self.steady + max(a + g + c for _, a, g, c in self.evaluated.candidates)

    @property
    def peak_optimizer_step(self) -> int:
        return self.steady + self.optimizer_step.bytes

    @property
    def highest(self) -> Moment:
        """The moment of the peak, with what is alive then."""
        return max((*self.evaluated.candidates, self.optimizer_step), key=lambda moment: moment.bytes)

    @property
    def peak(self) -> int:
        return max(self.peak_forward_backward, self.peak_optimizer_step)

    @property
    def reserved(self) -> int:
        """What the caching allocator holds at the peak, the workspace of matrix products included."""
        return reserved_bytes(self.peak, overhead(self.generation).workspace)

    @property
    def device(self) -> int:
        """What nvidia-smi shows: reserved, context and communicators."""
        beside = overhead(self.generation)
        several = self.run.parallelism.gpus > 1
        return self.reserved + beside.context + several * beside.communicator

    @property
    def _overhead(self) -> tuple[Line, ...]:
        return overhead_lines(self.generation, self.run.parallelism.gpus > 1)

    @property
    def measured_range(self) -> Range:
        """Where measured runs of this engine and method lie, as shares of the peak."""
        return measured_range(self.run.engine_row.name, self.run.method)

    @property
    def low(self) -> int:
        return bound_bytes(self.peak, self.measured_range.low)

    @property
    def high(self) -> int:
        return bound_bytes(self.peak, self.measured_range.high)

    def beyond(self, kind: str) -> tuple[int, int]:
        """The range of "reserved" or "device" that measured runs support: fragmentation, kernels, further communicators."""
        predicted, rows = getattr(self, kind), BEYOND[kind]
        return bound_bytes(predicted, max(rows.low, 0.0)), bound_bytes(predicted, rows.high)

    @property
    def host_per_node(self) -> int:
        return self._ranks_on_node * (sum(self.rank.sums["host"].values()) + self.evaluated.host)

    @property
    def nvme_per_node(self) -> int:
        return self._ranks_on_node * sum(self.rank.sums["nvme"].values())

    @property
    def trainable(self) -> int:
        return sum(group.trained.elements() for group in self.rank.groups if group.trained)

    @property
    def _ranks_on_node(self) -> int:
        return min(self.run.parallelism.gpus, self.run.parallelism.gpus_per_node)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What was taken for granted, one sentence each."""
        run = self.run
        out = [f"{run.precision}: {precision(run.precision, fsdp=run.fsdp).note}"]
        if self.architecture is None:
            out.append("only a parameter count is known: activations are 2 × compute bytes per parameter, a rule of thumb")
        else:
            out.append(f"engine {run.engine_row.name}: {run.engine_row.note}")
            out.append(f"kernels {run.kernels_used}: {KERNELS[run.kernels_used].note}")
            out.append(f"loss {run.loss_used}, optimizer {run.optimizer_impl_used}, attention {run.attention}")
        if self.rank.approximation:
            out.append(self.rank.approximation)
        if self.architecture:
            out += choice_sentences(self.architecture, run)
        if run.parallelism.zero is not None:
            out.append("ZeRO buffers: DeepSpeed's default bucket sizes")
        if run.method == "qlora":
            double = ", doubly quantised" if run.base_format == "nf4-dq" else ""
            out.append(f"QLoRA: matrices in the layers are NF4{double}; embeddings, norms and head stay 16 bit")
        if run.adapts and run.engine_row.peft:
            out.append("adapters, their gradients and states are fp32, as PEFT keeps them")
        elif run.adapts:
            out.append(f"adapters, their gradients and states have the precision's own format, as in {run.engine_row.name}")
        out.append(range_sentence(self.measured_range))
        out.append(f"reserved: peak and workspace in 2 MiB segments; {_beyond('reserved')}, mostly fragmentation")
        out.append(f"device: reserved, context and communicator; {_beyond('device')}")
        return tuple(out)


def _beyond(kind: str) -> str:
    rows = BEYOND[kind]
    return f"measured runs hold {rows.low:.0%} to {rows.high:.0%} more (four fifths of {rows.rows})"


def range_sentence(found: Range) -> str:
    """What the range rests on."""
    rows, engine, method = found.rows.rows, found.rows.engine, found.rows.method
    whose = f"of all engines (fewer than {MIN_ROWS} of this one and method)" if found.pooled else f"of {engine}, {method}"
    return f"low to high: {found.low:+.1%} to {found.high:+.1%} of the peak, four fifths of {rows} measured runs {whose}"


def estimate(architecture: Architecture, run: Training, generation: str = "") -> TrainingEstimate:
    """The heaviest rank's memory for one architecture under one training setting, on a GPU of a generation (sm_90).

    Raises SpecError where setting and model contradict each other (tp does not divide the heads, …).
    """
    best: TrainingEstimate | None = None
    most = -1
    for rank in _ranks(_Shared(architecture, run)):
        found = TrainingEstimate(run, architecture, rank, _evaluate(architecture, run, rank), generation)
        if (peak := found.peak) > most:
            best, most = found, peak
    assert best is not None  # there is always a stage
    return best


def every_stage(architecture: Architecture, run: Training) -> list[TrainingEstimate]:
    """One estimate for each pipeline stage, first to last."""
    out = []
    for stage in all_stages(architecture, run.parallelism.tp, run.parallelism.pp, run.parallelism.ep, run.parallelism.etp):
        rank = _played(architecture, make_setting(run), stage)
        out.append(TrainingEstimate(run, architecture, rank, _evaluate(architecture, run, rank)))
    return out


def estimate_parameters(parameters: int, run: Training, generation: str = "") -> TrainingEstimate:
    """The same from nothing but a parameter count: one flat tensor, activations by the rule of thumb."""
    p = run.parallelism
    if p.tp * p.pp * p.ep * p.etp > 1:
        raise SpecError("needs an architecture to place; a parameter count says nothing about layers", "tp", "pp", "ep")
    if run.adapts:
        raise SpecError("needs an architecture: adapters stand on matrices that a parameter count does not know", "method")
    check_countable(run)
    stage = Stage.of(0, (Held("parameters", "mlp", (parameters,), 1, False, True),), True)
    rank = _rank(make_setting(run), stage)
    found = rule_of_thumb(parameters, rank.setting, rank.sums["gpu"])
    return TrainingEstimate(run, None, rank, found, generation)


class _Shared:
    """An architecture and all of a run but its batch and length, of which only what its profile knows: runs that share it
    share their ranks."""

    __slots__ = ("_key", "architecture", "run")

    def __init__(self, architecture: Architecture, run: Training) -> None:
        self.architecture, self.run = architecture, run
        in_flight = min(run.grad_accum, run.parallelism.pp) if run.parallelism.pipeline_schedule != "gpipe" else run.grad_accum
        self._key = (
            run.parallelism, run.precision, run.optimizer, run.optimizer_impl, run.engine, run.kernels, run.loss,
            run.attention, run.recompute, run.recompute_every, run.recompute_layers, run.freeze, run.method, run.lora_rank,
            run.lora_targets, run.lora_dropout > 0, run.base_format, run.offload, run.offload_to,
            run.expert_imbalance, run.capacity_factor, run.pad_to_capacity,
            run.grad_accum > 1, in_flight, *of_batch_and_length(architecture, run).values(),
        )  # fmt: skip

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shared) and self.architecture is other.architecture and self._key == other._key


@lru_cache(maxsize=2048)
def _ranks(shared: _Shared) -> tuple[Rank, ...]:
    """One rank for every distinct pipeline stage."""
    architecture, run = shared.architecture, shared.run
    p, sizes = run.parallelism, shape(architecture)
    p.check_model(heads=sizes.heads, layers=sizes.layers, experts=sizes.experts)
    if run.adapts:
        check_targets(architecture, run.lora_targets)
    setting = make_setting(run)
    found = stages(architecture, p.tp, p.pp, p.ep, p.etp)
    check_choices(architecture, run, max(stage.layers for stage in found))
    return tuple(_played(architecture, setting, stage) for stage in found)


def _played(architecture: Architecture, setting: Setting, stage: Stage) -> Rank:
    rank = _rank(setting, stage)
    setup = setup_of(architecture, setting, stage, rank.groups)
    try:
        if setting.run.parallelism.pp > 1 and len(main_parts(architecture)) > 1:
            raise Unsupported("training with an encoder and a decoder on different pipeline stages is not modelled")
        return rank._replace(setup=setup, forms=forms(setup))
    except Unsupported as error:
        reason = f"{error}: activations are the textbook formula of Korthikanti et al. 2022, an approximation"
        return rank._replace(setup=setup, approximation=reason)


def _rank(setting: Setting, stage: Stage) -> Rank:
    groups = make_groups(setting.run, stage)
    lines = [entry for group in groups for entry in state_lines(setting, group)]
    lines += (*buffer_lines(setting, stage), *communication_lines(setting, stage, groups))
    sums = totals(lines, COMPONENTS)
    moment = optimizer_moment(setting, groups, sums["gpu"]["gradients"])
    return Rank(stage, setting, tuple(groups), tuple(lines), sums, moment)


def _evaluate(architecture: Architecture, run: Training, rank: Rank) -> Evaluated:
    gradients = rank.sums["gpu"]["gradients"]
    assert rank.setup is not None
    if rank.forms is None:
        return textbook(architecture, run, rank.setting, rank.stage, rank.setup, gradients)
    return evaluate(architecture, run, rank.setup, rank.forms, gradients)
