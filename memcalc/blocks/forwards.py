"""Forward passes on tapes: a layer's branches and wiring, what comes before the first layer, final norm with head and loss."""

from dataclasses import replace
from typing import Any

from memcalc.autograd.operations import add, cast
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Size, Step, Tape, Var
from memcalc.blocks.architecture import Layer, Named
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.norm import Norm
from memcalc.caches import cached
from memcalc.errors import Unsupported


def is_norm(block: Any) -> bool:
    """Whether it is a norm, wherever its weights are stored."""
    return isinstance(block.computed, Norm)


def branches(layer: Layer) -> list[list[tuple[str, Any]]]:
    """The residual branches of a layer: each block with the norm before it, after it, or both.

    norm, block → pre-norm; block, norm → post-norm (OLMo 2); norm, block, norm → sandwich (Gemma 2).
    """
    blocks = [named for named in layer.blocks if not named[1].passed]
    leading, trailing = is_norm(blocks[0][1]), is_norm(blocks[-1][1])
    out: list[list[tuple[str, Any]]] = []
    position = 0
    while position < len(blocks):
        branch = []
        if leading and is_norm(blocks[position][1]):
            branch.append(blocks[position])
            position += 1
        if position < len(blocks):
            branch.append(blocks[position])
            position += 1
        if trailing and position < len(blocks) and is_norm(blocks[position][1]):
            branch.append(blocks[position])
            position += 1
        out.append(branch)
    return out


@cached(32)  # a report asks again for what was just recorded
def layer_onto_tape(layer: Layer, profile: Profile, hidden: int, input_grad: bool) -> tuple[Tape, Var, Var | None]:
    """A layer's tape, its input and its result."""
    tape = Tape(update=profile.method.update)
    each = profile.formats.compute if layer.narrow else profile.formats.residual
    x = Var(Size(token=hidden * layer.streams * profile.degrees.stream), each, input_grad, "input")
    if layer.bridge:
        return tape, x, _bridge(tape, layer, profile, hidden)
    if layer.crosses:
        source = Size(token=hidden * profile.degrees.stream * profile.batch.source)
        tape.source = Var(source, x.each, True, "source", outside=True)
        tape.carried.append(tape.source)
    if layer.wiring:
        from memcalc.blocks.wiring import WIRINGS

        return tape, x, WIRINGS[layer.wiring](tape, profile, dict(layer.blocks), x)
    if layer.predicts:
        return tape, x, _predicting(tape, profile, layer, x)
    return tape, x, _parallel(tape, profile, layer, x) if layer.parallel else _sequential(tape, profile, layer, x)


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


def _predicting(tape: Tape, profile: Profile, layer: Layer, x: Var) -> Var:
    """A layer behind what makes its input of two states, and before a norm of its own."""
    (join, first), *inner, (final, norm) = layer.blocks
    tape.path = join
    x = _sequential(tape, profile, replace(layer, blocks=tuple(inner)), _forward(first, tape, profile, x))
    tape.path = final
    return _forward(norm, tape, profile, x)


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
            given = given if is_norm(block) else y
            y = _forward(block, tape, profile, y)
        if profile.modules:
            _drop(tape, profile.modules, branch, since, first)
        x = add(tape, x, y)
        if x.grad:  # the layer's variable holds what the block was given until it returns
            tape.hold(given)
        if closing:
            tape.path = closing[0]
            x = _forward(closing[1], tape, profile, x)
            tape.hold(y, first)
    return x


def _drop(tape: Tape, modules: tuple[str, ...], branch: list[tuple[str, Any]], since: int, x: Var) -> None:
    """What of a branch Megatron-LM recomputes (megatron/core/transformer/transformer_layer.py): a dense MLP with the norm that
    is fused into it; experts but not their norm; a norm of its own, before latent attention and experts."""
    block = next((block for _, block in branch if not is_norm(block)), None)
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


@cached(32)
def exit_onto_tape(blocks: Named, profile: Profile, hidden: int) -> tuple[Tape, Var | None, Size]:
    """The exit's tape, its result (None where it ends in a loss), and what the loss holds beside what is saved."""
    tape = Tape(update=profile.method.update)
    streams = max((block.streams for _, block in blocks), default=1)
    x = Var(Size(token=hidden * streams * profile.degrees.stream), profile.formats.residual, True, "input")
    held, output = Size(), None
    for path, block in blocks:
        if block.passed:
            continue
        tape.path = path
        if block.scores:
            for which in range(block.predictions):  # whose losses are there before the model's own
                tape.path = path
                state = Var(x.elements, profile.formats.residual, True, f"prediction {which + 1}/input")
                block.loss(tape, profile, state)
            tape.path = path
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


@cached(32)
def entry_onto_tape(blocks: Named, profile: Profile) -> tuple[Tape, Var]:
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
