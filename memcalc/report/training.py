"""The report of `memcalc train`."""

from typing import Any

from memcalc.estimates.fit import Suggestion
from memcalc.estimates.lines import cited, weakest
from memcalc.estimates.moments import Moment
from memcalc.estimates.training import TrainingEstimate
from memcalc.readers.models import Model
from memcalc.report.model import model_document
from memcalc.report.report import SCHEMA, Column, Report, Table
from memcalc.specs.hardware import Accelerator
from memcalc.specs.training import Training
from memcalc.units import format_bytes, format_count

MARKS = {"exact": "", "estimate": "~", "assumed": "≈"}


def document(
    model: Model, run: Training, found: TrainingEstimate, gpu: Accelerator | None, suggestions: list[Suggestion]
) -> dict[str, Any]:
    """The JSON contract of `train`."""
    per_gpu: dict[str, Any] = dict(found.components)
    per_gpu |= {
        "trainable_parameters": found.trainable,
        "steady": found.steady,
        "after_forward": found.after_forward,
        "peak_forward_backward": found.peak_forward_backward,
        "peak_optimizer_step": found.peak_optimizer_step,
        "peak": found.peak,
        "peak_moment": found.highest.name,
        "low": found.low,
        "high": found.high,
        "reserved": found.reserved,
        "device": found.device,
        **dict(zip(("reserved_low", "reserved_high"), found.beyond("reserved"), strict=True)),
        **dict(zip(("device_low", "device_high"), found.beyond("device"), strict=True)),
        "pipeline_stage": found.stage,
    }
    out: dict[str, Any] = {
        "schema": SCHEMA,
        "command": "train",
        "model": model_document(model.name, model.architecture, model.parameters),
        "run": run_document(run),
        "per_gpu": per_gpu,
        "host": {"per_node": found.host_per_node, "nvme_per_node": found.nvme_per_node},
    }
    out["moments"] = [
        {**moment._asdict(), "states": found.steady, "allocated": found.steady + moment.bytes} for moment in _shown(found)
    ]
    if found.stages:
        out["ranks"] = [
            {"stage": stage, "peak": rank.peak, "peak_moment": rank.highest.name} for stage, rank in enumerate(found.stages)
        ]
    if gpu:
        headroom = gpu.usable - found.device
        out["gpu"] = {"name": gpu.name, "memory": gpu.vendor_bytes, "usable": gpu.usable, "fits": headroom >= 0,
                      "headroom": headroom}  # fmt: skip
        out["suggestions"] = [suggestion._asdict() for suggestion in suggestions]
    out["lines"] = [entry.document() for entry in found.lines]
    out["certainty"] = weakest(found.lines)
    out["assumptions"] = list(found.assumptions)
    out["warnings"] = list(model.architecture.warnings if model.architecture else ())
    out["sources"] = cited(found.lines)
    return out


def run_document(run: Training) -> dict[str, Any]:
    """The settings, as the sizing file spells them."""
    p = run.parallelism
    names = ("precision", "optimizer", "micro_batch", "grad_accum", "seq_len", "recompute", "attention", "method")
    out: dict[str, Any] = {name: getattr(run, name) for name in names}
    out |= {"engine": run.engine_row.name, "kernels": run.kernels_used, "loss": run.loss_used,
            "optimizer_impl": run.optimizer_impl_used}  # fmt: skip
    if run.adapts:
        out |= {"lora_rank": run.lora_rank, "lora_targets": list(run.lora_targets), "lora_dropout": run.lora_dropout}
    if run.method == "qlora":
        out["base_format"] = run.base_format
    if run.freeze:
        out["freeze"] = list(run.freeze)
    choices = ("recompute_every", "recompute_layers", "capacity_factor")
    out |= {name: value for name in choices if (value := getattr(run, name)) is not None}
    if run.capacity_factor:
        out["pad_to_capacity"] = run.pad_to_capacity
    if run.expert_imbalance > 1:
        out["expert_imbalance"] = run.expert_imbalance
    out["offload"] = list(run.offload)
    degrees = ("gpus", "gpus_per_node", "tp", "pp", "cp", "ep", "etp", "zero", "fsdp")
    out["parallelism"] = {name: getattr(p, name) for name in degrees}
    if p.cp > 1:
        out["parallelism"]["cp_kind"] = p.cp_kind
    out["parallelism"] |= {"strategy": p.strategy, "data_parallel": p.data_parallel, "shard_size": p.fsdp_shards}
    return out


