"""memcalc.toml → scenarios: shared settings at the top, each [scenario.NAME] changes some of them."""

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

from memcalc.errors import InputError, Problem, Several, one_line
from memcalc.frozen import NamedTuple
from memcalc.readers.catalogue import MAX_PRESET_BYTES, parse_toml
from memcalc.readers.files import read_text
from memcalc.readers.toml_lines import SettingPlaces, lines_of
from memcalc.specs.sizing import Scenario
from memcalc.specs.spec import SpecError
from memcalc.units import parse_bandwidth, parse_count, parse_memory, parse_speed

MAX_SCENARIOS = 1000
LONGEST = 4 * 2**20  # bytes of a TOML file that may be one of sizing
MEMORY_LIMITS = ("device_memory", "memory_utilization")  # these hold for training and serving alike
MATRIX = {"models": "model", "gpus": "gpu"}  # lists of a file → the setting that each of them stands for
# Values that people write with a unit: table, key → how they are read
WITH_UNITS = {
    ("limits", "device_memory"): parse_memory,
    ("limits", "host_memory"): parse_memory,
    ("compute", "tokens"): parse_count,
    ("training", "seq_len"): parse_count,
    ("serving", "context"): parse_count,
    ("serving", "kv_cache_memory"): parse_memory,
    ("", "gpu_memory"): parse_memory,
    ("", "gpu_bandwidth"): parse_bandwidth,
    ("", "gpu_flops"): parse_speed,
    ("", "reserved"): parse_memory,
}


class Named(NamedTuple):
    """A scenario, its name and the file it stands in, and where in it its settings stand."""

    file: str
    name: str
    scenario: Scenario
    places: SettingPlaces = SettingPlaces()
    numbers: Mapping[str, Any] | None = None  # the model's config, where a launch file gives its sizes and not its name
    warnings: tuple[str, ...] = ()  # what a launch file says that is not modelled or not known, each with its place


class WrittenScenario(NamedTuple):
    """A scenario as its file spells it."""

    name: str
    key: str
    values: dict[str, Any]
    places: SettingPlaces


def is_sizing(path: str) -> bool:
    """Whether a file is one of sizing, or too broken to tell: TOML whose `model` is no table."""
    if path == "-":
        return True
    if not path.lower().endswith(".toml") or "#" in path:
        return not os.path.exists(path) and "#" not in path
    try:
        with_keys = tomllib.loads(read_text(path, LONGEST))
    except (OSError, ValueError):
        return True  # said by the reader of sizing files, with its line
    return not isinstance(with_keys.get("model"), dict)


def read_sizing(path: str, text: str | None = None, wanted: str = "") -> list[Named]:
    """All scenarios of a sizing file (`-`: standard input) whose names hold `wanted`, each of its models on each of its GPUs;
    the file's own settings are the only one where it names none. Raises Several, with all that is wrong with the file."""
    place = "stdin" if path == "-" else path
    text = read_text(path, MAX_PRESET_BYTES) if text is None else text
    named: list[Named] = []
    problems: list[Problem] = []
    for written in _written(parse_toml(text, place), lines_of(text), place):
        if wanted.lower() in written.name.lower():
            found = _named(place, written)
            problems += found if isinstance(found, list) else ()
            named += () if isinstance(found, list) else (found,)
    if problems:
        raise Several(sorted(same_once(problems), key=lambda problem: problem.line))
    return named


def same_once(problems: Iterable[Problem]) -> list[Problem]:
    """What several scenarios share is wrong once."""
    return list({(found.file, found.line, found.what): found for found in reversed(list(problems))}.values())[::-1]


def _written(values: dict[str, Any], lines: Mapping[str, int], path: str) -> list[WrittenScenario]:
    """The scenarios of a file before they are read, at most MAX_SCENARIOS of them."""
    scenarios = values.pop("scenario", None)
    if scenarios is None:
        return _bounded(_matrix("", "", values, SettingPlaces(lines, shared=values), path), path)
    if not isinstance(scenarios, dict) or not all(isinstance(entry, dict) for entry in scenarios.values()):
        raise InputError("scenario: must be tables, [scenario.NAME]", place=path)
    if not 1 <= len(scenarios) <= MAX_SCENARIOS:
        raise InputError(f"scenario: between 1 and {MAX_SCENARIOS} are accepted, not {len(scenarios)}", place=path)
    out: list[WrittenScenario] = []
    for name, own in scenarios.items():
        key = f"scenario.{name}"
        out += _matrix(name, key, _merged(values, own), SettingPlaces(lines, key, own, values), path)
        _bounded(out, path)
    return out


def _bounded(found: list[WrittenScenario], path: str) -> list[WrittenScenario]:
    if len(found) > MAX_SCENARIOS:
        raise InputError(f"more than {MAX_SCENARIOS} scenarios; models × gpus is too much", place=path)
    return found


