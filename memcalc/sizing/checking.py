"""Scenarios against their limits: each is sized as the command line would, then compared."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any

from memcalc.errors import InputError, MemcalcError, Problem, Several
from memcalc.estimates.checking import Outcome, RemedySetting, compared, excess
from memcalc.formulas.verdict import Fit, Needed
from memcalc.readers.models import Model
from memcalc.readers.sizing import Named, is_sizing, line_of, read_sizing, same_once
from memcalc.readers.toml_lines import SettingPlaces
from memcalc.sizing.answer import fit_of
from memcalc.sizing.largest import MAX
from memcalc.sizing.subjects import AnyAccelerator, Subjects, as_model
from memcalc.specs.device import Device
from memcalc.specs.hardware import Accelerator
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.serving import ServingQuestion
from memcalc.specs.sizing import Scenario
from memcalc.specs.spec import Spec, SpecError
from memcalc.units import SECONDS

if TYPE_CHECKING:
    from memcalc.sizing.serving import SizedServing
    from memcalc.sizing.training import SizedTraining

Values = dict[str, float | str]
MAX_REMEDIES = 10  # scenarios for which what would make them pass is looked for
PARTS = 10**9
UNBOUNDED = 2**24  # sequences, where nothing limits them
UNBOUNDED_TOKENS = 10**15
NOWHERE = SettingPlaces()


def check(
    *scenarios: str | os.PathLike[str] | Scenario,
    presets: Sequence[str] = (),
    wanted: str = "",
    gpu: str | None = None,
    gpus: int | None = None,
) -> list[Outcome]:
    """Sizing files, launch files (on `gpu`; runs that do not say on how many, on `gpus`), or scenarios, against their limits;
    of files those whose names hold `wanted`.

    Raises Several, with all that is wrong with files; MemcalcError where a scenario cannot be sized."""
    outcomes, problems = examined(*scenarios, presets=presets, wanted=wanted, gpu=gpu, gpus=gpus)
    if problems:
        raise Several(problems)
    return outcomes


def examined(
    *scenarios: str | os.PathLike[str] | Scenario,
    presets: Sequence[str] = (),
    wanted: str = "",
    gpu: str | None = None,
    gpus: int | None = None,
) -> tuple[list[Outcome], list[Problem]]:
    """What scenarios come to, and all that is wrong with the files of others. `gpu`: the accelerator of launch files, which
    name none, and `gpus` how many of them, where a run does not say; their runs and servers must fit, tight at the worst."""
    named: list[Named] = []
    problems: list[Problem] = []
    subjects = Subjects(presets)
    for given in scenarios:
        try:
            if isinstance(given, Scenario):
                named.append(Named("", "scenario", given))
            else:
                named += read_scenarios(os.fspath(given), wanted, subjects, gpu, gpus)
        except Several as error:
            problems += error.problems
        except Problem as error:
            problems.append(error)
        except InputError as error:
            problems.append(_of_file(error, "stdin" if given == "-" else str(given)))
    if wanted and not named and not problems:
        raise InputError(f"no scenario's name holds {wanted!r:.60}", place="--filter")
    out, wrong = judged(named, subjects)
    return out, same_once([*problems, *wrong])


def read_scenarios(path: str, wanted: str, subjects: Subjects, gpu: str | None = None, gpus: int | None = None) -> list[Named]:
    """The scenarios of a sizing file, or the runs and servers of a launch file: on `gpu`, and runs that do not say on how many
    on `gpus` of them."""
    if is_sizing(path):
        return read_sizing(path, None, wanted)
    from memcalc.sizing.checking_launch import launch_scenarios

    return launch_scenarios(path, subjects, gpu, gpus, wanted)


def judged(named: Sequence[Named], subjects: Subjects, remedies: int = MAX_REMEDIES) -> tuple[list[Outcome], list[Problem]]:
    """What scenarios come to; for as many as `remedies` of those that fail, what would make them pass."""
    out: list[Outcome] = []
    problems: list[Problem] = []
    for each in named:
        advised = sum(bool(outcome.remedy) for outcome in out) < remedies
        try:
            out.append(_outcome(each, subjects, advised))
        except Problem as error:
            problems.append(error)
    return out, problems


def _of_file(error: InputError, file: str) -> Problem:
    """What is wrong with a whole file, at the line that a syntax error names."""
    message = str(error).removeprefix(f"{file}: ")
    line = re.search(r"\(at line (\d+), column \d+\)", message)
    return Problem(message, file, int(line[1]) if line else 0)


def size_scenario(each: Named, subjects: Subjects) -> "SizedTraining | SizedServing":
    """A scenario as the command line would size it. Raises InputError naming the file and the scenario."""
    with _placed(each.file, each.name, each.places):
        return _sized(each.scenario, *_subjects(each, subjects))


@contextmanager
def _placed(file: str, name: str, places: SettingPlaces) -> Iterator[None]:
    """What is wrong is said with the file, its line and the scenario."""
    try:
        yield
    except Problem:
        raise
    except MemcalcError as error:
        if not file:
            raise InputError(str(error)) from None
        keys = error.fields if isinstance(error, SpecError) else (str(error).partition(":")[0],)
        raise Problem(str(error), file, line_of(places, keys), name if places.section else "") from None


def _subjects(each: Named, subjects: Subjects) -> tuple[Model, AnyAccelerator]:
    """Model and accelerator (of a machine of several, A+B, its name); a path to a model may start where the file is."""
    scenario = each.scenario
    beside = os.path.join(os.path.dirname(each.file), scenario.model)
    try:
        if each.numbers is not None:
            model = as_model(each.numbers)
        else:
            model = subjects.model(beside if os.path.exists(beside) else scenario.model)
    except MemcalcError as error:
        raise InputError(str(error), place="model") from None
    try:
        machine = scenario.serving is not None and "+" in (scenario.gpu or "")
        return model, scenario.gpu if machine else subjects.accelerator(scenario.gpu)
    except MemcalcError as error:
        raise InputError(str(error), place="gpu") from None


def _outcome(each: Named, subjects: Subjects, advised: bool) -> Outcome:
    file, name, scenario, places, _, warnings = each
    with _placed(file, name, places):
        model, gpu = _subjects(each, subjects)
        answer = _sized(scenario, model, gpu)
        values = _values(scenario, model, answer, fit_of(answer))
        _check_known(scenario, answer, values)
        known = {name: value for name, value in values.items() if value != inf}
        checks = compared(scenario.limits, values)
        if file:
            checks = tuple(check._replace(line=places.line(f"limits.{check.limit}")) for check in checks)
        line = places.line("") if file else 0
        outcome = Outcome(file, name, checks, guessed=answer.guessed, line=line, values=known, warnings=warnings)
        if outcome.within or not advised:
            return outcome
        changes = _remedy(scenario, model, answer, outcome, places)
        return outcome._replace(remedy=", ".join(map(str, changes)), changes=changes)


def _sized(scenario: Scenario, model: Model, gpu: AnyAccelerator) -> "SizedTraining | SizedServing":
    said = _fields(scenario, Device) | _asked(scenario)
    if scenario.training:
        from memcalc.sizing.training import size_training

        return size_training(model, gpu, scenario.training, **said)
    from memcalc.sizing.serving import size_serving

    return size_serving(model, gpu, scenario.serving, **said, **_fields(scenario, ServingQuestion))


def _fields(scenario: Scenario, spec: type[Spec]) -> dict[str, Any]:
    return {name: getattr(scenario, name) for name in spec.model_fields}


def _values(scenario: Scenario, model: Model, answer: "SizedTraining | SizedServing", fit: Fit) -> Values:
    """What each limited quantity comes to, where the answer's fit is this one."""
    from memcalc.sizing.training import SizedTraining

    assert answer.gpu  # a scenario always names one
    values: Values = {"verdict": fit.verdict}
    if isinstance(answer, SizedTraining):
        device = fit.needed.bytes
        values |= {"device_memory": device, "host_memory": answer.host_per_node}
        computed = _computed(scenario, model, answer.gpu, answer)
        values |= _step_time(scenario, answer)
    else:
        device = answer.device
        there = answer.requests_there
        sequences, tokens = (there.max_batch, there.kv_tokens) if there else (None, None)
        values |= {"device_memory": answer.device_there, "host_memory": answer.host}
        values["min_sequences"] = UNBOUNDED if sequences is None else sequences
        values["kv_tokens"] = UNBOUNDED_TOKENS if tokens is None else tokens
        values |= _speed(scenario, answer)
        computed = _computed(scenario, model, answer.gpu)
    return values | {"memory_utilization": device / answer.gpu.usable} | computed


