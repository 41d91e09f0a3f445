"""Every key of `infer`: what a rank holds, how much fits, and how fast it can be."""

import re
from collections.abc import Iterator
from typing import Any

from memcalc.estimates.explanation import (
    Explanation,
    follows,
    given,
    of_formula,
    of_line,
    summed,
)
from memcalc.estimates.lines import Line
from memcalc.estimates.placement import Held
from memcalc.estimates.stored_weights import tensors_by_line
from memcalc.formulas.kv_cache import kv_cache_bytes
from memcalc.formulas.serving import file_bytes
from memcalc.sizing.explaining.keys import Key, Make, Table
from memcalc.sizing.explaining.serving_roofline import NAMES, bound_key, speed_key, speed_line
from memcalc.sizing.explaining.serving_time import RANGED, time_key
from memcalc.sizing.explaining.shared import (
    ALWAYS,
    GPU,
    SUGGESTED,
    allocatable,
    line_keys,
    model_key,
    option,
    origin,
    setting,
    verdict_keys,
    withheld,
)
from memcalc.sizing.serving import SizedServing
from memcalc.sizing.serving_run import BESIDE
from memcalc.sizing.settings import settled
from memcalc.specs.serving import Serving

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")  # of a layer or an expert, in the name of a tensor

# --- settings ---------------------------------------------------------------------------------------------------------

UNITS = {"context": "tokens", "max_new_tokens": "tokens", "batch": "requests", "shared_prefix": "tokens"}


def said_of(a: SizedServing) -> dict[str, Any]:
    """What was said, before any default."""
    return settled(*a.asked, Serving, also=BESIDE)


def run_key(a: SizedServing, key: Key) -> Explanation:
    """run.*: what was said, and the defaults of the model, its checkpoint and the engine."""
    said, name = said_of(a), key.last
    if name == "gpu_memory_utilization":
        return utilization(a, key.path)
    if name in ("weights", "kv_dtype") and "precision" in said:
        return given(key.path, key.value, "given by --precision")
    if name in ("weights", "kv_dtype"):
        return setting(key.path, key.value, name, said, why=f"as the checkpoint says, or the default of {option(name)}")
    if name == "context":
        why = f"default of --context, at most the positions of {origin(a.model)}"
        return setting(key.path, key.value, name, said, "tokens", why)
    return setting(key.path, key.value, name, said, UNITS.get(name, ""))


def utilization(a: SizedServing, path: str) -> Explanation:
    """The share of the GPU that the engine may take."""
    assert a.gpu
    row, share = a.run.engine_row, a.share(a.gpu.allocatable)
    said = said_of(a)
    of_engine = f"default of {row.note}" if row.name else "default of --gpu-memory-utilization"
    return setting(path, share, "gpu_memory_utilization", said, "share", of_engine)


# --- lines ------------------------------------------------------------------------------------------------------------


def of(a: SizedServing, entry: Line) -> Explanation:
    """A line with the weights or tokens that it counts."""
    return of_line(entry, parts=[*_weights(a, entry), *_tokens(a, entry)])


def _weights(a: SizedServing, entry: Line) -> Iterator[Explanation]:
    if entry.component != "weights" or entry.name.startswith("draft: "):
        return
    if entry.formula is file_bytes:
        yield from _of_file(a, entry)
        return
    run, architecture = a.run, a.model.architecture
    assert architecture
    items = tensors_by_line(a.stage, architecture, run.weights, engine=run.engine_row.kin,
                            host_embedding=run.engine_row.host_embedding)  # fmt: skip
    found = items.get((entry.place, entry.name), [])
    counted = sum(number for _, number in found)
    name = next((name for name, number in entry.inputs.items() if found and number == counted), None)
    if name:
        yield summed(name, [_counted(held, number, name) for held, number in found], name)


def _counted(held: Held, number: int, unit: str) -> Explanation:
    """Elements, blocks or scales of equal weights in all layers."""
    inputs = {"shape": list(held.shape), "tensors": held.copies}
    formula = "prod(shape) * tensors" if number == held.elements else ""
    return Explanation(held.path, number, unit, formula, inputs)


def _of_file(a: SizedServing, entry: Line) -> Iterator[Explanation]:
    """The tensors of a checkpoint's files: those of a role and format, equal ones of all layers together."""
    from memcalc.dtypes import number_format
    from memcalc.estimates.serving.files import placed

    if not a.files:  # what an engine makes of the weights itself (KTransformers' experts)
        return
    assert a.model.architecture
    groups: dict[str, list[int]] = {}
    for tensor, place in placed(a.files, a.stage, a.run.engine_row.host_embedding, a.model.architecture.tied):
        if (place, f"{tensor.role}, {number_format(tensor.format).name}") == (entry.place, entry.name):
            groups.setdefault(_NUMBER.sub("*", tensor.name), []).append(tensor.bytes)
    parts = [Explanation(name, sum(sizes), "B", "", {"tensors": len(sizes)}) for name, sizes in groups.items()]
    if sum(part.value for part in parts) == entry.inputs["stored"]:
        yield summed("stored", parts)


