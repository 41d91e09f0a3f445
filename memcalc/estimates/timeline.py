"""One training step through time: what is alive at each moment that could be the peak.

The layers' saved tensors and gradients are exact sums; within a layer the tape gives the highest points of its backward.
Between two equal layers everything changes linearly, so only the first and the last layer of each kind need a look, and
the cost does not grow with depth. All of it is made once as forms in tokens and pairs; a batch and a length only fill in
numbers.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from memcalc.blocks.playing import Played, play, play_entry, play_exit, reads_tokens
from memcalc.blocks.profile import Profile
from memcalc.blocks.tape import ZERO, Size
from memcalc.errors import Unsupported
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
    away: bool = False  # reduced gradients go to host memory
    prefetches: bool = True  # the next layer's parameters arrive during the backward of one


class Setup(NamedTuple):
    """Everything about a step that does not depend on batch and length."""

    stage: Stage
    profile: Profile
    hidden: int
    by_operation: bool  # layers keep the results of chosen operations and recompute the others
    offload: bool  # what layers keep waits in host memory
    standing: bool  # gradients stand throughout: of earlier micro-batches, or a main-gradient buffer
    in_flight: float  # micro-batches whose activations this stage holds
    traffic: Traffic
    tied: int  # bytes of the gradient of a tied matrix, made twice
    input_grad: bool = True  # a gradient flows out of the first layer
    holds_inputs: bool = False  # recomputed layers' inputs and their gradients stay until the backward ends


class Form(NamedTuple):
    """A moment before batch and length are known."""

    name: str
    activations: Size
    gradients: int
    communication: int

    @property
    def constant(self) -> float:
        """Bytes whatever the batch and the length."""
        return self.activations.fixed + self.gradients + self.communication

    def covers(self, other: "Form") -> bool:
        """Never smaller than the other, whatever the batch and the length."""
        mine, theirs = self.activations, other.activations
        larger = mine.token >= theirs.token and mine.pair >= theirs.pair and mine.position >= theirs.position
        return larger and self.constant >= other.constant


class Kind(NamedTuple):
    """One kind of layer."""

    kept: Size  # until its backward
    own: Size  # what recomputation adds beside the recomputed tensors
    peaks: tuple[Size, ...]
    stored: int  # bytes of its gradients as kept
    gathered: int
    reducing: int
    passing: tuple[Size, ...] = ()  # during its forward


class Forms(NamedTuple):
    """All moments of a step as forms."""

    saved: Size  # activations at the end of the forward
    host: Size  # activations that wait in host memory
    moments: tuple[Form, ...]  # "after forward" first
    candidates: tuple[Form, ...]  # those that could be the peak at some batch and length


@lru_cache(maxsize=1024)
def forms(setup: Setup) -> Forms:
    """Play one micro-batch's forward and backward."""
    stage, traffic = setup.stage, setup.traffic
    counts = stage.sequence.counts
    if any(layer.crosses for layer in stage.sequence.kinds) and not any(layer.bridge for layer in stage.sequence.kinds):
        raise Unsupported("training with cross-attention to anything but an encoder is not modelled")
    kinds = [_kind(setup, index) for index in range(len(counts))]
    layers_kept = _sum(kind.kept * n for kind, n in zip(kinds, counts, strict=True))
    host = layers_kept * setup.in_flight if setup.offload else ZERO
    if setup.offload:  # one layer's tensors are on their way back at any moment; the tape counts them
        kinds, layers_kept = [kind._replace(kept=ZERO) for kind in kinds], ZERO
    keep = not setup.standing
    entry = play_entry(stage.entry, setup.profile, keep_gradients=keep) if stage.entry else None
    last = play_exit(stage.exit, setup.profile, setup.hidden, keep_gradients=keep) if stage.exit else None
    entry_saved = entry.saved_bytes if entry else ZERO
    waiting = (layers_kept + entry_saved) * (setup.in_flight - 1)
    base = entry_saved + waiting - _narrow_input(setup)
    root = stage.root * traffic.each
    whole = root + sum(kind.gathered * n for kind, n in zip(kinds, counts, strict=True))
    rooted = traffic.buffers + (root if traffic.gathers or traffic.keeps else 0)
    standing = traffic.buffers + whole if traffic.keeps else rooted
    flying = max((kind.gathered for kind in kinds), default=0) if traffic.gathers else 0
    saved = base + layers_kept + (last.saved_bytes if last else ZERO)
    out = [Form("after forward", saved, 0, traffic.buffers + (whole if traffic.keeps else 0))]
    if last:
        casts = _cast_cache(setup) if setup.profile.formats.autocast else 0
        out.append(Form("loss", saved + last.loss_held + Size(fixed=casts), 0, standing + flying))
        out += [Form("gradient of the loss", base + layers_kept + peak, 0, standing + flying) for peak in last.peaks]
    head = int(last.gradients) if last and keep else 0
    out += _layer_forms(setup, kinds, base, head, rooted)
    if entry and setup.input_grad:
        out += _embedding_forms(setup, kinds, entry, head)
    return Forms(saved, host, tuple(out), _candidates(out))


