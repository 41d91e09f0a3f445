"""The time of a training step: every stage's layers in seconds, what their schedule hides, and what is left.

Each micro-batch passes a stage's layers; parameters that are gathered and gradients that are reduced run beside them and
cost what is longer; messages of tensor, context and expert parallelism wait. Host and device work at once: where launching
takes longer than computing, the difference is `launch`. Stages follow `pipeline_seconds`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from memcalc.autograd.profile import KERNELS
from memcalc.blocks.architecture import Architecture
from memcalc.blocks.executed import Executed, entry_executed, exit_executed, layer_executed
from memcalc.caches import cached
from memcalc.errors import Unsupported
from memcalc.estimates.compute.flops import is_encoder_decoder, step_flops
from memcalc.estimates.placement import split_of, stage_counts
from memcalc.estimates.step_time.messages import Axes, Busy, exposed, sent_by
from memcalc.estimates.step_time.pieces import HALF, Micro, Seconds, seconds_of
from memcalc.estimates.step_time.schedule import IDLE, pipeline_seconds
from memcalc.estimates.step_time.sharded import (
    Gathers,
    gathers,
    gathers_share,
    optimizer_seconds,
    replicated_seconds,
    trained_share,
)
from memcalc.estimates.training.rank_key import RankKey
from memcalc.estimates.training.ranks import Standing, distinct_standing
from memcalc.formulas.precision import precision
from memcalc.formulas.timing.constants import OPERANDS
from memcalc.formulas.timing.law import TimeLaw
from memcalc.formulas.timing.residuals import TimeSpread, spread_of
from memcalc.frozen import NamedTuple
from memcalc.specs.training import Training

if TYPE_CHECKING:  # models of text have no tower
    from memcalc.estimates.step_time.towers import Looked

# Host seconds of each operation, forward and backward, where kernels are launched one by one: Python walks through modules
# forward, autograd's C++ backward. What is compiled is walked through by generated code. Eager: 125 ms a micro-batch of
# Qwen 1.8B with LoRA, however short, on A100 (QwenLM/Qwen README, a group that no score counts).
HOST = {"eager": (26e-6, 13e-6), "compiled": (7e-6, 7e-6), "te": (18e-6, 12e-6), "litgpt": (12e-6, 7e-6)}
PARTS = ("forward", "backward", "recompute", "optimizer", "exposed_communication", "bubble", "launch")


class StepTime(NamedTuple):
    """Seconds of one optimizer step; `parts` in the order of PARTS add up to it."""

    seconds: float
    parts: tuple[float, ...]
    tokens: float  # of all GPUs
    gpus: int
    model_flops: float  # of all GPUs; attention over unmasked pairs
    hardware_flops: float  # with recomputation
    peak: float  # dense FLOP/s of one GPU in the format of most products
    peak_format: str
    spread: TimeSpread
    certainty: str

    @property
    def low(self) -> float:
        return max(self.seconds * (1 + self.spread.low), self.roofline)

    @property
    def high(self) -> float:
        return self.seconds * (1 + self.spread.high)

    @property
    def roofline(self) -> float:
        """Below which no step can be: all FLOPs at the dense peak."""
        return min(self.seconds, self.model_flops / (self.gpus * self.peak))

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def tokens_per_second_per_gpu(self) -> float:
        return self.tokens / self.seconds / self.gpus

    @property
    def mfu(self) -> float:
        return self.model_flops / (self.seconds * self.gpus * self.peak)

    @property
    def hfu(self) -> float:
        return self.hardware_flops / (self.seconds * self.gpus * self.peak)


class StageTime(NamedTuple):
    """One micro-batch on one stage, by part [s]."""

    forward: float
    backward: float
    recompute: float
    communication: float
    launch: float
    last_backward: float  # the whole backward, behind which gradients are reduced

    @property
    def seconds(self) -> float:
        return self.forward + self.backward + self.recompute + self.communication + self.launch


class PlannedPiece(NamedTuple):
    """A kind of layer, or what stands before or after all layers, on one stage."""

    executed: Executed
    times: int
    recomputed: bool
    layered: bool
    gathers: Gathers
    images: "Looked | None" = None  # that the piece reads; None: tokens of the language model


class PlannedStage(NamedTuple):
    """All of a stage that depends neither on batch nor on length."""

    pieces: tuple[PlannedPiece, ...]
    times: int  # such stages there are
    by_operation: bool
    optimizer: float  # s
    reduced: float  # seconds of gradients, once a step
    gathered: float  # and of parameters


class Planned(NamedTuple):
    """A layout on one accelerator, before batch and length are known."""

    stages: tuple[PlannedStage, ...]
    axes: Axes


def step_time(architecture: Architecture, run: Training, law: TimeLaw) -> StepTime:
    """The time of a step. Raises Unsupported where a block's operations are not known, SpecError where setting and model
    contradict each other."""
    p = run.parallelism
    if run.objective == "embed" and (run.passage_len or run.cached_batch):
        raise Unsupported("the time of passages of another length, or cached in parts, is not modelled")
    planned = _planned(RankKey(architecture, run), law)
    axes, micro = planned.axes, _micro(run)
    stages = [_stage(stage, micro, axes, law, run) for stage in planned.stages]
    slowest = max(stages, key=lambda stage: stage.seconds)
    m = run.grad_accum
    timed = tuple((stage.seconds, plan.times) for stage, plan in zip(stages, planned.stages, strict=True))
    busy = m * slowest.seconds
    filled = pipeline_seconds(timed, m, p.chunks, IDLE[p.pipeline_schedule])
    bubble = max(0.0, filled - busy)
    ends = [_end(plan, stage) for plan, stage in zip(planned.stages, stages, strict=True)]
    stepping, exchanged = max(ends, key=sum)
    passed = m * p.chunks * _handed_on(architecture, run, micro, axes, law) if p.pp > 1 else 0.0
    communication = m * slowest.communication + exchanged + passed
    parts = (
        m * slowest.forward,
        m * slowest.backward,
        m * slowest.recompute,
        stepping,
        communication,
        bubble,
        m * slowest.launch,
    )
    flops, again = _flops(architecture, run, planned, micro)
    scale = m * p.data_parallel
    used, wide = _products(run)
    spread = spread_of(adapts=run.adapts, mixture=bool(_experts(architecture)), few_bits=used != wide)
    peak_format = OPERANDS[used].peak[0].removesuffix("_matrix")
    return StepTime(
        sum(parts), parts, micro.tokens * p.cp * scale, p.gpus, flops * scale, (flops + again) * scale, law.peak(used),
        peak_format, spread, law.constants.certainty,
    )  # fmt: skip


def micro_batch_seconds(architecture: Architecture, run: Training, law: TimeLaw) -> float:
    """One micro-batch forward and backward through the slowest stage, without what a whole step does once [s]."""
    planned, micro = _planned(RankKey(architecture, run), law), _micro(run)
    return max(_stage(stage, micro, planned.axes, law, run).seconds for stage in planned.stages)


def _products(run: Training) -> tuple[str, str]:
    """What products inside layers are multiplied in, and all others: keys of OPERANDS. Other 16-bit floats are as fast."""
    row = precision(run.precision)
    wide = "fp32" if row.compute == "fp32" else "bf16"
    return row.products or wide, wide


def _micro(run: Training) -> Micro:
    p = run.parallelism
    packed = run.tokens_per_batch
    length = float(run.seq_len)
    sequences = packed / length if packed else float(run.rows)
    used, wide = _products(run)
    kernels = KERNELS[run.kernels_used]
    quantised = run.base.bytes_per_block / run.base.block if run.method_row.quantised else 0.0
    return Micro(
        sequences * length / p.cp, sequences, length, p.cp, p.cp_kind == "ring",
        wide if run.adapts and not kernels.own_products else used, wide,
        not kernels.newest_attention and run.attention != "flash3",
        run.main_gradients, quantised, HOST.get(run.kernels_used, HOST["eager"]),
        1 / run.grad_accum if kernels.own_products else 1.0, not kernels.own_products,
    )  # fmt: skip


@cached(2048)
def _planned(shared: RankKey, law: TimeLaw) -> Planned:
    """What runs on every distinct stage, and what it gathers and reduces."""
    architecture, run = shared.architecture, shared.run
    p = run.parallelism
    axes = Axes.of(p, law.hardware.domain)
    counts = stage_counts(architecture, p.tp, p.pp, p.ep, p.etp, split_of(architecture, p))
    stages = []
    for rank, count in zip(distinct_standing(architecture, run), counts, strict=True):
        reduced, gathered = replicated_seconds(rank, axes, law)
        pieces = (*_seeing(architecture, run, rank), *_pieces(rank, axes, law))
        stages.append(PlannedStage(pieces, count, rank.setup.by_operation, optimizer_seconds(rank, law), reduced, gathered))
    return Planned(tuple(stages), axes)


def _pieces(rank: Standing, axes: Axes, law: TimeLaw) -> Iterator[PlannedPiece]:
    setup = rank.setup
    sequence, share, profile = setup.stage.sequence, trained_share(rank), setup.profile
    if setup.stage.entry:
        yield PlannedPiece(entry_executed(setup.stage.entry, setup.ends), 1, False, False, Gathers())
    for index, (mark, count) in enumerate(zip(sequence.marks, sequence.counts, strict=True)):
        made = layer_executed(sequence.layers[mark.layer], profile, setup.hidden, input_grad=mark.input_grad)
        yield PlannedPiece(made, count, mark.recomputed, True, gathers(rank, index, axes, law, share))
    if setup.stage.exit:
        yield PlannedPiece(exit_executed(setup.stage.exit, setup.ends, setup.hidden), 1, False, False, Gathers())


def _seeing(architecture: Architecture, run: Training, rank: Standing) -> Iterator[PlannedPiece]:
    """A vision tower's pieces on the stage that embeds, where a run has images."""
    if not run.images or not rank.setup.stage.entry:
        return
    from memcalc.estimates.step_time.towers import looked_at, tower_pieces

    looked = looked_at(architecture, run)
    for executed, times, recomputed in tower_pieces(architecture, run, rank.setup.profile):
        yield PlannedPiece(executed, times, recomputed, False, Gathers(), looked)


