"""A pipeline stage's step before it is walked through: its setting, and what each kind of layer keeps, makes and gathers."""

from collections.abc import Iterator
from functools import partial
from math import prod

from memcalc.autograd.adapter_shapes import shapes
from memcalc.autograd.profile import Adapters, Profile
from memcalc.autograd.tape import ZERO, Size, Tensor, sum_of
from memcalc.blocks.architecture import Layer
from memcalc.blocks.forwards import reads_tokens
from memcalc.blocks.ledger import Weight
from memcalc.blocks.recording import Recorded, RecordedExit, alive_in_layer, record
from memcalc.caches import cached
from memcalc.estimates.lines import Line
from memcalc.estimates.placement import Stage
from memcalc.estimates.training.adapters import QUANTISED_ROLES
from memcalc.estimates.training.moments import Term
from memcalc.estimates.training.sequence import LayerMark
from memcalc.estimates.training.sharding import Around
from memcalc.frozen import NamedTuple
from memcalc.specs.training import Training


class Evaluation(NamedTuple):
    """How a run evaluates between its steps."""

    passes: int = 1  # whose logits stay on the GPU
    ranks: int = 1  # whose logits each gathers; 0: none are collected
    wide: bool = False  # accelerate's mixed precision hands out fp32 (utils/operations.py, convert_outputs_to_fp32)

    @classmethod
    def of(cls, run: Training) -> "Evaluation | None":
        """None: it does not."""
        if run.eval_batch is None:
            return None
        row = run.engine_row
        wide = row.wide_outputs and run.precision.endswith(("-amp", "-mixed"))
        return cls(run.eval_accumulation, run.parallelism.data_parallel if row.trainer else 0, wide)


class TowerMoment(NamedTuple):
    """A candidate during a vision tower's backward; `gradients`: bytes of what it is through with."""

    name: str
    terms: tuple[Term, ...]
    gradients: int


class TowerStep(NamedTuple):
    """A vision tower's part in a step."""

    kept: tuple[Term, ...]  # from its forward on
    moments: tuple[TowerMoment, ...]
    gradients: int  # bytes of all that it makes
    flows: bool  # whether the language model sends it a gradient


class Setup(NamedTuple):
    """Everything about a step that does not depend on batch and length."""

    stage: Stage
    profile: Profile
    hidden: int
    by_operation: bool  # layers keep the results of chosen operations and recompute the others
    offload: bool  # what layers keep waits in host memory
    standing: bool  # gradients stand throughout: of earlier micro-batches, or a main-gradient buffer
    in_flight: float  # micro-batches whose activations this stage holds
    around: Around
    buckets: tuple[Line, ...]  # buffers that stand all the time
    tied: int  # bytes of the gradient of a tied matrix, made twice
    shared: tuple[Tensor, ...] = ()  # what all layers refer to from the first moment to the last
    input_grad: bool = True  # a gradient flows out of the first layer
    holds_inputs: bool = False  # recomputed layers' inputs and their gradients stay until the backward ends
    chunk: int = 1  # layers under one checkpoint
    leaves: bool = False  # gradients are used up, or go to the host, as they are made
    evaluation: Evaluation | None = None
    tower: TowerStep | None = None  # images beside the language model
    deferred: bool = False  # whole gradients of earlier micro-batches stand, though a strategy shards them
    accumulated: float = 1.0  # bytes of an accumulated gradient over those of one as the backward makes it
    last_layers: bool = False  # nothing but the last layers is trained
    behind: float = 0.0  # tokens of a micro-batch whose logits and graph the loop holds into the next forward, over those there

    @property
    def keeps_gradients(self) -> bool:
        """Whether gradients that the backward makes pile up: they do not where all stand already, nor where they leave. FSDP's
        are whole until their layer's backward is over, whatever stands of earlier ones."""
        return (not self.standing or self.around.root_waits) and not self.uses_up

    @property
    def uses_up(self) -> bool:
        """Whether a gradient leaves whole; a sharded one is reduced first, a layer at a time."""
        return self.leaves and not self.around.reduces

    def profile_of(self, mark: LayerMark) -> Profile:
        """Of a kind of layer: nothing of it is trained where later layers alone are."""
        if mark.trained:
            return self.profile
        return self.profile._replace(method=self.profile.method._replace(trained=False))

    @property
    def ends(self) -> Profile:
        """Of what stands outside the layers: frozen where adapters are trained, whatever layers do; a tied matrix is updated
        when both parts of its gradient are there."""
        if (self.profile.adapters.layers or self.last_layers) and self.profile.method.trained:
            return self.profile._replace(method=self.profile.method._replace(trained=False))
        if not (self.uses_up and self.tied):
            return self.profile
        return self.profile._replace(method=self.profile.method._replace(update=0.0))