def _tokens(a: SizedServing, entry: Line) -> Iterator[Explanation]:
    if entry.component != "kv_cache" or "tokens" not in entry.inputs:
        return
    run = a.run
    block = run.block_size or run.engine_row.block
    requests = f"{run.batch:,} request{'s' * (run.batch > 1)}" + (f" of {run.copies:,} sequences" * (run.copies > 1))
    source = f"{requests} of {run.context:,} tokens, in blocks of {block}, at most the layer's window"
    yield given("tokens", entry.inputs["tokens"], source, "tokens")


def component(name: str) -> Make:
    """Bytes on the GPU of one component."""
    return lambda a, key: of_component(a, name, key.path)


def of_component(a: SizedServing, name: str, path: str = "") -> Explanation:
    lines = (entry for entry in a.lines if entry.component == name and entry.place == "gpu")
    return summed(path or f"per_gpu.{name}", [of(a, entry) for entry in lines])


def sum_of(a: SizedServing, path: str, *names: str) -> Explanation:
    return summed(path, [of_component(a, name) for name in names])


def host(a: SizedServing, key: Key) -> Explanation:
    return summed(key.path, [of(a, entry) for entry in a.lines if entry.place == "host"])


# --- the cache --------------------------------------------------------------------------------------------------------


def per_token(a: SizedServing, key: Key) -> Explanation:
    """One more token of one sequence, before any window is full: what each layer's cache grows by."""
    parts = [
        of_formula(entry.path, "B", kv_cache_bytes, **entry.inputs | {"tokens": 1})
        for entry in a.lines
        if entry.component == "kv_cache" and entry.formula is kv_cache_bytes and entry.place == "gpu"
    ]
    if sum(part.value for part in parts) != key.value:
        return given(key.path, key.value, "one token's part of its entry, and of windows before they are full", "B")
    return summed(key.path, parts, why="one token more of one sequence")


def per_sequence(a: SizedServing, path: str) -> Explanation:
    """Cache and state of one request at the full context, in the units that the engine hands out."""
    demand, requests = a.demand._replace(passes=()), a.requests
    row = a.run.engine_row
    return follows(
        path, a.per_sequence, "B", "unit * (prompt + copies * (own + fixed))", source=row.note,
        inputs={"unit": demand.unit, "prompt": demand.of(requests.prompt), "copies": requests.copies,
                "own": demand.of(requests.own), "fixed": demand.fixed},
    )  # fmt: skip


def cache(a: SizedServing, path: str = "cache") -> Explanation:
    """What all requests keep."""
    return sum_of(a, path, "kv_cache", "state")


def reserved(a: SizedServing, path: str) -> Explanation:
    if not a.gpu or not a.run.engine_row.pooled:
        return cache(a, path)
    value = a.reserved(a.gpu.allocatable, a.withheld)
    return follows(path, value, "B", "max(cache, capacity.kv_cache_memory)", cache(a), room(a))


# Bytes for the cache: how an engine's share of the GPU is divided. Names are those of the parts in `room`.
TAKEN = "gpu.allocatable * run.gpu_memory_utilization"
COUNTED = "(per_gpu.weights + per_gpu.activations - growing + per_gpu.overhead - beside)"
FREE = "(gpu.allocatable - withheld - beside)"
ROOM = {
    "total": f"min(int({TAKEN}) - {COUNTED}, {FREE} - {COUNTED})",
    "free": f"min(int(({FREE} - {COUNTED} - apart) * run.gpu_memory_utilization) + apart, {FREE} - {COUNTED})",
    "loaded": f"min(int(({FREE} + late) * run.gpu_memory_utilization) - per_gpu.weights, {FREE} - {COUNTED})",
    "loaded, tables": f"min(int(({FREE} + late) * run.gpu_memory_utilization) - per_gpu.weights - tables, {FREE} - {COUNTED})",
}  # fmt: skip


