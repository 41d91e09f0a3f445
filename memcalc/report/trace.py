"""The report of `memcalc trace`: memcalc's figures beside PyTorch's."""

from typing import Any

from memcalc.blocks.norm import Norm
from memcalc.estimates.training.estimate import TrainingEstimate
from memcalc.readers.models import Model
from memcalc.report.model import model_document
from memcalc.report.report import SCHEMA, Column, Report, Table
from memcalc.report.run import run_document
from memcalc.specs.training import Training
from memcalc.trace.blocks import EMBEDDING, HEAD, RESULT, TABLES, by_block
from memcalc.trace.step import Traced
from memcalc.units import counted

MEASURES = {
    "steady": "steady",
    "after_forward": "after the forward",
    "peak_forward_backward": "peak of forward and backward",
    "peak_optimizer_step": "peak of the optimizer's step",
}
Sizes = tuple[int | None, int]  # memcalc's bytes, None where it has no such block, and PyTorch's
TOLERANCE = 0.02  # of the totals; what the accuracy test holds
COMPARED = (Column("memcalc", "bytes"), Column("PyTorch", "bytes"), Column("error", "error"))


def report(model: Model, run: Training, found: TrainingEstimate, traced: Traced) -> Report:
    """`found` and `traced` are of the same few layers, `model` is the whole."""
    assert found.architecture is not None  # a bare count cannot be traced
    ours, theirs = ({name: getattr(side, name) for name in MEASURES} for side in (found, traced))
    blocks = _blocks(found, by_block(traced, found.architecture))
    errors = {name: _error(ours[name], theirs[name]) for name in MEASURES}
    worst = max(MEASURES, key=lambda name: abs(errors[name] or 0))
    largest = errors[worst] or 0
    tables = (
        Table(
            "Allocated, in total",
            (Column("moment"), *COMPARED),
            [(title, ours[name], theirs[name], errors[name]) for name, title in MEASURES.items()],
        ),
        Table(
            "What the forward leaves for the backward",
            (Column("block"), *COMPARED),
            [*((name, *sizes, _error(*sizes)) for name, sizes in blocks.items()), _total(blocks)],
            frozenset({len(blocks)}),
        ),
    )
    layers = len(traced.children)
    verdict = f"largest error of the totals {100 * largest:+.3f} %: {MEASURES[worst]}"
    return Report(
        {
            "schema": SCHEMA,
            "command": "trace",
            "model": {**model_document(model.name, model.architecture, model.parameters), "layers_traced": layers},
            "run": run_document(run),
            "per_gpu": ours,
            "traced": {**theirs, "peak_operation": traced.peak_operation},
            "errors": errors,
            "blocks": [
                {"path": name, "bytes": mine, "traced_bytes": torchs, "error": _error(mine, torchs)}
                for name, (mine, torchs) in blocks.items()
            ],
            "tensors": [kept._asdict() for kept in traced.kept],
            "kernels": traced.kernels,
            "versions": traced.versions,
            "assumptions": list(found.assumptions),
            "warnings": list(model.architecture.warnings if model.architecture else ()),
        },
        tables,
        f"{model.name}: {counted(layers, 'layer')} traced",
        verdict,
        "good" if abs(largest) <= TOLERANCE else "bad",
        _notes(found, traced),
        settings=f"{run.precision}, adamw ({run.optimizer_impl_used}), attention {run.attention}, "
        f"micro-batch {run.micro_batch} × {run.seq_len:,} tokens",
    )


def _notes(found: TrainingEstimate, traced: Traced) -> tuple[str, ...]:
    kernels = ", ".join(f"{name} × {count}" for name, count in traced.kernels.items())
    out = [
        "PyTorch: one step under fake tensors, allocating as on a CUDA device, each storage rounded to 512 B; "
        + ", ".join(f"{name} {version}" for name, version in traced.versions.items()),
        f"highest in {traced.peak_operation}" + (f"; attention kernels {kernels}" if kernels else ""),
    ]
    return (*out, found.rank.approximation) if found.rank.approximation else tuple(out)


def _blocks(found: TrainingEstimate, theirs: dict[str, int]) -> dict[str, Sizes]:
    """memcalc's lines and the traced tensors under common names, memcalc's order first."""
    ours: dict[str, int] = {}
    for entry in found.lines:
        if entry.component == "activations" and entry.place == "gpu":
            name = _name(entry.name, found)
            ours[name] = ours.get(name, 0) + entry.bytes
    return {name: (ours.get(name), theirs.get(name, 0)) for name in (*ours, *(n for n in theirs if n not in ours))}


def _name(line: str, found: TrainingEstimate) -> str:
    """The common name of one of memcalc's lines."""
    stage = found.rank.stage
    if line in {name for name, _ in stage.entry}:
        return EMBEDDING
    if line == "input":
        return RESULT
    if line == "loss" or line in {name for name, block in stage.exit if not isinstance(block, Norm)}:
        return HEAD
    return TABLES if line.startswith("rotary tables") else line


def _total(blocks: dict[str, Sizes]) -> tuple[Any, ...]:
    ours, theirs = (sum(sizes[side] or 0 for sizes in blocks.values()) for side in (0, 1))
    return "all", ours, theirs, _error(ours, theirs)


def _error(ours: int | None, theirs: int) -> float | None:
    return ours / theirs - 1 if theirs and ours is not None else None