def _stage(plan: PlannedStage, micro: Micro, axes: Axes, law: TimeLaw, run: Training) -> StageTime:
    """One micro-batch through a stage's layers, its entry and its exit."""
    forward = backward = recompute = communication = host = 0.0
    operands = OPERANDS[micro.product]
    narrowed = operands.activation / HALF if operands.quantised else 1.0
    share, passes = gathers_share(run), run.extra_passes
    for executed, count, recomputed, layered, gathering, looked in plan.pieces:
        around = gathering if share == 1 else gathering.times(share)
        here = looked.micro(micro, run.rows) if looked else micro
        one = seconds_of(executed, here, law)
        attended = (one.attended, one.attended * law.sustained.backward)
        hiding = run.tp_overlaps if layered else (False, False)
        beside = (one.multiplied_forward, one.multiplied_backward)
        multiplied = (beside[0] if hiding[0] else None, beside[1] if hiding[1] else None)
        sent = sent_by(executed, here.tokens, Busy(attended, multiplied), axes, law, narrowed if layered else 1.0)
        again = _again(one, run, recomputed=recomputed, by_operation=plan.by_operation and layered)
        waiting = sent.forward * (2 if recomputed else 1) + sent.backward + around.copies
        waiting += exposed(around.forward, one.forward) + exposed(around.backward, one.backward + again)
        ahead = sent.forward + exposed(around.forward, one.forward)
        forward += one.forward * count * (1 + passes)
        backward += one.backward * count
        recompute += again * count
        communication += (waiting + passes * ahead) * count
        host += (one.host_forward * ((2 if recomputed else 1) + passes) + one.host_backward) * count
    launch = max(0.0, host - forward - backward - recompute - communication)
    return StageTime(forward, backward, recompute, communication, launch, backward + recompute)


