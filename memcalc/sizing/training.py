"""Training: which defaults the model decides, which settings need another, and the estimate with its verdict."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.suggestions import ENOUGH, Advice, Subject
from memcalc.estimates.training.estimate import TrainingEstimate, estimate, estimate_parameters
from memcalc.formulas.bisection import Solved
from memcalc.formulas.engines import ENGINES
from memcalc.formulas.methods import ADAPTING, DROPPING, LOW_RANK, QUANTISED, RANKED, TARGETING, VIRTUAL
from memcalc.formulas.optimizers import squashed
from memcalc.formulas.residuals import beyond_range
from memcalc.formulas.verdict import Fit, needed_bytes
from memcalc.frozen import dataclass
from memcalc.readers.models import Model
from memcalc.sizing.answer import Answer, Wanted, fit_of, nothing_else
from memcalc.sizing.doubts import Doubts, not_replayed, of_training, unsaid
from memcalc.sizing.invocation import Invocation, advise
from memcalc.sizing.largest import Choices, asked_for, solve
from memcalc.sizing.settings import Need, Settings, check_needs, settled, taken
from memcalc.sizing.subjects import AnyAccelerator, AnyModel, as_accelerator, as_model
from memcalc.specs.batches import MAX_BATCH, MAX_LENGTH, MAX_TOKENS, OBJECTIVES
from memcalc.specs.device import Device
from memcalc.specs.fine_tuning import MAX_RANK
from memcalc.specs.horizon import Horizon
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.pipeline import predicting_of_layout
from memcalc.specs.spec import SpecError
from memcalc.specs.step_settings import MAX_PREDICTING
from memcalc.specs.training import Training

if TYPE_CHECKING:
    from memcalc.estimates.search import Search
    from memcalc.estimates.step_time.horizon import Timed
    from memcalc.estimates.step_time.step import StepTime
    from memcalc.report.report import Report
    from memcalc.specs.hardware import Accelerator

COUNT_NOTE = "LoRA and QLoRA need layers, which a parameter count does not say: name a model to have them tried"
TABLES = {"parallelism": Parallelism}
BESIDE = (*Device.model_fields, *Horizon.model_fields)  # what is said that is no setting of the run
UNSAID = Horizon.model_construct()  # nothing of it was said: nothing to validate, and no validator to build
SOLVABLE = ("micro_batch", "seq_len", "lora_rank")  # may be "max"


# What a word of one setting says of others. A launcher's word for an optimizer, beside its states (transformers
# Trainer.get_optimizer_cls_and_kwargs; PyTorch's AdamW takes its foreach loop where neither is asked for); the optimizer of
# Unsloth's trainers where none is named (unsloth/models/rl.py, replacements of TRL's arguments, since February 2025).
IMPLIED: dict[str, dict[str, Settings]] = {
    "optimizer": {
        "adamwtorch": {"optimizer_impl": "foreach"},
        "adamwtorchfused": {"optimizer_impl": "fused"},
        "adamwapexfused": {"optimizer_impl": "fused"},
        **{
            f"{name}layerwise": {"optimizer_in_backward": True}
            for name in ("galoreadamw", "galoreadamw8bit", "galoreadafactor", "apolloadamw")
        },
    },
    "kernels": {"unsloth": {"optimizer": "adamw-8bit"}},
}


def _above_one(degree: str) -> Callable[[Settings], bool]:
    return lambda said: said.get(degree, 1) != 1  # a degree that is no number is the spec's to refuse


def _either(names: tuple[str, ...]) -> str:
    """lora, qlora or dora."""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _defers(said: Settings) -> bool:
    """Whether an engine waits for the last micro-batch before it reduces gradients."""
    row = ENGINES.get(str(said.get("engine")))
    return row is not None and row.defers and (said.get("grad_accum", 1) != 1 or "global_batch" in said)


NEEDS = (
    Need(("lora_targets",), lambda said: said.get("method") in TARGETING,
         f"belongs to adapters; add method {_either(TARGETING)}"),
    Need(("virtual_tokens",), lambda said: said.get("method") in VIRTUAL,
         f"is how many virtual tokens there are; add method {_either(VIRTUAL)}"),
    Need(("lora_rank",), lambda said: said.get("method") in RANKED,
         f"is the rank of adapters that have one; add method {_either(RANKED)}"),
    Need(("lora_dropout",), lambda said: said.get("method") in DROPPING,
         f"belongs to adapters that drop their input; add method {_either(DROPPING)}"),
    Need(("adapter_dtype",), lambda said: said.get("method") in LOW_RANK,
         f"is the format of LoRA's matrices; add method {_either(LOW_RANK)}"),
    Need(("expert_adapters",), lambda said: said.get("method") in LOW_RANK,
         f"is about LoRA's matrices; add method {_either(LOW_RANK)}"),
    Need(("base_format",), lambda said: said.get("method") in QUANTISED,
         f"is the frozen weights' format; add method {_either(QUANTISED)}"),
    Need(("train_also",), lambda said: said.get("method") in ADAPTING,
         f"trains copies beside adapters; add method {_either(ADAPTING)}"),
    Need(("kbit_prepare",), lambda said: said.get("method") in QUANTISED,
         f"is about what stands beside quantised matrices; add method {_either(QUANTISED)}"),
    Need(("offload_to",), lambda said: bool(said.get("offload")),
         "says where to; add offload optimizer, parameters or activations"),
    Need(("sync_each_batch",), _defers,
         "keeps no gradients whole here that it could reduce earlier; it is for engine accelerate with grad_accum above 1"),
    Need(("pipeline_schedule",), _above_one("pp"), "orders pipeline stages; add pp"),
    Need(("cp_kind",), _above_one("cp"), "says how context-parallel ranks exchange keys and values; add cp"),
    Need(("expert_imbalance",), _above_one("ep"), "is about ranks that hold different experts; add ep"),
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SizedTraining(Answer, TrainingEstimate):
    """The estimate of one training step, with the model that is trained and the accelerator it must fit."""

    model: Model
    gpu: "Accelerator | None" = None
    others: int = 0
    invocation: Invocation = Invocation("train", "MODEL", None, (), {})
    solved: tuple[Solved, ...] = ()
    asked: tuple[Training | None, Settings] = (None, {})  # what was said, before any default
    horizon: Horizon = UNSAID

    @cached_property
    def timed(self) -> "Timed":
        """The step in seconds, or why it is not known."""
        from memcalc.sizing.step_time import timed

        return timed(self.architecture, self.run, self.gpu, self.horizon)

    @property
    def time(self) -> "StepTime | None":
        """The step in seconds, where an accelerator was named and all of its operations are known."""
        return self.timed.step

    @property
    def doubts(self) -> Doubts:
        """What goes with the answer in words."""
        found = of_training(self.model.architecture, self.run, length_given=not unsaid("seq_len", *self.asked))
        idle = [name for name in OF_REPLAY if not unsaid(name, *self.asked)]
        return found if not idle or self.replayed else found._replace(warnings=(*found.warnings, not_replayed(idle)))

    def fit_on(self, gpu: "Accelerator", others: int) -> Fit:
        return Fit(self.needed, gpu.limit - others)

    @property
    def certainly_too_large(self) -> bool:
        """Too large even if nothing is lost to fragmentation, or if all that is unused is given back."""
        return self.gpu is not None and (self.floor("device") > self.gpu.limit - self.others or self.runs_out)

    @property
    def device_there(self) -> int:
        """What nvidia-smi shows [B]."""
        return self.device

    def pace_beside(self, asked: "SizedTraining") -> str:
        from memcalc.sizing.step_time import pace_beside

        return pace_beside(self.run, self.time, asked.time)

    def _advised(self, fit: Fit) -> Advice:
        found = advise(self.invocation, self, self.search(fit))
        return found if self.architecture else found._replace(note=COUNT_NOTE)

    def search(self, fit: Fit, wanted: Wanted = nothing_else, enough: int = ENOUGH) -> "Search":
        """For changes of this run, of which `fit` is what is wanted."""
        from memcalc.estimates.search import Judge, Search
        from memcalc.estimates.training.changes import CHANGES

        def judge(how: Callable[[SizedTraining], Fit]) -> Judge:
            return lambda answer: wanted(answer, how(answer))

        start = Subject(self.run, self.gpu, self.architecture)
        judges = judge(_unfragmented), judge(_glanced), judge(_replayed)
        return Search(CHANGES, start, fit, self._changed, self._sized, judges, enough)

    def _changed(self, changes: Settings) -> Subject:
        changed = self.invocation.with_changes(changes)
        gpu = self.gpu if changed.gpu is self.invocation.gpu else as_accelerator(changed.gpu, changed.presets)
        settings = {name: value for name, value in changed.settings.items() if name not in BESIDE}
        return Subject(training_run(self.architecture, None, **settings), gpu, self.architecture)

    def _sized(self, changes: Settings) -> "SizedTraining":
        changed = self.invocation.with_changes(changes)
        gpu = self.gpu if changed.gpu is self.invocation.gpu else changed.gpu
        return size_training(self.model, gpu, presets=changed.presets, **changed.settings)

    def report_with(self, advice: Advice) -> "Report":
        from memcalc.report.report import warned
        from memcalc.report.training import report

        shown = report(self.model, self.run, self, self.gpu, advice, self.fit, self.solved, self.timed if self.gpu else None)
        return warned(shown, *self.doubts)

    def __repr__(self) -> str:
        return self._line("training", self.run.parallelism.gpus, self.device)


def _unfragmented(answer: SizedTraining) -> Fit:
    """As if nothing were lost to fragmentation. Costs no replay."""
    return _fit_at(answer, answer.floor("device"))


def _glanced(answer: SizedTraining) -> Fit:
    """With what a replay of a few layers loses."""
    return _fit_at(answer, answer.glanced_device)


def _replayed(answer: SizedTraining) -> Fit:
    """As it is; what runs out of memory is not replayed beyond."""
    return _fit_at(answer, answer.gpu.limit + 1) if answer.gpu and answer.runs_out else fit_of(answer)


def _fit_at(answer: SizedTraining, device: int) -> Fit:
    assert answer.gpu is not None
    share = beyond_range(adapts=answer.run.adapts, replayed=True)
    return Fit(needed_bytes(device, share.low, share.high), answer.gpu.limit - answer.others)


def size_training(
    model: AnyModel,
    gpu: AnyAccelerator = None,
    run: Training | None = None,
    *,
    sure: bool = False,
    presets: Sequence[str] = (),
    **settings: Any,
) -> SizedTraining:
    """Memory per GPU of one training step. `settings` are the fields of Training and Parallelism, and go before those of `run`.

    Beside them the fields of Device: what others hold on the accelerator, and figures in place of the catalogue's; and those of
    Horizon, by which a step's time becomes days and money. One of
    SOLVABLE may be "max": the largest value that fits, with all of its range where `sure`.

    >>> step = size_training("llama-3.1-8b", "h100", gpus=8, zero=3, recompute="full")
    >>> step.fits, step.run.seq_len
    (True, 4096)
    >>> size_training("gpt2", "rtx-4090", micro_batch="max").solved
    (Solved(key='micro_batch', value=19, limited_by='memory'),)
    """
    said = settled(run, settings, Training, TABLES, also=BESIDE)
    device, horizon = taken(settings, Device), taken(settings, Horizon)
    found = under(as_model(model, presets), said)
    accelerator = as_accelerator(gpu, presets, device)
    key = asked_for(settings, SOLVABLE)
    memory = accelerator.limit - device.reserved if accelerator else None
    if accelerator is None and horizon.model_fields_set:
        raise SpecError("is of a time, which an accelerator has; add a gpu", *horizon.model_fields_set, "gpu")

    def sized(*solved: Solved, **value: int) -> SizedTraining:
        spec = training_run(found.architecture, run, **settings | value)
        estimated = _estimate(found, spec, accelerator.architecture if accelerator else "", memory)
        own = {each.name: getattr(estimated, each.name) for each in fields(estimated)}
        return SizedTraining(
            **own, model=found, gpu=accelerator, others=device.reserved, solved=solved, asked=(run, settings | value),
            horizon=horizon,
            invocation=Invocation("train", model, gpu, tuple(presets), said | value),
        )  # fmt: skip

    if key is None:
        return sized()
    choices = _choices(key, found.architecture, settled(run, settings, Training, TABLES))
    value, solved = solve(key, choices, lambda value: sized(**{key: value}), sure=sure)
    return sized(solved, **{key: value})


def under(model: Model, said: Settings) -> Model:
    """The model under the head that an objective asks for, and with the layers that predict further tokens."""
    if count := _predicting(said):
        if model.architecture is None:
            raise SpecError("a parameter count has no layers; give a preset or a config.json as MODEL", "mtp_layers")
        from memcalc.blocks.predicting import predicting

        changed = predicting(model.architecture, count)
        return model._replace(architecture=changed, parameters=changed.parameters)
    objective, labels = said.get("objective"), said.get("labels", 2)
    if objective not in OBJECTIVES or not _counts(labels):  # what is none is the spec's to refuse
        return model
    if model.architecture is None:
        raise SpecError("a parameter count has no head to change; give a preset or a config.json as MODEL", "objective")
    from memcalc.readers.hf.tasks import under_objective

    changed = under_objective(model.architecture, objective, labels)
    return model._replace(architecture=changed, parameters=changed.parameters)


def _predicting(said: Settings) -> int:
    """What the settings say of prediction layers; what is none is the spec's to refuse."""
    count, layout = said.get("mtp_layers"), said.get("pipeline_layout")
    if isinstance(count, int) and _counts(count):
        return count if count <= MAX_PREDICTING else 0
    try:
        return predicting_of_layout(layout) if isinstance(layout, str) else 0
    except SpecError:
        return 0