def _step_time(scenario: Scenario, answer: "SizedTraining") -> Values:
    """Where it is limited; without end where it is not known."""
    if scenario.limits.step_seconds is None:
        return {}
    return {"step_seconds": inf if answer.time is None else answer.time.seconds}


def _speed(scenario: Scenario, answer: "SizedServing") -> Values:
    """Where it is limited; without end where it is not known."""
    if scenario.limits.ttft_seconds is None and scenario.limits.tpot_seconds is None:
        return {}
    timed = answer.speed.timed if answer.speed else None
    return {
        "ttft_seconds": inf if timed is None or timed.ttft is None else timed.ttft,
        "tpot_seconds": inf if timed is None or timed.tpot is None else timed.tpot,
    }


def _check_known(scenario: Scenario, answer: "SizedTraining | SizedServing", values: Values) -> None:
    """What is limited must be known."""
    from memcalc.sizing.training import SizedTraining

    for name, value in values.items():
        if value == inf and getattr(scenario.limits, name) is not None:
            if isinstance(answer, SizedTraining):
                reason = answer.timed.reason
            else:
                reason = (answer.speed.untimed or answer.speed.reason) if answer.speed else ""
            raise InputError(reason or "is not known of this run", place=f"limits.{name}")


def _remedy(
    scenario: Scenario, model: Model, answer: "SizedTraining | SizedServing", outcome: Outcome, places: SettingPlaces
) -> tuple[RemedySetting, ...]:
    """The cheapest change with which all limits hold, as settings of the file; none where none is found."""

    def wanted(changed: Any, fit: Fit) -> Fit:
        return _parts(excess(compared(scenario.limits, _values(scenario, model, changed, fit)), fit))

    found = answer.search(_parts(excess(outcome.checks, answer.fit)), wanted, enough=1).run()
    table = "training" if scenario.training else "serving"
    return (
        tuple(_setting(table, name, value, outcome.file, places) for name, value in found[0].changes.items()) if found else ()
    )


