"""The report of `memcalc train`."""

from typing import Any

from memcalc.estimates.lines import COMPONENTS, by_path, cited, weakest
from memcalc.estimates.training.estimate import Alive, TrainingEstimate
from memcalc.estimates.training.fit import Suggestion
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
    out["moments"] = [moment_document(alive, found.steady) for alive in found.alive]
    out["peak"] = {
        "moment": found.highest.name,
        "bytes": found.peak,
        "certainty": weakest(found.at_peak.lines),
        "lines": [entry.document() for entry in found.at_peak.lines],
        "sources": cited(found.at_peak.lines),
    }
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


def moment_document(alive: Alive, steady: int) -> dict[str, Any]:
    """A moment with the lines that are alive then."""
    moment = {name: getattr(alive.moment, name) for name in ("name", "activations", "gradients", "communication")}
    lines = [{"path": path, "bytes": size} for path, size in by_path(alive.lines).items()]
    return {**moment, "states": steady, "allocated": alive.allocated, "lines": lines}


def run_document(run: Training) -> dict[str, Any]:
    """The settings, as the sizing file spells them."""
    p = run.parallelism
    names = ("precision", "optimizer", "micro_batch", "grad_accum", "seq_len", "recompute", "attention", "method")
    out: dict[str, Any] = {name: getattr(run, name) for name in names}
    out |= {"engine": run.engine_row.name, "kernels": run.kernels_used, "loss": run.loss_used,
            "optimizer_impl": run.optimizer_impl_used}  # fmt: skip
    if run.adapts:
        out |= {"lora_rank": run.lora_rank, "lora_targets": list(run.lora_targets), "lora_dropout": run.lora_dropout}
    if run.method_row.quantised:
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
    tables = [peak_table(found, gpu), moments_table(found)]
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


def peak_table(found: TrainingEstimate, gpu: Accelerator | None) -> Table:
    """The parts of the peak, which add up to it, and what is on the device beside it."""
    scale = max(gpu.usable if gpu else 0, found.device)
    rows: list[tuple[Any, ...]] = []

    def row(name: str, size: int) -> None:
        rows.append((name, size, size / scale, size / scale))

    for component in COMPONENTS:
        lines = [entry for entry in found.at_peak.lines if entry.component == component]
        if not lines:
            continue
        row(f"{component.replace('_', ' ')} {MARKS[weakest(lines)]}".rstrip(), sum(entry.bytes for entry in lines))
        parts = by_path(lines)
        if len(parts) > 1:
            rows += [("  " + path.removeprefix(f"{component}/"), size, None, 0.0) for path, size in parts.items()]
    peak = len(rows)
    row(f"peak allocated ({found.highest.name})", found.peak)
    for entry in found.overhead:
        row(f"  {entry.name} {MARKS[entry.certainty]}".rstrip(), entry.bytes)
    row("  held unused by the allocator", found.reserved - found.peak - found.workspace)
    row("on the device", found.device)
    whose = f" (heaviest rank, pipeline stage {found.stage})" if found.run.parallelism.pp > 1 else ""
    columns = (
        Column("component"),
        Column("memory", "bytes"),
        Column("of GPU" if gpu else "share", "percent"),
        Column("", "bar"),
    )
    return Table(f"Per GPU, at the peak{whose}", columns, rows, frozenset({peak, len(rows) - 1}))


def moments_table(found: TrainingEstimate) -> Table:
    """What is allocated at each moment; the highest stands out."""
    states = found.steady
    rows = [("steady", states, 0, 0, 0, states), *((m.name, states, *m[1:], states + m.bytes) for m in found.shown)]
    highest = max(range(len(rows)), key=lambda index: rows[index][-1])
    kinds = ("states", "activations", "gradients", "communication", "allocated")
    columns = (Column("moment"), *(Column(kind, "bytes") for kind in kinds))
    return Table("What is alive when", columns, rows, frozenset({highest}))


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