NOTHING_CACHED = Term("", ZERO, 0, tuple)


class LayerKind(NamedTuple):
    """One kind of layer."""

    kept: Term  # until its backward
    own: Term  # what recomputation adds beside the recomputed tensors
    peaks: tuple[Term, ...]
    gradient: int  # bytes of its gradients as the backward makes them
    gathered: int  # elements
    passing: tuple[Term, ...] = ()  # during its forward
    repeating: tuple[Term, ...] = ()  # during its forward when it is recomputed
    cache: tuple[Term, Term] = (NOTHING_CACHED, NOTHING_CACHED)  # its keys and values: those that it does not keep, all of them
    again: Term = Term("", ZERO, 0, lambda: ())  # what its backward needs, once it has been made again
    attached: Term = NOTHING_CACHED  # what outlives its backward, until the graph is gone


def recorded_kind(setup: Setup, index: int) -> Recorded:
    """One layer of the stage's kind number `index`."""
    sequence, keep = setup.stage.sequence, setup.keeps_gradients
    mark = sequence.marks[index]
    profile = setup.profile_of(mark)
    return record(sequence.layers[mark.layer], profile, setup.hidden, input_grad=mark.input_grad, keep_gradients=keep)


def saved_by(recorded: Recorded | RecordedExit) -> tuple[Tensor, ...]:
    return recorded.saved


def layer_kind(setup: Setup, index: int) -> LayerKind:
    sequence = setup.stage.sequence
    mark = sequence.marks[index]
    layer = sequence.layers[mark.layer]
    tied = setup.tied if layer.bridge else 0
    return _layer_kind(layer, setup.profile_of(mark), setup.hidden, mark, gathered_elements(setup, index), tied,
                       keep_gradients=setup.keeps_gradients, by_operation=setup.by_operation and mark.trained)  # fmt: skip


@cached(1024)
def _layer_kind(
    layer: Layer, profile: Profile, hidden: int, mark: LayerMark, gathered: int, tied: int, *, keep_gradients: bool,
    by_operation: bool,
) -> LayerKind:  # fmt: skip
    """Whatever the sharding, the stage and the number of GPUs: runs that differ in these share it."""
    made: dict[str, bool] = {
        "input_grad": mark.input_grad, "keep_gradients": keep_gradients, "again": mark.recomputed and not layer.bridge,
    }  # fmt: skip
    recorded = record(layer, profile, hidden, **made)
    gradient, added, bridge = int(recorded.gradients), ZERO, layer.bridge
    if bridge and tied and reads_tokens(layer.blocks):
        added = Size(fixed=tied)  # summed with the head's gradient of the same matrix at once
        gradient -= tied
    kept = _kept(recorded, mark.recomputed, by_operation, bridge)
    again = not bridge and (mark.recomputed or by_operation)
    own = (recorded.input,) if again and recorded.input not in recorded.saved else ()  # which holds it where a norm saves it
    alive = partial(alive_in_layer, layer, profile, hidden, **made)
    working, nothing = "layer in its backward/", (NOTHING_CACHED, NOTHING_CACHED)
    return LayerKind(
        term_of("layers/", kept),
        term_of(working, own),
        tuple(Term(working, peak + added, 1, partial(_with, alive, which, added)) for which, peak in enumerate(recorded.peaks)),
        gradient,
        gathered,
        tuple(Term.one("layer in its forward/buffers", size) for size in recorded.passing),
        tuple(Term.one("layer in its forward again/buffers", size) for size in recorded.repeating),
        _cache(recorded, keeps_all=not (mark.recomputed or by_operation)) if profile.keeps.cache else nothing,
        term_of("layers of one checkpoint/", recorded.saved),
        NOTHING_CACHED if again else term_of(BEFORE, recorded.attached),
    )


