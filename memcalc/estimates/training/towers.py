"""Images in a training step: what a vision tower and its projector keep beside the language model, and their backward.

The tower runs before the language model, all images of a micro-batch at once; what it keeps stays until the language model's
backward is over, for autograd runs the tower's before that of the token embedding, which was looked up first.
"""

from collections.abc import Iterator

from memcalc.autograd.backward import backward
from memcalc.autograd.profile import Adapters, Batch, Keeps, Profile
from memcalc.autograd.tape import Size, Tape, Tensor, Var
from memcalc.blocks.architecture import Architecture, Layer, Part
from memcalc.blocks.images import Seen
from memcalc.blocks.norm import Norm
from memcalc.blocks.patches import onto_entry, onto_projector
from memcalc.blocks.recording import Recorded, record
from memcalc.errors import Unsupported
from memcalc.estimates.training.images import seen_by
from memcalc.estimates.training.layer_kinds import TowerMoment, TowerStep, term_of
from memcalc.estimates.training.moments import Term
from memcalc.frozen import NamedTuple
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

PATH = "vision/"
BESIDE = ("language", "vision", "projector", "spectrogram", "waveform")  # the last two belong to sound, which images pass by


class Stretch(NamedTuple):
    """From a tower's tokens, of which a row has so many, to those of the language model, as linear forms have them."""

    token: float
    pair: float

    def size(self, size: Size) -> Size:
        return Size(size.token * self.token, size.pair * self.pair, size.fixed)

    def tensors(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(tensor._replace(elements=self.size(tensor.elements)) for tensor in tensors)


def tower_step(architecture: Architecture, run: Training, profile: Profile, *, keep: bool) -> TowerStep | None:
    """The tower's part in a step with images, in the language model's tokens; None where there are none."""
    seen = seen_by(architecture, run)
    if seen is None:
        return None
    assert run.images
    here = run.row_length // run.parallelism.cp
    parts = {part.name: part for part in architecture.parts}
    rule = parts["vision"].images
    assert rule is not None
    pairs = run.images * seen.attended if not rule.joined else run.micro_batch * (run.images * seen.patches) ** 2
    stretch = Stretch(run.images * seen.patches / here, pairs / (here * run.row_length))
    return recorder_of(architecture, run, profile, keep=keep).step(stretch)


def recorder_of(architecture: Architecture, run: Training, profile: Profile, *, keep: bool = True) -> "Recorder":
    """A model's tower and projector on tapes. Raises SpecError where one cannot record."""
    seen, parts = seen_by(architecture, run), {part.name: part for part in architecture.parts}
    assert seen is not None
    if strange := {name for name in parts if name not in BESIDE and not name.startswith(("audio", "talker"))}:
        raise SpecError(f"through {', '.join(sorted(strange))} are not modelled", "images")
    try:
        return Recorder(parts["vision"], parts["projector"], run, profile, seen, keep=keep)
    except Unsupported as error:
        raise SpecError(str(error), "images") from None


def _on_tower(profile: Profile, run: Training, part: str, *, split: bool = False, padded: bool = False) -> Profile:
    """How a part beside the language model is executed: by itself on every rank, without adapters where it is frozen."""
    frozen = part in run.frozen_parts
    method = profile.method._replace(trained=profile.method.trained and not frozen, frozen_embeddings=False)
    return profile._replace(
        method=method, adapters=Adapters() if frozen else profile.adapters, keeps=Keeps(),
        batch=Batch(one_by_one=split, packed=padded),
        formats=profile.formats._replace(wide_stream=False),
        degrees=profile.degrees._replace(cp=1, sequence_parallel=False),
    )  # fmt: skip


class TowerLayers(NamedTuple):
    """Layers of one kind that follow each other."""

    layer: Layer
    made: Recorded
    times: int
    input_grad: bool


class Recorder:
    """Records a tower's entry, layers, exit and projector."""

    def __init__(self, tower: Part, projector: Part, run: Training, profile: Profile, seen: Seen, *, keep: bool) -> None:
        assert tower.images is not None
        rule = tower.images
        self.again, self.keep = run.recompute == "full", keep
        split = not (rule.fixed or rule.joined or rule.tiled or rule.padded)
        self.profile = p = _on_tower(profile, run, tower.name, split=split, padded=bool(rule.padded))
        self.entry, self.pixels, x = onto_entry(tower.entry, p)
        # the additive mask between the images of one sequence, made once (modeling_pixtral.generate_block_attention_mask)
        self.mask = rule.joined and p.attention != "flash"
        self.embedded = x
        self.hidden = next(block.size for layer, _ in _layers(tower, 0) for _, block in layer.blocks if isinstance(block, Norm))
        flows = x.grad
        self.layers: list[TowerLayers] = []
        for layer, count in _layers(tower, rule.idle or 0):
            for times in (1, count - 1) if count > 1 and not flows else (count,):
                made = record(layer, p, self.hidden, input_grad=flows, keep_gradients=keep)
                self.layers.append(TowerLayers(layer, made, times, flows))
                flows = made.flows
        rows = any(path == "newline" for path, _ in projector.entry)
        own = seen.patches - rule.extra if rule.tokens or rule.padded else seen.patches
        read = seen.tokens / own if rule.tokens or rule.padded or rows else None
        self.beside = _on_tower(profile, run, projector.name)
        between = tuple((path, block) for path, block in (*projector.entry, *projector.exit) if not path.startswith("audio/"))
        self.projector, self.results = onto_projector(
            () if rule.idle is not None else tower.exit,
            between,
            self.beside,
            self.hidden,
            read=read,
            placed=bool(rule.padded),
            flows=flows,
        )
        self.tables = {table.dims for layer, _ in _layers(tower, 0) for _, block in layer.blocks if (table := block.table)}
        self.flows = any(var.grad for var in self.results)

    def step(self, stretch: Stretch) -> TowerStep:
        entry = self._saved(self.entry, self.embedded)
        masks = (Tensor("mask between images", Size(pair=1), self.embedded.each),) if self.mask else ()
        dims = sorted(self.tables) if self.flows else ()
        tables = masks + tuple(Tensor("rotary/cos and sin", Size(token=2 * size), 4) for size in dims)
        layers = [
            (made, times, (made.input,) if self.again and made.flows else made.saved if not self.again else ())
            for _, made, times, _ in self.layers
        ]
        results = tuple(Tensor("embeddings", var.elements, var.each) for var in self.results)
        around = [term_of(PATH, stretch.tensors(tensors)) for tensors in ((self.pixels.tensor,), entry, tables)]
        whole = [term_of(f"{PATH}layers/", stretch.tensors(kept)).times(times) for _, times, kept in layers]
        last = term_of(f"{PATH}projector/", stretch.tensors((*self._saved(self.projector, None), *results)))
        moments: list[TowerMoment] = []
        done = 0
        if self.flows:
            moments += self._peaks("projector", self.projector, self.results, stretch, (*around, *whole), done)
            done += self._gradients(self.projector)
            for place in reversed(range(len(layers))):
                made, times, _ = layers[place]
                before = (*around, *whole[:place])
                own = (made.input,) if self.again and not any(t.label == "input" for t in made.saved) else ()
                for nth in dict.fromkeys((times - 1, 0)) if made.flows else ():
                    kept = (*before, whole[place].times(nth), term_of(f"{PATH}layer in its backward/", stretch.tensors(own)))
                    through = done + int(made.gradients) * (times - 1 - nth)
                    for peak in made.peaks:
                        term = Term.one(f"{PATH}layer in its backward/tensors", stretch.size(peak))
                        moments.append(TowerMoment("backward of the vision tower", (*kept, term), through))
                done += int(made.gradients) * times
            moments += self._peaks("entry", self.entry, [self.embedded], stretch, tuple(around[:1]), done)
            done += self._gradients(self.entry)
        return TowerStep((*around, *whole, last), tuple(moments), done if self.keep else 0, self.flows)

    def _saved(self, tape: Tape, handed: Var | None) -> tuple[Tensor, ...]:
        """What a tape keeps but for what the next one counts."""
        return tuple(var.tensor for var in tape.saved() if var is not handed and var.label != self.pixels.label)

    def _gradients(self, tape: Tape) -> int:
        return int(tape.weight_gradient_bytes().fixed)

    def _peaks(
        self, what: str, tape: Tape, out: list[Var], stretch: Stretch, kept: tuple[Term, ...], done: int
    ) -> Iterator[TowerMoment]:
        results = [var for var in out if var.grad]
        if not results or not tape.nodes:
            return
        tape.carried = results[:-1]
        for peak in backward(tape, results[-1], gradients=self.keep):
            term = Term.one(f"{PATH}{what} in its backward/tensors", stretch.size(peak))
            yield TowerMoment("backward of the vision tower", (*kept, term), done)


def _layers(tower: Part, idle: int) -> list[tuple[Layer, int]]:
    """The tower's layers in order with how many follow each other, without those whose result nobody reads."""
    runs = [(stack.layers[kind], count) for stack in tower.stacks for kind, count in stack.runs]
    while idle and runs:
        layer, count = runs.pop()
        if count > idle:
            runs.append((layer, count - idle))
        idle -= min(idle, count)
    return runs
