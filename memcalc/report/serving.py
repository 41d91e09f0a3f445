"""The report of `memcalc infer`."""

from collections.abc import Sequence
from typing import Any

from memcalc.estimates.lines import Figure, cited, documents, weakest
from memcalc.estimates.serving.estimate import Capacity, ServingEstimate
from memcalc.estimates.serving.speed import Speed
from memcalc.formulas.bisection import Solved
from memcalc.formulas.verdict import Fit
from memcalc.readers.models import Model
from memcalc.report.model import model_document
from memcalc.report.report import SCHEMA, Column, Report, Table
from memcalc.report.roofline import roofline_tables, speed_document
from memcalc.report.training import gpu_document, limit_sentences, needed_document, solved_document, solved_sentence, verdict_of
from memcalc.specs.hardware import Accelerator
from memcalc.specs.serving import Serving
from memcalc.units import format_count

LIMITS = {
    "weights": "the weights, which leave no room",
    "cache": "the cache's memory",
    "max_sequences": "the sequences that the engine runs at once",
    "nothing": "nothing, since there is no cache",
}


def report(
    model: Model, run: Serving, found: ServingEstimate, gpu: Accelerator | None, speed: Speed | None = None,
    fit: Fit | None = None, withheld: int = 0, solved: Sequence[Solved] = (),
) -> Report:  # fmt: skip
    capacity = found.capacity(gpu.allocatable, withheld) if gpu else None
    tables = [_memory(found, gpu), _cache(run, found)]
    if gpu and capacity:
        tables.append(_capacity(run, capacity, run.utilization(gpu.allocatable)))
    notes = found.assumptions
    if speed and speed.roofline:
        tables += roofline_tables(speed.roofline)
        notes += (*speed.roofline.reasons, *speed.roofline.assumptions)
    elif speed:
        notes += (f"no speed: {speed.reason}",)
    notes += limit_sentences(gpu)
    verdict, tone = verdict_of(found.needed, fit)
    verdict += solved_sentence(solved)
    heading = ", ".join(
        (
            model.name,
            f"serving, {format_count(model.parameters)} parameters",
            f"{run.gpus} × {gpu.name if gpu else 'GPU'}",
            *((run.engine,) if run.engine else ()),
            f"weights {run.weights}",
            f"cache {run.kv_dtype}",
            f"{run.batch} × {run.context} tokens",
        )
    )
    document = _document(model, run, found, gpu, capacity, speed, fit, withheld) | solved_document(solved)
    return Report(document, tuple(tables), heading, verdict, tone, tuple(dict.fromkeys(notes)))


def _memory(found: ServingEstimate, gpu: Accelerator | None) -> Table:
    scale = gpu.limit if gpu else found.device
    on_gpu = [entry for entry in found.lines if entry.place == "gpu"]
    rows: list[tuple[Any, ...]] = [
        (f"{entry.component.replace('_', ' ')}: {entry.name}", entry.bytes, entry.bytes / scale, entry.bytes / scale)
        for entry in on_gpu
    ]
    rows.append(("total on the device", found.device, found.device / scale, found.device / scale))
    columns = (
        Column("component"),
        Column("memory", "bytes"),
        Column("of GPU" if gpu else "share", "percent"),
        Column("", "bar"),
    )
    return Table("Per GPU", columns, rows, frozenset({len(rows) - 1}))


def _cache(run: Serving, found: ServingEstimate) -> Table:
    rows: list[tuple[Any, ...]] = [
        ("cache per token", found.kv_cache_per_token),
        ("cache per request" if run.copies > 1 else "cache per sequence", found.per_sequence),
    ]
    if found.host:
        rows.append(("in host memory", found.host))
    return Table("Cache", (Column("per GPU"), Column("memory", "bytes")), rows)


def _capacity(run: Serving, capacity: Capacity, share: float) -> Table:
    given = run.kv_cache_memory is not None
    title = "Capacity of the cache's memory" if given else f"Capacity at {share:.0%} of the GPU"
    title += f", bound by {LIMITS[capacity.limit]}"
    what = "requests" if run.copies > 1 else "sequences"
    rows: list[tuple[Any, ...]] = [
        (f"{what} of {run.context} tokens", capacity.max_batch),
        ("tokens of cache", capacity.kv_tokens),
        (f"tokens a sequence can reach, {run.batch} at once", capacity.max_context),
    ]
    if run.dp > 1:
        rows.append((f"{what} on all {run.dp} replicas", None if capacity.max_batch is None else run.dp * capacity.max_batch))
    return Table(title, (Column("what fits"), Column("count", "number")), rows)


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
    if found.host:
        out["host"] = {"weights": found.host, "per_node": found.host}
    if gpu and capacity and fit:
        out["run"]["gpu_memory_utilization"] = run.utilization(gpu.allocatable)
        out["gpu"] = gpu_document(gpu, fit)
        out["capacity"] = {
            "kv_cache_memory": capacity.memory,
            "kv_tokens": capacity.kv_tokens,
            "max_concurrency": capacity.max_concurrency,
            "max_batch": capacity.max_batch,
            "max_context": capacity.max_context,
            "limit": capacity.limit,
            "replicas": run.dp,
        }
    figures: tuple[Figure, ...] = ()
    if speed:
        figures = speed.roofline.figures if speed.roofline else ()
        out["speed"] = speed_document(speed.roofline, speed.reason) | {"lines": [entry.document() for entry in figures]}
    out["lines"] = documents(found.lines)
    out["certainty"] = weakest(found.lines)
    out["assumptions"] = [
        *found.assumptions,
        *limit_sentences(gpu),
        *(speed.roofline.assumptions if speed and speed.roofline else ()),
    ]
    out["warnings"] = list(model.architecture.warnings if model.architecture else ())
    out["sources"] = cited((*found.lines, *figures))
    return out
