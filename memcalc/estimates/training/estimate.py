"""Memory per GPU of a training step: model states exactly, activations from the ledger, the peak from the timeline."""

from functools import cached_property
from typing import TYPE_CHECKING

from memcalc.blocks.architecture import Architecture
from memcalc.errors import MemcalcError
from memcalc.estimates.lines import Line
from memcalc.estimates.overhead import overhead_lines
from memcalc.estimates.placement import Held, Stage, all_stages, split_of
from memcalc.estimates.training.activations import Evaluated, rule_of_thumb
from memcalc.estimates.training.adapters import absent_targets
from memcalc.estimates.training.assumptions import (
    adapter_sentences,
    beyond_sentence,
    choice_sentences,
    range_sentence,
    run_sentences,
    state_sentences,
)
from memcalc.estimates.training.choices import check_countable
from memcalc.estimates.training.lifecycle import Outside, save, start
from memcalc.estimates.training.moments import Moment
from memcalc.estimates.training.rank_key import RankKey
from memcalc.estimates.training.ranks import Rank, distinct_ranks, evaluated, rank_of, rank_of_count
from memcalc.estimates.training.states import make_setting
from memcalc.formulas.optimizers import PAGED_MINIMUM, optimizer
from memcalc.formulas.overhead import overhead as overhead_of
from memcalc.formulas.overhead import reserved_bytes
from memcalc.formulas.residuals import Range, beyond_range, bound_bytes, measured_range
from memcalc.formulas.verdict import Needed, needed_bytes
from memcalc.frozen import NamedTuple, dataclass
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training
from memcalc.units import format_bytes

if TYPE_CHECKING:
    from memcalc.allocator.caching import OutOfMemory
    from memcalc.estimates.training.replay import Replayed

SHALLOW = 6  # layers that are soon replayed
PAGED = (
    f"paged states of tensors of {PAGED_MINIMUM:,} values or more live in CUDA's unified memory, counted as host memory: pages "
    "stay on the GPU while it has room, where nvidia-smi shows them and PyTorch's count does not"
)


class Alive(NamedTuple):
    """A moment and all lines that are alive then, steady states first; they add up to what is allocated."""

    moment: Moment
    lines: tuple[Line, ...]

    @property
    def allocated(self) -> int:
        return sum(entry.bytes for entry in self.lines)


