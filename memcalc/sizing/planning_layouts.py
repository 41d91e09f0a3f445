"""A plan's question, read; and how its search finds out about a layout: the spec, what it needs, how long it takes."""

import math
from collections.abc import Callable
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.planning.accepts import Settings
from memcalc.estimates.planning.bounds import StateBytes, least_seconds, state_bytes
from memcalc.estimates.planning.search import settings_of
from memcalc.estimates.planning.space import TrainingLayout
from memcalc.estimates.step_time.schedule import IDLE
from memcalc.estimates.step_time.step import StepTime, micro_batch_seconds, step_time
from memcalc.estimates.training.estimate import estimate
from memcalc.formulas.verdict import Fit, Needed
from memcalc.frozen import NamedTuple
from memcalc.readers.models import Model
from memcalc.readers.timing import time_law
from memcalc.sizing.answer import fit_of
from memcalc.sizing.invocation import Invocation
from memcalc.sizing.step_time import untimed
from memcalc.sizing.subjects import AnyModel
from memcalc.sizing.training import SizedTraining, size_training
from memcalc.specs.device import Device
from memcalc.specs.hardware import Accelerator
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.planning import PlanGoals
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

Tick = Callable[[int], None]

# What a layout says beside the axes of the space.
LAID_OUT = ("gpus", "shard_size", "sequence_parallel", "tp_overlap", "cp_kind", "pipeline_schedule", "virtual_stages",
            "first_stage_layers", "last_stage_layers", "count_embedding", "count_loss", "pipeline_layout",
            "global_batch")  # fmt: skip
# Of these, what goes before the layout's own where it was given.
GIVEN = ("shard_size", "sequence_parallel", "tp_overlap", "cp_kind", "pipeline_schedule", "count_embedding", "count_loss")


class PlanQuestion(NamedTuple):
    """A plan's question, read."""

    model: Model
    architecture: Architecture
    said: dict[str, Any]  # settings that were given
    free: dict[str, tuple[Any, ...]]
    engines: tuple[str, ...]
    run: Training  # with the settings that were given, on one GPU
    goals: PlanGoals
    presets: tuple[str, ...]
    device: Device
    name: AnyModel
    names: dict[str, str]  # of accelerators, as they were given
    sure: bool
    tick: Tick


class LayoutWays:
    """How the search finds out about a layout of this question on one accelerator."""

    def __init__(self, asked: PlanQuestion, gpu: Accelerator) -> None:
        self._asked, self._gpu, self.sure = asked, gpu, asked.sure
        self.limit = gpu.limit - asked.device.reserved
        self.inside = asked.said.get("shard_size") or asked.run.parallelism.gpus_per_node
        self._idle = IDLE[asked.said.get("pipeline_schedule", "1f1b")]
        self._given = {name: asked.said[name] for name in GIVEN if name in asked.said}
        self._device = {name: getattr(asked.device, name) for name in asked.device.model_fields_set}
        self._kept = {name: value for name, value in asked.said.items() if name in Parallelism.model_fields}
        own = (name for name in asked.said if name in Training.model_fields and name not in LAID_OUT)
        self._base = {"seq_len": asked.run.seq_len, **{name: asked.said[name] for name in own}}
        if unknown := untimed(gpu):
            raise SpecError(unknown, "gpu")
        self._law = time_law(gpu)
        self._parallelism: dict[Any, Parallelism] = {}
        self._states: dict[Any, StateBytes] = {}
        self._micro: dict[Any, float] = {}
        self._answers: dict[TrainingLayout, SizedTraining] = {}

    def settings(self, layout: TrainingLayout) -> Settings:
        """As `train` takes them: what was given, then what the layout says."""
        said = {name: value for name, value in self._asked.said.items() if name != "global_batch"}
        return {"seq_len": self._asked.run.seq_len, **said, **self._laid(layout)}

    def _laid(self, layout: TrainingLayout) -> Settings:
        """What a layout says, where nothing else was given."""
        return {**settings_of(layout), **self._given}

    def run(self, layout: TrainingLayout, *, replicated: bool = False) -> Training:
        """Its spec, without the defaults that only a final answer needs; `replicated`: nothing is sharded."""
        own = self._laid(layout)
        if replicated:
            own = {
                name: value for name, value in own.items() if name not in ("zero", "fsdp", "shard_size", "pipeline_schedule")
            }
        degrees = {name: own.pop(name) for name in list(own) if name in Parallelism.model_fields}
        key = (layout.place, layout.others, replicated)
        if (parallelism := self._parallelism.get(key)) is None:
            kept = {} if replicated else self._kept
            parallelism = self._parallelism[key] = Parallelism(**{**kept, **degrees})
        return Training(parallelism=parallelism, **{**self._base, **own})

    def states(self, layout: TrainingLayout) -> StateBytes:
        """What an element takes; the same for all layouts of an engine and a way to shard."""
        key = (layout.place.engine, layout.place.sharding, layout.others)
        if (found := self._states.get(key)) is None:
            found = self._states[key] = state_bytes(self.run(layout))
        return found

    def least_seconds(self, layout: TrainingLayout) -> float:
        """From one micro-batch through all layers, which all layouts of equal degrees share."""
        key = (layout.degrees, layout.micro_batch, layout.others_recomputed)
        if (found := self._micro.get(key)) is None:
            found = self._micro[key] = self._micro_batch(layout)
        return least_seconds(found, layout.place, layout.grad_accum, self._idle)

    def _micro_batch(self, layout: TrainingLayout) -> float:
        place = layout.place
        gpus = math.lcm(place.tp * place.cp, place.ep * place.etp)
        alone = place._replace(gpus=gpus, pp=1, chunks=1, split="", sharding=0)
        run = self.run(layout._replace(place=alone, grad_accum=1), replicated=True)
        return micro_batch_seconds(self._asked.architecture, run, self._law)

    def seconds(self, run: Training) -> float:
        return self.time(run).seconds

    def time(self, run: Training) -> StepTime:
        """Of a step."""
        return step_time(self._asked.architecture, run, self._law)

    def fit(self, layout: TrainingLayout, run: Training) -> Fit:
        """As if nothing were lost to fragmentation."""
        floor = estimate(self._asked.architecture, run, self._gpu.architecture, self.limit).floor("device")
        return Fit(Needed(floor, floor, floor), self.limit)

    def last_word(self, layout: TrainingLayout) -> Fit:
        """As `train` says."""
        return fit_of(self.sized(layout))

    def sized(self, layout: TrainingLayout) -> SizedTraining:
        """As `train` does it."""
        if (found := self._answers.get(layout)) is None:
            found = self._answers[layout] = self._size(layout)
        return found

    def _size(self, layout: TrainingLayout) -> SizedTraining:
        said = {**self.settings(layout), **self._device}
        return size_training(self._asked.model, self._gpu, presets=self._asked.presets, **said)

    def command(self, layout: TrainingLayout) -> str:
        """That asks for this layout alone."""
        gpu = self._asked.names.get(self._gpu.id, self._gpu)
        return str(Invocation("train", self._asked.name, gpu, self._asked.presets, {**self.settings(layout), **self._device}))
