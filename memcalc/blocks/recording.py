"""Layers, entry and exit of a model recorded onto tapes: saved bytes, gradients and candidate peaks, once a profile."""

from memcalc.autograd.backward import alive, arriving, backward
from memcalc.autograd.events import Piece, forward_peaks, passing_peaks
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import ZERO, Exchange, Size, Tape, Tensor, Var, sum_of
from memcalc.blocks.architecture import Layer, Named
from memcalc.blocks.forwards import entry_onto_tape, exit_onto_tape, layer_onto_tape
from memcalc.caches import cached
from memcalc.errors import Unsupported
from memcalc.frozen import NamedTuple

NOTHING = Tensor("", Size())


class Recorded(NamedTuple):
    """What one layer adds to the timeline; sizes in bytes, as forms in tokens and pairs."""

    saved: tuple[Tensor, ...]  # every tensor kept for the backward pass
    saved_bytes: Size
    input: Tensor  # all that is kept under full recomputation
    peaks: tuple[Size, ...]  # candidates during its backward, above what all other layers hold
    gradients: float  # bytes of the parameter gradients it makes
    chosen: tuple[Tensor, ...] = ()  # what per-operation recomputation keeps beside the input
    flows: bool = True  # whether its output needs a gradient
    passing: tuple[Size, ...] = ()  # candidates during its forward, above what all other layers hold
    repeating: tuple[Size, ...] = ()  # the same when recomputation repeats it, gradients that have arrived included
    exchange: Exchange | None = None  # the largest buffers of its context-parallel attention
    cached: tuple[Tensor, ...] = ()  # keys and values, as a cache holds them
    uncached: tuple[Tensor, ...] = ()  # those of them that nothing saves
    handed: tuple[Tensor, ...] = ()  # keys and values that later layers may read
    history: tuple[Tensor, ...] = ()  # what the operations that made them save
    attached: tuple[Tensor, ...] = ()  # what outlives its backward, until the graph is gone
    beyond: tuple[Tensor, ...] = ()  # kept though the layer is recomputed


@cached(1024)
def record(
    layer: Layer, profile: Profile, hidden: int, *, input_grad: bool = True, keep_gradients: bool = True, again: bool = False
) -> Recorded:  # fmt: skip
    """One layer under one profile; `again`: recomputation makes what it saves. Raises Unsupported for a block that cannot
    record yet."""
    if layer.skipped:
        return Recorded((), ZERO, NOTHING, (), 0.0, flows=input_grad)
    if any(block.outside_layers for _, block in layer.blocks):
        raise Unsupported("training with projections inside layers is not modelled")
    if not layer.wiring and (names := [type(block).__name__ for _, block in layer.blocks if block.wired]):
        raise Unsupported(f"training with {names[0]} blocks in layers of this kind is not modelled")
    tape, x, output = layer_onto_tape(layer, profile, hidden, input_grad)
    peaks = backward(tape, output, gradients=keep_gradients, again=again)
    saved = tuple(var.tensor for var in tape.saved())
    if layer.bridge:
        # recomputed layers keep the source as it is, whatever autocast casts it to
        chosen = (tape.carried[-1].tensor._replace(label="bridge/source"),) if profile.formats.autocast else ()
        inside = tuple(tensor._replace(label=f"bridge/{tensor.label}") for tensor in saved)
        return Recorded(inside, tape.saved_bytes(), NOTHING, peaks, _gradients(tape), chosen)
    tape.hold(*tape.returned)
    kept = tape.saved()
    measured = bool(profile.adapters.rank or layer.wiring or tape.returned or tape.beside != ZERO)
    # the layer's input, and that of the first layer, which the model's own forward holds
    residual = tape.beside + (ZERO if x in kept else x.bytes * 2)
    within = tuple(size + residual for size in tape.passing)
    handed = [var for var in tape.cacheable if not var.outside] if layer.hands_on else []
    recorded = Recorded(
        saved, tape.saved_bytes(), x.tensor, peaks, _gradients(tape), tuple(var.tensor for var in tape.chosen()),
        cached=tuple(var.tensor for var in tape.cacheable),
        uncached=tuple(var.tensor for var in tape.cacheable if (var.whole or var) not in kept),
        passing=(*within, *(_passing(tape, x, output) if measured else ())),
        repeating=_repeating(tape, x, output) if measured else within,
        flows=output is None or output.grad,
        exchange=max(tape.exchanges, key=lambda made: made.bytes, default=None),
        handed=tuple(var.tensor for var in handed),
        history=tuple(var.tensor for var in tape.history(handed)),
        attached=_attached(tape),
        beyond=tuple(var.tensor for var in tape.beyond),
    )  # fmt: skip
    return _stretched(recorded, profile.batch.source) if layer.source else recorded


