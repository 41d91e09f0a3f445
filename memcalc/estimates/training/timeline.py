"""One training step through time: what is alive at each moment that could be the peak.

The layers' saved tensors and gradients are exact sums; within a layer the tape gives the highest points of its backward.
Between two equal layers everything changes linearly, so only the first and the last layer of each kind need a look, and
the cost does not grow with depth. All of it is made once as forms in tokens and pairs; a batch and a length only fill in
numbers. This is the only place that adds: whoever wants to know what a moment consists of asks the same terms.
"""

from collections.abc import Iterator
from functools import partial

from memcalc.autograd.tape import Size, Tensor, sum_of
from memcalc.blocks.forwards import reads_tokens
from memcalc.blocks.recording import RecordedExit, alive_in_entry, alive_in_exit, record_entry, record_exit
from memcalc.caches import cached
from memcalc.errors import Unsupported
from memcalc.estimates.lines import Line
from memcalc.estimates.training.handed_keys import handed_on
from memcalc.estimates.training.handed_keys import terms as handed_terms
from memcalc.estimates.training.layer_kinds import BEFORE, Setup, cast_cache, layer_kind, narrowed, saved_by, term_of
from memcalc.estimates.training.moments import MomentForm, Term, that_can_be_highest
from memcalc.estimates.training.sharding import Around
from memcalc.frozen import NamedTuple


class Forms(NamedTuple):
    """All moments of a step as forms."""

    host: Size  # activations that wait in host memory
    moments: tuple[MomentForm, ...]  # "after forward" first
    candidates: tuple[MomentForm, ...]  # those that could be the peak at some batch and length
    evaluation: tuple[MomentForm, ...] = ()  # in tokens of an evaluation's batch


@cached(1024)
def forms(setup: Setup) -> Forms:
    """Record one micro-batch's forward and backward."""
    layers = setup.stage.sequence.kinds
    if any(layer.crosses for layer in layers) and not any(layer.bridge for layer in layers):
        raise Unsupported("training with cross-attention to anything but an encoder is not modelled")
    step = _Step(setup)
    out = [*step.forward(), *step.layers(), *step.vision(), *step.embedding()]
    return Forms(step.host, tuple(out), that_can_be_highest(out), tuple(step.evaluation()))


