"""One training step through time: what is alive at each moment that could be the peak.

The layers' saved tensors and gradients are exact sums; within a layer the tape gives the highest point of its backward.
Between two equal layers everything changes linearly, so only the first and the last layer of each kind need a look, and
the cost does not grow with depth.
"""

from collections.abc import Iterator
from typing import NamedTuple

from memcalc.blocks.playing import play, play_entry, play_exit
from memcalc.blocks.profile import Profile
from memcalc.blocks.tape import Size
from memcalc.estimates.placement import Stage


class Moment(NamedTuple):
    """What is alive beside the model states at one moment; bytes."""

    name: str
    activations: int
    gradients: int
    communication: int

    @property
    def bytes(self) -> int:
        return self.activations + self.gradients + self.communication


class Traffic(NamedTuple):
    """What sharding does to parameters and gradients around the layers."""

    gathers: bool = False  # parameters are gathered layer by layer (FSDP full, ZeRO 3)
    keeps: bool = False  # gathered in the forward, kept until the backward is done (FSDP grad-op)
    reduces: bool = False  # gradients leave layer by layer, cut to shards
    each: int = 2  # bytes of a gathered element and of its gradient before it is reduced
    reduced_each: int = 4  # bytes of an element in the reduce-scatter buffer and in the stored shard
    shards: int = 1
    buffers: int = 0  # buckets that stand all the time


class Plan(NamedTuple):
    """One rank's step."""

    stage: Stage
    profile: Profile
    hidden: int
    tokens: int  # of one micro-batch on this rank
    pairs: int  # query-key pairs: batch × queries here × keys
    recompute: bool  # layers keep only their input
    offload: bool  # what layers keep waits in host memory
    carried: int  # gradients that stand throughout: of earlier micro-batches, or a main-gradient buffer
    in_flight: int  # micro-batches whose activations this stage holds
    traffic: Traffic
    tables: int  # rotary tables and masks, shared by all layers
    tied: int  # bytes of the gradient of a tied matrix, made twice
    input_grad: bool = True


class Kind(NamedTuple):
    """One kind of layer in bytes."""

    kept: int  # until its backward
    own: int  # its input, beside the recomputed tensors
    peaks: tuple[int, ...]
    gradient: int  # as made
    stored: int  # as kept once reduced
    gathered: int
    reducing: int


class Step(NamedTuple):
    """All moments of a step, and what waits in host memory."""

    saved: int  # activations at the end of the forward
    moments: tuple[Moment, ...]
    host: int
    gradients: int  # parameter gradients as made, all layers


def step(plan: Plan) -> Step:
    """Play one micro-batch's forward and backward."""
    sequence, traffic, tokens, pairs = plan.stage.sequence, plan.traffic, plan.tokens, plan.pairs
    keeps_gradients = not plan.carried
    kinds = [_kind(plan, index, keeps_gradients) for index in range(len(sequence.kinds))]
    layers_kept = sum(kind.kept * n for kind, n in zip(kinds, sequence.counts, strict=True))
    host = layers_kept * plan.in_flight if plan.offload else 0
    if plan.offload:  # one layer's tensors are on their way back at any moment
        kinds = [kind._replace(kept=0) for kind in kinds]
        layers_kept = 0
    entry = play_entry(plan.stage.entry, plan.profile, keep_gradients=keeps_gradients) if plan.stage.entry else None
    last = play_exit(plan.stage.exit, plan.profile, plan.hidden, keep_gradients=keeps_gradients) if plan.stage.exit else None
    entry_saved = _at(entry.saved_bytes, tokens, pairs) if entry else 0
    exit_saved = _at(last.saved_bytes, tokens, pairs) if last else 0
    waiting = (plan.in_flight - 1) * (layers_kept + entry_saved)
    base = entry_saved + plan.tables + waiting - _first_layer_saves_less(plan)
    root = plan.stage.root * traffic.each
    whole = root + sum(k.gathered * n for k, n in zip(kinds, sequence.counts, strict=True))
    rooted = traffic.buffers + (root if traffic.gathers or traffic.keeps else 0)
    standing = traffic.buffers + whole if traffic.keeps else rooted
    flying = max((kind.gathered for kind in kinds), default=0)
    after_forward = Moment(
        "after forward", base + layers_kept + exit_saved, plan.carried,
        traffic.buffers + (whole if traffic.keeps else 0),
    )  # fmt: skip
    out = [after_forward]
    if last:
        casts = _cast_cache(plan) if plan.profile.autocast and plan.recompute else 0
        held = _at(last.loss_held, tokens, pairs) + casts
        gather = standing + (flying if traffic.gathers or traffic.keeps else 0)
        out.append(Moment("loss", base + layers_kept + exit_saved + held, plan.carried, gather))
        highest = max(_at(peak, tokens, pairs) for peak in last.peaks)
        gather = standing + (flying if traffic.gathers else 0)
        out.append(Moment("gradient of the loss", base + layers_kept + highest, plan.carried, gather))
    head = (int(last.gradients) if last else 0) if keeps_gradients else 0
    out += _layer_moments(plan, kinds, base, head, rooted)
    if entry:
        out.append(_embedding_moment(plan, kinds, entry.peaks, int(entry.gradients), head))
    made = sum(k.gradient * n for k, n in zip(kinds, sequence.counts, strict=True))
    made += int(last.gradients if last else 0) + int(entry.gradients if entry else 0) - plan.tied
    return Step(after_forward.activations, tuple(out), host, made)