def _passing(tape: Tape, x: Var, output: Var | None) -> tuple[Size, ...]:
    """A forward's candidates. Frozen matrices save less than runs by; elsewhere a backward is the higher one."""
    embedded = ZERO if x in tape.saved() else x.bytes  # the model's own forward holds what the first layer was given
    return tuple(peak + x.bytes + embedded + tape.beside for peak in passing_peaks(tape, x, output))


def _repeating(tape: Tape, x: Var, output: Var | None) -> tuple[Size, ...]:
    """The same when recomputation repeats it, beside the gradients that have arrived; the input is counted by who kept it,
    unless the layer saves it."""
    gradients = arriving(tape, output)
    there = gradients + (x.bytes if x in tape.saved() else ZERO)
    return (
        *(size + gradients for size in tape.passing),
        *(peak + there for peak in passing_peaks(tape, x, output, again=True)),
    )


@cached(256)
def alive_in_layer(
    layer: Layer, profile: Profile, hidden: int, which: int, *, input_grad: bool = True, keep_gradients: bool = True,
    again: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The tensors that peak number `which` of `record` consists of."""
    tape, _, output = layer_onto_tape(layer, profile, hidden, input_grad)
    tensors = alive(tape, output, which, gradients=keep_gradients, again=again)
    return _longer_tensors(tensors, profile.batch.source) if layer.source else tensors


def _stretched(recorded: Recorded, by: float) -> Recorded:
    """The same over `by` times as many tokens a sequence."""
    if by == 1:
        return recorded
    return recorded._replace(
        saved=_longer_tensors(recorded.saved, by), saved_bytes=_longer(recorded.saved_bytes, by),
        input=_longer_tensors((recorded.input,), by)[0], peaks=tuple(_longer(size, by) for size in recorded.peaks),
        chosen=_longer_tensors(recorded.chosen, by),
    )  # fmt: skip


def _longer(size: Size, by: float) -> Size:
    return Size(size.token * by, size.pair * by * by, size.fixed)


def _longer_tensors(tensors: tuple[Tensor, ...], by: float) -> tuple[Tensor, ...]:
    if by == 1:
        return tensors
    return tuple(tensor._replace(elements=_longer(tensor.elements, by)) for tensor in tensors)


class RecordedExit(NamedTuple):
    """Final norm, head and loss."""

    saved: tuple[Tensor, ...]
    saved_bytes: Size
    loss_held: Size  # alive in the loss beside what is saved
    peaks: tuple[Size, ...]
    gradients: float
    output: tuple[Tensor, ...] = ()  # what the loop holds of what the model returned
    result: tuple[Tensor, ...] = ()  # what the model returns
    returning: tuple[Size, ...] = ()  # candidates until that is there
    attached: tuple[Tensor, ...] = ()  # what outlives its backward, until the graph is gone


@cached(1024)
def record_exit(blocks: Named, profile: Profile, hidden: int, *, keep_gradients: bool = True) -> RecordedExit:
    """The blocks after the last layer. `loss_held` is zero for a model that ends in hidden states."""
    tape, output, held = exit_onto_tape(blocks, profile, hidden)
    peaks = backward(tape, output, gradients=keep_gradients)
    kept = (tape.result.tensor,) if profile.keeps.output and tape.result else ()
    recorded = RecordedExit(tuple(v.tensor for v in tape.saved()), tape.saved_bytes(), held, peaks, _gradients(tape), kept)
    if tape.result is None:
        return recorded
    x = next((var for node in tape.nodes for var in node.inputs if var.label == "input"), None)
    return recorded._replace(result=(tape.result.tensor,), returning=_returning(tape, x, tape.result), attached=_attached(tape))


def _returning(tape: Tape, x: Var | None, result: Var) -> tuple[Size, ...]:
    """A forward's candidates until the model returns, its input included: what there is then, and, where a matrix is quantised,
    the logits that it is multiplied to while it is whole."""
    mine = x.bytes if x is not None else ZERO
    logits = tape.products[-1].bytes if tape.products else ZERO
    until = [peak + mine for peak in passing_peaks(tape, x, None, result=result)]
    return (*until, *((mine + logits + tape.expanded,) if tape.expanded != ZERO else ()))


def _attached(tape: Tape) -> tuple[Tensor, ...]:
    return tuple(var.tensor for var in dict.fromkeys(tape.attached))


@cached(256)
def alive_in_exit(
    blocks: Named, profile: Profile, hidden: int, which: int, *, keep_gradients: bool = True
) -> tuple[Tensor, ...]:
    """The tensors that peak number `which` of `record_exit` consists of."""
    tape, output, _ = exit_onto_tape(blocks, profile, hidden)
    return alive(tape, output, which, gradients=keep_gradients)


@cached(1024)
def record_entry(blocks: Named, profile: Profile, *, keep_gradients: bool = True) -> Recorded:
    """The embedding and what follows it before the first layer."""
    tape, x = entry_onto_tape(blocks, profile)
    peaks = backward(tape, x, gradients=keep_gradients)
    saved = tuple(v.tensor for v in tape.saved() if v is not x)  # the first layer keeps its input
    return Recorded(saved, sum_of(tensor.bytes for tensor in saved), NOTHING, peaks, _gradients(tape), flows=x.grad)


@cached(256)
def alive_in_entry(blocks: Named, profile: Profile, which: int, *, keep_gradients: bool = True) -> tuple[Tensor, ...]:
    """The tensors that peak number `which` of `record_entry` consists of."""
    tape, x = entry_onto_tape(blocks, profile)
    return alive(tape, x, which, gradients=keep_gradients)


def _gradients(tape: Tape) -> float:
    return tape.weight_gradient_bytes().fixed


# --- what is allocated, in order --------------------------------------------------------------------------------------


@cached(256)
def layer_piece(layer: Layer, profile: Profile, hidden: int, *, input_grad: bool = True, chosen: bool = False) -> Piece:
    """A layer's allocations; `chosen`: recomputation keeps the results of chosen operations."""
    if layer.bridge or layer.crosses or layer.source:
        raise Unsupported("the order of allocations around cross-attention is not modelled")
    tape, x, output = layer_onto_tape(layer, profile, hidden, input_grad)
    return Piece(tape, x, output, chosen=chosen)


@cached(256)
def exit_piece(blocks: Named, profile: Profile, hidden: int) -> Piece:
    """The allocations of the blocks after the last layer, the loss among them."""
    tape, output, held = exit_onto_tape(blocks, profile, hidden)
    x = next((var for node in tape.nodes for var in node.inputs if var.label == "input"), None)
    return Piece(tape, x, output, held=held)


@cached(256)
def entry_piece(blocks: Named, profile: Profile) -> Piece:
    """The allocations of the embedding and what follows it before the first layer."""
    tape, x = entry_onto_tape(blocks, profile)
    return Piece(tape, None, x)


# --- a forward that nothing follows -----------------------------------------------------------------------------------


class Unsaved(NamedTuple):
    """What a piece holds at most while it runs under no_grad, its input included, and what it returns."""

    peaks: tuple[Size, ...]
    result: Tensor | None = None


@cached(256)
def layer_passed(layer: Layer, profile: Profile, hidden: int) -> Unsaved:
    if layer.bridge or layer.crosses or layer.source:
        raise Unsupported("evaluation around cross-attention is not modelled")
    tape, x, output = layer_onto_tape(layer, profile, hidden, True)
    found = _passed(tape, x, output)  # beside what the first layer was given, which the model's own forward holds
    return found._replace(peaks=tuple(peak + x.bytes for peak in found.peaks))


@cached(256)
def exit_passed(blocks: Named, profile: Profile, hidden: int) -> Unsaved:
    """The blocks after the last layer; the result is what the model returns beside the loss."""
    tape, output, held = exit_onto_tape(blocks, profile, hidden)
    x = next((var for node in tape.nodes for var in node.inputs if var.label == "input"), None)
    found = _passed(tape, x, output, held)
    return found._replace(result=tape.result.tensor if tape.result else None)


def _passed(tape: Tape, x: Var | None, output: Var | None, held: Size = ZERO) -> Unsaved:
    mine = x.bytes if x else ZERO
    return Unsaved(tuple(peak + mine for peak in forward_peaks(tape, x, output, held)))
