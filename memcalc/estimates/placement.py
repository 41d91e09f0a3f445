"""Which weights one rank holds once tensor, pipeline and expert parallelism have placed them."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from math import prod

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack, named_weights, prediction_layers_of
from memcalc.blocks.ledger import Buffer, Shape, Weight
from memcalc.caches import cached
from memcalc.estimates.training.sequence import NO_LAYERS, Sequence
from memcalc.frozen import NamedTuple, dataclass
from memcalc.specs.pipeline import Pipeline


class Held(NamedTuple):
    """Equal tensors on one rank: their local shape and how many there are."""

    path: str
    role: str
    shape: Shape
    copies: int
    routed: bool  # an expert's: sharded over the expert data-parallel ranks
    layered: bool
    kind: int = 0  # which of its stack's distinct layers it belongs to
    weight: Weight | None = None  # the whole tensor, as the block has it
    frozen: bool = False
    tied_copy: bool = False  # the last stage's own copy of a tied embedding

    @property
    def elements(self) -> int:
        return prod(self.shape) * self.copies


class Tensors:
    """Tensors that one rank holds and that shard together. Compared by identity, so that caches keyed by it stay cheap."""

    def __init__(self, held: tuple[Held, ...]) -> None:
        self.held = held
        self._memo: dict[tuple[str, int], int] = {}

    def elements(self, rule: str = "whole", shards: int = 1) -> int:
        """Elements on one of `shards` ranks under a sharding rule of SHARDING."""
        key = (rule, shards)
        if (found := self._memo.get(key)) is None:
            found = self._memo[key] = SHARDING[rule](self.held, shards)
        return found

    @property
    def largest(self) -> int:
        """Elements of the largest tensor."""
        return max((prod(entry.shape) for entry in self.held), default=0)

    @property
    def count(self) -> int:
        """How many tensors these are."""
        return sum(entry.copies for entry in self.held)

    @cached_property
    def by_training(self) -> tuple["Tensors", "Tensors | None"]:
        """Those that gradients reach, and those that none ever does."""
        frozen = tuple(entry for entry in self.held if entry.frozen)
        if not frozen:
            return self, None
        return Tensors(tuple(entry for entry in self.held if not entry.frozen)), Tensors(frozen)


def _whole(held: tuple[Held, ...], _shards: int) -> int:
    return sum(entry.elements for entry in held)


def _by_rows(held: tuple[Held, ...], shards: int) -> int:
    """FSDP2: every tensor cut along dimension 0 into ceil(rows / shards) rows (torch.chunk, padded to equal shards)."""
    return sum(-(-entry.shape[0] // shards) * prod(entry.shape[1:]) * entry.copies for entry in held if entry.shape)


def _by_elements(held: tuple[Held, ...], shards: int) -> int:
    """ZeRO 3: every tensor flattened and cut into equal padded parts (deepspeed partition_parameters.py)."""
    return sum(-(-prod(entry.shape) // shards) * entry.copies for entry in held)


SHARDING = {"whole": _whole, "rows": _by_rows, "flat": _by_elements}


@dataclass(frozen=True, eq=False)
class Stage:
    """One distinct pipeline stage: what its ranks hold, and the blocks they run."""

    index: int
    dense: Tensors
    routed: Tensors
    last: bool  # computes the head and the loss
    sequence: Sequence
    entry: Named
    exit: Named
    before: int = 0  # layers of the main parts on earlier stages

    @property
    def layers(self) -> int:
        return sum(n for layer, n in zip(self.sequence.kinds, self.sequence.counts, strict=True) if not layer.bridge)

    @property
    def largest_layer(self) -> int:
        """Elements of its largest layer, as placed."""
        return max(self.sequence.elements, default=0)

    @cached_property
    def held(self) -> tuple[Held, ...]:
        return self.dense.held + self.routed.held

    @cached_property
    def buffers(self) -> tuple[tuple[Buffer, int], ...]:
        """Constants beside the parameters, and how often each is there."""
        blocks = [(block, 1) for _, block in (*self.entry, *self.exit)]
        for layer, count in zip(self.sequence.kinds, self.sequence.counts, strict=True):
            blocks += [(block, count) for _, block in layer.blocks]
        return tuple((buffer, count) for block, count in blocks for buffer in block.constants())

    @cached_property
    def closing_names(self) -> frozenset[str]:
        """Blocks after the layers."""
        return frozenset(path for path, _ in self.exit)

    @cached_property
    def closing(self) -> int:
        """Elements of what follows the layers, a tied table among them."""
        outside = [entry for entry in self.held if not entry.layered]
        own = sum(entry.elements for entry in outside if entry.path.split("/")[1] in self.closing_names)
        if not self.exit or any(entry.role == "head" and len(entry.shape) > 1 for entry in outside):
            return own
        return own + sum(entry.elements for entry in outside if entry.role == "embedding")

    @cached_property
    def root(self) -> int:
        """Elements outside layers: embedding, final norm, head."""
        return sum(entry.elements for entry in self.held if not entry.layered)

    @classmethod
    def of(
        cls, index: int, held: tuple[Held, ...], last: bool, sequence: Sequence = NO_LAYERS, entry: Named = (),
        exit_: Named = (), before: int = 0,
    ) -> "Stage":  # fmt: skip
        dense = Tensors(tuple(tensor for tensor in held if not tensor.routed))
        routed = Tensors(tuple(tensor for tensor in held if tensor.routed))
        return cls(index, dense, routed, last, sequence, entry, exit_, before)


@cached(1024)
def stages(
    architecture: Architecture, tp: int, pp: int, ep: int, etp: int, split: tuple[int, ...] = ()
) -> tuple[Stage, ...]:  # fmt: skip
    """The distinct stages of a model under the given degrees, first to last: of equal ones the first, which holds the most
    micro-batches."""
    seen: dict[tuple[object, ...], Stage] = {}
    for stage in all_stages(architecture, tp, pp, ep, etp, split):
        seen.setdefault((stage.held, stage.last), stage)
    return tuple(seen.values())


@cached(256)
def last_layers(architecture: Architecture, stage: Stage, degrees: tuple[int, int, int], count: int) -> Stage:
    """A stage that is the whole model, of which the last layers alone are trained."""
    depth = depth_of(architecture)
    earlier, later = stages_of(architecture, [depth - count, count], degrees)
    held = [entry._replace(frozen=True) for entry in earlier.held]
    held += [entry if entry.layered else entry._replace(frozen=True) for entry in later.held if not entry.tied_copy]
    return replace(stage, dense=Tensors(tuple(entry for entry in held if not entry.routed)),
                   routed=Tensors(tuple(entry for entry in held if entry.routed)))  # fmt: skip


@cached(1024)
def stage_counts(
    architecture: Architecture, tp: int, pp: int, ep: int, etp: int, split: tuple[int, ...] = ()
) -> tuple[int, ...]:  # fmt: skip
    """How many stages equal each of `stages`."""
    seen: dict[tuple[object, ...], int] = {}
    for stage in all_stages(architecture, tp, pp, ep, etp, split):
        seen[stage.held, stage.last] = seen.get((stage.held, stage.last), 0) + 1
    return tuple(seen.values())


def all_stages(
    architecture: Architecture, tp: int, pp: int, ep: int, etp: int, split: tuple[int, ...] = ()
) -> Iterator[Stage]:  # fmt: skip
    """Every pipeline stage of a model. `split`: layers of each virtual stage, of which a rank holds every `pp`-th.

    Without it layers go to stages in order, as evenly as whole layers allow, earlier stages taking one more. Embeddings and
    encoders of other modalities stand on the first stage, the final norm and the head on the last; a tied head keeps its own
    copy of the embedding there (Megatron-LM: the two copies' gradients are summed).
    Prediction layers have one as well, and stand on the last stage.
    """
    depth, beside = depth_of(architecture), prediction_layers_of(architecture)
    layers = list(split) or [(depth - beside) // pp + (index < (depth - beside) % pp) for index in range(pp)]
    if not split:
        layers[-1] += beside
    return stages_of(architecture, layers, (tp, ep, etp), len(layers) // pp)


@cached(256)
def depth_of(architecture: Architecture) -> int:
    """Layers that a pipeline divides."""
    return sum(stack.depth for part in main_parts(architecture) for stack in part.stacks)


def split_of(architecture: Architecture, pipeline: Pipeline) -> tuple[int, ...]:
    """Layers of each virtual stage, prediction layers among them; empty where they are shared evenly."""
    beside = prediction_layers_of(architecture)
    return pipeline.split_of(depth_of(architecture) - beside, beside)


def stages_of(
    architecture: Architecture, layers: list[int], degrees: tuple[int, int, int] = (1, 1, 1), chunks: int = 1
) -> Iterator[Stage]:  # fmt: skip
    """Stages of so many layers each, first to last; `degrees` are tensor, expert and expert-tensor parallel. Of several
    `chunks` a rank holds every `pp`-th (Megatron-LM's virtual stages)."""
    main = main_parts(architecture)
    runs = _Runs([(part.name, stack, kind, run) for part in main for stack in part.stacks for kind, run in stack.runs])
    before, pp = 0, len(layers) // chunks
    taken = [runs.take(count) for count in layers]
    for index in range(pp):
        mine = [run for chunk in taken[index::pp] for run in chunk]
        yield _stage(architecture, main, index, pp, mine, degrees, before)
        before += sum(layers[index::pp])


Run = tuple[str, Stack, int, int]  # part, stack, kind of layer, how many follow each other


class _Runs:
    """The layers of a model from first to last, handed out stage by stage in one walk."""

    def __init__(self, runs: list[Run]) -> None:
        self._runs, self._next, self._used = runs, 0, 0

    def take(self, count: int) -> list[Run]:
        """The next `count` layers."""
        out = []
        while count:
            part, stack, kind, run = self._runs[self._next]
            taken = min(count, run - self._used)
            out.append((part, stack, kind, taken))
            count -= taken
            self._used += taken
            if self._used == run:
                self._next, self._used = self._next + 1, 0
        return out


def main_parts(architecture: Architecture) -> tuple[Part, ...]:
    """The parts that a pipeline divides; vision and audio towers are small and stay whole on the first stage."""
    main = tuple(part for part in architecture.parts if part.name in ("language", "encoder", "decoder") and part.stacks)
    return main or architecture.parts


def _stage(
    architecture: Architecture,
    main: tuple[Part, ...],
    index: int,
    pp: int,
    mine: list[Run],
    degrees: tuple[int, int, int],
    before: int,
) -> Stage:
    held: list[Held] = []
    elements: dict[Layer, int] = {}
    first, last = index == 0, index == pp - 1

    def place(part: str, stack: Stack, kind: int, count: int) -> None:
        layer = stack.layers[kind]
        placed = _held(layer.weights, f"{part}/{stack.path}", count, True, degrees, kind)
        elements[layer] = sum(tensor.elements // count for tensor in placed)
        held.extend(placed)

    for part in architecture.parts if first else ():
        held += _held(named_weights(part.entry), part.name, 1, False, degrees)
        if part not in main:
            for stack in part.stacks:
                for kind, count in enumerate(stack.counts):
                    place(part.name, stack, kind, count)
            held += _held(named_weights(part.exit), part.name, 1, False, degrees)
    totals: dict[tuple[str, int, int], tuple[Stack, int]] = {}
    for name, stack, kind, count in mine:
        key = (name, id(stack), kind)
        totals[key] = (stack, totals.get(key, (stack, 0))[1] + count)
    for (name, _, kind), (stack, count) in totals.items():
        place(name, stack, kind, count)
    for part in main if last else ():
        held += _held(named_weights(part.exit), part.name, 1, False, degrees)
    predicts = any(stack.layers[kind].predicts for _, stack, kind, _ in mine)
    if (predicts or (last and architecture.tied)) and not first:
        tokens = (w for part in main for w in named_weights(part.entry) if w.role == "embedding")
        held += (copy._replace(tied_copy=True) for copy in _held(tokens, "tied head", 1, False, degrees))
    entry, exit_ = main[0].entry if first else (), main[-1].exit if last else ()
    runs = [(stack.layers[kind], count) for _, stack, kind, count in mine]
    where = next((i for i, (name, *_) in enumerate(mine) if name == "decoder" and i and mine[i - 1][0] == "encoder"), None)
    if where is not None:
        between = Layer(main[0].exit + main[-1].entry, bridge=True)
        runs.insert(where, (between, 1))
        elements[between] = 0  # its weights are the root's
    return Stage.of(index, tuple(held), last, Sequence.of(runs, elements), entry, exit_, before)


def _held(
    weights: Iterator[Weight] | tuple[Weight, ...],
    prefix: str,
    count: int,
    layered: bool,
    degrees: tuple[int, int, int],
    kind: int = 0,
) -> list[Held]:
    return [
        Held(f"{prefix}/{w.path}", w.role, w.local_shape(*degrees), count * w.tensors, w.routed, layered, kind, w, w.frozen)
        for w in weights
    ]