def room(a: SizedServing, path: str = "capacity.kv_cache_memory", *, missing: bool = False) -> Explanation:
    """Bytes of a GPU for the cache, and for activations where these grow with the requests; below zero only if `missing`."""
    assert a.gpu
    run, row = a.run, a.run.engine_row
    if run.kv_cache_memory is not None:
        return given(path, run.kv_cache_memory, "given by --kv-cache-memory", "B")
    formula = ROOM[f"{row.share_of}, tables" if a.tables else row.share_of]
    if a.cap is not None:
        formula = f"min({formula}, bound)"
    parts = (
        allocatable(a.gpu, "gpu.allocatable"),
        withheld(a),
        utilization(a, "run.gpu_memory_utilization"),
        *(of_component(a, name) for name in ("weights", "activations", "overhead")),
        given("growing", a.growing, "activations that every request adds to", "B"),
        *([given("bound", a.cap, "what --cache-tokens take", "B")] if a.cap is not None else []),
        given("apart", a.apart, "states of all sequences of a step, whatever runs", "B"),
        *(
            [given("tables", a.tables, "a draft's own token table and head, freed when the cache has been sized", "B")]
            if a.tables
            else []
        ),
        given("late", a.late, "graphs and tables, taken after the cache", "B"),
        given("beside", a.beside, "context, communicators and graphs, which the engine's share does not count", "B"),
    )
    value = a.room_or_missing(a.gpu.allocatable, a.withheld)
    return follows(path, value if missing else max(0, value), "B", formula if missing else f"max(0, {formula})", *parts,
                   source=row.note)  # fmt: skip


def capacity_key(a: SizedServing, key: Key) -> Explanation:
    """capacity.*: how many tokens and requests the cache's memory holds."""
    assert a.gpu
    if key.last == "kv_cache_memory":
        return room(a, key.path)
    if key.last == "waiting":
        batch = setting("run.batch", a.run.batch, "batch", said_of(a), "requests")
        most = capacity_key(a, key.at("capacity.max_batch"))
        if most.value is None:
            return given(key.path, key.value, "nothing limits how many run at once", "requests")
        return follows(key.path, key.value, "requests", "max(0, run.batch - capacity.max_batch)", batch, most)
    if key.last == "offloaded_kv_tokens":
        numbers = {"tier": a.run.cache_offload, "token": a.kv_cache_per_token}
        return follows(key.path, key.value, "tokens", "tier // token", inputs=numbers)
    if key.last == "replicas":
        return setting(key.path, key.value, "dp", said_of(a))
    memory, run, demand = a.gpu.allocatable, a.run, a.demand
    each, base = a.requests.each(demand), a.requests.base(demand)
    unit = {"unit": demand.unit, "each": each, "shared": base}
    there = "max(0, capacity.kv_cache_memory - apart)" if a.apart else "capacity.kv_cache_memory"
    left = f"({there} // unit - shared)"
    if a.apart:
        unit["apart"] = a.apart
    if key.last == "kv_tokens":
        return _tokens_of_requests(a, key) if run.engine_row.grouped else _tokens_of_room(a, key)
    if key.last == "max_concurrency":
        divided = "/" if run.engine_row.pooled else "//"
        return follows(key.path, key.value, "requests", f"max(0, {left}) {divided} each", room(a), inputs=unit)
    if key.last == "max_batch":
        scheduled = run.scheduled(memory)
        fitting = f"max(0, {left}) // each" if each else "no limit"
        if run.slots:
            return follows(key.path, key.value, "requests", f"min(1, {fitting}) * slots", room(a),
                           inputs={**unit, "slots": run.slots})  # fmt: skip
        if scheduled is None:
            return follows(key.path, key.value, "requests", fitting, room(a), inputs=unit)
        formula = f"min({fitting}, scheduled // copies)" if each else "scheduled // copies"
        return follows(key.path, key.value, "requests", formula, room(a), source=run.engine_row.note,
                       inputs={**unit, "scheduled": scheduled, "copies": run.copies})  # fmt: skip
    words = f"the most tokens of which a sequence takes at most {left} // batch units"
    return follows(key.path, key.value, "tokens", words, room(a), inputs={**unit, "batch": run.batch})


def _tokens_of_requests(a: SizedServing, key: Key) -> Explanation:
    """The same of vLLM: as many as its requests have, before 0.21 as one of its groups of layers could have."""
    demand, row = a.demand, a.run.engine_row
    if row.tokens_by_group and demand.growth:
        numbers = {"unit": demand.unit, "groups": demand.groups, "block": min(kind.granule for kind in demand.growth)}
        return follows(key.path, key.value, "tokens", "capacity.kv_cache_memory // unit // groups * block", room(a),
                       source=row.note, inputs=numbers)  # fmt: skip
    concurrency = capacity_key(a, key.at("capacity.max_concurrency"))
    return follows(key.path, key.value, "tokens", "int(capacity.max_concurrency * context)", concurrency,
                   source=row.note, inputs={"context": a.run.context})  # fmt: skip


