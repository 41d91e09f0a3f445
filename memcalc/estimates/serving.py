"""Memory per GPU of serving: weights as stored, the cache of all sequences, and how many fit."""

from collections.abc import Iterator
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.ledger import Cache
from memcalc.blocks.reused import Reused
from memcalc.blocks.state import StateTensor
from memcalc.dtypes import number_format
from memcalc.errors import Unsupported
from memcalc.estimates.lines import Line, line, totals
from memcalc.estimates.overhead import overhead_lines
from memcalc.estimates.placement import Stage, stages
from memcalc.estimates.stored_weights import stored_weights, weight_assumptions
from memcalc.formulas import kv_cache
from memcalc.specs.rules import SpecError
from memcalc.specs.serving import Serving

MIXERS = ("attention", "linear_attention", "state_space", "mixer", "recurrent", "convolution")  # paths of such blocks


class ServingEstimate(NamedTuple):
    """What the heaviest rank holds; bytes."""

    lines: tuple[Line, ...]
    weights: int
    kv_cache: int
    state: int
    kv_cache_per_token: int  # of one sequence, before any window is full
    per_sequence: int  # cache and state of one sequence at the full context
    fixed: int  # the part of it that does not grow with the context
    overhead: int
    growth: tuple[tuple[int, int | None], ...]  # per kind of cache: bytes a token of one sequence, and its window
    assumptions: tuple[str, ...]

    @property
    def peak(self) -> int:
        return self.weights + self.kv_cache + self.state

    @property
    def device(self) -> int:
        return self.peak + self.overhead

    def room(self, usable: int, utilization: float) -> int:
        """Bytes left for the cache on a GPU of `usable` bytes, of which the engine may take `utilization`."""
        return max(0, int(usable * utilization) - self.weights - self.overhead)

    def max_batch(self, usable: int, utilization: float) -> int | None:
        """Sequences of the full context that fit at once; None when a sequence needs no cache at all."""
        return self.room(usable, utilization) // self.per_sequence if self.per_sequence else None

    def max_context(self, usable: int, utilization: float, batch: int) -> int | None:
        """Tokens that each of `batch` sequences can reach, solved exactly; None when nothing grows with the context.

        Between two windows the cache grows linearly, so the answer lies on one straight piece.
        """
        left = self.room(usable, utilization) // batch - self.fixed
        if left < 0:
            return 0
        reached = 0
        for window in (*sorted({w for _, w in self.growth if w}), None):
            rate = sum(each for each, w in self.growth if w is None or w > reached)
            if not rate:
                return None
            piece = left // rate
            if window is None or reached + piece < window:
                return reached + piece
            left -= rate * (window - reached)
            reached = window
        raise AssertionError  # the last piece has no end


class LayerCache(NamedTuple):
    """Equal caches on one rank: one block's, in `layers` layers."""

    name: str
    cache: Cache
    layers: int


class LayerState(NamedTuple):
    """Equal recurrent states on one rank: one tensor a sequence, in `layers` layers."""

    name: str
    state: StateTensor
    layers: int