def _again(one: Seconds, run: Training, *, recomputed: bool, by_operation: bool) -> float:
    """What the backward of a layer computes a second time."""
    if recomputed:
        return one.forward
    if by_operation:
        return one.chosen
    if run.recompute == "selective" and "core_attn" in run.modules:
        return one.attended
    return 0.0


def _end(plan: PlannedStage, stage: StageTime) -> tuple[float, float]:
    """Once a step: the optimizer, and what of the gradients' and parameters' traffic nothing hides. Gradients are reduced
    behind the last micro-batch's backward, parameters are gathered behind the first one's forward."""
    return plan.optimizer, exposed(plan.reduced, stage.last_backward) + exposed(plan.gathered, stage.forward)


def _handed_on(architecture: Architecture, run: Training, micro: Micro, axes: Axes, law: TimeLaw) -> float:
    """Hidden states to the next stage and their gradients back, of one micro-batch, half hidden by the next one [s]."""
    p = run.parallelism
    size = micro.tokens * architecture.hidden * 2 / (p.tp if p.sequence_parallel else 1)
    return law.sent(size, far=axes.pipeline_far)


@cached(1024)
def _experts(architecture: Architecture) -> int:
    layers = (layer for part in architecture.parts for stack in part.stacks for layer in stack.layers)
    return max((block.traits.experts for layer in layers for _, block in layer.blocks), default=0)