def _cache(recorded: Recorded, *, keeps_all: bool) -> tuple[Term, Term]:
    """Keys and values that the model returns: those beside what the layer keeps, and all."""
    return term_of(CACHE, recorded.uncached if keeps_all else recorded.cached), term_of(CACHE, recorded.cached)


CACHE, BEFORE = "cache/", "the micro-batch before/"
PACKED = 4  # 4-bit values in an element of the 16-bit tensor that they are stored and gathered in (bnb_4bit_quant_storage)


def gathered_elements(setup: Setup, index: int) -> int:
    """Elements that are gathered for one layer of a kind; quantised matrices travel packed."""
    sequence, layer = setup.stage.sequence, setup.stage.sequence.kinds[index]
    elements = sequence.elements[index]
    if not setup.profile.method.quantised:
        return elements
    total = sum(weight.parameters for weight in layer.weights)
    low = sum(w.parameters for w in layer.weights if w.role in QUANTISED_ROLES and len(w.shape) >= 2)
    return elements - elements * low * (PACKED - 1) // (total * PACKED) if total else 0


def _kept(recorded: Recorded, recomputed: bool, by_operation: bool, bridge: bool) -> tuple[Tensor, ...]:
    """What a layer keeps until its backward, by name."""
    if bridge:
        return (*recorded.saved, *(recorded.chosen if recomputed else ()))
    if recomputed:
        return (recorded.input, *recorded.beyond)
    return (recorded.input, *recorded.chosen) if by_operation else recorded.saved


def term_of(path: str, tensors: tuple[Tensor, ...]) -> Term:
    return Term(path, sum_of(tensor.bytes for tensor in tensors), 1, lambda: tensors)


def _with(alive: partial[tuple[Tensor, ...]], which: int, added: Size) -> tuple[Tensor, ...]:
    """A peak's tensors, and the gradient of a tied matrix that is made a second time."""
    more = (Tensor("bridge/gradient of the tied matrix, summed", added),) if added != ZERO else ()
    return (*alive(which=which), *more)


def narrowed(setup: Setup, terms: list[Term]) -> Iterator[Term]:
    """Where the residual stream is wide, what the embedding hands to the first recomputed layer is not yet."""
    formats, sequence = setup.profile.formats, setup.stage.sequence
    recomputed = setup.stage.entry and sequence.marks and sequence.marks[0].recomputed and not setup.offload
    wide = (formats.wide_stream or formats.kbit == "norms") and recomputed
    for term in terms:
        if wide and term.copies >= 1 and any(tensor.label == "input" for tensor in term.tensors()[:1]):
            narrow = Tensor("input", Size(token=setup.hidden * setup.profile.degrees.stream), formats.weights)
            yield term.times(term.copies - 1)
            yield term_of(term.path, (narrow,))
            wide = False
        else:
            yield term


def cast_cache(setup: Setup, *, all_layers: bool = False) -> int:
    """Autocast keeps its casts of all weights that are trained until the forward ends, also those that recomputation does not
    save; `all_layers`: those too whose backward keeps them (ATen/autocast_mode.cpp, cached_cast)."""
    sequence, profile = setup.stage.sequence, setup.profile
    if not (profile.adapters.autocast or (profile.formats.autocast and profile.method.trained)):
        return 0
    matrices = sum(
        sum(_cast(w, profile.adapters) for w in layer.weights if len(w.shape) >= 2) * n
        for layer, n, mark in zip(sequence.kinds, sequence.counts, sequence.marks, strict=True)
        if mark.trained and (all_layers or (mark.recomputed and not layer.bridge))
    )
    return matrices * profile.formats.compute // profile.degrees.tp


def _cast(weight: Weight, adapters: Adapters) -> int:
    """Elements that autocast casts of a matrix: its own, or those of the pair beside it."""
    if not adapters.rank:
        return weight.parameters
    adapted = weight.path.rpartition("/")[2] in adapters.layers and not weight.routed and len(weight.shape) == 2
    if not adapted or adapters.kind not in MULTIPLIED:
        return 0
    outputs, inputs = weight.shape
    made = shapes(adapters.kind, inputs, outputs, adapters.rank)
    return weight.tensors * sum(prod(shape) for part, shape in made if part not in WHOLE)


MULTIPLIED, WHOLE = ("lora", "loha", "lokr"), ("lokr_w1", "lokr_w2")  # whose parts are operands of matrix products; but these
