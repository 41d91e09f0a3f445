"""Shell scripts and command lines → jobs: the programs that they start, with launcher, variables and SLURM's lines."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memcalc.errors import InputError, MemcalcError, one_line
from memcalc.readers.launch.arguments import options
from memcalc.readers.launch.facts import Fact
from memcalc.readers.launch.job import Job
from memcalc.readers.launch.kind import Kind
from memcalc.readers.launch.kinds.accelerate import ACCELERATE
from memcalc.readers.launch.kinds.common import IDLE
from memcalc.readers.launch.kinds.deepspeed import DEEPSPEED
from memcalc.readers.launch.kinds.llama_server import LLAMA_SERVER, OLLAMA
from memcalc.readers.launch.kinds.megatron import MEGATRON
from memcalc.readers.launch.kinds.sglang import SGLANG
from memcalc.readers.launch.kinds.swift import SWIFT
from memcalc.readers.launch.kinds.swift_serve import SWIFT_SERVE
from memcalc.readers.launch.kinds.transformers import TRL
from memcalc.readers.launch.kinds.trtllm import TRTLLM
from memcalc.readers.launch.kinds.vllm import VLLM
from memcalc.readers.launch.meanings import Ignored, KeyTable, Unmodelled, folded, meaning_of
from memcalc.readers.launch.nodes import Entry
from memcalc.readers.launch.programs import LAUNCHER_KEYS, FoundProgram, find, script_at
from memcalc.readers.launch.reading import Reading, read_entries, take
from memcalc.readers.launch.recognise import kind_of
from memcalc.readers.launch.shell.run import Runner, Started
from memcalc.readers.launch.values import unresolved

SBATCH = re.compile(r"^#SBATCH\s+(--?[\w-]+)(?:[=\s]+(\S+))?", re.MULTILINE)
SLURM: KeyTable = {
    "nodes": "nodes", "N": "nodes", "gres": LAUNCHER_KEYS["gres"], "gpus_per_node": "gpus_per_node", "gpus": "gpus",
    "G": "gpus",
    "gpus_per_task": Ignored("of a task", True), "ntasks_per_node": IDLE, "*": Ignored("of the batch system", True),
}  # fmt: skip
VARIABLES: KeyTable = {
    "CUDA_VISIBLE_DEVICES": "visible_gpus", "NPROC_PER_NODE": "gpus_per_node", "NNODES": "nodes",
    "MAX_PIXELS": Unmodelled("how large images may be"),
    "VLLM_PP_LAYER_PARTITION": "pp_layers", "SGLANG_PP_LAYER_PARTITION": "pp_layers",
}  # fmt: skip
OPTION_OF = {"llama.cpp": "LLAMA_ARG_"}
PARTS = (ACCELERATE, DEEPSPEED)  # kinds that belong to a run
POSITIONAL = (VLLM, SGLANG, TRTLLM)


def script_jobs(
    text: str, name: str, opened: Callable[[str], str | None], line: int = 1
) -> list[Job]:  # fmt: skip
    """Every program of a known kind that a script starts. Raises InputError where there is none."""
    slurm = [Entry(found[1].lstrip("-"), found[2] or "true", text.count("\n", 0, found.start()) + 1, name)
             for found in SBATCH.finditer(text)]  # fmt: skip
    batch = read_entries(slurm, SLURM)
    jobs: list[Job] = []
    for asked in (False, True):  # then with every branch that an argument of the script decides
        runner = Runner(name, opened, asked=asked)
        runner.variables.update(_slurm(batch))
        runner.follow(text, line)
        jobs = _started(runner, name, batch, text.splitlines())
        if jobs:
            break
    else:
        notes = f" ({runner.script.notes[0]})" if runner.script.notes else ""
        raise InputError(
            f"starts no program that is known: vllm serve, torchrun, accelerate, deepspeed, trl, swift …{notes}", place=name
        )
    return _main(jobs)


def _started(runner: Runner, name: str, batch: Reading, source: list[str]) -> list[Job]:
    """Each program once, however often a loop starts it."""
    jobs = []
    seen: set[tuple[str, ...]] = set()
    for command in runner.script.commands:
        found = find(command.words) or _by_its_file(command, runner)
        words = tuple(word.text for word in command.words)
        if found and words not in seen:
            seen.add(words)
            jobs.append(_job(found, command, name, batch, source, runner))
    return jobs


def _main(jobs: list[Job]) -> list[Job]:
    """The training runs or servers; a client beside its server names the same model and sets nothing, and what a script
    tries out behind its training is no server of it."""
    sized = [job for job in jobs if len(job.reading.facts) > 2]
    return [job for job in sized if job.kind is not SWIFT_SERVE] or sized or jobs


def _slurm(batch: Reading) -> dict[str, str | list[str]]:
    """What SLURM tells a script of its own lines."""
    found: dict[str, str | list[str]] = {}
    values: Mapping[str, Any] = {name: fact.value for name, fact in batch.facts.items()}
    for name, variables in (("nodes", ("SLURM_NNODES", "SLURM_JOB_NUM_NODES")),
                            ("gpus_per_node", ("SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE"))):  # fmt: skip
        if name in values:
            found |= {variable: str(values[name]) for variable in variables}
    return found


def _job(
    found: FoundProgram, command: Started, name: str, batch: Reading, source: list[str], runner: Runner
) -> Job:  # fmt: skip
    kind = found.kind
    listed, alone = options(found.words, name)
    launcher, _ = options(found.launcher, name)
    written = lines_of_options(source)
    reading = Reading(dict(batch.facts), list(batch.imported))
    for entry in _environment(command, kind.name, source, name):
        take(reading, entry, meaning_of(entry.key, VARIABLES, LLAMA_SERVER.keys[0], OLLAMA.keys[0]))
    for entry in (_placed(entry, source, written) for entry in launcher):
        take(reading, entry, meaning_of(entry.key, LAUNCHER_KEYS))
    _name(reading, found, command.line, name)
    notes = list(runner.script.notes)
    files = [word.text for word in alone if word.text.endswith((".yaml", ".yml", ".json", ".toml"))]
    if kind in POSITIONAL and alone and not any(folded(entry.key) in ("model", "model_path") for entry in listed):
        listed.insert(0, Entry("model", alone[0].text, alone[0].line, name))
    for entry in (_placed(entry, source, written) for entry in listed):
        if (
            folded(entry.key) in NAMING
            and isinstance(entry.value, str)
            and meaning_of(entry.key, *kind.keys) != "accelerate_file"
        ):
            files.append(entry.value)
            take(reading, entry, Ignored("its settings are read, where it is here"))
        else:
            _take(reading, entry, kind)
    reading.facts.pop("config_file", None)
    for path in files:
        beside = runner.script.files.get(path)
        beside = runner.opened(path) if beside is None else beside
        if beside is not None:
            reading = _under(reading, beside, path, kind.keys)
        elif not unresolved(path):
            notes.append(f"{name}: {one_line(path, 80)} is not here; what it says is not known (give it too)")
    notes += [
        f"{name}:{word.line}: {variable} is not set in the file; options that it holds are not known"
        for word in alone if (variable := unresolved(word.text))
    ]  # fmt: skip
    if any("$@" in line for line in source):
        notes.append(f'{name}: "$@" may override anything')
    label = f"slurm-{kind.name}" if batch.facts else kind.name
    label = label.removesuffix("-args").removesuffix("-yaml").removesuffix("-json").removesuffix("-toml")
    label = "hf-args" if label == "hf" else label
    suffix = "" if batch.facts and kind is MEGATRON else "-sh"
    short = re.sub(r"\.(sh|bash|sbatch|slurm)$", "", name.rpartition("/")[2]) or "command"
    return Job(short, name, kind, label + suffix, reading, tuple(dict.fromkeys(notes)))


NAMING = (
    "config",
    "config_file",
    "job.config_file",
    "extra_llm_api_options",
)  # options that name a file of the program's own settings


def _name(reading: Reading, found: FoundProgram, line: int, file: str) -> None:
    """The program's name is a fact, and of some it says the objective."""
    if not found.name:
        return
    fact = Fact(found.name, Entry("", found.name, line, file))
    if found.kind in (SWIFT, TRL):
        reading.facts["command"] = fact
        if found.kind is TRL:
            reading.facts["algorithm"] = fact._replace(value=found.name.split()[-1])
    else:
        reading.facts["script"] = fact


