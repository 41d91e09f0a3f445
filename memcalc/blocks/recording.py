"""Layers, entry and exit of a model recorded onto tapes: saved bytes, gradients and candidate peaks, once a profile."""

from typing import Any, NamedTuple

from memcalc.autograd.backward import alive, arriving, backward
from memcalc.autograd.events import Piece, forward_peaks, passing_peaks, piece
from memcalc.autograd.operations import add, cast
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import ZERO, Exchange, Size, Step, Tape, Tensor, Var, sum_of
from memcalc.blocks.architecture import Layer, Named
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.norm import Norm
from memcalc.caches import cached
from memcalc.errors import Unsupported

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


def branches(layer: Layer) -> list[list[tuple[str, Any]]]:
    """The residual branches of a layer: each block with the norm before it, after it, or both.

    norm, block → pre-norm; block, norm → post-norm (OLMo 2); norm, block, norm → sandwich (Gemma 2).
    """
    blocks = list(layer.blocks)
    leading, trailing = isinstance(blocks[0][1], Norm), isinstance(blocks[-1][1], Norm)
    out: list[list[tuple[str, Any]]] = []
    position = 0
    while position < len(blocks):
        branch = []
        if leading and isinstance(blocks[position][1], Norm):
            branch.append(blocks[position])
            position += 1
        if position < len(blocks):
            branch.append(blocks[position])
            position += 1
        if trailing and position < len(blocks) and isinstance(blocks[position][1], Norm):
            branch.append(blocks[position])
            position += 1
        out.append(branch)
    return out


@cached(1024)
def record(layer: Layer, profile: Profile, hidden: int, *, input_grad: bool = True, keep_gradients: bool = True) -> Recorded:
    """One layer under one profile. Raises Unsupported for a block that cannot record yet."""
    if layer.skipped:
        return Recorded((), ZERO, NOTHING, (), 0.0, flows=input_grad)
    if any(block.outside_layers for _, block in layer.blocks):
        raise Unsupported("training with projections inside layers is not modelled")
    if not layer.wiring and (names := [type(block).__name__ for _, block in layer.blocks if block.wired]):
        raise Unsupported(f"training with {names[0]} blocks in layers of this kind is not modelled")
    tape, x, output = _onto_tape(layer, profile, hidden, input_grad)
    peaks = backward(tape, output, gradients=keep_gradients)
    saved = tuple(var.tensor for var in tape.saved())
    if layer.bridge:
        # recomputed layers keep the source as it is, whatever autocast casts it to
        chosen = (tape.carried[-1].tensor._replace(label="bridge/source"),) if profile.formats.autocast else ()
        inside = tuple(tensor._replace(label=f"bridge/{tensor.label}") for tensor in saved)
        return Recorded(inside, tape.saved_bytes(), NOTHING, peaks, _gradients(tape), chosen)
    kept = tape.saved()
    handed = [var for var in tape.cacheable if not var.outside] if layer.hands_on else []
    recorded = Recorded(
        saved, tape.saved_bytes(), x.tensor, peaks, _gradients(tape), tuple(var.tensor for var in tape.chosen()),
        cached=tuple(var.tensor for var in tape.cacheable),
        uncached=tuple(var.tensor for var in tape.cacheable if (var.whole or var) not in kept),
        passing=(*tape.passing, *(_passing(tape, x, output) if profile.adapters.rank else ())),
        repeating=_repeating(tape, x, output) if profile.adapters.rank or layer.wiring else tuple(tape.passing),
        flows=output is None or output.grad,
        exchange=max(tape.exchanges, key=lambda made: made.bytes, default=None),
        handed=tuple(var.tensor for var in handed),
        history=tuple(var.tensor for var in tape.history(handed)),
    )  # fmt: skip
    return _stretched(recorded, profile.batch.source) if layer.source else recorded


def _passing(tape: Tape, x: Var, output: Var | None) -> tuple[Size, ...]:
    """A forward's candidates. Frozen matrices save less than runs by; elsewhere a backward is the higher one."""
    return tuple(peak + x.bytes for peak in passing_peaks(tape, x, output))


