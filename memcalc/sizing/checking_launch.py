"""Launch files as scenarios of `check`: each run or server of a file must fit, tight at the worst."""

from typing import Any

from memcalc.errors import InputError, MemcalcError, Problem, Several
from memcalc.readers.files import Opened, on_disk
from memcalc.readers.sizing import Named
from memcalc.readers.toml_lines import SettingPlaces
from memcalc.sizing.importing import LaunchedJob, asked_of, launched, warnings_of
from memcalc.sizing.subjects import Subjects, as_model
from memcalc.sizing.training import training_run
from memcalc.specs.device import Device
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.serving import Serving, ServingQuestion
from memcalc.specs.sizing import Limits, Scenario
from memcalc.specs.spec import SpecError

HELD = Limits(verdict="tight")  # launch files name no limits of their own


def launch_scenarios(
    path: str, subjects: Subjects, gpu: str | None, gpus: int | None, wanted: str = "", opened: Opened = on_disk
) -> list[Named]:
    """The runs and servers of one launch file whose names hold `wanted`, on `gpu`; runs that do not say on how many, on `gpus`.

    Raises Several, with all that is wrong with them."""
    named: list[Named] = []
    problems: list[Problem] = []
    jobs = launched(path, opened=opened)
    for job in jobs:
        if wanted.lower() not in job.job.name.lower():
            continue
        try:
            named.append(_named(job, subjects, gpu, gpus))
        except MemcalcError as error:
            message = str(error).removeprefix(f"{job.job.file}: ").replace("; add --pp ", "; add --gpus ")
            problems.append(Problem(message, job.job.file, _line(job, error), job.job.name))
    if problems:
        raise Several(problems)
    return named


def _line(job: LaunchedJob, error: MemcalcError) -> int:
    """Of the setting that is wrong; 0 where no line says it."""
    lines = _lines(job)
    fields = error.fields if isinstance(error, SpecError) else ()
    return next((lines[name] for name in fields if name in lines), 0)


def _lines(job: LaunchedJob) -> dict[str, int]:
    """Setting → the line of the job's own file that says it."""
    facts = job.job.reading.facts
    return {
        name: fact.entry.line
        for name, setting in job.question.settings.items()
        for fact in (facts[each] for each in setting.facts if each in facts)
        if fact.entry and fact.entry.file == job.job.file
    }


def _named(job: LaunchedJob, subjects: Subjects, gpu: str | None, gpus: int | None) -> Named:
    if job.question.model is None:
        raise InputError("names no model: give the script that starts it, or a sizing file (`memcalc import`)")
    training = job.question.command == "train"
    count = "gpus" if training else "pp"  # a server of llama.cpp that divides matrices over cards
    open_ = training or count in job.question.asks
    asked = asked_of(job, None, gpu, {count: gpus} if open_ and count not in job.question.settings else {})
    if asked.gpu is None:
        raise InputError("a launch file names no accelerator; add --gpu")
    said = dict(asked.settings)
    numbers = None if isinstance(asked.model, str) else asked.model
    beside = {name: said.pop(name) for name in (*Device.model_fields,) if name in said}
    lines = _lines(job)
    if training:
        model = subjects.model(asked.model) if numbers is None else as_model(numbers)
        own: dict[str, Any] = {"training": training_run(model.architecture, None, **said)}
        table = "training"
        written: dict[str, Any] = {"parallelism": {name: said.pop(name) for name in Parallelism.model_fields if name in said}}
    else:
        table = "serving"
        question = {name: said.pop(name) for name in ServingQuestion.model_fields if name in said}
        if "+" in asked.gpu:  # a machine: a part of the layers, or of each matrix, on each card
            said.setdefault("pp", asked.gpu.count("+") + 1)
        own, written = {"serving": Serving(**said), **question}, {}
    scenario = Scenario(model=asked.model if numbers is None else job.job.name, gpu=asked.gpu, limits=HELD, **own, **beside)
    at = {f"{table}.{name}": line for name, line in lines.items()}
    at |= {f"{table}.parallelism.{name}": line for name, line in lines.items()}
    places = SettingPlaces(at, "", {table: {**said, **written}})
    return Named(job.job.file, job.job.name, scenario, places, numbers, warnings_of(job))
