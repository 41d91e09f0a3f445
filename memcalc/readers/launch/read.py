"""A launch file, or a command line, → what it runs: one job or several, with what became of every key."""

import os
import re
from collections.abc import Sequence

from memcalc.errors import InputError, one_line
from memcalc.readers.files import MAX_LAUNCH_BYTES, Opened, on_disk, read_text
from memcalc.readers.launch.comments import hints_in, named_in_comments
from memcalc.readers.launch.containers import container_jobs, is_container
from memcalc.readers.launch.facts import Fact
from memcalc.readers.launch.inherited import KEY as INHERITS
from memcalc.readers.launch.inherited import with_parents
from memcalc.readers.launch.interpolated import interpolated
from memcalc.readers.launch.job import Job
from memcalc.readers.launch.json_text import read_json
from memcalc.readers.launch.kinds.llama_server import OLLAMA
from memcalc.readers.launch.nodes import Entry, Mapped, Node, entries, text_at
from memcalc.readers.launch.reading import Reading, read_entries
from memcalc.readers.launch.recognise import TITLES, keys_of, kind_of, structure
from memcalc.readers.launch.scripts import script_jobs
from memcalc.readers.launch.srt_slurm import is_srt, srt_jobs
from memcalc.readers.launch.toml_text import read_toml_text
from memcalc.readers.launch.values import words
from memcalc.readers.launch.vllm_recipes import is_recipe, recipe_jobs
from memcalc.readers.launch.yaml_text import read_yaml

SUFFIXES = {"json": "-json", "toml": "-toml", "yaml": "-yaml", "shell": "-sh"}
CATALOGUES = ((is_srt, srt_jobs), (is_recipe, recipe_jobs))  # files of several servers, beside Kubernetes' and compose's
MAX_REFERENCES = 8  # files that one file names, and those name


def read_launch(path: str, opened: Opened = on_disk) -> list[Job]:
    """The jobs of a launch file, files that it names read with it; none where `opened` knows no such file, which is not that of
    today. Raises InputError in one line with the place."""
    if not os.path.exists(path) and " " in path.strip():
        return _finished(script_jobs(path, "command line", lambda _: None), "", path, opened)
    text = read_text(path, MAX_LAUNCH_BYTES) if opened is on_disk else opened(path)
    if text is None:
        return []
    name = "stdin" if path == "-" else path
    folder = "" if path == "-" else os.path.dirname(path)
    return _finished(parse(text, name, folder, opened), folder, text, opened)


def parse(text: str, name: str, folder: str = "", opened: Opened = on_disk) -> list[Job]:
    """The jobs of a text; what its commands name is not read yet."""
    if "\0" in text:
        raise InputError("holds zero bytes, which no launch file does", place=name)
    shape = structure(text)
    if shape == "shell":
        return script_jobs(text, name, lambda path: _beside(path, folder, opened))
    if shape == "modelfile":
        return [_modelfile(text, name)]
    documents: list[Node] = (
        [read_json(text, name)]
        if shape == "json"
        else [read_toml_text(text, name)]
        if shape == "toml"
        else read_yaml(text, name)
    )
    if any(map(is_container, documents)):
        return container_jobs(
            documents, name, lambda text, line: script_jobs(text, name, lambda _: None, line), text.splitlines()
        )
    served = [job for node in documents for known, jobs in CATALOGUES if known(node) for job in jobs(node, name)]
    if served:
        return served
    found = [job for node in documents if (job := _structured(node, name, shape, folder, opened))]
    if not found:
        for node in documents:
            if isinstance(node, Mapped) and INHERITS in node.items and (missing := with_parents(node, name, folder, opened)[1]):
                raise InputError(missing[0])
        raise InputError(f"is of no kind that is known; kinds are {TITLES}, shell scripts, Kubernetes, compose", place=name)
    return found


def _structured(node: Node, name: str, shape: str, folder: str, opened: Opened) -> Job | None:
    if not isinstance(node, Mapped):
        return None
    part = text_at(node, "_target_")
    if part.startswith("verl."):
        raise InputError(f"is a part of verl's tree of configs ({one_line(part, 60)}), no run by itself", place=name)
    whole, notes = (
        with_parents(node, name, folder, opened) if shape == "yaml" and INHERITS in node.items else ([*entries(node, name)], [])
    )
    listed = interpolated(whole)
    kind = kind_of(keys_of(listed))
    if kind is None:
        return None
    label = kind.name.removesuffix("-yaml").removesuffix("-json").removesuffix("-toml").removesuffix("-args") + SUFFIXES[shape]
    return Job(os.path.basename(name), name, kind, label, read_entries(listed, *kind.keys, switch=kind.switch), tuple(notes))


def _modelfile(text: str, name: str) -> Job:
    listed = []
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r"\s*(FROM|ADAPTER|TEMPLATE|SYSTEM|LICENSE|MESSAGE)\s+(\S.*)$", line, re.IGNORECASE)
        parameter = re.match(r"\s*PARAMETER\s+(\w+)\s+(\S+)", line, re.IGNORECASE)
        if found:
            listed.append(Entry(found[1].upper(), found[2].strip(), number, name))
        elif parameter:
            listed.append(Entry(parameter[1], parameter[2], number, name))
    return Job(os.path.basename(name), name, OLLAMA, OLLAMA.name, read_entries(listed, *OLLAMA.keys))