def _tokens_of_room(a: SizedServing, key: Key) -> Explanation:
    """Tokens of cache, as the engine's log counts them: by what a token takes in all layers."""
    if a.demand.pools:
        first = a.demand.pools[0]
        rate, granule = sum(kind.rate for kind in first.growth), min(kind.granule for kind in first.growth)
        numbers = {"part": first.part, "whole": first.whole, "rate": rate, "granule": granule, "unit": a.demand.unit}
        formula = "capacity.kv_cache_memory // unit * part // (whole * rate) * granule"
    else:
        numbers, formula = {"token": a.kv_cache_per_token}, "capacity.kv_cache_memory // token"
    if a.apart:
        numbers["apart"] = a.apart
        formula = formula.replace("capacity.kv_cache_memory", "max(0, capacity.kv_cache_memory - apart)")
    return follows(key.path, key.value, "tokens", formula, room(a), source=a.run.engine_row.note, inputs=numbers)


# --- the verdict ------------------------------------------------------------------------------------------------------


def device(a: SizedServing, path: str) -> Explanation:
    """What the engine takes: for a pool, all of it."""
    parts = [of_component(a, "weights"), reserved(a, "per_gpu.kv_cache_reserved"), of_component(a, "activations"),
             of_component(a, "overhead")]  # fmt: skip
    return summed(path, parts)


def needed(a: SizedServing, path: str = "per_gpu.needed") -> Explanation:
    """What these requests need, whatever an engine's pool takes; of a pool whose size was given, the pool."""
    if a.run.kv_cache_memory is None:
        return sum_of(a, path, "weights", "kv_cache", "state", "activations", "overhead")
    fixed = sum_of(a, "fixed", "weights", "activations", "overhead")
    return follows(path, a.needed.bytes, "B", "fixed + max(cache, capacity.kv_cache_memory)", fixed, cache(a), room(a))


def limit(a: SizedServing, path: str) -> Explanation:
    """What the engine can get: all that is there for a process, or its share of the GPU."""
    assert a.gpu
    assert a.fit
    run, value, free = a.run, a.fit.limit, "gpu.allocatable - withheld"
    there = (allocatable(a.gpu, "gpu.allocatable"), withheld(a))
    if run.kv_cache_memory is not None and run.kv_cache_memory >= a.cache:
        return follows(path, value, "B", free, *there)
    if run.kv_cache_memory is None and not run.engine_row.pooled:
        share = utilization(a, "run.gpu_memory_utilization")
        return follows(path, value, "B", f"min(int({TAKEN}), {free})", *there, share)
    fixed = sum_of(a, "fixed", "weights", "activations", "overhead")
    return follows(path, value, "B", f"min(fixed + room, {free})", *there, fixed, room(a, "room", missing=True))


ROWS: Table = {
    "model.*": lambda a, key: model_key(a.model, key),
    "run.**": run_key,
    **{f"per_gpu.{name}": component(name) for name in ("weights", "kv_cache", "state", "activations", "overhead")},
    "per_gpu.kv_cache_per_token": per_token,
    "per_gpu.kv_cache_per_sequence": lambda a, key: per_sequence(a, key.path),
    "per_gpu.kv_cache_reserved": lambda a, key: reserved(a, key.path),
    "per_gpu.peak": lambda a, key: sum_of(a, key.path, "weights", "kv_cache", "state", "activations"),
    "per_gpu.device": lambda a, key: device(a, key.path),
    "host.weights": lambda a, key: summed(
        key.path, [of(a, entry) for entry in a.lines if entry.place == "host" and entry.component != "activations"]
    ),
    "host.per_node": host,
    "host.needed": host,
    "host.*": lambda a, key: given(key.path, key.value, "what stands in host memory, beside --ram", "B"),
    "gpus.*.*": lambda a, key: given(key.path, key.value, "of that GPU, as per_gpu.* of the one with the least room", "B"),
    **verdict_keys(needed, limit),
    "capacity.limit": lambda a, key: capacity_key(a, key.at("capacity.max_batch"))._replace(
        path=key.path, value=key.value, unit=""
    ),
    "capacity.*": capacity_key,
    **SUGGESTED,
    "speed.lines.*.value": speed_line,
    "speed.lines.*.inputs.*": speed_line,
    "speed.bound": bound_key,
    "speed.prefill_bound": bound_key,
    **{f"speed.{name}": speed_key for name in (
        "prompt", "context", "batch", "compute_bound_batch", "mfu", "mbu", "link_efficiency", *NAMES,
    )},
    "speed.law.**": time_key,
    "speed.load.*": time_key,
    **{f"speed.{name}{end}": time_key for name in RANGED for end in ("", "_low", "_high")},
    "speed.prefill.*": speed_key,
    "speed.decode.*": speed_key,
    **line_keys("lines", lambda a: a.lines, of),
    **GPU,
    **ALWAYS,
}  # fmt: skip
