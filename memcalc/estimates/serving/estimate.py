"""One architecture served one way: what the heaviest rank holds, and how much more it could."""

from collections.abc import Iterator
from typing import NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.stored import AUDIO, UNBUFFERED, VISION, StoredTensors
from memcalc.caches import cached
from memcalc.errors import Unsupported
from memcalc.estimates.compute.flops import TEXT_PARTS
from memcalc.estimates.lines import Line, line, totals
from memcalc.estimates.overhead import overhead_lines
from memcalc.estimates.placement import Held, Stage, all_stages, depth_of, stages, stages_of
from memcalc.estimates.serving.cache import kept
from memcalc.estimates.serving.demand import Demand, Requests
from memcalc.estimates.serving.forward import forward_lines, passes
from memcalc.estimates.serving.weights import weight_lines
from memcalc.estimates.stored_weights import weight_assumptions
from memcalc.formulas import serving as formulas
from memcalc.formulas.overhead import communicators_bytes, context_bytes
from memcalc.formulas.residuals import served_range
from memcalc.formulas.serving_engines import ServingEngine
from memcalc.formulas.verdict import Needed, needed_bytes
from memcalc.specs.quantization import CHECKPOINT, Mixture, stored_as
from memcalc.specs.serving import Serving
from memcalc.specs.spec import SpecError
from memcalc.units import format_bytes

COMPONENTS = ("weights", "kv_cache", "state", "activations", "overhead")
# Overhead that comes on top of the share an engine is given.
BESIDE = (context_bytes, communicators_bytes, formulas.graphs_bytes)
NO_ENGINE = "activations of the engine are not included: name one (--engine), or leave 5 to 10 % of the memory for them"
WINDOW_SHARE = (4, 5)  # SGLang's swa_full_tokens_ratio: tokens for which sliding layers have room, of the others'


class Capacity(NamedTuple):
    """What fits into one GPU; None where nothing limits it."""

    memory: int  # bytes for the cache
    kv_tokens: int | None  # tokens of context that all requests together can hold
    max_concurrency: float | None  # requests of the full context at once
    max_batch: int | None  # whole requests, as many as the engine schedules at most
    max_context: int | None  # tokens that each of the batch can reach
    limit: str  # what binds: "weights", "cache", "max_sequences" or "nothing"


