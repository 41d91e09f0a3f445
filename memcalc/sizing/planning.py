"""Plans: every layout that an engine accepts, those that fit, and the fastest or cheapest of these."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from memcalc.blocks.architecture import prediction_layers_of
from memcalc.errors import nearest
from memcalc.estimates.planning.accepts import ANY_ADAPTERS, ANY_FULL, ENGINES, Settings
from memcalc.estimates.planning.bounds import counted
from memcalc.estimates.planning.counts import gpu_counts, growing
from memcalc.estimates.planning.plan import Offer, Ranked, TrainingPlan, efficient
from memcalc.estimates.planning.search import Found, Judged, search
from memcalc.estimates.planning.space import SPACE, Question, why_none
from memcalc.estimates.step_time.step import PARTS, StepTime
from memcalc.estimates.training.activations import shape
from memcalc.formulas.energy import PRICES
from memcalc.formulas.methods import ADAPTING, METHODS
from memcalc.frozen import NamedTuple
from memcalc.readers.models import Model
from memcalc.sizing.answer import Reported, fit_of
from memcalc.sizing.planning_layouts import LAID_OUT, LayoutWays, PlanQuestion, Tick
from memcalc.sizing.settings import settled, taken
from memcalc.sizing.subjects import AnyAccelerator, AnyModel, as_accelerator, as_model
from memcalc.sizing.training import TABLES, training_run, under
from memcalc.specs.device import Device
from memcalc.specs.hardware import Accelerator
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.planning import PlanGoals
from memcalc.specs.spec import SpecError, check_alone
from memcalc.specs.training import Training
from memcalc.units import counted as counted_words

if TYPE_CHECKING:
    from memcalc.report.report import Report

ANY = "any"
TOKENS_AT_ONCE = 4 * 2**20  # of a global batch that nobody gave, at most: what large pre-training runs use
SEQUENCES_A_GPU = 4  # and so many sequences a GPU
DAY = 86_400


class SizedPlan(Reported):
    """A plan with what it was made for."""

    def __init__(self, model: Model, plan: TrainingPlan, run: Training, goals: PlanGoals, assumptions: tuple[str, ...]) -> None:
        self.model, self.plan, self.run, self.goals, self.assumptions = model, plan, run, goals, assumptions

    @cached_property
    def best(self) -> Ranked | None:
        return self.plan.ranked[0] if self.plan.ranked else None

    def report(self) -> "Report":
        from memcalc.report.planning import report

        return report(self.model, self.plan, self.assumptions)


def plan_training(
    model: AnyModel,
    gpu: "AnyAccelerator | Sequence[AnyAccelerator]",
    gpus: int | str | None = None,
    *,
    vary: Mapping[str, Sequence[Any]] | None = None,
    sure: bool = False,
    presets: Sequence[str] = (),
    tick: Tick = lambda done: None,
    **settings: Any,
) -> SizedPlan:
    """The best layouts of a training run on `gpus` accelerators: a number, "8-64", "8,16"; None: as few as do it.

    `settings` are those of `size_training`, which are kept, and of PlanGoals; `vary` names others with the values to try;
    `method` and `engine` may be "any". `tick` is called with the number of layouts looked at.

    >>> plan = plan_training("llama-3.1-8b", "h100", 8, seq_len=4096, global_batch=64).plan
    >>> plan.ranked[0].fit.fits
    True
    """
    began = time.perf_counter()
    goals = taken(settings, PlanGoals)
    device = taken(settings, Device)
    asked = _asked(model, vary or {}, settings, goals, device, tuple(presets), sure, tick)
    named: list[Any] = list(gpu) if isinstance(gpu, (list, tuple)) else [gpu]
    accelerators = [as_accelerator(each, presets, device) for each in named]
    asked.names.update(
        (found.id, str(each)) for found, each in zip(accelerators, named, strict=True) if found and isinstance(each, str)
    )
    if not accelerators or None in accelerators:
        raise SpecError("a plan needs a gpu to run on", "gpu")
    unpriced = [each.name for each in accelerators if each and each.id not in PRICES]
    if goals.budget is not None and goals.price is None and unpriced:
        raise SpecError(f"no price of {', '.join(unpriced)} is known; add price", "budget", "price")
    found = [each for accelerator in accelerators if accelerator for each in _on(asked, accelerator, gpus)]
    return SizedPlan(
        asked.model, _plan(asked, found, time.perf_counter() - began), asked.run, goals, _assumptions(asked, found)
    )


class _Searched(NamedTuple):
    """What one search found."""

    gpu: Accelerator
    gpus: int
    global_batch: int
    found: Found
    ranked: tuple[Ranked, ...]
    beyond: tuple[Ranked, ...]  # what fits, but not into time or money
    missed: Ranked | None  # what comes nearest where nothing fits
    why: str  # where there was no layout at all


def _on(asked: PlanQuestion, gpu: Accelerator, gpus: int | str | None) -> Iterable[_Searched]:
    """Searches on one accelerator: on each number of GPUs, or on more and more until something fits and keeps the goals."""
    if gpus is not None:
        return [_searched(asked, gpu, count) for count in gpu_counts(gpus, asked.run.parallelism.gpus_per_node)]
    tried: list[_Searched] = []
    for count in growing():
        tried.append(_searched(asked, gpu, count))
        if tried[-1].ranked or _dearer(tried, asked.goals):
            break
    beyond = [each for each in tried if each.beyond]
    if tried[-1].ranked or not beyond:
        return tried[-1:]
    telling = [min(beyond, key=lambda each: min(map(key, each.beyond))) for key in (_per_token, partial(_money, asked.goals))]
    return [each for each in beyond if each in telling]


def _dearer(tried: Sequence[_Searched], goals: PlanGoals) -> bool:
    """Whether all that fits on the last number of GPUs is too dear, and dearer than on fewer: then more cost more."""
    if goals.budget is None or len(tried) < 2:
        return False
    before, last = ([row.cost for row in each.beyond if row.cost is not None] for each in tried[-2:])
    return bool(before and last) and min(last) > max(goals.budget, min(before))


def _asked(
    model: AnyModel, vary: Mapping[str, Sequence[Any]], settings: dict[str, Any], goals: PlanGoals, device: Device,
    presets: tuple[str, ...], sure: bool, tick: Tick,
) -> PlanQuestion:  # fmt: skip
    found = as_model(model, presets)
    if found.architecture is None:
        raise SpecError("a parameter count has no layers to divide; name a model or give its config.json", "MODEL")
    free = {name: tuple(values) for name, values in vary.items()}
    if settings.get("method") == ANY:
        settings["method"], free["method"] = None, ("full", "lora", "qlora")
    engine = settings.pop("engine", None)
    said = settled(None, settings, Training, TABLES)
    found = under(found, said)
    assert found.architecture is not None
    for name in free:
        if name not in (*Training.model_fields, *Parallelism.model_fields):
            raise SpecError(f"no setting {name!r:.60}{nearest(name, Training.model_fields)}", "vary")
        if name in said:
            raise SpecError(f"{name} is varied; leave it out, or add its value there", name, "vary")
        if name in ONE:
            raise SpecError(f"{name}: {ONE[name]}", "vary")
    if laid := next((name for name in SPLITS if name in said), None):
        raise SpecError("a plan shares the layers over stages itself; ask train for this one", laid)
    every = (*said.items(), *((name, value) for name, values in free.items() for value in values))
    check_alone(every, Training, Parallelism)
    engines = _engines(engine or free.pop("engine", None), said, free)
    base = {name: value for name, value in said.items() if name not in SPACE and name not in LAID_OUT}
    first = {name: values[0] for name, values in free.items() if name not in SPACE and name not in LAID_OUT}
    run = training_run(found.architecture, None, engine=engines[0], **(base | first))
    return PlanQuestion(found, found.architecture, said, free, engines, run, goals, presets, device, model, {}, sure, tick)


# What layouts of one plan have in common, and how it is said.
ONE = {
    "gpus": "several numbers of GPUs are gpus 8,16", "global_batch": "layouts are compared over one; give it as such",
    **dict.fromkeys(("seq_len", "seq_len_max", "tokens_per_batch"), "layouts are compared over the same sequences; give one"),
    **dict.fromkeys(
        (name for name in LAID_OUT if name not in ("gpus", "global_batch", "virtual_stages")),
        "follows from the layout; give it as such to have it in all of them",
    ),
}  # fmt: skip
SPLITS = ("pipeline_layout", "first_stage_layers", "last_stage_layers")


def _engines(asked: Any, said: Settings, free: Mapping[str, Any]) -> tuple[str, ...]:
    """The engines to try: those that were named, any, or the one that the settings belong to."""
    methods = free.get("method") or (said.get("method", "full"),)
    names: tuple[str, ...]
    if asked == ANY:
        adapting = [method in ADAPTING for method in methods if method in METHODS]
        names = tuple(dict.fromkeys((*(ANY_FULL if not all(adapting) else ()), *(ANY_ADAPTERS if any(adapting) else ()))))
    elif asked:
        names = tuple(asked) if isinstance(asked, (list, tuple)) else (asked,)
    else:
        names = ("deepspeed",) if "zero" in said or "zero" in free else ("torch",)
    for name in names:
        if name not in ENGINES:
            raise SpecError(f"{name!r:.40} is none of {', '.join(ENGINES)}, any{nearest(str(name), ENGINES)}", "engine")
    able = tuple(name for name in names if any(ENGINES[name].trains(method in ADAPTING) for method in methods))
    if not able:
        raise SpecError(f"{', '.join(names)} does not train by {', '.join(methods)}", "engine", "method")
    return able


def _searched(asked: PlanQuestion, gpu: Accelerator, gpus: int) -> _Searched:
    """Every layout on so many accelerators."""
    global_batch = asked.said.get("global_batch") or _batch(asked.run, gpus)
    sizes, beside = shape(asked.architecture), prediction_layers_of(asked.architecture)
    pinned = {name: value for name, value in asked.said.items() if name != "global_batch"}
    questions = [
        Question(engine, gpus, asked.run.parallelism.gpus_per_node, sizes.heads, sizes.layers - beside, beside, sizes.experts,
                 asked.run.seq_len, global_batch, pinned, _free(asked.free, engine))
        for engine in asked.engines
    ]  # fmt: skip
    ways = LayoutWays(asked, gpu)
    found = search(questions, ways, counted(asked.architecture), asked.goals.top, asked.tick)
    ranked = [_ranked(asked, gpu, ways, judged) for judged in found.best]
    kept = tuple(row for row in ranked if _keeps(row, asked.goals))
    beyond = tuple(row for row in ranked if not _keeps(row, asked.goals))
    missed = _ranked(asked, gpu, ways, found.nearest) if found.nearest else None
    why = "" if found.candidates else "; ".join(dict.fromkeys(why_none(question) for question in questions))
    return _Searched(gpu, gpus, global_batch, found, kept, beyond, missed, why)


def _free(free: Mapping[str, tuple[Any, ...]], engine: str) -> dict[str, tuple[Any, ...]]:
    """What is tried under an engine: of several methods those by which it trains."""
    methods = tuple(method for method in free.get("method", ()) if ENGINES[engine].trains(method in ADAPTING))
    return {**free, "method": methods} if methods else dict(free)


def _batch(run: Training, gpus: int) -> int:
    """Sequences of a global batch that nobody gave: a power of two."""
    most = min(SEQUENCES_A_GPU * gpus, max(1, TOKENS_AT_ONCE // run.seq_len))
    return int(2 ** (most.bit_length() - 1))


def _ranked(asked: PlanQuestion, gpu: Accelerator, ways: LayoutWays, judged: Judged) -> Ranked:
    answer = ways.sized(judged.layout)
    time_ = ways.time(answer.run)
    days, cost = _spent(asked.goals, gpu, answer.run, time_)
    fit = fit_of(answer)
    name = asked.name if isinstance(asked.name, str) else asked.model.name
    settings, command = ways.settings(judged.layout), ways.command(judged.layout)
    return Ranked(0, gpu, settings, command, name, answer.peak, fit, time_, days, cost, answer.run.parallelism.gpus_per_node)


def _spent(goals: PlanGoals, gpu: Accelerator, run: Training, found: StepTime) -> tuple[float | None, float | None]:
    """Days and USD of the tokens that are to be trained."""
    if goals.tokens is None:
        return None, None
    seconds = goals.tokens / found.tokens_per_second
    price = goals.price or (PRICES[gpu.id].usual if gpu.id in PRICES else None)
    return seconds / DAY, None if price is None else seconds / 3600 * run.parallelism.gpus * price


def _keeps(row: Ranked, goals: PlanGoals) -> bool:
    """Whether a layout keeps the goals."""
    late = goals.deadline is not None and (row.days or 0.0) > goals.deadline
    dear = goals.budget is not None and row.cost is not None and row.cost > goals.budget
    return not (late or dear)


def _plan(asked: PlanQuestion, searched: Sequence[_Searched], seconds: float) -> TrainingPlan:
    """All searches as one plan: the best of each number of GPUs and accelerator, and of all of them the best first."""
    rows = [row for each in searched for row in each.ranked]
    by_money = asked.goals.rank == "money" or (asked.goals.rank is None and len(searched) > 1)
    if by_money or len(searched) > 1:  # else the search has put them into order
        rows.sort(key=partial(_money, asked.goals) if by_money else _per_token)
    ranked = tuple(
        row._replace(rank=place + 1, lost=_lost(row.time, rows[0].time)) for place, row in enumerate(rows[: asked.goals.top])
    )
    best = [min(each.ranked, key=_per_token) for each in searched if each.ranked]
    worth = efficient([(_per_token(row), _money(asked.goals, row)) for row in best])
    offers = tuple(
        Offer(row.gpu.name, row.settings["gpus"], row.time.seconds, row.time.tokens_per_second, row.days, row.cost, good)
        for row, good in zip(best, worth, strict=True)
    )
    why: Counter[str] = sum((each.found.why for each in searched), Counter())
    missed = [each.missed for each in searched if each.missed]
    nearest_miss = None if ranked or not missed else max(missed, key=lambda row: row.fit.headroom)
    return TrainingPlan(
        ranked, offers, sum(each.found.candidates for each in searched), sum(each.found.estimated for each in searched),
        sum(each.found.fitting for each in searched), seconds, why, nearest_miss, "" if ranked else _note(asked, searched),
    )  # fmt: skip


def _per_token(row: Ranked) -> float:
    return 1 / float(row.time.tokens_per_second)


def _money(goals: PlanGoals, row: Ranked) -> float:
    """USD where a price is known, else GPU time: of a token."""
    price = goals.price or (PRICES[row.gpu.id].usual if row.gpu.id in PRICES else 1.0)
    return float(row.settings["gpus"] * price / row.time.tokens_per_second)


def _lost(found: StepTime, best: StepTime) -> str:
    """By how much a layout is slower a token than the first, and what of it takes the longest more."""
    slower = best.tokens_per_second / found.tokens_per_second - 1
    if abs(slower) < SAME:
        return ""
    a, b = (dict(zip(PARTS, (part / each.tokens for part in each.parts), strict=True)) for each in (found, best))
    more = {name: a[name] - b[name] for name in PARTS}
    name = (max if slower > 0 else min)(more, key=lambda name: more[name])
    return f"{slower:+.1%}: {'more' if more[name] > 0 else 'less'} {name.replace('_', ' ')}"


SAME = 5e-4


def _note(asked: PlanQuestion, searched: Sequence[_Searched]) -> str:
    """Which constraint binds where nothing is left."""
    beyond = [row for each in searched for row in each.beyond]
    if beyond:
        keys = {"fastest": _per_token} if asked.goals.deadline is not None else {}
        keys |= {"cheapest": partial(_money, asked.goals)} if asked.goals.budget is not None else {}
        return "; ".join(f"the {word} layout that fits {_spending(min(beyond, key=key))}" for word, key in keys.items())
    reasons = list(dict.fromkeys(each.why for each in searched if each.why))
    return "; ".join(reasons)


def _spending(row: Ranked) -> str:
    said = f"takes {row.days:,.3g} days on {row.settings['gpus']:,} × {row.gpu.name}"
    return said + (f" and costs {row.cost:,.0f} USD" if row.cost is not None else "")


def _assumptions(asked: PlanQuestion, searched: Sequence[_Searched]) -> tuple[str, ...]:
    """What was taken for granted."""
    out = []
    if "global_batch" not in asked.said and searched:
        batches = ", ".join(
            dict.fromkeys(f"{each.global_batch:,} on {counted_words(each.gpus, 'GPU')}" for each in searched[:8])
        )
        out.append(
            f"global batch of {batches}, as none was given ({SEQUENCES_A_GPU} sequences a GPU, at most "
            f"{TOKENS_AT_ONCE / 2**20:.0f} Mi tokens): --global-batch N"
        )
    if "seq_len" not in asked.said:
        out.append(f"sequences of {asked.run.seq_len:,} tokens, as no --seq-len was given")
    out.append(f"engine {', '.join(asked.engines)}; --engine any tries others")
    return tuple(out)