def _flops(architecture: Architecture, run: Training, planned: Planned, micro: Micro) -> tuple[float, float]:
    """Model FLOPs of one micro-batch of one copy of the model, and those of recomputation and passes without a gradient."""
    if is_encoder_decoder(architecture):
        ahead, attention = _recorded_flops(planned, micro, run.parallelism.tp)
    else:
        ahead, attention = _forward_flops(architecture, int(micro.length))
    linear = ahead - attention
    trained = 2 if run.adapts else 3  # frozen weights have no gradients
    again = {"none": 0.0, "full": ahead / (run.recompute_every or 1), "selective": attention}[run.recompute]
    seen, seen_again = _seen_flops(planned, run, micro)
    return (
        micro.sequences * (trained * linear + 3 * attention) + seen,
        micro.sequences * (again + run.extra_passes * ahead) + seen_again,
    )


def _seen_flops(planned: Planned, run: Training, micro: Micro) -> tuple[float, float]:
    """Of all images of one micro-batch through tower and projector, and of what is recomputed and passed once more there."""
    model = again = 0.0
    for executed, count, recomputed, _, _, looked in (piece for stage in planned.stages for piece in stage.pieces):
        if looked:
            here = looked.micro(micro, run.rows)
            ahead, back = executed.flops(here.tokens, here.tokens * here.length)
            model += (ahead + back) * count
            again += (ahead * (recomputed + run.extra_passes)) * count
    return model, again


def _recorded_flops(planned: Planned, micro: Micro, tp: int) -> tuple[float, float]:
    """Of one sequence's forward through encoder and decoder, each with as many tokens as pass it."""
    linear = attention = 0.0
    pairs = micro.length**2
    for stage in planned.stages:
        for executed, count, *_ in stage.pieces:
            products, attended = executed.forward_flops(micro.length, pairs)
            linear += products * count * stage.times * tp
            attention += attended * count * stage.times * tp
    return linear + attention, attention


@cached(1024)
def _forward_flops(architecture: Architecture, length: int) -> tuple[float, float]:
    """Of one sequence's forward over unmasked pairs, and attention's share of it."""
    found = step_flops(architecture, 1, length, recompute="selective", causal=True)
    return found.forward, found.recomputation
