"""memcalc.toml → scenarios: shared settings at the top, each [scenario.NAME] changes some of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from memcalc.errors import InputError
from memcalc.readers.catalogue import read_toml
from memcalc.specs.sizing import Scenario
from memcalc.specs.spec import validated
from memcalc.units import parse_bandwidth, parse_count, parse_memory, parse_speed

MAX_SCENARIOS = 1000
MEMORY_LIMITS = ("device_memory", "memory_utilization")  # these hold for training and serving alike
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
    """A scenario, its name and the file it stands in."""

    file: str
    name: str
    scenario: Scenario


def read_sizing(path: str) -> list[Named]:
    """All scenarios of a sizing file; the file's own settings are the only one where it names none."""
    values = read_toml(path)
    scenarios = values.pop("scenario", None)
    if scenarios is None:
        return [_named(path, "default", values)]
    if not isinstance(scenarios, dict) or not all(isinstance(entry, dict) for entry in scenarios.values()):
        raise InputError("scenario: must be tables, [scenario.NAME]", place=path)
    if not 1 <= len(scenarios) <= MAX_SCENARIOS:
        raise InputError(f"scenario: between 1 and {MAX_SCENARIOS} are accepted, not {len(scenarios)}", place=path)
    return [_named(path, name, _merged(values, changes), f"scenario.{name}") for name, changes in scenarios.items()]


def _named(path: str, name: str, values: dict[str, Any], key: str = "") -> Named:
    place = f"{path}: {key}" if key else path
    return Named(path, name, validated(Scenario, _read_units(values, place), place))


def _merged(shared: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The shared settings with a scenario's changes, table by table. Training replaces serving and the other way round."""
    out = dict(shared)
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