def _parts(share: float) -> Fit:
    """A share of what is allowed, in parts of a billion."""
    parts = -int(-min(share, PARTS) * PARTS // 1)
    return Fit(Needed(parts, parts, parts), PARTS)


def _setting(table: str, name: str, value: Any, file: str, places: SettingPlaces) -> RemedySetting:
    """One setting as the sizing file spells it, and where it stands there."""
    if name in Parallelism.model_fields and table == "training":
        table += ".parallelism"
    key = name if name == "gpu" else f"{table}.{name}"
    return RemedySetting(key, value, places.line(key) if file else 0, not places.says(key))


def _asked(scenario: Scenario) -> dict[str, Any]:
    """The setting that is solved for; surely, where that is the limit."""
    return {scenario.largest: MAX, "sure": scenario.limits.verdict == "fits"} if scenario.largest else {}


def _computed(scenario: Scenario, model: Model, gpu: Accelerator, answer: "SizedTraining | None" = None) -> Values:
    """Compute, time, money and energy of as many tokens as the scenario's [compute] says: at the MFU that it gives, else at
    the step's predicted time where there is one."""
    asked = scenario.compute
    if asked is None:
        return {}
    from memcalc.sizing.budget import size_budget

    said: dict[str, Any] = {"tokens": asked.tokens, "mfu": asked.mfu, "price": asked.price}
    if answer:
        said |= {"gpus": answer.run.parallelism.gpus, "recompute": answer.run.recompute, "method": answer.run.method}
    found = size_budget(model, gpu, **{name: value for name, value in said.items() if value is not None})
    share = 1.0
    if asked.mfu is None and answer and answer.time and found.gpu_hours:
        share = asked.tokens / answer.time.tokens_per_second_per_gpu / SECONDS["h"] / found.gpu_hours
    by_time = {"gpu_hours": found.gpu_hours, "days": found.days, "cost_usd": found.cost_usd, "energy_kwh": found.energy_kwh}
    values = {"pf_days": found.pf_days} | {name: value and value * share for name, value in by_time.items()}
    return {name: value for name, value in values.items() if value is not None}