def report(
    model: Model, run: Training, found: TrainingEstimate, gpu: Accelerator | None, suggestions: list[Suggestion]
) -> Report:
    rows: list[tuple[Any, ...]] = []
    scale = max(gpu.usable if gpu else 0, found.device)
    for component, size in found.components.items():
        lines = [entry for entry in found.lines if entry.component == component and entry.place == "gpu"]
        if not lines:
            continue
        mark = MARKS[weakest(lines)]
        rows.append((f"{component.replace('_', ' ')} {mark}".rstrip(), size, size / scale, size / scale))
        if len(lines) > 1:
            rows += [("  " + entry.name, entry.bytes, None, 0.0) for entry in lines]
    steady, states = found.steady, ("steady", found.steady, 0, 0, 0, found.steady)
    moments = [
        states,
        *((m.name, steady, m.activations, m.gradients, m.communication, steady + m.bytes) for m in _shown(found)),
    ]
    highest = max(range(len(moments)), key=lambda index: moments[index][-1])
    first = len(rows)
    peak_name = f"peak allocated ({found.highest.name})"
    rows.append((peak_name, found.peak, found.peak / scale, found.peak / scale))
    rows.append(("on the device (with context)", found.device, found.device / scale, found.device / scale))
    share = "of GPU" if gpu else "share"
    tables = [
        Table(
            "Per GPU" + (f" (heaviest rank, pipeline stage {found.stage})" if run.parallelism.pp > 1 else ""),
            (Column("component"), Column("memory", "bytes"), Column(share, "percent"), Column("", "bar")),
            rows,
            frozenset({first, first + 1}),
        ),
        Table(
            "What is alive when",
            (
                Column("moment"),
                Column("states", "bytes"),
                Column("activations", "bytes"),
                Column("gradients", "bytes"),
                Column("communication", "bytes"),
                Column("allocated", "bytes"),
            ),
            moments,
            frozenset({highest}),
        ),
    ]
    if found.host_per_node or found.nvme_per_node:
        tables.append(
            Table("Off the GPU, per node", (Column("where"), Column("memory", "bytes")),
                  [(k, v) for k, v in (("host memory", found.host_per_node), ("NVMe", found.nvme_per_node)) if v])
        )  # fmt: skip
    if suggestions:
        tables.append(
            Table("Smallest changes that fit", (Column("add"), Column("device", "bytes"), Column("left free", "bytes")),
                  suggestions)
        )  # fmt: skip
    verdict, tone = verdict_of(found.device, gpu.usable if gpu else None, bool(suggestions))
    notes = ["~ a formula with a stated error, ≈ a stated constant; everything else is counted exactly"]
    notes += [*found.assumptions, *(model.architecture.warnings if model.architecture else ())]
    return Report(
        document(model, run, found, gpu, suggestions),
        tuple(tables),
        heading(model, run, gpu),
        verdict,
        tone,
        tuple(notes),
    )


def _shown(found: TrainingEstimate) -> list[Moment]:
    """Each moment once, at its highest."""
    best: dict[str, Moment] = {}
    for moment in found.moments:
        if moment.name not in best or moment.bytes > best[moment.name].bytes:
            best[moment.name] = moment
    return list(best.values())


def heading(model: Model, run: Training, gpu: Accelerator | None) -> str:
    p = run.parallelism
    where = f"{p.gpus} × {gpu.name if gpu else 'GPU'}"
    degrees = [f"{name} {getattr(p, name)}" for name in ("tp", "pp", "cp", "ep", "etp") if getattr(p, name) > 1]
    batch = f"micro-batch {run.micro_batch} × {run.seq_len} tokens"
    method = "" if not run.adapts else f"{run.method} rank {run.lora_rank}"
    size = f"training, {format_count(model.parameters)} parameters"
    parts = [model.name, size, where, p.strategy, *degrees, run.precision, run.optimizer, method, batch]
    return ", ".join(part for part in parts if part)


def verdict_of(device: int, usable: int | None, has_suggestions: bool = True) -> tuple[str, str]:
    """Fits into so many bytes or not, by how much, in one sentence."""
    if usable is None:
        return f"needs {format_bytes(device)} per GPU (name a --gpu to see whether it fits)", ""
    headroom = usable - device
    total = format_bytes(usable)
    if headroom >= 0:
        return f"FITS: {format_bytes(device)} of {total}, {format_bytes(headroom)} free", "good"
    hint = "" if has_suggestions else "; no change that memcalc tries makes it fit"
    return f"DOES NOT FIT: {format_bytes(device)} of {total}, over by {format_bytes(-headroom)}{hint}", "bad"
