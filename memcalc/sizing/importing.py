"""Launch files as questions of memcalc: which run or server is meant, its settings, and what became of every key."""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from memcalc.errors import InputError, Unsupported, nearest
from memcalc.frozen import NamedTuple
from memcalc.readers.files import Opened, on_disk
from memcalc.readers.launch.job import Job
from memcalc.readers.launch.question import LaunchQuestion, question_of
from memcalc.readers.launch.read import combine, read_launch
from memcalc.readers.launch.settings import ASKED

PARTS = ("deepspeed-json", "accelerate-yaml")  # kinds that belong to a run which another file names
# A setting that is said in other words takes the place of these of a file
RIVALS: tuple[frozenset[str], ...] = (
    frozenset(("zero", "fsdp", "ddp", "shard_size", "reduce_bucket_size", "auto_buckets", "sub_group_size", "overlap_comm",
               "hpz_partition_size")),
    frozenset(("micro_batch", "tokens_per_batch")),
    frozenset(("grad_accum", "global_batch")),
    frozenset(("recompute", "recompute_every", "recompute_layers", "recompute_method", "recompute_num_layers",
        "recompute_modules")),
    frozenset(("optimizer", "optimizer_impl", "optimizer_in_backward")),
    frozenset(("gpu_memory_utilization", "kv_cache_memory")),
    frozenset(("slots", "batch", "unified")),
    frozenset(("kv_dtype", "cache_type_k", "cache_type_v")),
)  # fmt: skip
OF_ADAPTERS = ("lora_rank", "lora_targets", "lora_dropout", "adapter_dtype", "base_format", "train_also", "kbit_prepare",
               "expert_adapters")  # fmt: skip
OF_DEGREE = {"pp": ("pipeline_schedule", "virtual_stages", "first_stage_layers", "last_stage_layers", "pipeline_layout"),
    "cp": ("cp_kind",),
             "tp": ("sequence_parallel", "tp_overlap")}  # fmt: skip


class LaunchedJob(NamedTuple):
    """A run or a server of launch files, and the question that it comes to."""

    job: Job
    question: LaunchQuestion


def launched(*files: str | os.PathLike[str], opened: Opened = on_disk) -> list[LaunchedJob]:
    """All runs and servers of launch files, or command lines; files of one run are joined. FILE#NAME is one of several.
    `opened`: reads them, and the files that they name, elsewhere than on disk.

    Raises InputError, in one line with file and line, for what is no launch file.
    """
    if not files:
        raise InputError("no launch file is given", place="FILE")
    return [LaunchedJob(job, question_of(job)) for job in _joined([_chosen(os.fspath(file), opened) for file in files])]


def _chosen(file: str, opened: Opened) -> list[Job]:
    """The jobs of a file, or the one that is named behind #, by name or by its place from 1."""
    path, mark, wanted = file.rpartition("#")
    if not mark or os.path.exists(file) or not os.path.exists(path):
        return read_launch(file, opened)
    jobs = read_launch(path, opened)
    found = [job for index, job in enumerate(jobs, 1) if wanted in (job.name, str(index))]
    if not found and opened is on_disk:
        names = [job.name for job in jobs]
        raise InputError(f"holds {', '.join(names)}, not {wanted!r:.60}{nearest(wanted, names)}", place=path)
    return found


def _joined(groups: Sequence[list[Job]]) -> list[Job]:
    if len(groups) == 1:
        return groups[0]
    flat = [job for group in groups for job in group]
    whole = [job for job in flat if job.kind.name not in PARTS and ("model" in job.reading.facts or job.kind.task == "infer")]
    if len(whole) <= 1 and all(len(group) == 1 for group in groups):
        return [combine(flat)]
    if len(whole) == len(flat):
        return flat
    part = next(job for job in flat if job not in whole)
    raise InputError(
        f"belongs to one of {len(whole)} runs that the other files name; give the files of one run at a time", place=part.file
    )


