"""What the heaviest rank of a served model holds, and how much more it could."""

from memcalc.estimates.lines import Line
from memcalc.estimates.placement import Stage
from memcalc.estimates.serving.demand import Demand, Requests
from memcalc.formulas.residuals import served_range
from memcalc.formulas.sglang import NO_FACTS, ShareFacts
from memcalc.formulas.verdict import Needed, needed_bytes
from memcalc.frozen import NamedTuple
from memcalc.specs.quantization import spread
from memcalc.specs.serving import Serving
from memcalc.units import format_bytes

COMPONENTS = ("weights", "kv_cache", "state", "activations", "overhead")


class OnGpu(NamedTuple):
    """One of several GPUs [B]."""

    layers: int
    peak: int
    device: int
    needed: Needed


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
    card: int = 0  # which of the GPUs, where layers are put on each
    cards: tuple[OnGpu, ...] = ()  # all of them, where they are several of one machine
    facts: ShareFacts = NO_FACTS  # of the model, that an engine's share of the GPU depends on
    apart: int = 0  # the part of the cache that is set apart whatever runs
    tables: int = 0  # of a draft, that are there while the cache is sized and freed then
    late: int = 0  # the part of `beside` that is taken after the cache, out of what the share leaves

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
        found = needed_bytes(self.fixed + max(self.cache, pool), *served_range(self.run.engine_row.kin), of=self.fixed)
        low, high = spread(self.run.weights)
        if not low and not high:
            return found
        return found._replace(low=found.low + round(self.weights * low), high=found.high + round(self.weights * high))

    def share(self, memory: int) -> float:
        """The part of a GPU of `memory` bytes that the engine may take."""
        return self.run.utilization(memory, self.facts)

    def limit_in(self, memory: int, others: int = 0) -> int:
        """What the engine can get on a GPU of `memory` bytes: all that is free, or what its share of the GPU comes to.

        `others` [B]: what it cannot get, since other processes hold it or the system keeps it.
        """
        pool = self.run.kv_cache_memory
        if pool is not None and pool >= self.cache:
            return memory - others
        if pool is None and not self.run.engine_row.pooled:
            return min(int(memory * self.share(memory)), memory - others)
        return min(self.fixed + self.room_or_missing(memory, others), memory - others)

    def headroom_in(self, memory: int, others: int = 0) -> int:
        """Bytes left for more cache; below zero, what is missing."""
        return self.limit_in(memory, others) - self.needed.bytes

    def room(self, memory: int, others: int = 0) -> int:
        """Bytes for the cache (and, where activations grow with the requests, for those) on a GPU of `memory` bytes."""
        return max(0, self.room_or_missing(memory, others))

    def room_or_missing(self, memory: int, others: int = 0) -> int:
        """The same, below zero what is missing beside any cache."""
        run, share = self.run, self.share(memory)
        if run.kv_cache_memory is not None:
            return run.kv_cache_memory
        counted = self.weights + self.activations - self.growing + self.overhead - self.beside
        free = memory - others - self.beside
        match run.engine_row.share_of:
            case "free":
                room = int((free - counted - self.apart) * share) + self.apart
            case "loaded":
                room = int((free + self.late) * share) - self.weights - self.tables
            case "total":
                room = int(memory * share) - counted
        room = min(room, free - counted)  # what an engine adds beside its share must be there too
        return min(room, self.cap) if self.cap is not None else room

    @property
    def cap(self) -> int | None:
        """Bytes of the cache that so many tokens take, where their number is bounded."""
        tokens = self.run.cache_tokens
        if tokens is None:
            return None
        if self.demand.pools:
            return self.demand.unit * self.demand.units_of(tokens)
        if self.run.engine_row.grouped:
            return -(-tokens * self.per_sequence // self.run.kept_context)
        return tokens * self.kv_cache_per_token

    @property
    def offloaded_tokens(self) -> int | None:
        """Tokens that the tier in host memory holds; None without one."""
        tier = self.run.cache_offload
        return None if tier is None or not self.kv_cache_per_token else tier // self.kv_cache_per_token

    def reserved(self, memory: int, others: int = 0) -> int:
        """Bytes that the engine takes for its cache, used or not."""
        return max(self.cache, self.room(memory, others)) if self.run.engine_row.pooled else self.cache

    def running(self, memory: int, others: int = 0) -> int | None:
        """Requests that run at once where blocks are given as answers grow: those whose answers are half there fit.

        None: as many as there are."""
        requests, demand = self.requests._replace(own=self.requests.own // 2), self.demand
        each, scheduled = requests.each(demand), self.run.scheduled(memory)
        fitting = (
            max(0, max(0, self.room(memory, others) - self.apart) // demand.unit - requests.base(demand)) // each
            if each
            else None
        )
        found = [most for most in (fitting, scheduled // self.run.copies if scheduled else None) if most is not None]
        return min(found) if found else None

    def capacity(self, memory: int, others: int = 0) -> Capacity:
        """How many requests and tokens a GPU of `memory` bytes holds, of which `others` are taken."""
        run, demand, requests = self.run, self.demand, self.requests
        room = self.room(memory, others)
        left = max(0, room - self.apart) // demand.unit - requests.base(demand)
        each = requests.each(demand)
        fitting = max(0, left) // each if each else None
        batch, limit = fitting, "cache" if each else "nothing"
        scheduled = run.scheduled(memory)
        if run.slots:
            batch = (1 if fitting is None else min(1, fitting)) * run.slots
            limit = "max_sequences" if batch else limit
        if scheduled and (fitting is None or fitting > scheduled // run.copies):
            batch, limit = scheduled // run.copies, "max_sequences"
        if not room and each:
            limit = "weights"
        concurrency = max(0, left) / each if each and run.engine_row.pooled else fitting
        longest = requests.longest(demand, max(0, left) // run.batch) if each else None
        return Capacity(room, self._tokens(room, concurrency), concurrency, batch, longest, limit)

    def _tokens(self, room: int, concurrency: float | None) -> int | None:
        """Tokens of cache, as the engine's log counts them."""
        if self.run.engine_row.tokens_by_group and self.demand.growth:
            return self.demand.tokens_of_a_group(room // self.demand.unit)
        if self.run.engine_row.grouped and concurrency is not None:
            return int(concurrency * self.run.context)  # vLLM: get_kv_cache_capacity
        if self.demand.pools:
            return self.demand.tokens_in(max(0, room - self.apart) // self.demand.unit)
        return max(0, room - self.apart) // self.kv_cache_per_token if self.kv_cache_per_token else None