def _choices(key: str, architecture: Architecture | None, said: Settings) -> Choices:
    """What a setting may be, given what was said of the others."""
    if architecture is None:
        raise SpecError("max needs an architecture: nothing that a parameter count knows depends on it", key)
    reach = architecture.context or MAX_LENGTH
    if key == "micro_batch":
        length = said.get("seq_len", min(Training.model_fields["seq_len"].default, reach))
        return Choices(MAX_BATCH, "bound").at_most(MAX_TOKENS // length, "bound")
    if key == "seq_len":
        step = said.get("cp", 1) * (said.get("tp", 1) if said.get("sequence_parallel") else 1)
        return (
            Choices(MAX_LENGTH, "bound", step, step)
            .at_most(MAX_TOKENS // said.get("micro_batch", 1), "bound")
            .at_most(reach, "positions")
        )
    return Choices(MAX_RANK, "bound").at_most(architecture.hidden, "width")  # a higher rank than the matrices have


def training_run(architecture: Architecture | None, run: Training | None = None, **settings: Any) -> Training:
    """What was said about training as a spec, with the defaults that depend on the model."""
    said = settled(run, settings, Training, TABLES)
    check_needs(said, NEEDS)
    if architecture is None:
        _check_count(said)
    _imply(said, settings)
    if said.get("auto_buckets"):  # transformers/integrations/deepspeed.py, trainer_config_finalize
        if architecture is None:
            raise SpecError("hidden² of which model? a parameter count has no width", "auto_buckets")
        said.setdefault("reduce_bucket_size", architecture.hidden**2)
    elif architecture and said.get("zero") and said.get("method") in ADAPTING:  # adapters are transformers' own: auto there
        said.setdefault("reduce_bucket_size", architecture.hidden**2)
    parallelism = Parallelism(**{name: said.pop(name) for name in Parallelism.model_fields if name in said})
    if architecture:
        lengths = (architecture.context, said.get("tokens_per_batch"), said.get("seq_len_max"))
        bounds: list[Any] = [length for length in lengths if _counts(length)]
        said.setdefault("seq_len", min([Training.model_fields["seq_len"].default, *bounds]))
    _accumulate(said, parallelism)
    return Training(parallelism=parallelism, **said)


def _imply(said: dict[str, Any], words_of: Settings) -> None:
    """What words say of settings that were not said. Who says how the optimizer's step is run means torch's AdamW."""
    for key, words in IMPLIED.items():
        for name, value in words.get(squashed(str(words_of.get(key, said.get(key, "")))), {}).items():
            if key == "optimizer" or "optimizer_impl" not in said:
                said.setdefault(name, value)


def _counts(value: Any) -> bool:
    return isinstance(value, int) and value > 0  # what is no number is the spec's to refuse


def _accumulate(said: dict[str, Any], parallelism: Parallelism) -> None:
    """From sequences per optimizer step to micro-batches per step, where these were not said."""
    asked, micro_batch = said.get("global_batch"), said.get("micro_batch", 1)
    if "grad_accum" in said or not _counts(asked) or not _counts(micro_batch):
        return
    at_once = micro_batch * parallelism.data_parallel
    if asked % at_once:
        raise SpecError(
            f"{asked:,} sequences are no whole number of passes of micro_batch × data-parallel ranks = "
            f"{micro_batch:,} × {parallelism.data_parallel:,}", "global_batch", "micro_batch", "gpus",
        )  # fmt: skip
    said["grad_accum"] = asked // at_once


OF_REPLAY = ("allocator", "max_split_size")
OF_LAYERS = (
    "micro_batch", "seq_len", "seq_len_max", "tokens_per_batch", "tiled_mlp", "mlp_tiles", "keep_output", "use_cache",
    "eval_batch", "eval_accumulation", "images", "image_size", "image_tokens", "recompute", "attention", "kernels", "loss",
    "library", "cp", "sequence_parallel", "expert_imbalance", "capacity_factor", *OF_REPLAY,
)  # fmt: skip


def _check_count(said: Settings) -> None:
    """Refuse what changes nothing of a bare parameter count, whose activations follow from its parameters alone."""
    if names := [name for name in OF_LAYERS if name in said]:
        raise SpecError("a parameter count has no layers for that; give a preset or a config.json as MODEL", *names)


def _estimate(model: Model, run: Training, generation: str, memory: int | None) -> TrainingEstimate:
    if model.architecture:
        return estimate(model.architecture, run, generation, memory)
    return estimate_parameters(model.parameters, run, generation)