def estimate(architecture: Architecture, run: Serving, generation: str = "") -> ServingEstimate:
    """The heaviest pipeline stage's rank for one architecture served one way."""
    _check(architecture, run)
    etp = max(1, run.tp // run.ep)  # experts are cut by tensor parallelism only as far as expert parallelism does not
    found = [_on_stage(architecture, run, stage, generation) for stage in stages(architecture, run.tp, run.pp, run.ep, etp)]
    return max(found, key=lambda rank: rank.peak)


def _on_stage(architecture: Architecture, run: Serving, stage: Stage, generation: str) -> ServingEstimate:
    lines = list(stored_weights(stage, architecture, run.weights))
    caches, plain = _caches(stage), number_format("bf16")
    kv_format = number_format(run.kv_dtype)
    per_token = per_sequence = fixed = 0
    growth: list[tuple[int, int | None]] = []
    for entry in caches:
        kept = min(run.context, entry.cache.window or run.context) if entry.cache.per_token else 1
        stored = number_format(entry.cache.format) if entry.cache.format else kv_format
        width = entry.cache.local_width(run.tp)
        component = "kv_cache" if entry.cache.per_token else "state"
        made = line(
            component, entry.name, "always", kv_cache.kv_cache_bytes, width=width, tokens=kept * run.batch,
            layers=entry.layers, bytes_numerator=stored.block_bytes, bytes_denominator=stored.block_size,
        )  # fmt: skip
        lines.append(made)
        per_sequence += -(-made.bytes // run.batch)
        if entry.cache.per_token:
            each = -(-width * entry.layers * stored.block_bytes // stored.block_size)
            growth.append((each, entry.cache.window))
            per_token += each
        else:
            fixed += -(-made.bytes // run.batch)
    for held in _states(stage):
        stored = number_format(held.state.dtype) if held.state.dtype else plain
        made = line(
            "state", held.name, "always", kv_cache.kv_cache_bytes, width=prod(held.state.local_shape(run.tp)),
            tokens=run.batch, layers=held.layers, bytes_numerator=stored.block_bytes, bytes_denominator=stored.block_size,
        )  # fmt: skip
        lines.append(made)
        per_sequence += -(-made.bytes // run.batch)
        fixed += -(-made.bytes // run.batch)
    lines += overhead_lines(generation, run.gpus > 1)
    sums = totals(lines, ("weights", "kv_cache", "state", "overhead"))["gpu"]
    return ServingEstimate(
        tuple(lines), sums["weights"], sums["kv_cache"], sums["state"], per_token, per_sequence, fixed,
        sums["overhead"], tuple(growth), tuple(_assumptions(architecture, run, caches)),
    )  # fmt: skip


@lru_cache(maxsize=256)
def _caches(stage: Stage) -> tuple[LayerCache, ...]:
    """Every distinct cache of a stage, with the number of its layers that keep it."""
    counted: dict[tuple[str, Cache], int] = {}
    for path, block, count in _mixers(stage):
        for cache in block.cache() if hasattr(block, "cache") else ():
            counted[path, cache] = counted.get((path, cache), 0) + count
    return tuple(LayerCache(_cache_name(path, cache), cache, count) for (path, cache), count in counted.items())


@lru_cache(maxsize=256)
def _states(stage: Stage) -> tuple[LayerState, ...]:
    """Every distinct recurrent state of a stage, with the number of its layers that keep it."""
    counted: dict[tuple[str, StateTensor], int] = {}
    for path, block, count in _mixers(stage):
        for state in block.state() if hasattr(block, "state") else ():
            counted[path, state] = counted.get((path, state), 0) + count
    return tuple(LayerState(f"{path}/{state.path}", state, count) for (path, state), count in counted.items())


def _mixers(stage: Stage) -> Iterator[tuple[str, Any, int]]:
    """The blocks of a stage that look at other tokens, and in how many layers each stands."""
    for layer, count in zip(stage.sequence.kinds, stage.sequence.counts, strict=True):
        for path, held in layer.blocks:
            block = held.block if isinstance(held, Reused) else held
            if path in MIXERS and not (hasattr(block, "cache") or hasattr(block, "state")):
                raise Unsupported(f"the cache of {type(block).__name__} layers is not modelled yet")
            yield path, block, count


def _cache_name(path: str, cache: Cache) -> str:
    return f"{path}/{cache.name}" + (f", window {cache.window}" if cache.window else "")


def _check(architecture: Architecture, run: Serving) -> None:
    heads = layers = experts = 0
    for part in architecture.parts:
        for stack in part.stacks:
            layers = max(layers, stack.depth)
            for layer in stack.layers:
                for _, block in layer.blocks:
                    if part.name in ("language", "encoder", "decoder"):
                        heads = heads or getattr(block, "heads", 0)
                    experts = experts or getattr(block, "experts", 0)
    if heads and heads % run.tp:
        raise SpecError(f"tensor parallelism {run.tp} does not divide {heads} attention heads", "tp")
    if run.pp > max(layers, 1):
        raise SpecError(f"{run.pp} pipeline stages for {layers} layers", "pp")
    if run.ep > 1 and (not experts or experts % run.ep):
        raise SpecError(f"expert parallelism {run.ep} does not divide {experts} experts", "ep")


def _assumptions(architecture: Architecture, run: Serving, caches: tuple[LayerCache, ...]) -> Iterator[str]:
    yield "activations of the engine are not included: leave 5 to 10 % of the memory for them"
    if any(entry.cache.window for entry in caches):
        yield "sliding-window layers keep at most their window"
    yield from weight_assumptions(architecture, run.weights)
