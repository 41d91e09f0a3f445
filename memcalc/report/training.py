"""The report of `memcalc train`."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from memcalc.estimates.lines import COMPONENTS, by_path, cited, documents, weakest
from memcalc.estimates.suggestions import Advice
from memcalc.estimates.training.estimate import Alive, TrainingEstimate
from memcalc.estimates.training.lifecycle import Outside
from memcalc.formulas.bisection import Solved
from memcalc.formulas.verdict import Fit
from memcalc.readers.models import Model
from memcalc.report.memory import Memory
from memcalc.report.model import model_document, titled
from memcalc.report.report import CERTAINTY, MARKS, SCHEMA, Column, Report, Table, more
from memcalc.report.run import run_document, settings
from memcalc.report.suggestions import nothing_helps, suggestions_document, suggestions_table
from memcalc.report.verdict import gpu_document, limit_sentences, needed_document, solved_document, solved_sentence, verdict_of
from memcalc.specs.training import Training
from memcalc.units import counted, format_bytes

if TYPE_CHECKING:
    from memcalc.estimates.step_time.horizon import Timed
    from memcalc.report.stacked import Stacked
    from memcalc.specs.hardware import Accelerator


def document(
    model: Model, run: Training, found: TrainingEstimate, gpu: "Accelerator | None", advice: Advice,
    fit: Fit | None, solved: Sequence[Solved] = (), timed: "Timed | None" = None,
) -> dict[str, Any]:  # fmt: skip
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
        **needed_document(found.needed),
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
        "lines": documents(found.at_peak.lines),
        "sources": cited(found.at_peak.lines),
    }
    out["start"] = [outside_document(found, moment, fit) for moment in found.start]
    out["save"] = [outside_document(found, moment, fit, disk=True) for moment in found.save]
    if found.stages:
        out["ranks"] = [
            {"stage": stage, "peak": rank.peak, "peak_moment": rank.highest.name} for stage, rank in enumerate(found.stages)
        ]
    out |= solved_document(solved)
    if gpu and fit:
        out["gpu"] = gpu_document(gpu, fit)
        out |= suggestions_document(advice)
    if timed and timed.step:
        from memcalc.report.step_time import time_document

        out["time"] = time_document(timed.step, timed.run)
    out["lines"] = documents(found.lines)
    out["certainty"] = weakest(found.lines)
    out["assumptions"] = [*found.assumptions, *limit_sentences(gpu), *_time_sentences(timed)]
    out["warnings"] = [*(model.architecture.warnings if model.architecture else ()), *outside_warnings(found, fit)]  # fmt: skip
    out["sources"] = cited(found.lines)
    return out


def moment_document(alive: Alive, steady: int) -> dict[str, Any]:
    """A moment with the lines that are alive then."""
    moment = {name: getattr(alive.moment, name) for name in ("name", "activations", "gradients", "communication")}
    lines = [{"path": path, "bytes": size} for path, size in by_path(alive.lines).items()]
    return {**moment, "states": steady, "allocated": alive.allocated, "lines": lines}


def outside_document(found: TrainingEstimate, moment: Outside, fit: Fit | None, *, disk: bool = False) -> dict[str, Any]:
    """A moment outside the step, with a verdict of its own."""
    device = found.outside(moment)
    out: dict[str, Any] = {"name": moment.name, "note": moment.note, "allocated": moment.allocated, "device": device,
                           "host_per_node": moment.host_per_node}  # fmt: skip
    if disk:
        out["disk"] = moment.on_disk
    if fit:
        out["verdict"] = "fits" if device <= fit.limit else "no"
    return out | {"lines": [{"path": path, "bytes": size} for path, size in by_path(moment.lines).items()]}


def outside_warnings(found: TrainingEstimate, fit: Fit | None) -> tuple[str, ...]:
    """Which moments outside the step do not fit into the GPU."""
    return tuple(
        f"{moment.name} needs {format_bytes(found.outside(moment))} on the GPU of {format_bytes(fit.limit)}: {moment.note}"
        for moment in (*found.start, *found.save)
        if fit and found.outside(moment) > fit.limit
    )


def report(
    model: Model, run: Training, found: TrainingEstimate, gpu: "Accelerator | None", advice: Advice,
    fit: Fit | None, solved: Sequence[Solved] = (), timed: "Timed | None" = None,
) -> Report:  # fmt: skip
    tables = [peak_table(found, gpu)]
    if found.host_per_node or found.nvme_per_node:
        tables.append(
            Table("Off the GPU, per node", (Column("where"), Column("memory", "bytes")),
                  [(k, v) for k, v in (("host memory", found.host_per_node), ("NVMe", found.nvme_per_node)) if v])
        )  # fmt: skip
    if fit and advice.suggestions:
        tables.append(suggestions_table(advice, fit.verdict))
    verdict, tone = verdict_of(found.needed, fit, nothing_helps(advice))
    verdict += solved_sentence(solved)
    return Report(
        document(model, run, found, gpu, advice, fit, solved, timed),
        tuple(tables),
        heading(model, run, gpu),
        verdict,
        tone,
        settings=settings(model, run),
        timing=_time_line(timed),
        warnings=(
            *(model.architecture.warnings if model.architecture else ()),
            *outside_warnings(found, fit),
        ),
        pages=(partial(memory_timeline, found, fit),),
        details=(moments_table(found), *outside_tables(found), *_time_tables(timed)),
        assumptions=(
            CERTAINTY,
            *(small := (*found.assumptions, *limit_sentences(gpu), *_time_sentences(timed))),
        ),
        more=more(small, cited(found.lines), "--moments", marked=True),
    )


def _time_sentences(timed: "Timed | None") -> tuple[str, ...]:
    """What a step's time takes for granted, what is not in it, or why there is none."""
    if timed is None or timed.step is None:
        return (f"no time of a step: {timed.reason}",) if timed and timed.reason else ()
    from memcalc.report.step_time import time_sentences

    left_out = (timed.left_out,) if timed.left_out else ()
    return (*time_sentences(timed.step, timed.run, timed.source), *left_out)