def _candidates(all_forms: list[Form]) -> tuple[Form, ...]:
    """The moments that can be the highest at some batch and length."""
    kept: list[Form] = []
    for form in sorted(all_forms, key=lambda f: (f.activations, f.constant), reverse=True):
        if not any(other.covers(form) for other in kept):
            kept.append(form)
    alike: dict[tuple[float, float], list[Form]] = {}
    for form in kept:
        alike.setdefault((form.activations.pair, form.activations.position), []).append(form)
    highest = {form for forms in alike.values() for form in _envelope(forms)}
    return tuple(form for form in kept if form in highest)


def _envelope(forms: list[Form]) -> list[Form]:
    """Of straight lines over the tokens, those that are the highest somewhere; none covers another."""
    out: list[Form] = []
    for form in sorted(forms, key=lambda f: f.activations.token):
        while len(out) > 1 and _below(out[-2], out[-1], form):
            out.pop()
        out.append(form)
    return out


def _below(flat: Form, middle: Form, steep: Form) -> bool:
    """Whether the steep line has crossed the flat one before the middle one does."""
    rise = middle.activations.token - flat.activations.token, steep.activations.token - flat.activations.token
    fall = flat.constant - middle.constant, flat.constant - steep.constant
    return fall[1] * rise[0] <= fall[0] * rise[1]


def _layer_forms(setup: Setup, kinds: list[Kind], base: Size, head: int, root: int) -> Iterator[Form]:
    """The first and the last layer of each kind; the backward runs from the last to the first."""
    sequence, traffic = setup.stage.sequence, setup.traffic
    for index, name, before in _places(setup):
        kind = kinds[index]
        kept = _sum(k.kept * n for k, n in zip(kinds, before, strict=True))
        after = [n - b - (i == index) for i, (n, b) in enumerate(zip(sequence.counts, before, strict=True))]
        done = 0 if setup.standing else sum(k.stored * n for k, n in zip(kinds, after, strict=True))
        if setup.holds_inputs:
            again = (mark.recomputed for mark in sequence.marks)
            kept = kept + _sum(k.kept * (2 * n * once) for k, n, once in zip(kinds, after, again, strict=True))
        gather = root
        if traffic.gathers:  # this layer, and the next one on its way
            gather += kind.gathered * (2 if any(before) and traffic.prefetches else 1)
        elif traffic.keeps:  # what the backward is through with has been resharded
            gather += kind.gathered + sum(k.gathered * n for k, n in zip(kinds, before, strict=True))
        if traffic.reduces and any(after):  # the layer before is still being reduced
            gather += kind.reducing
        forward = kind.passing if sequence.marks[index].recomputed else ()
        for peak in (*kind.peaks, *forward):
            yield Form(f"backward of the {name} layer", base + kept + kind.own + peak, head + done, gather)
        for peak in kind.passing if name == "last" else ():
            yield Form("attention of the last layer", base + kept + kind.own + peak, 0, gather)


