"""A vision tower's pieces of a step: all images of a micro-batch at once, before the language model's layers and after their
backward, whole on every rank that reads tokens."""

from collections.abc import Iterator

from memcalc.autograd.profile import Profile
from memcalc.blocks.architecture import Architecture
from memcalc.blocks.executed import Executed, layer_executed, tape_executed
from memcalc.blocks.stored import VISION
from memcalc.estimates.step_time.pieces import Micro
from memcalc.estimates.training.images import seen_by
from memcalc.estimates.training.towers import recorder_of
from memcalc.frozen import NamedTuple
from memcalc.specs.training import Training


class Looked(NamedTuple):
    """What a tower sees of the images beside one sequence, or one packed row."""

    patches: float
    squares: float  # patches that attend to each other, in pairs
    joined: bool  # all images of a micro-batch attend to each other behind a mask

    def micro(self, micro: Micro, rows: int) -> Micro:
        """The tower's micro-batch beside so many rows: as many sequences as there are tiles or images."""
        tokens = self.patches * rows
        length = tokens if self.joined else self.squares / self.patches
        return micro._replace(tokens=tokens, sequences=tokens / length, length=length, cp=1, ring=False)


class TowerPiece(NamedTuple):
    executed: Executed
    times: int
    recomputed: bool


def looked_at(architecture: Architecture, run: Training) -> Looked:
    """Raises SpecError where the family's rule for images is not known."""
    seen = seen_by(architecture, run)
    assert seen is not None
    assert run.images
    rule = next(part.images for part in architecture.parts if part.name == VISION)
    return Looked(run.images * seen.patches, run.images * seen.attended, bool(rule and rule.joined))


def tower_pieces(architecture: Architecture, run: Training, profile: Profile) -> Iterator[TowerPiece]:
    """Entry, kinds of layers, and what hands their results on."""
    made = recorder_of(architecture, run, profile)
    yield TowerPiece(tape_executed(made.entry, made.profile), 1, False)
    for kind in made.layers:
        executed = layer_executed(kind.layer, made.profile, made.hidden, input_grad=kind.input_grad)
        yield TowerPiece(executed, kind.times, made.again and kind.made.flows)
    yield TowerPiece(tape_executed(made.projector, made.beside), 1, False)
