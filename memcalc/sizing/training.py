"""Training: which defaults the model decides, which settings need another, and the estimate with its verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.training.estimate import TrainingEstimate, estimate, estimate_parameters
from memcalc.formulas.methods import ADAPTING, QUANTISED
from memcalc.readers.models import Model
from memcalc.sizing.answer import Answer
from memcalc.sizing.settings import Need, Settings, check_needs, settled
from memcalc.sizing.subjects import AnyAccelerator, AnyModel, as_accelerator, as_model
from memcalc.specs.hardware import Accelerator
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.training import Training

if TYPE_CHECKING:
    from memcalc.estimates.training.fit import Suggestion
    from memcalc.report.report import Report

TABLES = {"parallelism": Parallelism}


def _above_one(degree: str) -> Callable[[Settings], bool]:
    return lambda said: said.get(degree, 1) != 1  # a degree that is no number is the spec's to refuse


def _either(names: tuple[str, ...]) -> str:
    """lora, qlora or dora."""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


NEEDS = (
    Need(("lora_rank", "lora_targets", "lora_dropout"), lambda said: said.get("method") in ADAPTING,
         f"belongs to adapters; add method {_either(ADAPTING)}"),
    Need(("base_format",), lambda said: said.get("method") in QUANTISED,
         f"is the frozen weights' format; add method {_either(QUANTISED)}"),
    Need(("offload_to",), lambda said: bool(said.get("offload")),
         "says where to; add offload optimizer, parameters or activations"),
    Need(("pipeline_schedule",), _above_one("pp"), "orders pipeline stages; add pp"),
    Need(("cp_kind",), _above_one("cp"), "says how context-parallel ranks exchange keys and values; add cp"),
    Need(("expert_imbalance",), _above_one("ep"), "is about ranks that hold different experts; add ep"),
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SizedTraining(Answer, TrainingEstimate):
    """The estimate of one training step, with the model that is trained and the accelerator it must fit."""

    model: Model
    gpu: Accelerator | None = None

    @property
    def headroom(self) -> int | None:
        return self.gpu.usable - self.device if self.gpu else None

    @cached_property
    def suggestions(self) -> list["Suggestion"]:
        """The smallest changes that make it fit, where it does not."""
        if self.gpu is None or self.fits:
            return []
        from memcalc.estimates.training.fit import suggestions

        return suggestions(self.run, self.gpu.usable, lambda run: _estimate(self.model, run, self.generation, self.memory))

    def report(self) -> "Report":
        from memcalc.report.training import report

        return report(self.model, self.run, self, self.gpu, self.suggestions)

    def __repr__(self) -> str:
        return self._line("training", self.run.parallelism.gpus, self.device)


def size_training(
    model: AnyModel,
    gpu: AnyAccelerator = None,
    run: Training | None = None,
    *,
    presets: Sequence[str] = (),
    **settings: Any,
) -> SizedTraining:
    """Memory per GPU of one training step. `settings` are the fields of Training and Parallelism, and go before those of `run`.

    >>> step = size_training("llama-3.1-8b", "h100", gpus=8, zero=3, recompute="full")
    >>> step.fits, step.run.seq_len
    (True, 4096)
    """
    found = as_model(model, presets)
    spec = training_run(found.architecture, run, **settings)
    device = as_accelerator(gpu, presets)
    estimated = _estimate(found, spec, device.architecture if device else "", device.usable if device else None)
    own = {field.name: getattr(estimated, field.name) for field in fields(estimated)}
    return SizedTraining(**own, model=found, gpu=device)


def training_run(architecture: Architecture | None, run: Training | None = None, **settings: Any) -> Training:
    """What was said about training as a spec, with the defaults that depend on the model."""
    said = settled(run, settings, Training, TABLES)
    check_needs(said, NEEDS)
    parallelism = Parallelism(**{name: said.pop(name) for name in Parallelism.model_fields if name in said})
    if architecture and architecture.context:
        said.setdefault("seq_len", min(Training.model_fields["seq_len"].default, architecture.context))
    return Training(parallelism=parallelism, **said)


def _estimate(model: Model, run: Training, generation: str, memory: int | None) -> TrainingEstimate:
    if model.architecture:
        return estimate(model.architecture, run, generation, memory)
    return estimate_parameters(model.parameters, run, generation)