def _take(reading: Reading, entry: Entry, kind: Kind) -> None:
    """One option; --no-x of a known x is its opposite."""
    meaning, plain = meaning_of(entry.key, *kind.keys), folded(entry.key)
    if (
        plain.startswith("no_")
        and isinstance(positive := meaning_of(plain[3:], *kind.keys), str)
        and not isinstance(meaning, str)
    ):
        take(reading, entry._replace(value="false"), positive)
    else:
        take(reading, entry, meaning)


def _entries(text: str, path: str) -> list[Entry]:
    """The keys of a YAML, JSON or TOML; of several documents the first."""
    from memcalc.readers.launch.json_text import read_json
    from memcalc.readers.launch.nodes import entries
    from memcalc.readers.launch.toml_text import read_toml_text
    from memcalc.readers.launch.yaml_text import read_yaml

    if path.endswith(".toml"):
        return [*entries(read_toml_text(text, path), path)]
    documents = [read_json(text, path)] if text.lstrip().startswith("{") else read_yaml(text, path)
    return [entry for node in documents[:1] for entry in entries(node, path)]


# Programs that show, move or change files, whatever is in them
UTILITIES = frozenset((
    "cat", "less", "more", "head", "tail", "grep", "sed", "awk", "cp", "mv", "rm", "ln", "ls", "chmod", "chown",
    "touch", "tee", "diff", "wc", "yq", "jq", "envsubst", "echo", "printf", "test", "scp", "rsync", "tar", "zip",
    "unzip", "stat", "du", "find", "mkdir", "curl", "wget",
))  # fmt: skip