@dataclass(frozen=True, eq=False, repr=False)
class TrainingEstimate:
    """What one step needs on the heaviest rank; bytes."""

    run: Training
    architecture: Architecture | None
    rank: Rank
    evaluated: Evaluated
    generation: str = ""  # of the GPU (sm_90); decides only the overhead
    memory: int | None = None  # bytes that a process can get on the GPU: where they run out, unused segments are given back

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
        moment, left = self.rank.optimizer, self.evaluated.left_over
        return moment._replace(activations=moment.activations + left) if left else moment

    @property
    def shown(self) -> tuple[Moment, ...]:
        """Each moment once, where it is highest."""
        return tuple(self.moments[which] for which in self._highest_of_each)

    @property
    def alive(self) -> tuple[Alive, ...]:
        """The same with their lines."""
        return tuple(Alive(self.moments[which], self._alive(which)) for which in self._highest_of_each)

    def itemised(self, shown: int) -> Alive:
        """One of the moments that are shown, down to tensors."""
        which = self._highest_of_each[shown]
        return Alive(self.moments[which], self._alive(which, parts=True))

    @cached_property
    def _highest_of_each(self) -> tuple[int, ...]:
        highest: dict[str, int] = {}
        for which, moment in enumerate(self.moments):
            if moment.name not in highest or moment.bytes > self.moments[highest[moment.name]].bytes:
                highest[moment.name] = which
        return tuple(highest.values())

    @cached_property
    def at_peak(self) -> Alive:
        """What the peak consists of, down to tensors."""
        highest = self.highest
        which = next(which for which, moment in enumerate(self.moments) if moment == highest)
        return Alive(highest, self._alive(which, parts=True))

    def _alive(self, which: int, *, parts: bool = False) -> tuple[Line, ...]:
        if which == len(self.moments) - 1:
            return (*self.rank.steady, *self.evaluated.lines_left_over(), *self.rank.step)
        return (*self.rank.steady, *self.evaluated.lines(which, parts=parts))

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """Everything that this run ever holds, each at its largest: states, buffers, and what the forward leaves."""
        saved = (entry for entry in self.evaluated.lines(0, parts=True) if entry.component == "activations")
        return (*self.rank.lines, *((self.exchange,) if self.exchange else ()), *self.overhead, *saved)

    @cached_property
    def stages(self) -> tuple["TrainingEstimate", ...]:
        """The same run on each pipeline stage, first to last; none where there are no stages."""
        if self.run.parallelism.pp == 1 or self.architecture is None:
            return ()
        return tuple(every_stage(self.architecture, self.run, self.generation))

    @cached_property
    def components(self) -> dict[str, int]:
        saved = self.evaluated.after_forward.activations
        found = self.rank.sums["gpu"] | {"activations": saved, "overhead": self._beside}
        if self.exchange:
            found["communication"] += self.exchange.bytes
        return found

    @cached_property
    def exchange(self) -> Line | None:
        """The buffers of context-parallel attention."""
        p, setup = self.run.parallelism, self.rank.setup
        if p.cp == 1 or setup is None or self.rank.forms is None:
            return None
        from memcalc.estimates.training.context_parallel import exchange_line

        return exchange_line(self.run, setup, self.run.tokens // p.cp)

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

    @cached_property
    def replayed(self) -> "Replayed | None":
        """The step on PyTorch's caching allocator, without a limit where it runs out of memory; None where the order of its
        allocations is not known."""
        return self._replay(None) if isinstance(self._within, MemcalcError) else self._within

    @property
    def runs_out(self) -> bool:
        """Whether the replay does not get through with what the driver can give. Costs that replay, and no other."""
        return isinstance(self._within, MemcalcError)

    @cached_property
    def _within(self) -> "Replayed | OutOfMemory | None":
        from memcalc.allocator.caching import OutOfMemory

        try:
            return self._replay(self._given)
        except OutOfMemory as error:
            return error

    def _replay(self, limit: int | None, *, glance: bool = False) -> "Replayed | None":
        from memcalc.estimates.training.replay import replayed

        return replayed(self.architecture, self.run, self.rank, self.evaluated, limit, self.workspace, self.peak, glance=glance)

    @cached_property
    def start(self) -> tuple[Outside, ...]:
        """Loading and what comes before the first step; apart from the step's peak."""
        return start(self.architecture, self.run, self.rank) if self.architecture else ()

    @cached_property
    def save(self) -> tuple[Outside, ...]:
        """Saving between steps; apart from the step's peak."""
        return save(self.architecture, self.run, self.rank) if self.architecture else ()

    def outside(self, moment: Outside) -> int:
        """What the device holds at a moment outside the step: what is allocated, context, communicator and workspace."""
        return moment.allocated + self._beside

    @property
    def _given(self) -> int | None:
        """What the driver can give to the allocator."""
        return self.memory - self._beside + self.workspace if self.memory else None

    @property
    def glanced_device(self) -> int:
        """About what nvidia-smi shows, from a replay of a few layers."""
        if self.rank.stage.layers <= SHALLOW:
            return (self.memory or 0) + 1 if self.runs_out else self.device
        return self._held(self._replay(None, glance=True)) - self.workspace + self._beside

    @property
    def reserved(self) -> int:
        """What the caching allocator holds, the workspace of matrix products included."""
        return self._held(self.replayed)

    def _held(self, replayed: "Replayed | None") -> int:
        """The same as a replay says; without one nothing is lost to fragmentation."""
        if replayed is None:
            return self.floor("reserved")
        found = reserved_bytes(self.peak, self.workspace, replayed.unused)
        if self._given and replayed.reserved <= self._given:  # it fits: unused segments are given back first
            return max(min(found, self._given), self.floor("reserved"))
        return found

    def floor(self, kind: str) -> int:
        """What "reserved" or "device" is at least, if nothing is lost to fragmentation. Costs no replay."""
        least = reserved_bytes(self.peak, self.workspace)
        return least if kind == "reserved" else least - self.workspace + self._beside

    @property
    def workspace(self) -> int:
        """Of matrix products, from PyTorch's allocator."""
        return overhead_of(self.generation).workspace

    @property
    def device(self) -> int:
        """What nvidia-smi shows: reserved, context and communicators."""
        return self.reserved - self.workspace + self._beside

    @property
    def overhead(self) -> tuple[Line, ...]:
        """What is on the device beside the peak: workspace, context, communicator."""
        return overhead_lines(self.generation, self.run.parallelism.gpus > 1)

    @property
    def _reserved_is(self) -> str:
        if self.replayed is None:
            return "peak and workspace in 2 MiB segments, without fragmentation (the order of allocations is not known)"
        how = "expandable segments" if self.run.allocator_settings.expandable_segments else "its default segments"
        return f"the step replayed on PyTorch's caching allocator with {how}"

    @property
    def _beside(self) -> int:
        return sum(entry.bytes for entry in self.overhead)

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

    @property
    def beyond_range(self) -> Range:
        """Where reserved memory and the device of measured runs of this sort lie, as shares of the prediction."""
        return beyond_range(adapts=self.run.adapts, replayed=self.replayed is not None)

    def beyond(self, kind: str) -> tuple[int, int]:
        """The range of "reserved" or "device" that measured runs support; it holds the point."""
        found = needed_bytes(getattr(self, kind), self.beyond_range.low, self.beyond_range.high)
        return found.low, found.high

    @property
    def needed(self) -> Needed:
        """What the step needs on a GPU, and the range in which measured runs end: what the verdict compares with the limit."""
        return Needed(self.device, *self.beyond("device"))

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
    def _pages(self) -> bool:
        """Whether optimizer states are in unified memory: none are where they are offloaded, or where all tensors are small."""
        paged = optimizer(self.run.optimizer).paged and self.rank.setting.places.optimizer == "gpu"
        return paged and self.rank.sums["host"]["optimizer_states"] > 0

    @property
    def _ranks_on_node(self) -> int:
        return min(self.run.parallelism.gpus, self.run.parallelism.gpus_per_node)

    @property
    def _absent_targets(self) -> tuple[str, ...]:
        run = self.run
        if self.architecture is None or "lora_targets" not in run.model_fields_set:
            return ()
        return absent_targets(self.architecture, run.lora_targets, run.expert_adapters_used != "none")

    @cached_property
    def assumptions(self) -> tuple[str, ...]:
        """What was taken for granted, one sentence each."""
        out = [*run_sentences(self.run, counted=self.architecture is None)]
        if self.rank.approximation:
            out.append(self.rank.approximation)
        if self.architecture:
            out += choice_sentences(self.architecture, self.run)
        out += state_sentences(self.run)
        if self._pages:
            out.append(PAGED)
        out += adapter_sentences(self.run, self._absent_targets)
        out.append(range_sentence(self.measured_range))
        out.append(
            f"reserved: {self._reserved_is}; device: reserved, context and communicator; {beyond_sentence(self.beyond_range)}"
        )
        return tuple(out)


def estimate(architecture: Architecture, run: Training, generation: str = "", memory: int | None = None) -> TrainingEstimate:
    """The heaviest rank's memory for one architecture under one training setting, on a GPU of a generation (sm_90) of which
    a process can get so many bytes.

    Raises SpecError where setting and model contradict each other (tp does not divide the heads, …).
    """
    if run.engine_row.unties:
        from memcalc.blocks.untying import untied

        architecture = untied(architecture)
    best: TrainingEstimate | None = None
    most = -1
    for rank in distinct_ranks(RankKey(architecture, run)):
        found = TrainingEstimate(run, architecture, rank, evaluated(architecture, run, rank), generation, memory)
        if (peak := found.peak) > most:
            best, most = found, peak
    assert best is not None  # there is always a stage
    return best


def every_stage(architecture: Architecture, run: Training, generation: str = "") -> list[TrainingEstimate]:
    """One estimate for each pipeline stage, first to last."""
    out = []
    p = run.parallelism
    for stage in all_stages(architecture, p.tp, p.pp, p.ep, p.etp, split_of(architecture, p)):
        rank = rank_of(architecture, make_setting(run), stage)
        out.append(TrainingEstimate(run, architecture, rank, evaluated(architecture, run, rank), generation))
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
    rank = rank_of_count(make_setting(run), stage)
    buffers = tuple(entry for entry in rank.lines if entry.component == "communication")
    found = rule_of_thumb(parameters, rank.setting, rank.gradients, buffers)
    return TrainingEstimate(run, None, rank, found, generation)