def _layer_moments(plan: Plan, kinds: list[Kind], base: int, head: int, root: int) -> Iterator[Moment]:
    """The first and the last layer of each kind; the backward runs from the last to the first."""
    sequence, traffic = plan.stage.sequence, plan.traffic
    for index, name, before in _places(plan):
        kind = kinds[index]
        kept = sum(k.kept * n for k, n in zip(kinds, before, strict=True))
        after = [n - b - (i == index) for i, (n, b) in enumerate(zip(sequence.counts, before, strict=True))]
        done = sum(k.stored * n for k, n in zip(kinds, after, strict=True)) if not plan.carried else 0
        gather = root
        if traffic.gathers:  # this layer, and the next one on its way
            gather += kind.gathered * (2 if any(before) else 1)
        elif traffic.keeps:  # what the backward is through with has been resharded
            gather += kind.gathered + sum(k.gathered * n for k, n in zip(kinds, before, strict=True))
        if traffic.reduces and any(after):  # the layer before is still being reduced
            gather += kind.reducing
        yield Moment(
            f"backward of the {name} layer",
            base + kept + kind.own + max(kind.peaks),
            plan.carried + head + done,
            gather,
        )


def _places(plan: Plan) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """Where in the stack to look: (kind, name, layers of every kind before it). Where traffic overlaps with neighbours,
    also one layer in from either end."""
    sequence, traffic = plan.stage.sequence, plan.traffic
    for index, (first, last) in enumerate(sequence.extremes):
        yield index, "first", first
        yield index, "last", last
        if sequence.counts[index] > 2 and (traffic.gathers or traffic.reduces):
            step_in = [1 if i == index else 0 for i in range(len(first))]
            yield index, "second", tuple(b + d for b, d in zip(first, step_in, strict=True))
            yield index, "second-last", tuple(b - d for b, d in zip(last, step_in, strict=True))


def _embedding_moment(plan: Plan, kinds: list[Kind], peaks: tuple[Size, ...], made: int, head: int) -> Moment:
    """The embedding's dense gradient: the last thing the backward makes."""
    counts, traffic = plan.stage.sequence.counts, plan.traffic
    done = 0 if plan.carried else sum(k.stored * n for k, n in zip(kinds, counts, strict=True))
    name = "gradient of the embedding"
    if traffic.reduces:  # the root's gradients are whole, and cast into the reduce-scatter buffer all at once
        whole = head + (0 if plan.tied else made)
        buffer = whole // traffic.each * traffic.reduced_each
        return Moment(name, plan.tables, plan.carried + done + whole, traffic.buffers + buffer)
    highest = max(_at(peak, plan.tokens, plan.pairs) for peak in peaks)
    # both gradients of a tied matrix are there, and their sum
    return Moment(name, plan.tables + highest + plan.tied, plan.carried + done + head, traffic.buffers)


def _kind(plan: Plan, index: int, keeps_gradients: bool) -> Kind:
    layer, traffic = plan.stage.sequence.kinds[index], plan.traffic
    played = play(layer, plan.profile, plan.hidden, keep_gradients=keeps_gradients)
    tokens, pairs = plan.tokens, plan.pairs
    own = _at(played.input_bytes, tokens, pairs)
    kept = own if plan.recompute else _at(played.saved_bytes, tokens, pairs)
    peaks = tuple(_at(peak, tokens, pairs) for peak in played.peaks)
    elements, gradient = plan.stage.sequence.elements[index], int(played.gradients)
    stored = gradient // traffic.each * traffic.reduced_each // traffic.shards if traffic.reduces else gradient
    reducing = gradient // traffic.each * traffic.reduced_each if traffic.reduces else 0
    return Kind(kept, own if plan.recompute else 0, peaks, gradient, stored, elements * traffic.each, reducing)


def _first_layer_saves_less(plan: Plan) -> int:
    """Behind a frozen embedding no gradient flows into the first layer, so its first operations keep nothing."""
    if plan.input_grad or plan.recompute or not plan.stage.entry:
        return 0
    layer = next(
        k for k, (first, _) in zip(plan.stage.sequence.kinds, plan.stage.sequence.extremes, strict=True) if not any(first)
    )
    usual = play(layer, plan.profile, plan.hidden).saved_bytes
    less = play(layer, plan.profile, plan.hidden, input_grad=False).saved_bytes
    return _at(usual - less, plan.tokens, plan.pairs)


def _cast_cache(plan: Plan) -> int:
    """Autocast keeps its casts of all weights until the forward ends, also those that recomputation does not save."""
    sequence, profile = plan.stage.sequence, plan.profile
    matrices = sum(
        sum(w.parameters for w in layer.weights if len(w.shape) >= 2) * n
        for layer, n in zip(sequence.kinds, sequence.counts, strict=True)
    )
    return matrices * profile.compute // profile.tp


def _at(size: Size, tokens: int, pairs: int) -> int:
    return int(size.token * tokens + size.pair * pairs + size.fixed)