def _by_its_file(command: Started, runner: Runner) -> FoundProgram | None:
    """A program whose options say little, and which reads a file of a known kind: run_sft.py --config recipe.yaml."""
    if command.words and command.words[0].text.rpartition("/")[2] in UTILITIES:
        return None
    for at, word in enumerate(command.words):
        path = word.text.partition("=")[2] if word.text.startswith("--") else word.text
        if not path.endswith((".yaml", ".yml", ".json", ".toml")):
            continue
        text = runner.script.files.get(path)
        text = runner.opened(path) if text is None else text
        try:
            kind = kind_of([entry.key for entry in _entries(text, path)]) if text else None
        except MemcalcError:
            continue
        if kind is not None and kind not in PARTS:
            script = script_at([each.text for each in command.words[:at]])
            return FoundProgram(kind, command.words[:script], command.words[script + 1 if script else 0 :], "")
    return None


def _under(reading: Reading, text: str, path: str, keys: tuple[KeyTable, ...]) -> Reading:
    """A YAML or JSON that a command names, or writes: its keys in the command's own table, behind the command's words."""
    own = read_entries(_entries(text, path), *keys)
    beside = {name: fact for name, fact in own.facts.items() if name not in reading.facts}
    return Reading({**reading.facts, **beside}, [*reading.imported, *own.imported])


def _placed(entry: Entry, source: list[str], written: Mapping[str, list[int]]) -> Entry:
    """With the line on which an option really stands: one that a variable brought was written elsewhere, last."""
    here = source[entry.line - 1] if 0 < entry.line <= len(source) else ""
    if entry.key in here or entry.key not in written:
        return entry
    return entry._replace(line=written[entry.key][-1])


WRITTEN = re.compile(r"(?<![\w-])-{0,2}([A-Za-z_][\w.-]*)")


def lines_of_options(source: Sequence[str]) -> dict[str, list[int]]:
    """Where each word that could be an option is written, comments left out."""
    found: dict[str, list[int]] = {}
    for number, line in enumerate(source, 1):
        if not line.lstrip().startswith("#"):
            for word in WRITTEN.findall(line):
                found.setdefault(word, []).append(number)
    return found


def _environment(command: Started, kind: str, source: list[str], name: str) -> list[Entry]:
    """Variables that say something by themselves."""
    out = []
    for variable, value in command.variables.items():
        if variable in VARIABLES or variable.startswith(OPTION_OF.get(kind, "\0")):
            line = next((number for number, text in enumerate(source, 1) if f"{variable}=" in text), command.line)
            if variable == "CUDA_VISIBLE_DEVICES" and not unresolved(value):
                value = str(len([part for part in value.split(",") if part.strip()]))
            out.append(Entry(variable, value, line, name))
    return out