def _time_line(timed: "Timed | None") -> str:
    if timed is None or timed.step is None:
        return ""
    from memcalc.report.step_time import time_line

    return time_line(timed.step, timed.run)


def _time_tables(timed: "Timed | None") -> tuple[Table, ...]:
    if timed is None or timed.step is None:
        return ()
    from memcalc.report.step_time import time_table

    return (time_table(timed.step),)


def peak_table(found: TrainingEstimate, gpu: "Accelerator | None") -> Table:
    """The parts of the peak, which add up to it, and what is on the device beside it."""
    memory = Memory(gpu.limit if gpu else found.device)
    experts = any(entry.name.startswith("experts") for entry in found.at_peak.lines)
    for component in COMPONENTS:
        if lines := [entry for entry in found.at_peak.lines if entry.component == component]:
            memory.component(component.replace("_", " "), lines, experts=experts)
    peak = memory.add("peak allocated", found.peak, 0)
    for entry in found.overhead:
        memory.add(f"{entry.name} {MARKS[entry.certainty]}".rstrip(), entry.bytes, 1)
    memory.add("held unused by the allocator", found.reserved - found.peak - found.workspace, 1)
    device = memory.add("on the device", found.device, 0)
    whose = f"Heaviest rank, pipeline stage {found.stage}" if found.run.parallelism.pp > 1 else ""
    return memory.table(whose, f"per GPU at the peak: {found.highest.name}", "of GPU" if gpu else "share", (peak, device))


def memory_timeline(found: TrainingEstimate, fit: Fit | None) -> "Stacked":
    """What is alive at each moment of the step, beside what a process can get."""
    from memcalc.report.stacked import Stacked

    parts = ("states", "activations", "gradients", "communication")
    chronological = sorted(found.alive, key=lambda alive: turn(alive.moment.name))
    rows = [
        (alive.moment.name, (found.steady, alive.moment.activations, alive.moment.gradients, alive.moment.communication))
        for alive in chronological
    ]
    return Stacked(
        "What is allocated, moment by moment", [name for name, _ in rows], parts, [values for _, values in rows],
        [format_bytes(alive.allocated) for alive in chronological], fit.limit if fit else None,
        "the line is what a process can get; context, communicator and unused segments come on top" if fit else "",
    )  # fmt: skip


# The backward goes from the last layer to the first; what stands in no row keeps its place between these.
TURNS = {"backward of the last layer": 1, "backward of the second-last layer": 2, "backward of the second layer": 4,
         "backward of the first layer": 5, "gradient of the embedding": 6, "optimizer step": 9}  # fmt: skip


def turn(name: str) -> int:
    """When a moment comes, for a sort that is stable."""
    return TURNS.get(name, 3 if name.startswith("backward") else 0)


def moments_table(found: TrainingEstimate) -> Table:
    """What is allocated at each moment; the highest stands out."""
    states = found.steady
    rows = [("steady", states, 0, 0, 0, states), *((m.name, states, *m[1:], states + m.bytes) for m in found.shown)]
    highest = max(range(len(rows)), key=lambda index: rows[index][-1])
    kinds = ("states", "activations", "gradients", "communication", "allocated")
    columns = (Column("moment"), *(Column(kind, "bytes") for kind in kinds))
    return Table("What is alive when", columns, rows, frozenset({highest}), marks={highest: "peak"})


def outside_tables(found: TrainingEstimate) -> tuple[Table, ...]:
    """What is held while the model is loaded and saved."""
    rows = [
        (moment.name, found.outside(moment), moment.host_per_node, moment.on_disk) for moment in (*found.start, *found.save)
    ]
    columns = (Column("moment"), *(Column(name, "bytes") for name in ("on the device", "host, per node", "on disk")))
    return (Table("Outside the step", columns, rows),) if rows else ()


def heading(model: Model, run: Training, gpu: "Accelerator | None") -> str:
    gpus = run.parallelism.gpus
    where = f"{gpus} × {gpu.name}" if gpu else counted(gpus, "GPU")
    return f"{titled(model)}: training on {where}"
