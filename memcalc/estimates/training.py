"""Memory per GPU of one training step: model states exactly, activations from the ledger, the peak from the timeline."""

from typing import NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.profile import KERNELS
from memcalc.errors import Unsupported
from memcalc.estimates.activations import play_step, rule_of_thumb_activations, shape, textbook_step
from memcalc.estimates.adapters import check_targets
from memcalc.estimates.communication import communication_lines, optimizer_moment
from memcalc.estimates.lines import COMPONENTS, Line, line, totals
from memcalc.estimates.placement import Held, Stage, stages
from memcalc.estimates.states import Group, Setting, make_groups, make_setting, state_lines
from memcalc.estimates.timeline import Moment
from memcalc.formulas import model_states
from memcalc.formulas.engines import ALLOCATOR_SEGMENT, COMMUNICATOR_BYTES, CONTEXT_BYTES
from memcalc.formulas.formula import ceil_div
from memcalc.formulas.precision import precision
from memcalc.specs.rules import SpecError
from memcalc.specs.training import Training


class TrainingEstimate(NamedTuple):
    """What one step needs on the heaviest rank; bytes."""

    lines: tuple[Line, ...]
    stage: int  # pipeline stage of the heaviest rank
    components: dict[str, int]
    steady: int
    moments: tuple[Moment, ...]  # beside the steady states
    host_per_node: int
    nvme_per_node: int
    trainable: int
    run: Training
    approximation: str = ""  # why activations are not from the ledger

    @property
    def after_forward(self) -> int:
        return self.steady + self.moments[0].bytes

    @property
    def peak_forward_backward(self) -> int:
        return self.steady + max(moment.bytes for moment in self.moments[:-1])

    @property
    def peak_optimizer_step(self) -> int:
        return self.steady + self.moments[-1].bytes

    @property
    def highest(self) -> Moment:
        """The moment of the peak, with what is alive then."""
        return max(self.moments, key=lambda moment: moment.bytes)

    @property
    def peak(self) -> int:
        return self.steady + self.highest.bytes

    @property
    def reserved(self) -> int:
        return ceil_div(self.peak, ALLOCATOR_SEGMENT) * ALLOCATOR_SEGMENT

    @property
    def device(self) -> int:
        return self.reserved + self.components["overhead"]

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What was taken for granted, one sentence each."""
        run = self.run
        out = [f"{run.precision}: {precision(run.precision, fsdp=run.fsdp).note}"]
        if any(entry.name == "rule of thumb" for entry in self.lines):
            out.append("only a parameter count is known: activations are 2 × compute bytes per parameter, a rule of thumb")
        else:
            out.append(f"engine {run.engine_row.name}: {run.engine_row.note}")
            out.append(f"kernels {run.kernels_used}: {KERNELS[run.kernels_used].note}")
            out.append(f"loss {run.loss_used}, optimizer {run.optimizer_impl_used}, attention {run.attention}")
        if self.approximation:
            out.append(self.approximation)
        if run.parallelism.zero is not None:
            out.append("ZeRO buffers: DeepSpeed's default bucket sizes")
        if run.method == "qlora":
            out.append("QLoRA: matrices in the layers are NF4, doubly quantised; embeddings, norms and head stay 16 bit")
        if run.method != "full":
            out.append("adapters, their gradients and states are fp32, as PEFT keeps them")
        out.append("reserved: peak rounded to the allocator's 2 MiB segments, fragmentation not included")
        return tuple(out)


def estimate(architecture: Architecture, run: Training) -> TrainingEstimate:
    """The heaviest rank's memory for one architecture under one training setting.

    Raises SpecError where setting and model contradict each other (tp does not divide the heads, …).
    """
    p = run.parallelism
    sizes = shape(architecture)
    p.check_model(heads=sizes.heads, layers=sizes.layers, experts=sizes.experts)
    if run.method != "full":
        check_targets(architecture, run.lora_targets)
    setting = make_setting(run)
    found = [_on_stage(architecture, setting, stage) for stage in stages(architecture, p.tp, p.pp, p.ep, p.etp)]
    return found[0] if len(found) == 1 else max(found, key=lambda rank: rank.peak)


def estimate_parameters(parameters: int, run: Training) -> TrainingEstimate:
    """The same from nothing but a parameter count: one flat tensor, activations by the rule of thumb."""
    p = run.parallelism
    if p.tp * p.pp * p.ep * p.etp > 1:
        raise SpecError("needs an architecture to place; a parameter count says nothing about layers", "tp", "pp", "ep")
    if run.method != "full":
        raise SpecError("needs an architecture: adapters stand on matrices that a parameter count does not know", "method")
    setting = make_setting(run)
    held = (Held("parameters", "mlp", (parameters,), 1, False, True),)
    stage = Stage.of(0, held, True)
    groups = make_groups(run, stage)
    lines = [entry for group in groups for entry in state_lines(setting, group)]
    lines += communication_lines(setting, stage, groups)
    lines += rule_of_thumb_activations(parameters, setting)
    gpu = totals(lines, COMPONENTS)["gpu"]
    working, gradients, communication = gpu["activations"], gpu["gradients"], gpu["communication"]
    moments = (
        Moment("after forward", working, gradients if run.grad_accum > 1 else 0, communication),
        Moment("forward and backward", working, gradients, communication),
        optimizer_moment(setting, groups, gradients),
    )
    return _assemble(setting, stage, groups, lines, moments, 0)


def _on_stage(architecture: Architecture, setting: Setting, stage: Stage) -> TrainingEstimate:
    groups = make_groups(setting.run, stage)
    lines = [entry for group in groups for entry in state_lines(setting, group)]
    gradients = totals(lines, COMPONENTS)["gpu"]["gradients"]
    approximation = ""
    try:
        played = play_step(architecture, setting, stage, groups, gradients)
    except Unsupported as error:
        approximation = f"{error}: activations are the textbook formula of Korthikanti et al. 2022, an approximation"
        played = textbook_step(architecture, setting, stage, groups, gradients)
    lines += communication_lines(setting, stage, groups) + played.lines
    moments = (*played.moments, optimizer_moment(setting, groups, gradients, played.leaf))
    return _assemble(setting, stage, groups, lines, moments, played.host, approximation)


def _assemble(
    setting: Setting, stage: Stage, groups: list[Group], lines: list[Line], moments: tuple[Moment, ...], host: int,
    approximation: str = "",
) -> TrainingEstimate:  # fmt: skip
    run = setting.run
    lines.append(
        line("overhead", "context", "always", model_states.context_bytes, context=CONTEXT_BYTES,
             communicators=int(run.parallelism.gpus > 1), communicator=COMMUNICATOR_BYTES)
    )  # fmt: skip
    sums = totals(lines, COMPONENTS)
    ranks_on_node = min(run.parallelism.gpus, run.parallelism.gpus_per_node)
    return TrainingEstimate(
        tuple(lines),
        stage.index,
        sums["gpu"],
        sums["gpu"]["parameters"] + sums["gpu"]["optimizer_states"],
        moments,
        ranks_on_node * (sum(sums["host"].values()) + host),
        ranks_on_node * sum(sums["nvme"].values()),
        sum(group.trained.elements() for group in groups if group.trained),
        run,
        approximation,
    )