def _matrix(name: str, key: str, values: dict[str, Any], places: SettingPlaces, path: str) -> list[WrittenScenario]:
    """Each of `models` on each of `gpus`, as scenarios of their own named after both."""
    axes: dict[str, list[str]] = {}
    for several, one in MATRIX.items():
        if several in values:
            axes[one] = _axis(values, several, one, places, path)
    if not axes:
        return [WrittenScenario(name or "default", key, values, places)]
    if (count := prod(map(len, axes.values()))) > MAX_SCENARIOS:
        raise Problem(
            f"models × gpus are {count:,} scenarios; at most {MAX_SCENARIOS} are accepted", path, places.line("models")
        )
    rest = {name: value for name, value in values.items() if name not in MATRIX}
    return [
        WrittenScenario(" / ".join(filter(None, (name, *cell))), key, {**rest, **dict(zip(axes, cell, strict=True))}, places)
        for cell in product(*axes.values())
    ]


def _axis(values: Mapping[str, Any], several: str, one: str, places: SettingPlaces, path: str) -> list[str]:
    found = values[several]
    line = places.line(several)
    if not isinstance(found, list) or not found or not all(isinstance(each, str) for each in found):
        raise Problem(f"{several}: must be a list of names, each as {one} takes it", path, line)
    if one in values:
        raise Problem(f"{several}: {one} is given too; choose one of them", path, line)
    return list(dict.fromkeys(found))


def _named(path: str, written: WrittenScenario) -> Named | list[Problem]:
    """The scenario, or all that is wrong with it."""
    shown = one_line(written.key)
    try:
        read = _read_units(written.values, "")
        return Named(path, written.name, Scenario(**read), written.places)
    except SpecError as error:
        return [_problem(path, shown, written.places, *said(rule)) for rule in (error, *error.others)]
    except InputError as error:
        return [_problem(path, shown, written.places, (str(error).partition(":")[0],), str(error))]


def said(error: SpecError) -> tuple[tuple[str, ...], str]:
    """A broken rule alone: its keys and its message."""
    return error.fields, f"{', '.join(error.fields)}: {error.message}" if error.fields else error.message


def _problem(path: str, scenario: str, places: SettingPlaces, keys: Sequence[str], message: str) -> Problem:
    return Problem(one_line(message, 2000), path, line_of(places, keys), scenario)


TABLES = ("training.", "training.parallelism.", "serving.", "limits.", "")  # where a setting that names no table may stand


def line_of(places: SettingPlaces, keys: Iterable[str]) -> int:
    """Of the first of some settings that the file says, as errors name them: with their tables or without; else where the
    first would stand."""
    keys = [each for key in keys for each in (key, *(several for several, one in MATRIX.items() if one == key))]
    found = next((f"{table}{key}" for key in keys for table in TABLES if places.says(f"{table}{key}")), next(iter(keys), ""))
    return places.line(found)


def _merged(shared: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The shared settings with a scenario's changes, table by table. Training replaces serving and the other way round."""
    out = dict(shared)
    for several, one in MATRIX.items():  # one that a scenario names takes the place of the file's several, and back
        for said, other in ((several, one), (one, several)):
            if said in changes and other not in changes:
                out.pop(other, None)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merged(out[key], value) if both else value
    for one, other in (("training", "serving"), ("serving", "training")):
        if one in changes and other in shared and other not in changes:
            out.pop(other, None)
            _leave_behind(out, shared, changes, one)
    return out


def _leave_behind(out: dict[str, Any], shared: Mapping[str, Any], changes: Mapping[str, Any], now: str) -> None:
    """A scenario that serves where the file trains (or the other way) takes over only the limits that fit both."""
    if now == "serving" and "compute" not in changes:
        out.pop("compute", None)
    inherited = {key: value for key, value in shared.get("limits", {}).items() if key in MEMORY_LIMITS}
    if "limits" in out:
        out["limits"] = {**inherited, **changes.get("limits", {})}


def _read_units(values: dict[str, Any], place: str) -> dict[str, Any]:
    out = dict(values)
    for table in ("training", "serving"):
        found = out.get(table)
        if isinstance(found, dict) and (asked := [key for key, value in found.items() if value == "max"]):
            if len(asked) > 1:
                raise InputError(f"{table}: max is solved for one setting at a time, not {' and '.join(asked)}", place=place)
            out |= {table: {key: value for key, value in found.items() if key not in asked}, "largest": asked[0]}
    for (table, key), parse in WITH_UNITS.items():
        found = out.get(table) if table else out
        if isinstance(found, dict) and isinstance(found.get(key), str):
            try:
                read = {**found, key: parse(found[key])}
            except InputError as error:
                raise InputError(f"{f'{table}.' * bool(table)}{key}: {error}", place=place) from None
            out = out | {table: read} if table else read
    return out