def _beside(path: str, folder: str, opened: Opened) -> str | None:
    """A file that a script names, by its path from the script's folder, or that path's end; nothing outside is read."""
    from memcalc.errors import MemcalcError

    plain = os.path.normpath(path.replace("./", "").lstrip("/"))
    if "$" in path or os.path.isabs(path) or plain.startswith("..") or path == "-":
        return None
    for candidate in (os.path.join(folder, plain), os.path.join(folder, os.path.basename(plain))):
        try:
            if (text := opened(candidate)) is not None:
                return text
        except MemcalcError:
            return None
    return None


REFERENCES = ("deepspeed_file", "accelerate_file", "config_file")


def _finished(jobs: list[Job], folder: str, text: str, opened: Opened) -> list[Job]:
    """Named files joined in, the tool's defaults added, comments asked for hints."""
    out = []
    for job in jobs:
        joined = _joined(job, folder, opened)
        named_in_comments(text, joined.file, joined.reading)
        joined.kind.finish(joined.reading)
        hints = (*joined.hints, *hints_in(text, joined.file, joined.reading))
        out.append(joined._replace(hints=hints))
    if len(out) > 1:
        names: dict[str, int] = {}
        for index, job in enumerate(out):
            names[job.name] = names.get(job.name, 0) + 1
            if names[job.name] > 1:
                out[index] = job._replace(name=f"{job.name}-{names[job.name]}")
    return out


def _joined(job: Job, folder: str, opened: Opened) -> Job:
    """With the facts of files that it names, behind its own; what both say differently is a note."""
    notes = list(job.notes)
    reading, label = job.reading, job.label
    for _ in range(MAX_REFERENCES):
        named = [(name, reading.facts[name]) for name in REFERENCES if name in reading.facts and not reading.facts[name].why]
        if not named:
            break
        for name, fact in named:
            reading.facts[name] = fact._replace(why="read" if fact.entry is None else fact.entry.place)
            listed = words(str(fact.value))
            path = listed if isinstance(listed, str) else (listed or [""])[0]
            found = _beside(path, folder, opened)
            if found is None:
                guessed = _from_name(reading, path, fact) if name == "deepspeed_file" else ""
                notes.append(f"{fact.place}: {one_line(path, 80)} is not here; {guessed or UNREAD} (give it too)")
                continue
            for other in parse(found, os.path.join(folder, path), folder, opened)[:1]:
                reading, more = join(reading, other.reading)
                notes += more
    return job._replace(reading=reading, notes=tuple(notes), label=label)


def join(one: Reading, other: Reading) -> tuple[Reading, list[str]]:
    """Facts of two files of one run. The first one's stand, except "auto"; differences are told."""
    facts, notes = dict(one.facts), []
    for name, fact in other.facts.items():
        mine = facts.get(name)
        if mine is None or mine.value in ("auto", "deepspeed") or mine.entry is None:
            facts[name] = fact
        elif name in ("offload", "freeze") and isinstance(mine.value, list) and isinstance(fact.value, list):
            facts[name] = mine._replace(value=[*dict.fromkeys((*mine.value, *fact.value))])
        elif name == "recompute" and "none" in (mine.value, fact.value):  # each may switch it on: the trainer's, FSDP's own
            facts[name] = fact if mine.value == "none" else mine
        elif fact.value not in (mine.value, "auto") and fact.entry is not None and not _same(mine.value, fact.value):
            notes.append(
                f"{mine.place}: {name.replace('_', ' ')} {_shown(mine.value)}, but {fact.place} says {_shown(fact.value)}; "
                f"{mine.place} is taken"
            )
    if "strategy" in other.facts and facts["strategy"].value == "deepspeed":
        facts["strategy"] = other.facts["strategy"]
    return Reading(facts, [*one.imported, *other.imported]), notes


UNREAD = "what it says is not known"
STAGE = re.compile(r"(?:zero|stage|_z)_?([0-3])")


def _from_name(reading: Reading, path: str, fact: Fact) -> str:
    """The stage that the name of a DeepSpeed file speaks of, taken with a warning; empty where it speaks of none."""
    name = os.path.basename(path).lower()
    found = STAGE.search(name)
    if not found or ("strategy" in reading.facts and reading.facts["strategy"].value != "deepspeed"):
        return ""
    why = f"the name of {one_line(path, 80)}"
    reading.facts["strategy"] = Fact(f"zero-{found[1]}", fact.entry, why)
    reading.facts["zero_stage"] = Fact(int(found[1]), fact.entry, why)
    if "offload" in name:
        both = found[1] == "3" and "params" not in name
        moved = ["optimizer", "parameters"] if both else ["parameters"] if found[1] == "3" else ["optimizer"]
        reading.facts.setdefault("offload", Fact(moved, fact.entry, why))
    return f"ZeRO {found[1]} is taken, as its name says"


def _same(one: object, other: object) -> bool:
    return str(one).lower().replace("_", "-").removesuffix("-mixed") == str(other).lower().replace("_", "-").removesuffix(
        "-mixed"
    )


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def combine(jobs: Sequence[Job]) -> Job:
    """Files of one run as one: whichever names the model leads, the others join it."""
    first, *others = sorted(jobs, key=lambda job: (job.kind.task == "infer", "model" not in job.reading.facts,
                                                   job.kind.name in ("accelerate-yaml", "deepspeed-json")))  # fmt: skip
    reading, notes = first.reading, list(first.notes)
    for other in others:
        reading, more = join(reading, other.reading)
        notes += [*more, *other.notes]
    hints = tuple(hint for job in jobs for hint in job.hints)
    return Job(first.name, first.file, first.kind, " + ".join(dict.fromkeys(job.label for job in (first, *others))), reading,
               tuple(dict.fromkeys(notes)), hints)  # fmt: skip
