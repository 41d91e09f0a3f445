"""The report of `memcalc infer`."""

from typing import Any

from memcalc.estimates.lines import cited, weakest
from memcalc.estimates.serving import ServingEstimate
from memcalc.readers.models import Model
from memcalc.report.model import model_document
from memcalc.report.report import SCHEMA, Column, Report, Table
from memcalc.report.training import verdict_of
from memcalc.specs.hardware import Accelerator
from memcalc.specs.serving import Serving
from memcalc.units import format_count


def report(model: Model, run: Serving, found: ServingEstimate, gpu: Accelerator | None) -> Report:
    scale = max(gpu.usable if gpu else 0, found.device)
    rows = [
        (entry.path.replace("_", " ").replace("/", ": ", 1), entry.bytes, entry.bytes / scale, entry.bytes / scale)
        for entry in found.lines
    ]
    rows.append(("total on the device", found.device, found.device / scale, found.device / scale))
    tables = [
        Table(
            "Per GPU",
            (
                Column("component"),
                Column("memory", "bytes"),
                Column("of GPU" if gpu else "share", "percent"),
                Column("", "bar"),
            ),
            rows,
            frozenset({len(rows) - 1}),
        )
    ]
    capacity = capacity_document(run, found, gpu)
    facts: list[tuple[str, Any]] = [
        ("cache per token", found.kv_cache_per_token),
        ("cache per sequence", found.per_sequence),
    ]
    tables.append(Table("Cache", (Column("per GPU"), Column("memory", "bytes")), facts))
    if capacity:
        tables.append(
            Table(f"Capacity at {run.gpu_memory_utilization:.0%} of the GPU", (Column("what fits"), Column("count", "number")),
                  [(f"sequences of {run.context} tokens", capacity["max_batch"]), ("tokens of cache", capacity["kv_tokens"]),
                   (f"tokens a sequence can reach, {run.batch} at once", capacity["max_context"])])
        )  # fmt: skip
    limit = int(gpu.usable * run.gpu_memory_utilization) if gpu else None
    verdict, tone = verdict_of(found.device, limit)
    heading = ", ".join(
        (
            model.name,
            f"serving, {format_count(model.parameters)} parameters",
            f"{run.gpus} × {gpu.name if gpu else 'GPU'}",
            f"weights {run.weights}",
            f"cache {run.kv_dtype}",
            f"{run.batch} × {run.context} tokens",
        )
    )
    return Report(_document(model, run, found, gpu, capacity), tuple(tables), heading, verdict, tone, found.assumptions)


def capacity_document(run: Serving, found: ServingEstimate, gpu: Accelerator | None) -> dict[str, Any] | None:
    """capacity.*: None without a GPU to fill."""
    if gpu is None:
        return None
    batch = found.max_batch(gpu.usable, run.gpu_memory_utilization)
    room = found.room(gpu.usable, run.gpu_memory_utilization)
    tokens = room // found.kv_cache_per_token if found.kv_cache_per_token else None
    context = found.max_context(gpu.usable, run.gpu_memory_utilization, run.batch)
    return {"max_batch": batch, "max_concurrency": batch, "max_context": context, "kv_tokens": tokens}


def _document(
    model: Model, run: Serving, found: ServingEstimate, gpu: Accelerator | None, capacity: dict[str, Any] | None
) -> dict[str, Any]:
    out: dict[str, Any] = {
        "schema": SCHEMA,
        "command": "infer",
        "model": model_document(model.name, model.architecture, model.parameters),
        "run": {name: getattr(run, name) for name in run.__dataclass_fields__},
        "per_gpu": {
            "weights": found.weights,
            "kv_cache": found.kv_cache,
            "kv_cache_per_token": found.kv_cache_per_token,
            "kv_cache_per_sequence": found.per_sequence,
            "state": found.state,
            "overhead": found.overhead,
            "peak": found.peak,
            "device": found.device,
        },
    }
    if gpu:
        headroom = int(gpu.usable * run.gpu_memory_utilization) - found.device  # the engine takes no more than its share
        out["gpu"] = {"name": gpu.name, "memory": gpu.vendor_bytes, "usable": gpu.usable, "fits": headroom >= 0,
                      "headroom": headroom}  # fmt: skip
        out["capacity"] = capacity
    out["lines"] = [entry.document() for entry in found.lines]
    out["certainty"] = weakest(found.lines)
    out["assumptions"] = list(found.assumptions)
    out["warnings"] = list(model.architecture.warnings if model.architecture else ())
    out["sources"] = cited(found.lines)
    return out
