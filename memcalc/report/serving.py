"""The report of `memcalc infer`."""

from collections.abc import Iterable, Sequence
from typing import Any

from memcalc.estimates.lines import Figure, Line, cited, documents, weakest
from memcalc.estimates.serving.capacity import Capacity, OnGpu, ServingEstimate
from memcalc.estimates.serving.speed import Speed
from memcalc.estimates.suggestions import NO_ADVICE, Advice
from memcalc.formulas.bisection import Solved
from memcalc.formulas.verdict import Fit
from memcalc.readers.models import Model
from memcalc.report.memory import Memory
from memcalc.report.model import model_document, titled
from memcalc.report.report import CERTAINTY, SCHEMA, Column, Quantity, Report, Table, more
from memcalc.report.speed import speed_assumptions, speed_details, speed_document, speed_sentences, speed_tables
from memcalc.report.suggestions import nothing_helps, suggestions_document, suggestions_table
from memcalc.report.verdict import gpu_document, limit_sentences, needed_document, solved_document, solved_sentence, verdict_of
from memcalc.specs.hardware import Accelerator
from memcalc.specs.serving import Serving
from memcalc.units import counted, format_bytes

LIMITS = {
    "weights": "the weights, which leave no room",
    "cache": "the cache's memory",
    "max_sequences": "the sequences that the engine runs at once",
    "nothing": "nothing, since there is no cache",
}


def report(
    model: Model, run: Serving, found: ServingEstimate, gpu: Accelerator | None, speed: Speed | None = None,
    fit: Fit | None = None, withheld: int = 0, advice: Advice = NO_ADVICE, solved: Sequence[Solved] = (),
    host: Fit | None = None, gpus: Sequence[tuple[Accelerator | None, OnGpu, Fit | None]] = (),
) -> Report:  # fmt: skip
    capacity = found.capacity(gpu.allocatable, withheld) if gpu else None
    share = found.share(gpu.allocatable) if gpu else 1.0
    tables = [_memory(run, found, gpu, withheld), _cache(run, found, capacity, share)]
    if fit and advice.suggestions:
        tables.insert(1, suggestions_table(advice, fit.verdict))
    assumptions = found.assumptions
    details: tuple[Table, ...] = ()
    if speed:
        tables += speed_tables(speed)
        details = speed_details(speed)
        assumptions += (*speed_sentences(speed),)
    assumptions = tuple(dict.fromkeys((*assumptions, *limit_sentences(gpu))))
    hint = queue_sentence(run, capacity) or (nothing_helps(advice) if fit and not fit.fits else "")
    verdict, tone = verdict_of(found.needed, fit, hint)
    verdict += solved_sentence(solved)
    if host:
        verdict, tone = _with_host(verdict, tone, host)
    document = _document(model, run, found, gpu, capacity, speed, fit, withheld) | solved_document(solved)
    if host:
        document["host"] = document.get("host", {"weights": 0, "per_node": 0}) | fit_document(host)
    if gpus:
        document["gpus"] = [_on_gpu(*one) for one in gpus]
        tables.insert(1, _gpus(gpus))
    if fit:
        document |= suggestions_document(advice)
    names = [card.name for card, *_ in gpus if card]
    where = " + ".join(names) if len(set(names)) > 1 else f"{run.gpus} × {gpu.name}" if gpu else counted(run.gpus, "GPU")
    return Report(
        document,
        tuple(tables),
        f"{titled(model)}: serving on {where}",
        verdict,
        tone,
        settings=_settings(run),
        warnings=tuple(document["warnings"]),
        details=details,
        assumptions=(CERTAINTY, *assumptions),
        more=more(assumptions, document["sources"], "--details", marked=True),
    )


def _with_host(verdict: str, tone: str, host: Fit) -> tuple[str, str]:
    """The GPU's verdict with host memory's: the worse comes first."""
    said = f"{format_bytes(host.needed.bytes)} needed of {format_bytes(host.limit)}"
    if host.fits:
        return f"{verdict}; host memory: {said}", tone
    return f"DOES NOT FIT in host memory: {said}, over by {format_bytes(-host.headroom)}; on the GPU: {verdict}", "bad"


