"""Serving: what the checkpoint decides, which settings need another, and the estimate with its verdict."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.stored import StoredTensors
from memcalc.errors import Unsupported
from memcalc.estimates.placement import depth_of
from memcalc.estimates.serving.capacity import Capacity, OnGpu, ServingEstimate
from memcalc.estimates.serving.estimate import estimate
from memcalc.estimates.serving.llama_cpp import OneGpu
from memcalc.estimates.serving.speed import Speed, speed
from memcalc.estimates.serving.starting import refusals
from memcalc.estimates.suggestions import ENOUGH, Advice, Subject
from memcalc.formulas.bisection import Solved, largest
from memcalc.formulas.drafts import DraftMethod
from memcalc.formulas.serving_engines import SERVING_ENGINES
from memcalc.formulas.verdict import VERDICTS, Fit, Needed, Verdict
from memcalc.readers.models import Model, checked, stored_tensors
from memcalc.sizing.answer import Answer, Wanted, fit_of, nothing_else
from memcalc.sizing.doubts import Doubts, unsaid
from memcalc.sizing.invocation import Invocation, advise
from memcalc.sizing.largest import MAX, Choices, asked_for, solve
from memcalc.sizing.serving_doubts import of_serving
from memcalc.sizing.serving_run import BESIDE, EFFICIENCY, check_meaning, engine_of, serving_run, with_load
from memcalc.sizing.settings import Settings, settled, taken
from memcalc.sizing.subjects import AnyAccelerator, AnyModel, as_accelerator, as_machine, as_model
from memcalc.sizing.text_only import text_only
from memcalc.specs.device import Device
from memcalc.specs.hardware import Accelerator
from memcalc.specs.serving import MAX_BATCH, MAX_LENGTH, Serving, ServingQuestion
from memcalc.specs.serving_load import ServingLoad
from memcalc.specs.spec import SpecError

if TYPE_CHECKING:
    from memcalc.estimates.search import Search
    from memcalc.readers.drafts import Draft
    from memcalc.report.report import Report

SOLVABLE = ("batch", "context", "gpu_layers")  # may be "max"
AUTO = "auto"  # of n_cpu_moe: as few as it takes


class SizedServing(Answer, ServingEstimate):
    """The estimate of one way of serving, with the model that is served and the accelerator it must fit."""

    model: Model
    gpu: Accelerator | None
    files: StoredTensors | None
    small: Architecture | None  # of a draft model
    machine: tuple[Accelerator, ...]  # its GPUs, where they differ; `gpu` is the one with the least room
    ram: int | None  # host memory [B]
    efficiency: dict[str, float]  # those of EFFICIENCY that were given
    load: ServingLoad
    asked: tuple[Serving | None, Settings]  # what was said, before any default
    invocation: Invocation
    draft: AnyModel | None
    guess: DraftMethod | None  # how it guesses
    remark: str  # on what was solved

    def fit_on(self, gpu: Accelerator, others: int) -> Fit:
        return Fit(self.needed, self.limit_in(gpu.allocatable, gpu.allocatable - gpu.limit + others))

    def capacity(self, memory: int, others: int = 0) -> Capacity:
        """How much more fits on a GPU of `memory` bytes, of which `others` are taken.

        The longest context is one that would be answered with "fits": where activations grow with it, as an encoder's do, it
        is sought anew.
        """
        found = super().capacity(memory, others)
        longest = found.max_context
        if longest is None or longest <= self.run.context or self._fits_at(longest, memory, others):
            return found
        reached = largest(self.run.context, longest, 1, lambda context: self._fits_at(context, memory, others))
        return found._replace(max_context=min(longest, self.run.context) if reached is None else reached)

    def _fits_at(self, context: int, memory: int, others: int) -> bool:
        generation = self.gpu.architecture if self.gpu else ""
        run, cards = self.run.replace(context=context), _cards(self.machine, others)
        at = estimate(_served(self.model, "MODEL"), run, generation, memory, self.small, self.files, cards)
        return at.headroom_in(memory, others) >= 0

    @property
    def host_fit(self) -> Fit | None:
        """What stands in host memory beside what there is; None where its size was not given."""
        return None if self.ram is None else Fit(Needed(self.host, self.host, self.host), self.ram)

    @property
    def on_gpus(self) -> tuple[tuple[Accelerator | None, OnGpu, Fit | None], ...]:
        """All GPUs of one machine, where layers are put on several."""
        cards = self.machine if len(self.machine) > 1 else (self.gpu,) * len(self.cards)
        return tuple(
            (card, on, Fit(on.needed, card.limit - self.others) if card else None)
            for card, on in zip(cards, self.cards, strict=True)
        )

    @property
    def verdict(self) -> Verdict | None:
        """The worse of the GPU's and the host's."""
        found = [fit.verdict for fit in (self.fit, self.host_fit) if fit]
        return min(found, key=VERDICTS.index) if found else None

    @property
    def fits(self) -> bool | None:
        return None if self.verdict is None else self.verdict != "no"

    @property
    def placed(self) -> str:
        """Why no roofline of one GPU holds; empty where one does."""
        if len(set(self.machine)) > 1:
            return "the speed of GPUs that differ is not modelled"
        if self.run.engine_row.experts_on_host:
            return "the speed of experts that the CPU computes with kernels of its own (kt-kernel) is not modelled"
        if self.run.cache_on_host:
            return "the speed of a cache in host memory is not modelled"
        if self.run.attention_dp > 1:
            each = self.run.attention_tp
            return f"the speed of attention by groups of ranks is not modelled: --tp {each} --ep {self.run.tp} asks for it"
        if self.run.overridden and self.run.pp > 1:
            return "the speed of several GPUs beside experts or tensors in host memory is not modelled"
        if self.run.split_mode != "layer" and self.run.pp > 1:
            return "the speed of matrices that are divided over several GPUs is not modelled"
        return ""

    @property
    def device_there(self) -> int:
        """What nvidia-smi shows on the accelerator: for engines that take a pool, the pool [B]."""
        if self.gpu is None:
            return self.device
        return self.fixed + self.reserved(self.gpu.allocatable, self.gpu.allocatable - self.gpu.limit + self.others)

    @property
    def capacity_there(self) -> Capacity | None:
        """How much more fits on the accelerator; None where none was named."""
        if self.gpu is None:
            return None
        return self.capacity(self.gpu.allocatable, self.withheld)

    @property
    def requests_there(self) -> Capacity | None:
        """The same, but for the longest context, which is not sought anew: what it takes to count requests and tokens."""
        if self.gpu is None:
            return None
        return super().capacity(self.gpu.allocatable, self.withheld)

    def _advised(self, fit: Fit) -> Advice:
        return advise(self.invocation, self, self.search(fit))

    def search(self, fit: Fit, wanted: Wanted = nothing_else, enough: int = ENOUGH) -> "Search":
        """For changes of this run, of which `fit` is what is wanted."""
        from memcalc.estimates.search import Search
        from memcalc.estimates.serving.changes import CHANGES

        def judge(answer: SizedServing) -> Fit:
            return wanted(answer, fit_of(answer))

        start = Subject(self.run, self.gpu, self.model.architecture, ("context",) if unsaid("context", *self.asked) else ())
        return Search(CHANGES, start, fit, self._changed, self._sized, (judge,), enough)

    def _changed(self, changes: Settings) -> Subject:
        changed = self.invocation.with_changes(changes)
        gpu = self.gpu if changed.gpu is self.invocation.gpu else as_accelerator(changed.gpu, changed.presets)
        others = (*Device.model_fields, *EFFICIENCY, *ServingLoad.model_fields, "draft", "ram")
        settings = {name: value for name, value in changed.settings.items() if name not in (*others, "draft_method")}
        architecture = _served(self.model, "MODEL")
        if len(self.machine) > 1 and changed.gpu is self.invocation.gpu:
            settings["pp"] = len(self.machine)
        gpus = self.machine if len(self.machine) > 1 else (gpu,) if gpu else ()
        run = serving_run(architecture, None, self.files, draft=self.guess, gpus=gpus, reserved=self.others,
                          **settings)  # fmt: skip
        return Subject(run, gpu, architecture, ("context",) if unsaid("context", None, settings) else ())

    def _sized(self, changes: Settings) -> "SizedServing":
        changed = self.invocation.with_changes(changes)
        same = changed.gpu is self.invocation.gpu and len(self.machine) == 1
        gpu = self.gpu if same else changed.gpu
        settings = changed.settings | ({"draft": self.draft} if self.draft is not None else {})
        return size_serving(self.model, gpu, presets=changed.presets, **settings)

    @cached_property
    def speed(self) -> Speed | None:
        """How fast prefill and decode can be; None where no accelerator was named."""
        if self.gpu is None:
            return None
        if self.placed:
            return Speed(None, self.placed)
        from memcalc.formulas.serving_hosts import host_of
        from memcalc.readers.timing import time_law

        there, run = self.requests_there, self.run
        most = there.max_batch * run.copies if there and there.max_batch is not None else None
        if most and host_of(run.engine_row.kin).grows and not run.slots:
            grown = self.running(self.gpu.allocatable, self.withheld)
            most = max(most, grown * run.copies) if grown else most
        slots = most if most and self.load.concurrency is not None else None  # of each group
        return speed(
            _served(self.model, "MODEL"), run, self.gpu, self.files, law=time_law(self.gpu), load=self.load, slots=slots,
            draft=self.small, **self.efficiency,
        )  # fmt: skip

    def report_with(self, advice: Advice) -> "Report":
        from memcalc.report.report import warned
        from memcalc.report.serving import report

        shown = report(self.model, self.run, self, self.gpu, self.speed, self.fit, self.withheld, advice, self.solved,
                       self.host_fit, self.on_gpus)  # fmt: skip
        return warned(shown, *self.doubts)

    @property
    def doubts(self) -> Doubts:
        """What goes with the answer in words."""
        architecture, there = _served(self.model, "MODEL"), self.capacity_there
        plain = all(unsaid(name, *self.asked) for name in ("weights", "precision"))
        found = of_serving(
            architecture, self.run, length_given=not unsaid("context", *self.asked),
            vendor=self.gpu.vendor if self.gpu else None, generation=self.gpu.architecture if self.gpu else "",
            reach=there.max_context if there else None, weights_given=not plain,
        )  # fmt: skip
        refused = refusals(self, self.gpu.allocatable, self.withheld) if self.gpu else ()
        said = (self.remark,) if self.remark else ()
        return found._replace(warnings=(*architecture.warnings, *found.warnings, *refused, *said))

    def __repr__(self) -> str:
        return self._line("serving", self.run.gpus, self.device)


def size_serving(
    model: AnyModel,
    gpu: AnyAccelerator = None,
    run: Serving | None = None,
    *,
    draft: AnyModel | None = None,
    sure: bool = False,
    presets: Sequence[str] = (),
    **settings: Any,
) -> SizedServing:
    """Memory per GPU of serving, and how much fits. `settings` are the fields of Serving, and go before those of `run`.

    Beside them: `precision` (one plain format for weights and cache), and `mfu`, `mbu` and `link_efficiency`, shares of the
    accelerator's peaks, and the fields of Device: what others hold on it, and figures in place of the catalogue's.
    One of SOLVABLE may be "max": the largest value that fits, with all of its range where `sure`.

    >>> size_serving("gpt-oss-20b", "l4", engine="vllm").fits
    True
    """
    said = settled(run, settings, Serving, also=(*BESIDE, *Device.model_fields, *ServingLoad.model_fields))
    if draft is not None:
        said["draft"] = draft if isinstance(draft, str) else "MODEL"
    device, load = taken(settings, Device), taken(settings, ServingLoad)
    settings = with_load(settings, run, load)
    shares = {name: share for name in EFFICIENCY if (share := settings.pop(name, None)) is not None}
    ram = _ram(run, settings)
    found = as_model(model, presets)
    files = stored_tensors(found)
    found = checked(found, files)._replace(stored=found.stored)
    if settings.get("language_model_only") or (run is not None and run.language_model_only):
        found, files = text_only(found, files)
    architecture = _served(found, "MODEL")
    guess = _guessing(architecture, draft, settings.pop("draft_method", None) or (run.draft_method if run else None), presets)
    small = guess.architecture if guess else None
    machine = as_machine(gpu, presets, device)
    accelerator = machine[0] if machine else None
    if len(machine) > 1:
        settings["pp"] = settings.get("pp") or len(machine)
    if accelerator is None and shares:
        raise SpecError("needs a gpu whose speed it is a share of", *EFFICIENCY)
    if load.acceptance is not None and guess is None:
        raise SpecError("is that of a draft model's guesses; name one with draft", "acceptance")
    generation, memory = (accelerator.architecture, accelerator.allocatable) if accelerator else ("", 0)
    if settings.get("n_cpu_moe") == AUTO:
        settings["n_cpu_moe"] = MAX
    key = asked_for(settings, (*SOLVABLE, "n_cpu_moe"))

    def sized(*solved: Solved, **value: Any) -> SizedServing:
        spec = serving_run(architecture, run, files, draft=guess and guess.method, gpus=machine, reserved=device.reserved,
                           **settings | value)  # fmt: skip
        if len(machine) > 1 and spec.pp != len(machine):
            raise SpecError(f"{spec.pp} GPUs for a machine of {len(machine)}; leave pp out", "pp")
        check_meaning(architecture, spec, shares)
        cards = _cards(machine, device.reserved) if len(machine) > 1 else ()
        out = SizedServing(*estimate(architecture, spec, generation, memory, small, files, cards))
        out.model, out.files, out.efficiency, out.others = found, files, shares, device.reserved
        out.load = load
        out.gpu, out.machine, out.ram = machine[out.card] if len(machine) > 1 else accelerator, machine, ram
        out.asked, out.solved, out.small = (run, settings | value), solved, small
        out.invocation, out.draft = Invocation("infer", model, gpu, tuple(presets), said | value), draft
        out.guess, out.remark = guess.method if guess else None, ""
        return out

    if key is None:
        out = sized()
    else:
        choices = _choices(key, architecture, settled(run, settings, Serving, also=BESIDE), sized().run, memory)
        if key == "n_cpu_moe":
            from memcalc.sizing.expert_split import with_fewest

            out = with_fewest(choices, sized, sure)
        else:
            found_value, solved = solve(key, choices, lambda value: sized(**{key: value}), sure=sure)
            out = sized(solved, **{key: found_value})
    if shares:
        _ = out.speed  # refuses what is no share
    return out


def _choices(key: str, architecture: Architecture, said: Settings, run: Serving, memory: int) -> Choices:
    """What a setting may be, given what was said of the others; `run` has their defaults."""
    if key == "batch":
        most = run.scheduled(memory)
        scheduled = most and most // run.copies
        return Choices(MAX_BATCH, "bound").at_most(scheduled, "max_sequences")
    if key in ("gpu_layers", "n_cpu_moe"):
        depth = depth_of(architecture)
        return Choices(depth + (key == "gpu_layers"), "layers", 0)
    low = 2 + said.get("max_new_tokens", 0) + said.get("shared_prefix", 0) - (not said.get("prefix_hit_rate"))
    return Choices(MAX_LENGTH, "bound", low).at_most(architecture.context, "positions")


def _ram(run: Serving | None, settings: dict[str, Any]) -> int | None:
    """Host memory, taken out of the settings [B]; refused where what stands there is not counted."""
    ram: int | None = settings.pop("ram", None)
    if ram is None:
        return None
    ServingQuestion(ram=ram)
    asked = settled(run, settings, Serving, also=BESIDE)
    if not engine_of(asked).uses_host and asked.get("cache_offload") is None:
        able = ", ".join(row.name for row in SERVING_ENGINES.values() if row.uses_host)
        raise SpecError(f"host memory is counted of engines that use it: {able}, and of --cache-offload", "ram")
    return ram


def _cards(machine: Sequence[Accelerator], reserved: int) -> tuple[OneGpu, ...]:
    """The GPUs of a machine as an estimate takes them."""
    return tuple(OneGpu(card.architecture, card.allocatable, card.allocatable - card.limit + reserved) for card in machine)


def _guessing(model: Architecture, draft: AnyModel | None, method: str | None, presets: Sequence[str]) -> "Draft | None":
    """What guesses tokens beside the model."""
    if draft is None and method is None:
        return None
    from memcalc.sizing.drafts import as_draft

    return as_draft(model, draft, method, presets)


def _served(model: Model, place: str) -> Architecture:
    """The architecture, without which nothing is known of keys and values."""
    if model.architecture is None:
        raise Unsupported(f"{place}: {model.name} says nothing about keys and values; give a preset or a config.json")
    return model.architecture
