"""All layouts of a training job: every way to divide it that the engine accepts and the arithmetic allows.

A layout is a few plain numbers; a spec is only made of those that are looked at closely.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

from memcalc.errors import InputError
from memcalc.estimates.planning.accepts import DDP, DEGREES, ENGINES, HYBRID, Accepts, Settings
from memcalc.frozen import NamedTuple

MAX_CANDIDATES = 400_000
LEAST_CONTEXT = 1024  # tokens of a sequence that a context-parallel rank keeps: below, rings wait for messages
CHUNKS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
RECOMPUTED = ("none", "selective", "full")
ENDS = "embedding and loss count as layers"
Free = Mapping[str, Sequence[Any]]  # setting → values to try


class Question(NamedTuple):
    """What a layout is looked for: the model in a few numbers, and what is settled."""

    engine: str
    gpus: int
    gpus_per_node: int
    heads: int
    layers: int
    predicting: int  # layers beside them that predict further tokens
    experts: int
    seq_len: int
    global_batch: int
    pinned: Settings  # settings that the user gave, flat
    free: Free  # settings that the user wants tried, with their values


class Division(NamedTuple):
    """Where a model lies: all of a layout that its states depend on."""

    engine: str
    gpus: int
    tp: int
    pp: int
    cp: int
    ep: int
    etp: int
    chunks: int
    split: str  # how stages share the layers: "" evenly, ENDS, or a layout that says of each what it holds
    sharding: int  # of the engine's ways

    @property
    def copies(self) -> int:
        """Data-parallel ranks."""
        return self.gpus // (self.tp * self.pp * self.cp)


class TrainingLayout(NamedTuple):
    """A candidate."""

    place: Division
    micro_batch: int
    grad_accum: int
    recompute: str
    others: tuple[tuple[str, Any], ...] = ()  # settings that the user wants tried

    @property
    def degrees(self) -> tuple[str, int, int, int, int]:
        """What the time of a layer depends on beside the batch."""
        place = self.place
        return place.engine, place.tp, place.cp, place.ep, place.etp

    @property
    def shape(self) -> tuple[Any, ...]:
        """Of layouts with the same one the best is shown."""
        return self.degrees, self.place.pp, self.others

    @property
    def simplicity(self) -> tuple[int, int]:
        """The fewer ways of dividing the better: of layouts that take as long the first is the simplest."""
        place = self.place
        degrees = (place.tp, place.pp, place.cp, place.ep, place.etp, place.chunks)
        return sum(degree > 1 for degree in degrees) + (self.recompute != "none"), sum(degrees)

    @property
    def others_recomputed(self) -> tuple[str, tuple[tuple[str, Any], ...]]:
        """What activations depend on beside the micro-batch."""
        return self.recompute, self.others

    def settings(self, accepts: Accepts) -> Settings:
        """As `train` takes them; what is the default is not said."""
        place = self.place
        out: Settings = {"engine": place.engine, "gpus": place.gpus}
        out |= {name: degree for name in DEGREES if (degree := getattr(place, name)) > 1}
        if place.tp > 1:
            out["sequence_parallel"] = True
        if place.cp > 1 and accepts.cp_kind != "ring":
            out["cp_kind"] = accepts.cp_kind
        if place.chunks > 1:
            out["pipeline_schedule"] = "interleaved"
        if place.split not in ("", ENDS):
            out["pipeline_layout"] = place.split
        elif place.chunks > 1:
            out["virtual_stages"] = place.chunks
        if place.split == ENDS:
            out |= {"count_embedding": True, "count_loss": True}
        sharding = accepts.shardings[place.sharding]
        if (place.gpus > 1 and sharding != DDP) or "zero" in sharding:
            out |= sharding
        out |= {"micro_batch": self.micro_batch, "grad_accum": self.grad_accum}
        if self.recompute != "none":
            out["recompute"] = self.recompute
        return out | dict(self.others)


def layouts(asked: Question) -> Iterator[TrainingLayout]:
    """All of them. Raises InputError where there are more than MAX_CANDIDATES."""
    count = 0
    others = list(product(*([(name, value) for value in values] for name, values in _further(asked.free))))
    for place in places(asked):
        batches = micro_batches(asked, place)
        for batch, recompute, settings in product(batches, _values(asked, "recompute", RECOMPUTED), others):
            count += 1
            if count > MAX_CANDIDATES:
                raise InputError(
                    f"more than {MAX_CANDIDATES:,} layouts: settle some of them (tp, pp, cp, ep, recompute, engine), "
                    "or say with --vary which values to try",
                    place="plan",
                )
            yield TrainingLayout(place, batch, asked.global_batch // (batch * place.copies), recompute, settings)


SPACE = ("tp", "pp", "cp", "ep", "etp", "virtual_stages", "zero", "fsdp", "ddp", "micro_batch", "grad_accum", "recompute")
OF_SHARDING = ("zero", "fsdp", "ddp")


def _further(free: Free) -> Iterator[tuple[str, Sequence[Any]]]:
    """What is tried beside the axes of the space."""
    return ((name, values) for name, values in free.items() if name not in SPACE)


def places(asked: Question) -> Iterator[Division]:
    """Every way to divide the model over the GPUs."""
    accepts = ENGINES[asked.engine]
    shardings = [number for number, sharding in enumerate(accepts.shardings) if _agrees(asked, sharding)]
    if asked.gpus <= asked.gpus_per_node:  # hybrid shards inside a node: all there is
        shardings = [number for number in shardings if accepts.shardings[number] != HYBRID] or shardings
    if asked.gpus == 1:
        shardings = shardings[:1]
    for tp, cp in product(_degrees(asked, "tp", _tensor), _degrees(asked, "cp", _context)):
        if asked.gpus % (tp * cp):
            continue
        for pp in _degrees(asked, "pp", _pipeline):
            if asked.gpus % (tp * cp * pp) or asked.global_batch % (asked.gpus // (tp * cp * pp)):
                continue
            for (chunks, split), ep, etp in product(
                _stages(asked, pp),
                _degrees(asked, "ep", _experts),
                _degrees(asked, "etp", partial(_inside_experts, tp)),
            ):
                if asked.gpus % (ep * etp * pp) or (pp > 1 and chunks > 1 and asked.experts == 0 and ep > 1):
                    continue
                for sharding in shardings:
                    if not (pp > 1 and accepts.shardings[sharding].get("zero", 0) > 1):
                        yield Division(asked.engine, asked.gpus, tp, pp, cp, ep, etp, chunks, split, sharding)


def micro_batches(asked: Question, place: Division) -> list[int]:
    """Sequences at a time, with which whole micro-batches make a global batch; interleaved ones go round all stages."""
    each = asked.global_batch // place.copies
    fixed = _values(asked, "grad_accum", ())
    found = [size for size in _values(asked, "micro_batch", _divisors(each)) if each % size == 0]
    if fixed:
        found = [size for size in found if each // size in fixed]
    if place.chunks > 1:  # megatron/training/arguments.py: micro-batches are a multiple of the stages
        found = [size for size in found if (each // size) % place.pp == 0]
    return found


def _agrees(asked: Question, sharding: Settings) -> bool:
    """Whether a way to shard is not another than what was said."""
    for name in OF_SHARDING:
        wanted = asked.free.get(name) or ([asked.pinned[name]] if name in asked.pinned else [])
        if wanted and sharding.get(name) not in wanted:
            return False
    return True


def _values(asked: Question, name: str, usual: Iterable[Any]) -> list[Any]:
    """What to try of a setting: what was said, what was asked for, or the usual."""
    if name in asked.pinned:
        return [asked.pinned[name]]
    return list(asked.free.get(name, usual))


def _degrees(asked: Question, name: str, possible: Callable[[Question], Iterable[int]]) -> list[int]:
    if name in asked.pinned or name in asked.free:
        return _values(asked, name, ())
    return sorted(possible(asked)) if name in ENGINES[asked.engine].degrees else [1]


def _tensor(asked: Question) -> Iterable[int]:
    """Inside a node, of equal shares of the heads."""
    return (
        degree
        for degree in _divisors(min(asked.gpus, asked.gpus_per_node))
        if asked.gpus % degree == 0 and (not asked.heads or asked.heads % degree == 0)
    )


def _context(asked: Question) -> Iterable[int]:
    """Of equal halves of a sequence's two ends (ring attention's balance), or of heads (Ulysses)."""
    ulysses = ENGINES[asked.engine].cp_kind == "all-to-all"
    for degree in _divisors(min(asked.gpus, max(1, asked.seq_len // LEAST_CONTEXT))):
        if degree == 1 or (asked.heads % degree == 0 if ulysses else asked.seq_len % (2 * degree) == 0):
            yield degree


def _pipeline(asked: Question) -> Iterable[int]:
    return (degree for degree in _divisors(asked.gpus) if degree <= asked.layers and any(True for _ in _splits(asked, degree)))


def _inside_experts(tp: int, asked: Question) -> Iterable[int]:
    return {1, tp} if asked.experts else {1}


def _experts(asked: Question) -> Iterable[int]:
    return (degree for degree in _divisors(asked.experts) if asked.gpus % degree == 0) if asked.experts else (1,)


def _splits(asked: Question, pp: int) -> Iterator[tuple[str, int]]:
    """How stages share the layers, and layers of a stage then; 0: of some one more than of others."""
    if asked.layers % pp == 0:
        yield "", asked.layers // pp
    elif pp > 1 and ENGINES[asked.engine].uneven:
        if (asked.layers + 2) % pp == 0:
            yield ENDS, (asked.layers + 2) // pp
        elif asked.layers >= pp:
            yield "", 0


def layout_of(layers: int, predicting: int, stages: int) -> str:
    """Layers shared over so many stages as evenly as they go, embedding and loss counted as layers, in Megatron-LM's words
    (megatron/core/transformer/pipeline_parallel_layer_layout.py); "" where a stage would be left empty.

    >>> layout_of(61, 1, 8), layout_of(5, 0, 3), layout_of(2, 0, 3)
    ('Et*7|t*8|t*8|t*8|t*8|t*8|t*8|t*6mL', 'Et*2|t*2|t*1L', '')
    """
    each, more = divmod(layers + 2, stages)
    shares = [each + (stage < more) for stage in range(stages)]
    shares[0] -= 1
    shares[-1] -= 1
    if min(shares) < 1:
        return ""
    return "E" + "|".join(f"t*{share}" for share in shares) + "m" * predicting + "L"


def _stages(asked: Question, pp: int) -> list[tuple[int, str]]:
    """Chunks of layers that a stage holds, and how stages share the layers."""
    if "virtual_stages" in asked.pinned or "virtual_stages" in asked.free:
        usual = _values(asked, "virtual_stages", ())
    else:
        usual = list(CHUNKS) if pp > 1 and ENGINES[asked.engine].chunks else [1]
    if schedule := asked.pinned.get("pipeline_schedule"):  # chunks belong to the interleaved one
        usual = [chunks for chunks in usual if (chunks > 1) == (schedule == "interleaved" and pp > 1)]
    out = []
    for (split, layers), chunks in product(_splits(asked, pp), (chunks for chunks in usual if chunks > 0)):
        if (layers and layers % chunks == 0) or (
            not layers and (split := layout_of(asked.layers, asked.predicting, pp * chunks))
        ):
            out.append((chunks, split))
    return out


def _divisors(number: int) -> list[int]:
    """Divisors of a number, smallest first.

    >>> _divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def why_none(asked: Question) -> str:
    """Which constraint leaves no layout at all."""
    gpus, batch = asked.gpus, asked.global_batch
    said = {name: asked.pinned[name] for name in (*DEGREES, "virtual_stages") if asked.pinned.get(name, 1) != 1}
    if not any(_agrees(asked, sharding) for sharding in ENGINES[asked.engine].shardings):
        asked_for = ", ".join(f"{name} {asked.pinned[name]}" for name in OF_SHARDING if name in asked.pinned)
        ways = ", ".join(_way(each) for each in ENGINES[asked.engine].shardings)
        return f"a plan for {asked.engine} shards by one of {ways}, not by {asked_for or 'what is varied'}"
    product_ = 1
    for name in ("tp", "pp", "cp"):
        product_ *= said.get(name, 1)
    if gpus % product_:
        return f"tp × pp × cp = {product_} does not divide {gpus:,} GPUs: use {max(1, gpus // product_) * product_:,}"
    copies = {place.copies for place in places(asked._replace(global_batch=_many(gpus)))}
    if not copies:
        named = ", ".join(f"{name} {value}" for name, value in said.items()) or "what was said"
        return f"{named} and {asked.layers} layers, {asked.heads} heads leave no way to divide the model over {gpus:,} GPUs"
    least = min(copies)
    near = sorted({max(1, round(batch / each)) * each for each in copies}, key=lambda number: (abs(number - batch), number))
    return (
        f"{gpus:,} GPUs are {least:,} data-parallel ranks or more under {asked.engine}, over which a global batch of "
        f"{batch:,} does not divide: use {near[0]:,}"
    )


def _way(sharding: Settings) -> str:
    """ddp, or fsdp full."""
    return ", ".join(name if value is True else f"{name} {value}" for name, value in sharding.items())


def _many(gpus: int) -> int:
    """A global batch that every number of data-parallel ranks divides."""
    return gpus