def fit_document(fit: Fit) -> dict[str, Any]:
    """A need beside a limit, as the JSON contract has it."""
    return {"needed": fit.needed.bytes, "limit": fit.limit, "headroom": fit.headroom, "verdict": fit.verdict, "fits": fit.fits}


def _on_gpu(card: Accelerator | None, on: OnGpu, fit: Fit | None) -> dict[str, Any]:
    own = {"id": card.id if card else None, "layers": on.layers, "peak": on.peak, "device": on.device}
    return own | (fit_document(fit) if fit else {"needed": on.needed.bytes})


def _gpus(gpus: Sequence[tuple[Accelerator | None, OnGpu, Fit | None]]) -> Table:
    """What each of several GPUs holds; the other tables are of the one with the least room."""
    rows: list[Sequence[Any]] = [
        (f"{number}: {card.name if card else 'GPU'}", Quantity(on.layers, "layers", f"{on.layers}"), _size(on.needed.bytes),
         _size(fit.limit) if fit else None, fit.verdict if fit else "")
        for number, (card, on, fit) in enumerate(gpus)
    ]  # fmt: skip
    columns = (
        Column("GPU"),
        Column("layers", "quantity"),
        Column("needed", "quantity"),
        Column("limit", "quantity"),
        Column("verdict"),
    )
    return Table("GPUs of the machine, above and below the one with the least room", columns, rows)


def queue_sentence(run: Serving, capacity: Capacity | None) -> str:
    """That an engine with a queue starts although not all requests fit at once; nothing where they do, or it has none."""
    most = capacity.max_batch if capacity else None
    if not most or most >= run.batch or not run.engine_row.pooled:
        return ""
    rest = f"request {most + 1} waits" if run.batch == most + 1 else f"requests {most + 1} to {run.batch:,} wait"
    return f"{run.engine} starts: {most:,} at once, {rest}"


def _settings(run: Serving) -> str:
    """What the numbers depend on, beside the model and the GPUs."""
    degrees = [f"{name} {getattr(run, name)}" for name in ("tp", "pp", "ep", "dp") if getattr(run, name) > 1]
    degrees += [f"{run.role} alone"] if run.role else []
    degrees += [f"attention in {run.attention_dp} groups"] if run.attention_dp > 1 else []
    requests = f"{counted(run.batch, 'request')} of {run.context:,} tokens"
    if run.slots:
        requests = f"{counted(run.slots, 'slot')} of one context of {run.context:,} tokens"
    return ", ".join((run.engine or "no engine", *degrees, f"weights {run.weights}", f"cache {run.kv_dtype}", requests))


def _memory(run: Serving, found: ServingEstimate, gpu: Accelerator | None, withheld: int) -> Table:
    """The parts of what these requests need, and what the engine takes where it takes a pool."""
    memory = Memory(gpu.limit if gpu else found.device)
    for component, lines in by_component(entry for entry in found.lines if entry.place == "gpu"):
        if any(entry.bytes for entry in lines):
            memory.component(TITLES.get(component, component), lines, experts=False)
    totals = [memory.add("needed by these requests", found.device, 0)]
    taken = found.device - found.cache + found.reserved(gpu.allocatable, withheld) if gpu else found.device
    if taken > found.device:
        totals.append(memory.add(f"on the device, with the whole pool of {run.engine}", taken, 0))
    return memory.table("", "per GPU", "of GPU" if gpu else "share", totals)


TITLES = {"kv_cache": "cache", "state": "recurrent state"}


def by_component(lines: Iterable[Line]) -> list[tuple[str, list[Line]]]:
    """Lines by component, in the order in which these first come."""
    out: dict[str, list[Line]] = {}
    for entry in lines:
        out.setdefault(entry.component, []).append(entry)
    return list(out.items())


