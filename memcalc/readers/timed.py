"""Published measurements of serving speed: presets/speed, one CSV a collection, and the citations of their sources."""

import csv
import os
from typing import Any

from memcalc.caches import cached
from memcalc.frozen import NamedTuple
from memcalc.readers.catalogue import read_toml, shipped_folder


class TimedRow(NamedTuple):
    """One measured number. `value`: seconds, or tokens a second of the deployment."""

    id: str
    citation: str
    engine: str
    version: str
    model: str
    weights: str
    cache: str
    gpu: str
    tp: int
    pp: int
    ep: int
    dp: int
    prompt: int
    answer: int
    concurrency: int | None  # None: as many as there is room for
    requests: int | None  # of the whole run, all sent at once; None: no end, or not said
    quantity: str
    value: float
    grade: str
    unpredictable: str
    step_tokens: int | None  # of a pass, where the source sets them


COUNTS = ("tp", "pp", "ep", "dp", "prompt", "answer")


@cached(1)
def timed_rows() -> tuple[TimedRow, ...]:
    """Every row that comes with memcalc, file by file."""
    folder = shipped_folder("speed")
    sources = read_toml(os.path.join(folder, "sources.toml"))
    out = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".csv"):
            with open(os.path.join(folder, name), encoding="utf-8", newline="") as file:
                out += [_row(raw, sources) for raw in csv.DictReader(file)]
    return tuple(out)


def _row(raw: dict[str, str], sources: dict[str, Any]) -> TimedRow:
    made: dict[str, Any] = {name: int(raw[name]) if name in COUNTS else raw[name] for name in raw if name != "source"}
    word, _, requests = raw["concurrency"].partition(" ")  # max 3000: as many as there is room for, of 3000 in all
    made["concurrency"], made["requests"] = None if word == "max" else int(word), int(requests) if requests else None
    source = sources[raw["source"]]
    made |= {"citation": source["citation"], "step_tokens": source.get("step_tokens")}
    return TimedRow(**made | {"value": float(raw["value"])})