def asked_from(
    command: str, files: Sequence[str], model: Any, gpu: str | None, said: Mapping[str, Any], *, unasked: Collection[str] = ()
) -> "FromFiles":
    """MODEL, GPU and settings for `command` of launch files and of what was said beside them, which wins.

    `unasked`: settings that may be missing. Raises InputError where another is, and for what is no launch file.
    """
    jobs = launched(*files)
    fitting = [found for found in jobs if found.question.command == command]
    if not fitting:
        other = jobs[0]
        raise InputError(f"holds {other.job.kind.title}; memcalc {other.question.command} sizes it", place=other.job.file)
    if len(fitting) > 1:
        names = ", ".join(found.job.name for found in fitting)
        raise InputError(f"holds {len(fitting)}: {names}; choose one with --from FILE#NAME", place=fitting[0].job.file)
    return asked_of(fitting[0], model, gpu, said, unasked=unasked)


def asked_of(
    found: LaunchedJob, model: Any, gpu: str | None, said: Mapping[str, Any], *, unasked: Collection[str] = ()
) -> "FromFiles":
    """The same of a run or server that was read already."""
    given = {name: value for name, value in said.items() if value is not None and value != ()}
    settings = merged({name: setting.value for name, setting in found.question.settings.items()}, given)
    _check_objective(found, settings)
    there = {*unasked, "pp"} if gpu and "+" in gpu else unasked  # a machine says how many cards it has
    missing = [name for name in found.question.asks if name not in there and not _said(name, model, settings)]
    if model is None and found.question.model is None:
        raise InputError("no file names the model; give MODEL", place=found.job.file)
    if missing:
        raise InputError(
            f"no file says {' and '.join(name.replace('_', ' ') for name in missing)}; "
            f"add {' '.join(ASKED.get(name, option_of(name)) for name in missing)}",
            place=found.job.file,
        )
    return FromFiles(model if model is not None else found.question.model, gpu or found.question.gpu, settings, found)


class FromFiles(NamedTuple):
    """What to size, and where it was read."""

    model: Any
    gpu: str | None
    settings: dict[str, Any]
    found: LaunchedJob


def option_of(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _said(name: str, model: Any, settings: Mapping[str, Any]) -> bool:
    return (
        model is not None
        if name == "model"
        else name in settings or name == "optimizer" or (name in ("micro_batch", "seq_len") and "tokens_per_batch" in settings)
    )


def _check_objective(found: LaunchedJob, settings: Mapping[str, Any]) -> None:
    """An objective that no estimate knows is refused by name, with the place that asks for it."""
    from memcalc.specs.batches import OBJECTIVES

    objective = settings.get("objective")
    if objective is not None and objective not in OBJECTIVES:
        fact = found.job.reading.facts.get("algorithm")
        place = fact.entry.place if fact and fact.entry else found.job.file
        raise Unsupported(f"{place}: {objective} is imported with all its facts, but sizing this objective is not modelled yet")


def merged(files: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of files under what was said, which takes the place of what says the same in other words.

    >>> merged({"zero": 3, "sub_group_size": 9, "micro_batch": 2}, {"fsdp": "full"})
    {'micro_batch': 2, 'fsdp': 'full'}
    """
    dropped = {name for rivals in RIVALS if rivals & said.keys() for name in rivals}
    if said.get("method") in ("full", "qat"):
        dropped |= set(OF_ADAPTERS)
    for degree, names in OF_DEGREE.items():
        if said.get(degree) == 1:
            dropped |= set(names)
    if "gpus" in said and "micro_batch" in files:
        dropped |= {"global_batch"} if "grad_accum" in files else set()
    return {name: value for name, value in files.items() if name not in dropped} | dict(said)


def warnings_of(found: LaunchedJob) -> tuple[str, ...]:
    """What should be read with a sizing: doubts of the reading, what matters and is not modelled, what is not known."""
    job, question = found.job, found.question
    matters = [
        f"{row.entry.place}: {row.entry.key} {_value(row.entry.value)}: {row.unknown}"
        for row in job.reading.imported
        if row.matters
    ]
    strange = [f"{row.entry.key} ({row.entry.place})" for row in job.reading.imported if row.unknown and not row.matters]
    if strange:
        more = f" and {len(strange) - 8} more" if len(strange) > 8 else ""
        matters.append(f"keys that are not known: {', '.join(strange[:8])}{more}")
    return (*job.notes, *question.warnings, *matters)


def _value(value: object) -> str:
    from memcalc.errors import one_line

    return one_line(" ".join(value) if isinstance(value, list) else str(value), 80)
