"""Plans of serving: where to put a model, in which format; or, without one, which models a machine can run."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memcalc.errors import MemcalcError, nearest
from memcalc.estimates.planning.counts import gpu_counts, growing
from memcalc.estimates.planning.search import INTERRUPTED
from memcalc.estimates.planning.serving import GGUF_ENGINES, Deployment, RankedService, ServicePlan, deployments, formats_of
from memcalc.estimates.training.activations import shape
from memcalc.formulas.energy import PRICES
from memcalc.sizing.answer import Reported, fit_of
from memcalc.sizing.invocation import Invocation
from memcalc.sizing.serving import SizedServing, size_serving
from memcalc.sizing.settings import settled, taken
from memcalc.sizing.subjects import AnyAccelerator, AnyModel, as_accelerator, as_model
from memcalc.specs.device import Device
from memcalc.specs.hardware import Accelerator
from memcalc.specs.planning import ServingGoals
from memcalc.specs.quantization import Mixture, stored_as
from memcalc.specs.serving import Serving, ServingQuestion
from memcalc.specs.spec import SpecError, check_alone

if TYPE_CHECKING:
    from memcalc.report.report import Report

GPUS_PER_NODE = 8
HERE = "llama.cpp"  # the engine that people run at home, whose formats are finest
HERE_OF = {"Apple": "mlx"}  # … and on whose accelerators another
BITS = {"BF16": 16.0, "Q8_0": 8.5, "Q6_K": 6.56, "Q5_K_M": 5.7, "Q4_K_M": 4.9, "Q3_K_M": 3.9}  # about: what is worth sizing
SLACK = 0.97  # of the memory, beyond which weights alone are not worth sizing
M = 1e6


class SizedServicePlan(Reported):
    """A plan of serving with what it was made for."""

    def __init__(self, plan: ServicePlan, heading: str, goals: ServingGoals, assumptions: tuple[str, ...]) -> None:
        self.plan, self.heading, self.goals, self.assumptions = plan, heading, goals, assumptions

    @property
    def best(self) -> RankedService | None:
        return self.plan.ranked[0] if self.plan.ranked else None

    def report(self) -> "Report":
        from memcalc.report.planning_serving import report

        return report(self.plan, self.heading, self.assumptions)


def plan_serving(
    model: AnyModel | None,
    gpu: "AnyAccelerator | Sequence[AnyAccelerator]",
    gpus: int | str | None = None,
    *,
    vary: Mapping[str, Sequence[Any]] | None = None,
    presets: Sequence[str] = (),
    tick: Callable[[int], None] = lambda done: None,
    **settings: Any,
) -> SizedServicePlan:
    """The best deployments of a model on `gpus` accelerators (a number, "1-8", "1,2,4"; None: as few as do it).

    `settings` are those of `size_serving` and of ServingGoals; `vary` names others with the values to try. Without a model:
    which of the presets one machine can run, the largest first, each in the finest format that fits. `tick` hears how many
    were sized; interrupted (KeyboardInterrupt), the plan is of what was found until then.

    >>> plan = plan_serving("llama-3.1-8b", "h100", 1, engine="vllm", context=8192).plan
    >>> plan.ranked[0].fit.fits
    True
    """
    began = time.perf_counter()
    goals = taken(settings, ServingGoals)
    named: list[Any] = list(gpu) if isinstance(gpu, (list, tuple)) else [gpu]
    device = taken(dict(settings), Device)
    accelerators = [(name, as_accelerator(name, presets, device)) for name in named]
    if not accelerators or any(found is None for _, found in accelerators):
        raise SpecError("a plan needs a gpu to run on", "gpu")
    free = {name: tuple(values) for name, values in (vary or {}).items()}
    said = {name: value for name, value in settings.items() if value is not None}
    for name in free:
        if name not in (*Serving.model_fields, *ServingQuestion.model_fields):
            raise SpecError(f"no setting {name!r:.60}{nearest(name, Serving.model_fields)}", "vary")
        if name in said:
            raise SpecError(f"{name} is varied; leave it out, or add its value there", name, "vary")
    every = (*said.items(), *((name, value) for name, values in free.items() for value in values))
    check_alone(every, Serving, ServingQuestion)
    if model is None:
        return _here(accelerators, gpus, said, goals, tuple(presets), tick, began)
    found = as_model(model, presets)
    if found.architecture is None:
        raise SpecError("a parameter count has no layers to divide; name a model or give its config.json", "MODEL")
    taken(dict(said), ServingQuestion)  # values that are none are refused before anything is tried
    plain = {name: value for name, value in said.items() if name in Serving.model_fields}
    settled(None, plain, Serving)  # names that are none are refused before anything is tried
    sizes, engine = shape(found.architecture), said.get("engine")
    word = model if isinstance(model, str) else found.name
    rows: list[RankedService] = []
    why: Counter[str] = Counter()
    candidates, note = 0, ""
    try:
        for name, accelerator in accelerators:
            assert accelerator is not None
            for count in growing() if gpus is None else gpu_counts(gpus, GPUS_PER_NODE):
                before = len(rows)
                for served in deployments(engine, count, GPUS_PER_NODE, sizes.heads, sizes.experts, said, free):
                    candidates += 1
                    tick(candidates)
                    row = _ranked(model, word, name, accelerator, served, tuple(presets), goals, why)
                    rows += [row] if row and _keeps(row, goals, why) else []
                if gpus is None and (len(rows) > before or count >= MOST):
                    break
    except KeyboardInterrupt:
        note = INTERRUPTED
    rows.sort(key=_order(goals))
    ranked = tuple(row._replace(rank=place + 1) for place, row in enumerate(rows[: goals.top]))
    plan = ServicePlan(ranked, candidates, len(rows), time.perf_counter() - began, why, note)
    return SizedServicePlan(plan, found.name, goals, _assumptions(said, goals))


MOST = 64  # GPUs at which a search for the fewest gives up


def _ranked(
    model: AnyModel, name: str, gpu_name: AnyAccelerator, gpu: Accelerator, served: Deployment, presets: tuple[str, ...],
    goals: ServingGoals, why: Counter[str],
) -> RankedService | None:  # fmt: skip
    """One deployment; None where it does not fit, or nobody knows how fast it is."""
    settings = dict(served.settings)
    if settings.get("concurrency"):
        settings["concurrency"] = max(1, -(-settings["concurrency"] // served.replicas))
    try:
        answer = size_serving(model, gpu, presets=presets, **settings)
        if answer.verdict == "no":
            why["does not fit"] += 1
            return None
        timed = answer.speed.timed if answer.speed else None
    except MemcalcError as error:
        why[str(error)] += 1
        return None
    if timed is None:
        why[(answer.speed.untimed or answer.speed.reason) if answer.speed else "no speed"] += 1
        return None
    if timed.ttft is None and (goals.ttft is not None or settings.get("concurrency")):
        why[f"{gpu.name} has no published dense peak, so no time to a first token"] += 1
        return None
    rate = timed.requests_per_second
    output = settings.get("output_len") or answer.run.max_new_tokens
    tokens = (rate * output if rate and output else timed.decode_rate) * served.replicas
    price = goals.price or (PRICES[gpu.id].usual if gpu.id in PRICES else None)
    usd = None if price is None else served.gpus * price / 3600 / tokens * M
    command = str(Invocation("infer", model, gpu_name, presets, settings))
    return RankedService(
        0, name, gpu, served, command, answer.peak, fit_of(answer), timed.ttft, timed.tpot, tokens,
        rate * served.replicas if rate else None, usd, parameters=answer.model.parameters,
    )  # fmt: skip


def _keeps(row: RankedService, goals: ServingGoals, why: Counter[str]) -> bool:
    for name in ("ttft", "tpot"):
        limit, found = getattr(goals, name), getattr(row, name)
        if limit is not None and found is not None and found > limit:
            why[f"{name} above {limit:g} s"] += 1
            return False
    return True


def _order(goals: ServingGoals) -> Callable[[RankedService], tuple[float, ...]]:
    if goals.rank == "speed":
        return lambda row: (-row.tokens_per_second, row.seconds_of_gpus)
    return lambda row: (
        row.usd_per_m_output_tokens if row.usd_per_m_output_tokens is not None else row.seconds_of_gpus, row.tpot
    )  # fmt: skip


def _assumptions(said: Mapping[str, Any], goals: ServingGoals) -> tuple[str, ...]:
    out = []
    if "weights" not in said:
        out.append(
            f"formats tried: {', '.join(word or 'as stored' for word in formats_of(said.get('engine')))}; they differ in "
            "quality, which is not ranked: --weights settles one"
        )
    if "concurrency" not in said:
        out.append("one request at a time a copy: --concurrency N with --input-len and --output-len asks under load")
    if goals.price is None:
        out.append("prices: a dated list's usual one of the accelerator (`memcalc budget`), where it has one")
    return tuple(out)


# --- what can run here ---------------------------------------------------------------------------------------------------


def _here(
    accelerators: Sequence[tuple[Any, Accelerator | None]], gpus: int | str | None, said: dict[str, Any], goals: ServingGoals,
    presets: tuple[str, ...], tick: Callable[[int], None], began: float,
) -> SizedServicePlan:  # fmt: skip
    """Models of the presets that fit, the largest first, each in the finest format; then those that need the host."""
    if len(accelerators) > 1 or gpus not in (None, 1, "1"):
        raise SpecError("without a MODEL: what one GPU can run; give one gpu", "gpu", "gpus")
    name, gpu = accelerators[0]
    assert gpu is not None
    engine = said.setdefault("engine", HERE_OF.get(gpu.vendor, HERE))
    said.setdefault("context", 8192)
    why: Counter[str] = Counter()
    rows: list[RankedService] = []
    candidates, note, whole = 0, "", goals.top
    ram = said.pop("ram", None) or 0
    try:
        for model, formats in _worth(gpu, said, engine, presets):
            if len(rows) >= goals.top:
                break
            for word in formats:
                candidates += 1
                tick(candidates)
                row = _ranked(model, model, name, gpu, _alone(said, word), presets, goals, why)
                if row and _keeps(row, goals, why):
                    rows.append(row)
                    break
        whole = len(rows)
        if ram and engine in GGUF_ENGINES:
            coarsest = said.get("weights") or formats_of(engine)[-1]
            for model, _ in _worth(gpu, {**said, "weights": coarsest}, engine, presets, ram):
                if len(rows) >= whole + -(-goals.top // 2):
                    break
                if model not in {row.model for row in rows}:
                    candidates += 1
                    tick(candidates)
                    row = _offloaded(model, name, gpu, _alone(said, coarsest), presets, goals, why, ram)
                    rows += [row] if row and _keeps(row, goals, why) else []
    except KeyboardInterrupt:
        note = INTERRUPTED
    ranked = tuple(row._replace(rank=place + 1) for place, row in enumerate(rows))
    tried = ", ".join(word or "its own format" for word in formats_of(engine))
    order = f"the largest first, each in the finest of {tried} that fits, {said['context']:,} tokens of context, {engine}"
    order += "; then those with layers in host memory, the largest first" if len(rows) > whole else ""
    plan = ServicePlan(ranked, candidates, len(rows), time.perf_counter() - began, why, note)
    return SizedServicePlan(plan, f"What {gpu.name} can run", goals, (order,))


def _alone(said: Mapping[str, Any], word: str) -> Deployment:
    return Deployment({**said, **({"weights": word} if word else {})}, 1, 1)


def _worth(
    gpu: Accelerator, said: Mapping[str, Any], engine: str, presets: tuple[str, ...], ram: int = 0
) -> Iterator[tuple[str, tuple[str, ...]]]:  # fmt: skip
    """Models whose weights alone leave room, the largest first, with the formats in which they do."""
    from memcalc.readers.preset_index import model_facts

    limit = gpu.limit * SLACK + ram
    formats = (said["weights"],) if "weights" in said else formats_of(engine)
    for facts in sorted(model_facts(presets), key=lambda facts: -facts["parameters"]):
        own = 2.0 if facts["dtype"] in ("bf16", "fp16", "fp32", "float32") else 1.0
        sized = tuple(word for word in formats if facts["parameters"] * _bytes_of(word, own) <= limit)
        if sized and (facts["context"] or 0) >= said["context"]:
            yield facts["id"], sized


def _bytes_of(word: str, own: float) -> float:
    if word in BITS:
        return BITS[word] / 8
    if not word:
        return own
    stored = stored_as(word)
    return ((stored.bits if isinstance(stored, Mixture) else 0.0) or stored.stored.bits_per_value) / 8


def _offloaded(
    model: str, name: Any, gpu: Accelerator, served: Deployment, presets: tuple[str, ...], goals: ServingGoals,
    why: Counter[str], ram: int,
) -> RankedService | None:  # fmt: skip
    """The same with as many layers on the GPU as fit, the others in host memory, if that has room for them."""
    try:
        found: SizedServing = size_serving(model, gpu, presets=presets, **{**served.settings, "gpu_layers": "max"})
    except MemcalcError as error:
        why[str(error)] += 1
        return None
    layers = found.run.gpu_layers
    if not layers or found.host > ram:
        why["more than the host's memory"] += 1
        return None
    away = Deployment({**served.settings, "gpu_layers": layers}, 1, 1)
    row = _ranked(model, model, name, gpu, away, presets, goals, why)
    assert found.model.architecture is not None
    depth = shape(found.model.architecture).layers
    return row._replace(offloaded=max(0, depth - layers)) if row else None