def _repeating(tape: Tape, x: Var, output: Var | None) -> tuple[Size, ...]:
    """The same when recomputation repeats it, beside the gradients that have arrived; the input is counted by who kept it,
    unless the layer saves it."""
    there = arriving(tape, output) + (x.bytes if x in tape.saved() else ZERO)
    return (*tape.passing, *(peak + there for peak in passing_peaks(tape, x, output, again=True)))


@cached(256)
def alive_in_layer(
    layer: Layer, profile: Profile, hidden: int, which: int, *, input_grad: bool = True, keep_gradients: bool = True
) -> tuple[Tensor, ...]:
    """The tensors that peak number `which` of `record` consists of."""
    tape, _, output = _onto_tape(layer, profile, hidden, input_grad)
    tensors = alive(tape, output, which, gradients=keep_gradients)
    return _longer_tensors(tensors, profile.batch.source) if layer.source else tensors


@cached(32)  # a report asks again for what was just recorded
def _onto_tape(layer: Layer, profile: Profile, hidden: int, input_grad: bool) -> tuple[Tape, Var, Var | None]:
    """A layer's tape, its input and its result."""
    tape = Tape(update=profile.method.update)
    x = Var(Size(token=hidden * layer.streams * profile.degrees.stream), profile.formats.residual, input_grad, "input")
    if layer.bridge:
        return tape, x, _bridge(tape, layer, profile, hidden)
    if layer.wiring:
        from memcalc.blocks.wiring import WIRINGS

        return tape, x, WIRINGS[layer.wiring](tape, profile, dict(layer.blocks), x)
    if layer.crosses:
        tape.source = Var(x.elements * profile.batch.source, x.each, True, "source", outside=True)
        tape.carried.append(tape.source)
    return tape, x, _parallel(tape, profile, layer, x) if layer.parallel else _sequential(tape, profile, layer, x)


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


def _bridge(tape: Tape, layer: Layer, profile: Profile, hidden: int) -> Var | None:
    """The encoder's exit, whose result all of the decoder's layers read, and the decoder's entry."""
    source = Var(Size(token=hidden * profile.degrees.stream * profile.batch.source), profile.formats.residual, True, "input")
    x: Var | None = None
    for path, block in layer.blocks:
        tape.path = path
        if isinstance(block, Embedding):
            kept = [] if profile.formats.autocast else [source]  # autocast: each layer keeps casts of its own
            source = tape.emit("source", [source], source.elements, source.each, kept, [Step("share")])
            source.whole = tape.nodes[-1].inputs[0]
            x = _embed(block, tape, profile)
        elif x is None:
            groups = (profile.degrees.stream * profile.batch.source,) if isinstance(block, Norm) else ()
            source = _forward(block, tape, profile, source, *groups)
        else:
            x = _forward(block, tape, profile, x)
    tape.carried.append(source)
    return x


def reads_tokens(blocks: Named) -> bool:
    """Whether these blocks look tokens up."""
    return any(isinstance(block, Embedding) and block.vocabulary for _, block in blocks)


def _sequential(tape: Tape, profile: Profile, layer: Layer, x: Var) -> Var:
    for branch in branches(layer):
        since, first = len(tape.nodes), x
        y = cast(tape, x, profile.formats.weights) if profile.formats.wide_stream else x
        closing = branch[-1] if layer.normalises_sum else None
        if closing:
            branch = branch[:-1]
        given = y
        for path, block in branch:
            tape.path = path
            given = given if isinstance(block, Norm) else y
            y = _forward(block, tape, profile, y)
        if profile.modules:
            _drop(tape, profile.modules, branch, since, first)
        x = add(tape, x, y)
        if x.grad and profile.adapters.rank:  # the layer's variable holds what the block was given until it returns
            tape.hold(given)
        if closing:
            tape.path = closing[0]
            x = _forward(closing[1], tape, profile, x)
    return x