class ServingEstimate(NamedTuple):
    """What the heaviest rank holds; bytes."""

    run: Serving
    lines: tuple[Line, ...]
    weights: int
    kv_cache: int
    state: int
    activations: int
    overhead: int
    host: int
    kv_cache_per_token: int  # of one sequence, before any window is full
    full_per_token: int  # the part of it in layers without a window
    requests: Requests
    demand: Demand
    beside: int  # the part of the overhead that an engine's share of the GPU does not count
    assumptions: tuple[str, ...]
    stage: Stage  # the heaviest pipeline stage

    def __repr__(self) -> str:
        return f"<serving: {format_bytes(self.peak)} at the peak, {format_bytes(self.device)} on the device>"

    @property
    def cache(self) -> int:
        """What all requests keep."""
        return self.kv_cache + self.state

    @property
    def peak(self) -> int:
        return self.weights + self.cache + self.activations

    @property
    def device(self) -> int:
        return self.peak + self.overhead

    @property
    def per_sequence(self) -> int:
        """Cache and state of one request at the full context."""
        return self.demand.unit * self.requests.each(self.demand._replace(passes=()))

    @property
    def growing(self) -> int:
        """Activations that every request adds to."""
        return self.run.batch * self.run.copies * self.demand.pass_of(self.run.context)

    @property
    def fixed(self) -> int:
        """All but the cache."""
        return self.device - self.cache

    @property
    def needed(self) -> Needed:
        """What these requests need on a GPU (with a pool of a given size: that), and how far engines' logs lie from it."""
        pool = self.run.kv_cache_memory or 0
        return needed_bytes(self.fixed + max(self.cache, pool), *served_range(self.run.engine or ""), of=self.fixed)

    def limit_in(self, memory: int, others: int = 0) -> int:
        """What the engine can get on a GPU of `memory` bytes: all that is free, or what its share of the GPU comes to.

        `others` [B]: what it cannot get, since other processes hold it or the system keeps it.
        """
        pool = self.run.kv_cache_memory
        if pool is not None and pool >= self.cache:
            return memory - others
        if pool is None and not self.run.engine_row.pooled:
            return min(int(memory * self.run.utilization(memory)), memory - others)
        return min(self.fixed + self.room_or_missing(memory, others), memory - others)

    def headroom_in(self, memory: int, others: int = 0) -> int:
        """Bytes left for more cache; below zero, what is missing."""
        return self.limit_in(memory, others) - self.needed.bytes

    def room(self, memory: int, others: int = 0) -> int:
        """Bytes for the cache (and, where activations grow with the requests, for those) on a GPU of `memory` bytes."""
        return max(0, self.room_or_missing(memory, others))

    def room_or_missing(self, memory: int, others: int = 0) -> int:
        """The same, below zero what is missing beside any cache."""
        run, share = self.run, self.run.utilization(memory)
        if run.kv_cache_memory is not None:
            return run.kv_cache_memory
        counted = self.weights + self.activations - self.growing + self.overhead - self.beside
        free = memory - others - self.beside
        match run.engine_row.share_of:
            case "free":
                room = int((free - counted) * share)
            case "loaded":
                room = int(free * share) - self.weights
            case "total":
                room = int(memory * share) - counted
        return min(room, free - counted)  # what an engine adds beside its share must be there too

    def reserved(self, memory: int, others: int = 0) -> int:
        """Bytes that the engine takes for its cache, used or not."""
        return max(self.cache, self.room(memory, others)) if self.run.engine_row.pooled else self.cache

    def capacity(self, memory: int, others: int = 0) -> Capacity:
        """How many requests and tokens a GPU of `memory` bytes holds, of which `others` are taken."""
        run, demand, requests = self.run, self.demand, self.requests
        room = self.room(memory, others)
        left = room // demand.unit - requests.base(demand)
        each = requests.each(demand)
        fitting = max(0, left) // each if each else None
        batch, limit = fitting, "cache" if each else "nothing"
        scheduled = run.step_sequences(memory) if run.engine_row.sequences and run.engine_row.schedules else None
        if scheduled and (fitting is None or fitting > scheduled // run.copies):
            batch, limit = scheduled // run.copies, "max_sequences"
        if not room and each:
            limit = "weights"
        concurrency = max(0, left) / each if each and run.engine_row.pooled else fitting
        longest = requests.longest(demand, max(0, left) // run.batch) if each else None
        return Capacity(room, self._tokens(room, concurrency), concurrency, batch, longest, limit)

    def _tokens(self, room: int, concurrency: float | None) -> int | None:
        """Tokens of cache, as the engine's log counts them."""
        if self.run.engine_row.grouped and concurrency is not None:
            return int(concurrency * self.run.context)  # vLLM: get_kv_cache_capacity
        numerator, denominator = WINDOW_SHARE if self.run.engine_row.share_of == "loaded" else (1, 1)
        sliding = self.kv_cache_per_token - self.full_per_token
        rate = self.full_per_token * denominator + sliding * numerator
        return room * denominator // rate if rate else None


def estimate(
    architecture: Architecture,
    run: Serving,
    generation: str = "",
    memory: int = 0,
    draft: Architecture | None = None,
    files: StoredTensors | None = None,
) -> ServingEstimate:
    """The heaviest pipeline stage's rank for one architecture served one way.

    `generation` and `memory` [B] are the GPU's: engines' defaults depend on them. `draft` guesses tokens beside the model.
    `files`: the tensors of the checkpoint, for weights as they are stored there.
    """
    _check(architecture, run.tp, run.pp, run.ep)
    if architecture.as_stored:
        _check_stored(architecture, run)
    if (draft is None) != (run.draft_tokens is None):
        raise SpecError("a draft model and the number of tokens that it guesses go together", "draft_tokens")
    if draft and run.engine_row.host_embedding:
        raise Unsupported(f"--draft: a draft model under {run.engine} is not modelled")
    if draft and run.pp > 1:
        raise Unsupported("a draft model beside pipeline stages is not modelled yet")
    stored = None if run.weights == CHECKPOINT else stored_as(run.weights)
    etp = max(1, run.tp // run.ep)  # experts are cut by tensor parallelism only as far as expert parallelism does not
    if run.engine_row.host_embedding:
        return max(_llama_cpp(architecture, run, generation, memory, files), key=lambda rank: rank.device)
    found = [
        _on_stage(architecture, run, stage, generation, memory, draft, files)
        for stage in _stages(architecture, run.tp, run.pp, run.ep, etp, files is not None or isinstance(stored, Mixture))
    ]
    return max(found, key=lambda rank: rank.peak)


@cached(1024)
def _stages(architecture: Architecture, tp: int, pp: int, ep: int, etp: int, apart: bool) -> tuple[Stage, ...]:
    """The stages that can differ: `apart`, also those whose layers differ only in what a file stores."""
    return tuple(all_stages(architecture, tp, pp, ep, etp)) if apart else stages(architecture, tp, pp, ep, etp)


def _on_stage(
    architecture: Architecture,
    run: Serving,
    stage: Stage,
    generation: str,
    memory: int,
    draft: Architecture | None = None,
    files: StoredTensors | None = None,
) -> ServingEstimate:
    lines = list(weight_lines(architecture, run, stage, files))
    small = None
    if draft:
        (small,) = stages(draft, run.tp, 1, 1, run.tp)
        lines += [entry._replace(name=f"draft: {entry.name}") for entry in weight_lines(draft, run, small)]
    cache = kept(run, stage, memory, small)
    lines += cache.lines
    lines += forward_lines(architecture, run, stage, memory, generation)
    lines += _overhead(run, generation)
    layout = cache.layout
    demand = cache.demand
    if run.engine_row.whole_prompt:
        demand = demand._replace(passes=passes(architecture, run, stage), answer=run.context - run.prompt)
    sums = totals(lines, COMPONENTS)["gpu"]
    beside = sum(entry.bytes for entry in lines if entry.formula in BESIDE)
    return ServingEstimate(
        run=run, lines=tuple(lines), **sums, host=0, kv_cache_per_token=layout.per_token,
        full_per_token=layout.full_per_token, requests=cache.requests, demand=demand,
        beside=beside if run.engine_row.pooled else 0,
        assumptions=_assumptions(architecture, run.engine_row, run.weights, run.eager, layout.windowed),
        stage=stage,
    )  # fmt: skip


def _overhead(run: Serving, generation: str) -> tuple[Line, ...]:
    row = run.engine_row
    if not row.sampler:
        return overhead_lines(generation, run.ranks > 1)
    return _profiled(generation, run.ranks > 1, run.ranks > run.pp, row.graphs and not run.eager)


@cached(64)
def _profiled(generation: str, several: bool, sharing_layers: bool, graphs: bool) -> tuple[Line, ...]:
    """As the engine's profile divides it: the context was there before, graphs come after."""
    lines = [entry for entry in overhead_lines(generation, several) if entry.formula in BESIDE]
    lines.append(line("overhead", "outside PyTorch's allocator", "forward", formulas.outside_bytes,
                      outside=formulas.outside(generation, sharing_layers)))  # fmt: skip
    if graphs:
        lines.append(line("overhead", "CUDA graphs", "always", formulas.graphs_bytes, graphs=formulas.GRAPHS))
    return tuple(lines)


# --- layers in host memory: llama.cpp ---------------------------------------------------------------------------------


def _llama_cpp(
    architecture: Architecture, run: Serving, generation: str, memory: int, files: StoredTensors | None
) -> Iterator[ServingEstimate]:
    """Whole layers on each GPU, from the first that is offloaded; the token embedding always in host memory."""
    in_host, *gpus = _split(architecture, run.gpu_layers, run.pp)
    decoder = files and files.decoder  # towers are on the first GPU, whatever stays in host memory
    lines = [entry._replace(place="host") for entry in weight_lines(architecture, run, in_host, decoder, whole=True)]
    if in_host.layers:
        lines += [entry._replace(place="host") for entry in kept(run, in_host, memory).lines]
    for number, stage in enumerate(gpus):
        found = _on_stage(architecture, run, stage, generation, memory, files=decoder if number else files)
        own = sum(entry.bytes for entry in found.lines if entry.place == "host")
        yield found._replace(lines=found.lines + tuple(lines), host=own + sum(entry.bytes for entry in lines))


@cached(256)
def _split(architecture: Architecture, gpu_layers: int | None, pp: int) -> tuple[Stage, ...]:
    """What stays in host memory, then what each GPU holds. The head is offloaded after the last layer."""
    depth = depth_of(architecture)
    offloaded = depth + 1 if gpu_layers is None else min(gpu_layers, depth + 1)
    on_gpu = min(offloaded, depth)
    host, *gpus = stages_of(architecture, [depth - on_gpu, *(on_gpu // pp + (index < on_gpu % pp) for index in range(pp))])
    moved: tuple[Held, ...] = ()
    if offloaded <= depth:
        last = gpus[-1]
        moved = tuple(e for e in last.held if not e.layered and not e.tied_copy)
        layers = tuple(entry for entry in last.held if entry.layered)
        gpus[-1] = Stage.of(last.index, layers, False, last.sequence, before=last.before)
    return Stage.of(0, host.held + moved, bool(moved), host.sequence), *gpus


def _check_stored(architecture: Architecture, run: Serving) -> None:
    """A model that is known by the tensors of its GGUF file alone is served as llama.cpp does, from that file."""
    if not any(part.name in TEXT_PARTS for part in architecture.parts):
        raise Unsupported(
            "an mmproj file is what stands beside a decoder: give the folder that holds both, or the decoder's file"
        )
    what = f"{architecture.model_type}, which is known by the tensors of its GGUF file alone,"
    if run.engine and not run.engine_row.host_embedding:
        raise Unsupported(f"--engine {run.engine}: what it keeps of {what} is not known (llama.cpp is)")
    if run.weights != CHECKPOINT:
        raise Unsupported(f"--weights {run.weights}: {what} is served as it is stored; leave --weights out, or give that file")
    if max(run.tp, run.ep) > 1:
        raise SpecError(f"how {what} divides over GPUs is not known, but by layers (--pp)", "tp", "ep")


@cached(1024)
def _check(architecture: Architecture, tp: int, pp: int, ep: int) -> None:
    """Whether these degrees divide the model."""
    heads = layers = experts = 0
    for part in architecture.parts:
        for stack in part.stacks:
            layers = max(layers, stack.depth)
            for layer in stack.layers:
                for _, block in layer.blocks:
                    if part.name in ("language", "encoder", "decoder"):
                        heads = heads or block.traits.heads
                    experts = experts or block.traits.experts
    if heads and heads % tp:
        raise SpecError(f"tensor parallelism {tp} does not divide {heads} attention heads", "tp")
    if pp > max(layers, 1):
        raise SpecError(f"{pp} pipeline stages for {layers} layers", "pp")
    if ep > 1 and (not experts or experts % ep):
        raise SpecError(f"expert parallelism {ep} does not divide {experts} experts", "ep")


@cached(1024)
def _assumptions(architecture: Architecture, row: ServingEngine, weights: str, eager: bool, windowed: bool) -> tuple[str, ...]:
    out = [f"as {row.note} accounts for memory" if row.name else NO_ENGINE]
    if windowed and row.window == "window":
        out.append("sliding-window layers keep at most their window")
    out += weight_assumptions(architecture, weights, engine=row.name)
    if row.host_embedding and weights == CHECKPOINT and any(part.name in (VISION, AUDIO) for part in architecture.parts):
        out.append(UNBUFFERED)
    if row.graphs and not eager:
        out.append("CUDA graphs come on top of the engine's share of the GPU")
    return tuple(out)