def _cache(run: Serving, found: ServingEstimate, capacity: Capacity | None, share: float) -> Table:
    """What a token and a request take, and how many of them there is room for."""
    what = "request" if run.copies > 1 else "sequence"
    rows: list[tuple[str, Quantity | None]] = [
        ("cache of a token", _size(found.kv_cache_per_token)),
        (f"cache of a {what} of {run.context:,} tokens", _size(found.per_sequence)),
    ]
    if found.host:
        rows.append(("in host memory", _size(found.host)))
    if found.offloaded_tokens is not None:
        rows.append(("tokens of cache that host memory holds beside", _number(found.offloaded_tokens, "tokens")))
    title = "Cache"
    if capacity:
        given = run.kv_cache_memory is not None
        title = "Capacity of the cache's memory" if given else f"Capacity at {share:.0%} of the GPU"
        title += f", bound by {LIMITS[capacity.limit]}"
        rows.append((f"{what}s of {run.context:,} tokens at once", _number(capacity.max_batch, f"{what}s")))
        if capacity.kv_tokens != capacity.max_context:
            rows.append(("tokens of cache", _number(capacity.kv_tokens, "tokens")))
        rows.append((f"tokens a {what} can reach, {run.batch} at once", _number(capacity.max_context, "tokens")))
        if run.dp > 1 and capacity.max_batch is not None:
            rows.append((f"{what}s on all {run.dp} replicas", _number(run.dp * capacity.max_batch, f"{what}s")))
    return Table(title, (Column("per GPU"), Column("", "quantity")), rows)


def _size(size: int) -> Quantity:
    return Quantity(size, "B", format_bytes(size))


def _number(count: int | None, unit: str) -> Quantity | None:
    return None if count is None else Quantity(count, unit, f"{count:,}")


def _document(
    model: Model,
    run: Serving,
    found: ServingEstimate,
    gpu: Accelerator | None,
    capacity: Capacity | None,
    speed: Speed | None,
    fit: Fit | None,
    withheld: int,
) -> dict[str, Any]:
    reserved = found.reserved(gpu.allocatable, withheld) if gpu else found.cache
    out: dict[str, Any] = {
        "schema": SCHEMA,
        "command": "infer",
        "model": model_document(model.name, model.architecture, model.parameters),
        "run": {name: getattr(run, name) for name in type(run).model_fields},
        "per_gpu": {
            "weights": found.weights,
            "kv_cache": found.kv_cache,
            "kv_cache_per_token": found.kv_cache_per_token,
            "kv_cache_per_sequence": found.per_sequence,
            "kv_cache_reserved": reserved,
            "state": found.state,
            "activations": found.activations,
            "overhead": found.overhead,
            "peak": found.peak,
            "device": found.device - found.cache + reserved,
            **needed_document(found.needed),
        },
    }
    if found.host or run.engine_row.uses_host:
        standing = sum(entry.bytes for entry in found.lines if entry.place == "host" and entry.component != "activations")
        out["host"] = {"weights": standing, "per_node": found.host}
    if gpu and capacity and fit:
        out["run"]["gpu_memory_utilization"] = found.share(gpu.allocatable)
        out["gpu"] = gpu_document(gpu, fit)
        out["capacity"] = {
            "kv_cache_memory": capacity.memory,
            "kv_tokens": capacity.kv_tokens,
            "max_concurrency": capacity.max_concurrency,
            "max_batch": capacity.max_batch,
            "max_context": capacity.max_context,
            "limit": capacity.limit,
            "starts": capacity.max_batch is None or capacity.max_batch > 0,
            "waiting": max(0, run.batch - capacity.max_batch) if capacity.max_batch is not None else 0,
            "replicas": run.dp,
        }
        if found.offloaded_tokens is not None:
            out["capacity"]["offloaded_kv_tokens"] = found.offloaded_tokens
    figures: tuple[Figure, ...] = ()
    if speed:
        figures = speed.roofline.figures if speed.roofline else ()
        out["speed"] = speed_document(speed) | {"lines": [entry.document() for entry in figures]}
    out["lines"] = documents(found.lines)
    out["certainty"] = weakest(found.lines)
    out["assumptions"] = [
        *found.assumptions,
        *limit_sentences(gpu),
        *(speed_assumptions(speed) if speed else ()),
    ]
    out["warnings"] = list(model.architecture.warnings if model.architecture else ())
    out["sources"] = cited((*found.lines, *figures))
    return out