def _drop(tape: Tape, modules: tuple[str, ...], branch: list[tuple[str, Any]], since: int, x: Var) -> None:
    """What of a branch Megatron-LM recomputes (megatron/core/transformer/transformer_layer.py): a dense MLP with the norm that
    is fused into it; experts but not their norm; a norm of its own, before latent attention and experts."""
    block = next((block for _, block in branch if not isinstance(block, Norm)), None)
    if block is None:
        return  # a norm alone
    normed = next((node.out for node in tape.nodes[since:] if node.name == "norm"), x)
    experts, latent = block.traits.experts, block.traits.kv_lora_rank
    if "moe" in modules and experts:
        tape.recompute(since, x, normed)
    elif "mlp" in modules and block.traits.feed_forward and not experts:
        tape.recompute(since, x)
    if "layernorm" in modules and (experts or latent) and normed is not x:
        tape.discard(normed)


def _parallel(tape: Tape, profile: Profile, layer: Layer, x: Var) -> Var:
    """Attention and MLP read the same input: one shared norm, or one each."""
    normed, results = x, []
    for path, block in layer.blocks:
        tape.path = path
        if isinstance(block, Norm):
            normed = _forward(block, tape, profile, x)
        else:
            results.append(_forward(block, tape, profile, normed))
    total = results[0]
    for result in results[1:]:
        total = add(tape, total, result)
    return add(tape, total, x)


class RecordedExit(NamedTuple):
    """Final norm, head and loss."""

    saved: tuple[Tensor, ...]
    saved_bytes: Size
    loss_held: Size  # alive in the loss beside what is saved
    peaks: tuple[Size, ...]
    gradients: float
    output: tuple[Tensor, ...] = ()  # what the loop holds of what the model returned


@cached(1024)
def record_exit(blocks: Named, profile: Profile, hidden: int, *, keep_gradients: bool = True) -> RecordedExit:
    """The blocks after the last layer. `loss_held` is zero for a model that ends in hidden states."""
    tape, output, held = _exit_onto_tape(blocks, profile, hidden)
    peaks = backward(tape, output, gradients=keep_gradients)
    kept = (tape.result.tensor,) if profile.keeps.output and tape.result else ()
    return RecordedExit(tuple(v.tensor for v in tape.saved()), tape.saved_bytes(), held, peaks, _gradients(tape), kept)


@cached(256)
def alive_in_exit(
    blocks: Named, profile: Profile, hidden: int, which: int, *, keep_gradients: bool = True
) -> tuple[Tensor, ...]:
    """The tensors that peak number `which` of `record_exit` consists of."""
    tape, output, _ = _exit_onto_tape(blocks, profile, hidden)
    return alive(tape, output, which, gradients=keep_gradients)


@cached(32)
def _exit_onto_tape(blocks: Named, profile: Profile, hidden: int) -> tuple[Tape, Var | None, Size]:
    """The exit's tape, its result (None where it ends in a loss), and what the loss holds beside what is saved."""
    tape = Tape(update=profile.method.update)
    streams = max((block.streams for _, block in blocks), default=1)
    x = Var(Size(token=hidden * streams * profile.degrees.stream), profile.formats.residual, True, "input")
    held, output = Size(), None
    for path, block in blocks:
        tape.path = path
        if block.scores:
            held = block.loss(tape, profile, x)
            if x not in tape.saved():  # the model's output object still holds them
                held = held + x.bytes
            if profile.keeps.output and tape.result:
                held = _keep_result(tape, tape.result, held)
        else:
            x = output = _forward(block, tape, profile, x)
    return tape, output if held == Size() else None, held


def _keep_result(tape: Tape, result: Var, held: Size) -> Size:
    """The model's output stays until the whole backward is over: no longer what the loss alone holds."""
    held = held if result in tape.saved() else held - result.bytes
    first = tape.nodes[0]
    first.saves = (*first.saves, result)
    return held


@cached(1024)
def record_entry(blocks: Named, profile: Profile, *, keep_gradients: bool = True) -> Recorded:
    """The embedding and what follows it before the first layer."""
    tape, x = _entry_onto_tape(blocks, profile)
    peaks = backward(tape, x, gradients=keep_gradients)
    saved = tuple(v.tensor for v in tape.saved() if v is not x)  # the first layer keeps its input
    return Recorded(saved, sum_of(tensor.bytes for tensor in saved), NOTHING, peaks, _gradients(tape), flows=x.grad)


@cached(256)
def alive_in_entry(blocks: Named, profile: Profile, which: int, *, keep_gradients: bool = True) -> tuple[Tensor, ...]:
    """The tensors that peak number `which` of `record_entry` consists of."""
    tape, x = _entry_onto_tape(blocks, profile)
    return alive(tape, x, which, gradients=keep_gradients)