def _places(setup: Setup) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """Where in the stack to look: (kind, name, layers of every kind before it). Where traffic overlaps with neighbours,
    also one layer in from either end."""
    sequence, traffic = setup.stage.sequence, setup.traffic
    for index, places in enumerate(sequence.places):
        yield index, "first", places[0]
        yield index, "last", places[-1]
        if len(places) > 2 and (traffic.gathers or traffic.reduces):
            yield index, "second", places[1]
            yield index, "second-last", places[-2]


def _embedding_forms(setup: Setup, kinds: list[Kind], entry: Played, head: int) -> Iterator[Form]:
    """The embedding's dense gradient: the last thing the backward makes."""
    counts, traffic = setup.stage.sequence.counts, setup.traffic
    done = 0 if setup.standing else sum(k.stored * n for k, n in zip(kinds, counts, strict=True))
    name = "gradient of the embedding"
    tied = setup.tied if reads_tokens(setup.stage.entry) else 0
    if traffic.reduces:  # the root's gradients are whole, and cast into the reduce-scatter buffer all at once
        whole = head + (0 if tied else int(entry.gradients))
        buffer = whole // traffic.each * traffic.reduced_each
        yield Form(name, ZERO, done + whole, traffic.buffers + buffer)
        return
    for peak in entry.peaks:
        yield Form(name, peak, done + head, traffic.buffers)
    if tied:  # the input gradient has gone; both gradients of the matrix are there, and their sum
        yield Form(name, Size(fixed=entry.gradients + tied), done + head, traffic.buffers)


def played_kind(setup: Setup, index: int) -> Played:
    """One layer of the stage's kind number `index`."""
    sequence, keep = setup.stage.sequence, not setup.standing
    mark = sequence.marks[index]
    return play(sequence.layers[mark.layer], setup.profile, setup.hidden, input_grad=mark.input_grad, keep_gradients=keep)


def _kind(setup: Setup, index: int) -> Kind:
    sequence, traffic = setup.stage.sequence, setup.traffic
    played = played_kind(setup, index)
    kept, own = played.saved_bytes, ZERO
    gradient, peaks = int(played.gradients), played.peaks
    again = sequence.marks[index].recomputed
    if (bridge := sequence.kinds[index]).bridge:
        kept = kept + (played.chosen if again else ZERO)
        if setup.tied and reads_tokens(bridge.blocks):  # summed with the head's gradient of the same matrix at once
            peaks = tuple(peak + Size(fixed=setup.tied) for peak in peaks)
            gradient -= setup.tied
    elif again:
        kept = own = played.input_bytes
    elif setup.by_operation:
        kept, own = played.input_bytes + played.chosen, played.input_bytes
    reduced = gradient // traffic.each * traffic.reduced_each if traffic.reduces else 0
    stored = 0 if traffic.away else reduced // traffic.shards if traffic.reduces else gradient
    return Kind(kept, own, peaks, stored, sequence.elements[index] * traffic.each, reduced, played.passing)


def _narrow_input(setup: Setup) -> Size:
    """Where the residual stream is wide, what the embedding hands to the first recomputed layer is not yet."""
    profile, sequence = setup.profile, setup.stage.sequence
    if (
        not (profile.formats.wide_stream and setup.stage.entry and sequence.marks and sequence.marks[0].recomputed)
        or setup.offload
    ):
        return ZERO
    return Size(token=setup.hidden * profile.degrees.stream * (profile.formats.residual - profile.formats.weights))


def _cast_cache(setup: Setup) -> int:
    """Autocast keeps its casts of all weights until the forward ends, also those that recomputation does not save."""
    sequence, profile = setup.stage.sequence, setup.profile
    matrices = sum(
        sum(w.parameters for w in layer.weights if len(w.shape) >= 2) * n
        for layer, n, mark in zip(sequence.kinds, sequence.counts, sequence.marks, strict=True)
        if mark.recomputed and not layer.bridge
    )
    return matrices * profile.formats.compute // profile.degrees.tp


def _sum(sizes: Iterator[Size]) -> Size:
    total = ZERO
    for size in sizes:
        total = total + size
    return total