class _Step:
    """The moments of one micro-batch, from the forward's end to the embedding's gradient."""

    def __init__(self, setup: Setup) -> None:
        stage, ends = setup.stage, setup.ends
        self.setup, self.around, self.sequence = setup, setup.around, stage.sequence
        self.keep = keep = setup.keeps_gradients
        kinds = [layer_kind(setup, index) for index in range(len(self.sequence.counts))]
        waiting = setup.in_flight if setup.offload else 0.0
        self.host = sum_of(kind.kept.size * n * waiting for kind, n in zip(kinds, self.sequence.counts, strict=True))
        if setup.offload:  # one layer's tensors are on their way back at any moment; the tape counts them
            kinds = [kind._replace(kept=kind.kept.times(0)) for kind in kinds]
        self.kinds = kinds
        self.shared = term_of("", setup.shared)
        self.handed = handed_on(setup)
        self.entry = record_entry(stage.entry, ends, keep_gradients=keep) if stage.entry else None
        self.exit = record_exit(stage.exit, ends, setup.hidden, keep_gradients=keep) if stage.exit else None
        self.head = int(self.exit.gradients) if self.exit and keep else 0
        if setup.uses_up:  # a tied matrix has its gradient once the embedding's part is there
            self.head = setup.tied
        self.root = stage.root if self.around.gathers or self.around.keeps else 0

    def kept(self, before: tuple[int, ...], after: tuple[int, ...] = (), own: Term | None = None) -> tuple[Term, ...]:
        """What the entry and so many layers of each kind keep, and all of them of the micro-batches that wait; `after`: layers
        that the backward is through with; `own`: what the layer in its backward keeps beside its recomputed tensors."""
        setup, sequence = self.setup, self.sequence
        out = [Term("", self.entry.saved_bytes, setup.in_flight, partial(saved_by, self.entry))] if self.entry else []
        if setup.chunk > 1 and self.kinds:
            return (*out, *self._kept_in_chunks(before, backward=own is not None), *((own,) if own else ()), self.shared)
        for index, (kind, count, mark) in enumerate(zip(self.kinds, sequence.counts, sequence.marks, strict=True)):
            copies = before[index] + count * (setup.in_flight - 1)
            if setup.holds_inputs and after and mark.recomputed:  # their inputs, and the gradients of these
                copies += 2 * after[index]
            out.append(kind.kept.times(kind.kept.copies * copies))
        if own:
            out.append(own)
        return (*narrowed(setup, out), *self.returned(before, after), *self.seen(setup.in_flight), self.shared)

    def seen(self, copies: float) -> Iterator[Term]:
        """What the vision tower keeps of so many micro-batches."""
        if self.setup.tower:
            yield from (term.times(term.copies * copies) for term in self.setup.tower.kept)

    def vision(self) -> Iterator[MomentForm]:
        """The vision tower's backward: after the layers', before that of what looks tokens up."""
        setup = self.setup
        if not setup.tower:
            return
        others = tuple(self.seen(setup.in_flight - 1))
        lines = [*self.done(self.sequence.counts), *self.standing()]
        for name, terms, through in setup.tower.moments:
            gradients = self.around.gradients("vision", 0 if setup.standing else through, 1)
            yield MomentForm.of(name, (*terms, *others, self.shared), (*lines, gradients))

    def returned(self, before: tuple[int, ...], after: tuple[int, ...] = ()) -> Iterator[Term]:
        """What the loop holds of the model's output: keys and values of all layers; and once the head's backward is over, which
        counts them until then, the logits. `after`: layers whose backward is over."""
        keeps = self.setup.profile.keeps
        if not keeps.output:
            return
        if keeps.cache:
            yield from self.cache(before, after)
        if self.exit and self.exit.output and after:
            yield term_of("output/", self.exit.output)

    def cache(self, before: tuple[int, ...], after: tuple[int, ...]) -> Iterator[Term]:
        """Keys and values: of layers whose backward is over all, of others those that they do not keep anyway."""
        for index, (kind, count) in enumerate(zip(self.kinds, self.sequence.counts, strict=True)):
            beside, all_of_it = kind.cache
            done = after[index] if after else 0
            yield beside.times(count - done)
            yield all_of_it.times(done)

    def _kept_in_chunks(self, before: tuple[int, ...], *, backward: bool) -> Iterator[Term]:
        """One input for every chunk of layers; in the backward, all that those of the chunk in hand need up to this layer
        (megatron/core/transformer/transformer_block.py, _checkpointed_forward)."""
        chunk, position, sequence = self.setup.chunk, sum(before), self.sequence
        start = position // chunk * chunk if backward else position
        waiting = -(-sum(sequence.counts) // chunk) * (self.setup.in_flight - 1)
        yield self.kinds[0].kept.times(-(-start // chunk) + waiting)
        if backward:
            earlier = sequence.before(start)
            for kind, there, gone in zip(self.kinds, before, earlier, strict=True):
                yield kind.again.times(there - gone)

    def standing(self, flying: int = 0) -> Iterator[Line]:
        """Buckets, and the parameters that are whole between two layers: `flying` elements of the next one."""
        yield from self.setup.buckets
        if self.around.keeps:
            flying = sum(kind.gathered * n for kind, n in zip(self.kinds, self.sequence.counts, strict=True))
        if self.around.gathers and self.around.live is not None:
            whole = sum(kind.gathered * n for kind, n in zip(self.kinds, self.sequence.counts, strict=True))
            yield self.around.fetched(max(flying, self.setup.stage.closing), self.root + whole)
        elif self.around.gathers or self.around.keeps:
            yield self.around.gathered(self.root, flying)

    def forward(self) -> Iterator[MomentForm]:
        """The end of the forward, and the loss."""
        setup, exit_ = self.setup, self.exit
        layers = (*self.kept(self.sequence.counts), *handed_terms(self.handed))
        saved = (*layers, Term("", exit_.saved_bytes, 1, partial(saved_by, exit_))) if exit_ else layers
        # what ZeRO 3 and FSDP gather for the head is gone, or not counted yet, when the forward is over
        yield MomentForm.of("after forward", saved, self.standing() if self.around.keeps else setup.buckets)
        if not exit_:
            return
        flying = max((kind.gathered for kind in self.kinds), default=0) if self.around.gathers else 0
        around = tuple(self.standing(flying))
        casts = cast_cache(setup)
        held = [Term.one("loss/logits", exit_.loss_held), Term.one("layers/weight casts", Size(fixed=casts))]
        if setup.profile.keeps.cache and not setup.profile.keeps.output:
            held += self.cache(self.sequence.counts, ())
        yield MomentForm.of("loss", (*saved, *held), around)
        yield from self.behind_another(layers, exit_)
        base = MomentForm.of("gradient of the loss", layers, around)
        for which, peak in enumerate(exit_.peaks):
            tensors = partial(alive_in_exit, setup.stage.exit, setup.ends, setup.hidden, which, keep_gradients=self.keep)
            yield base.beside(Term("head in its backward/", peak, 1, tensors))

    def behind_another(self, layers: tuple[Term, ...], exit_: RecordedExit) -> Iterator[MomentForm]:
        """The end of a forward, where the loop still holds the logits of the micro-batch before: their graph with them, and
        what its functions have as attributes, which its backward did not free."""
        if not (share := self.setup.behind):
            return
        counts = self.sequence.counts
        graph = [
            kind.attached.times(count * share) for kind, count in zip(self.kinds, counts, strict=True) if kind.attached.copies
        ]
        graph += (term_of(BEFORE, made).times(share) for made in (exit_.result, exit_.attached))
        held = (*layers, *graph)
        base = MomentForm.of("forward behind another micro-batch", held, tuple(self.standing()))
        for size in exit_.returning:
            yield base.beside(Term.one("head in its forward/logits", size))

    def evaluation(self) -> Iterator[MomentForm]:
        """The moments of an evaluation between steps, where there is one."""
        if self.setup.evaluation:
            from memcalc.estimates.training.evaluation import evaluation_forms

            flying = max((kind.gathered for kind in self.kinds), default=0) if self.around.gathers else 0
            yield from evaluation_forms(self.setup, self.setup.evaluation, tuple(self.standing(flying)))

    def layers(self) -> Iterator[MomentForm]:
        """The first and the last layer of each kind; the backward runs from the last to the first."""
        sequence = self.sequence
        for index, name, before in self._places():
            kind = self.kinds[index]
            after = tuple(n - b - (i == index) for i, (n, b) in enumerate(zip(sequence.counts, before, strict=True)))
            kept = (*self.kept(before, after, kind.own), *handed_terms(self.handed, after, index))
            lines = (*self.done(after), *self.setup.buckets, *self._traffic(index, before, after))
            base = MomentForm.of(f"backward of the {name} layer", kept, lines)
            recomputed = sequence.marks[index].recomputed
            for peak in (*kind.peaks, *(kind.repeating if recomputed else ())):
                yield base.beside(peak)
            for peak in kind.passing if name == "last" and not recomputed else ():
                around = (entry for entry in lines if entry.component == "communication")
                yield MomentForm.of("forward of the last layer", (*kept, peak), around)

    def done(self, after: tuple[int, ...]) -> Iterator[Line]:
        """Gradients of the head and of so many layers of each kind; where gradients stand throughout, these are counted."""
        if self.setup.standing and not self.around.root_waits:
            return
        yield Around().gradients("head", self.head, 1)
        if self.setup.standing or self.setup.uses_up:
            return
        for kind, count in zip(self.kinds, after, strict=True):
            each = kind.gradient if self.around.reduces else int(kind.gradient * self.setup.accumulated)
            yield self.around.gradients("layers", each, count)

    def _traffic(self, index: int, before: tuple[int, ...], after: tuple[int, ...]) -> Iterator[Line]:
        """Parameters that are gathered, and gradients that are being reduced, while a layer's backward runs."""
        kind, around = self.kinds[index], self.around
        if around.gathers and around.live is not None:
            earlier = sum(k.gathered * n for k, n in zip(self.kinds, before, strict=True))
            yield around.fetched(kind.gathered, self.root - self.setup.stage.closing + kind.gathered + earlier)
        elif around.gathers:  # this layer, and the next one on its way
            yield around.gathered(self.root, kind.gathered, 2 if any(before) and around.prefetches else 1)
        elif around.keeps:  # what the backward is through with has been resharded
            earlier = sum(k.gathered * n for k, n in zip(self.kinds, before, strict=True))
            yield around.gathered(self.root, kind.gathered + earlier)
        if around.reduces and any(after) and not self.setup.deferred:  # the layer before is still being reduced
            yield around.reducing(kind.gradient)

    def _places(self) -> Iterator[tuple[int, str, tuple[int, ...]]]:
        """Where in the stack to look: (kind, name, layers of every kind before it). Where traffic overlaps with neighbours,
        also one layer in from either end."""
        if self.setup.chunk > 1:
            yield from self._ends_of_chunks()
            return
        for index, places in enumerate(self.sequence.places):
            if not (self.sequence.marks[index].trained or self.sequence.marks[index].input_grad):
                continue  # no gradient comes so far
            yield index, "first", places[0]
            yield index, "last", places[-1]
            if len(places) > 2 and (self.around.gathers or self.around.reduces):
                yield index, "second", places[1]
                yield index, "second-last", places[-2]

    def _ends_of_chunks(self) -> Iterator[tuple[int, str, tuple[int, ...]]]:
        """The last layer of each kind, and the last one of the whole chunks before it."""
        chunk, sequence = self.setup.chunk, self.sequence
        for index, places in enumerate(sequence.places):
            last = sum(places[-1])
            for position in sorted({last, max(last // chunk * chunk - 1, 0)}):
                before = sequence.before(position)
                after = sequence.before(position + 1)
                kind = next(i for i, (b, a) in enumerate(zip(before, after, strict=True)) if a > b)
                if kind == index:
                    yield index, "last", before

    def _root_waiting(self, table: int, tied: int) -> Iterator[Line]:
        """The root before its gradients leave: its parameters, gradients of head and table [B], and one more of the table, the
        sum of both if they are one matrix, or a rank's share of what DTensor made whole (torch/distributed/tensor/_ops/
        _embedding_ops.py). The first layer's gradients are still being reduced."""
        tp = self.setup.profile.degrees.tp
        copies = (tp if tp > 1 else 1) + (1 if tied or tp > 1 else 0)
        first = next((i for i, places in enumerate(self.sequence.places) if not sum(places[0])), None)
        yield Around().gradients("embedding and head", self.head + table * copies, 1)
        yield self.around.gathered(self.root)
        if first is not None and not self.setup.deferred:
            yield self.around.reducing(self.kinds[first].gradient)

    def embedding(self) -> Iterator[MomentForm]:
        """The embedding's dense gradient: the last thing the backward makes."""
        setup, entry, name = self.setup, self.entry, "gradient of the embedding"
        if not entry or not setup.input_grad:
            return
        tied = setup.tied if reads_tokens(setup.stage.entry) else 0
        layers = [made for made in self.done(self.sequence.counts) if made.name == "layers"]
        if setup.tower and not setup.standing:
            layers.append(self.around.gradients("vision", setup.tower.gradients, 1))
        kept = (*self.returned((), self.sequence.counts), self.shared)
        if self.around.reduces:  # the root's gradients are whole, and cast into the reduce-scatter buffer all at once
            whole = self.head + (0 if tied else int(entry.gradients))
            root = Around().gradients("embedding and head", whole, 1)
            if not setup.deferred:  # else gradients of all layers, which stand throughout, have gone
                yield MomentForm.of(name, kept, (*layers, root, *setup.buckets, self.around.reducing(whole)))
            if self.around.root_waits:
                yield MomentForm.of(name, kept, (*layers, *self._root_waiting(int(entry.gradients), tied), *setup.buckets))
            return
        lines = (*layers, Around().gradients("head", self.head, 1), *setup.buckets)
        for which, peak in enumerate(entry.peaks):
            tensors = partial(alive_in_entry, setup.stage.entry, setup.ends, which, keep_gradients=self.keep)
            yield MomentForm.of(name, (*kept, Term("embedding in its backward/", peak, 1, tensors)), lines)
        if tied:  # the input gradient has gone; both gradients of the matrix are there, and their sum
            both = Size(fixed=entry.gradients), Size(fixed=tied)
            parts = (Tensor("gradients", both[0]), Tensor("gradient of the tied matrix, summed", both[1]))
            term = Term("embedding in its backward/", both[0] + both[1], 1, lambda: parts)
            yield MomentForm.of(name, (*kept, term), lines)
            if update := setup.profile.method.update:
                made = Term.one("embedding in its backward/update", Size(fixed=tied * update))
                yield MomentForm.of(name, (*kept, made), lines)