@cached(32)
def _entry_onto_tape(blocks: Named, profile: Profile) -> tuple[Tape, Var]:
    if not isinstance(blocks[0][1], Embedding) and _reads_pixels(blocks[0][1]):
        from memcalc.blocks.patches import with_pixels

        return with_pixels(blocks, profile)
    tape = Tape(update=profile.method.update)
    x: Var | None = None
    for path, block in blocks:
        tape.path = path
        x = _embed(block, tape, profile) if x is None else _forward(block, tape, profile, x)
    assert x is not None
    return tape, x


def _reads_pixels(block: object) -> bool:
    """Whether a model begins with an image. A model of text does not import how."""
    from memcalc.blocks.convolution import Convolution

    return isinstance(block, Convolution) and not block.frames


def _gradients(tape: Tape) -> float:
    return tape.weight_gradient_bytes().fixed


def _forward(block: Any, tape: Tape, profile: Profile, x: Var, *groups: float) -> Var:
    """Record one block; what cannot record is refused by name."""
    if isinstance(block, Embedding) and not block.vocabulary:
        return block.positioned(tape, profile, x)
    if isinstance(block, Embedding):
        raise Unsupported(f"training through {type(block).__name__} blocks is not modelled")
    out: Var = block.forward(tape, profile, x, *groups)
    return out


def _embed(block: Any, tape: Tape, profile: Profile) -> Var:
    if not block.begins:
        raise Unsupported(f"training from {type(block).__name__} inputs is not modelled")
    out: Var = block.forward(tape, profile)
    return out


# --- what is allocated, in order --------------------------------------------------------------------------------------


@cached(256)
def layer_piece(layer: Layer, profile: Profile, hidden: int, *, input_grad: bool = True, chosen: bool = False) -> Piece:
    """A layer's allocations; `chosen`: recomputation keeps the results of chosen operations."""
    if layer.bridge or layer.crosses or layer.source:
        raise Unsupported("the order of allocations around cross-attention is not modelled")
    tape, x, output = _onto_tape(layer, profile, hidden, input_grad)
    return piece(tape, x, output, chosen=chosen)


@cached(256)
def exit_piece(blocks: Named, profile: Profile, hidden: int) -> Piece:
    """The allocations of the blocks after the last layer, the loss among them."""
    tape, output, held = _exit_onto_tape(blocks, profile, hidden)
    x = next((var for node in tape.nodes for var in node.inputs if var.label == "input"), None)
    return piece(tape, x, output, held=held)


@cached(256)
def entry_piece(blocks: Named, profile: Profile) -> Piece:
    """The allocations of the embedding and what follows it before the first layer."""
    tape, x = _entry_onto_tape(blocks, profile)
    return piece(tape, None, x)


# --- a forward that nothing follows -----------------------------------------------------------------------------------


class Unsaved(NamedTuple):
    """What a piece holds at most while it runs under no_grad, its input included, and what it returns."""

    peaks: tuple[Size, ...]
    result: Tensor | None = None


@cached(256)
def layer_passed(layer: Layer, profile: Profile, hidden: int) -> Unsaved:
    if layer.bridge or layer.crosses or layer.source:
        raise Unsupported("evaluation around cross-attention is not modelled")
    tape, x, output = _onto_tape(layer, profile, hidden, True)
    return _passed(tape, x, output)


@cached(256)
def exit_passed(blocks: Named, profile: Profile, hidden: int) -> Unsaved:
    """The blocks after the last layer; the result is what the model returns beside the loss."""
    tape, output, held = _exit_onto_tape(blocks, profile, hidden)
    x = next((var for node in tape.nodes for var in node.inputs if var.label == "input"), None)
    found = _passed(tape, x, output, held)
    return found._replace(result=tape.result.tensor if tape.result else None)


def _passed(tape: Tape, x: Var | None, output: Var | None, held: Size = ZERO) -> Unsaved:
    mine = x.bytes if x else ZERO
    return Unsaved(tuple(peak + mine for peak in forward_peaks(tape, x, output, held)))
