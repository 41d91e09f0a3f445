"""How many steps of how many layers are replayed, and how often: equal questions are asked once."""

from memcalc.allocator.caching import OutOfMemory
from memcalc.blocks.architecture import Architecture
from memcalc.caches import cached
from memcalc.estimates.training.activations import Filled
from memcalc.estimates.training.rank_key import RankKey
from memcalc.estimates.training.ranks import Rank
from memcalc.estimates.training.replay.steps import Steps
from memcalc.frozen import NamedTuple
from memcalc.specs.training import Training

STEPS = 4  # at most: the first makes the optimizer's states, the second finds their places taken, few ask for more
DEPTH = 72  # layers that are replayed at most
PARTS = 24, 48  # of deeper stages: what the second part has beyond the first, every further layer has
GLANCE, GLANCES = 3, 2  # layers of each kind that a glance sees, and steps


class Replayed(NamedTuple):
    """Highest bytes in use, and highest bytes that the driver gave."""

    allocated: int
    reserved: int

    @property
    def unused(self) -> int:
        """Held beyond what is in use."""
        return self.reserved - self.allocated


class RankSteps:
    """Steps of one rank that are replayed. Equal ones come to the same, whatever GPU they are for."""

    __slots__ = ("_key", "filled", "rank", "run", "workspace")

    def __init__(self, architecture: Architecture, run: Training, rank: Rank, filled: Filled, workspace: int = 0) -> None:
        self.run, self.rank, self.filled, self.workspace = run, rank, filled, workspace
        sizes = filled.sizes, filled.masks, run.seq_len if run.seq_len_max else 0
        self._key = RankKey(architecture, run), rank.stage.index, sizes, min(run.grad_accum, 2), workspace

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RankSteps) and self._key == other._key

    def steps(self, limit: int | None = None, depth: int = 0, each: int = 0) -> Steps:
        settings = self.run.allocator_settings
        return Steps(self.run, self.rank, self.filled, settings, limit, depth=depth, each=each, workspace=self.workspace)


def replay(asked: RankSteps, limit: int | None = None, used: int = 0) -> Replayed:
    """Highest bytes of a few steps, on a device that gives at most `limit`. `used`: what is in use at most by the account of
    moments: all that is known of the use of stages that are too deep to be replayed whole.

    Raises Unsupported where the order of a model's allocations is not known, OutOfMemory where the limit is too low.
    """
    layers = sum(count for _, count in asked.rank.stage.sequence.runs)
    if layers <= DEPTH:
        return _within(asked, limit, used)
    short, long = (_within(asked, depth=depth) for depth in PARTS)
    reserved = long.reserved + (long.reserved - short.reserved) * (layers - PARTS[1]) // (PARTS[1] - PARTS[0])
    return Replayed(used, max(reserved, used))


def glance_at(asked: RankSteps, used: int) -> Replayed:
    """About the same from the first layers of each kind, whatever the depth: what the others hold is taken for one block.
    Without a limit: what runs only because unused segments are given back again and again is nothing to look for."""
    found = _within(asked, each=GLANCE)
    return Replayed(used, max(found.reserved + max(0, used - found.allocated), used))


def _within(asked: RankSteps, limit: int | None = None, used: int = 0, *, depth: int = 0, each: int = 0) -> Replayed:
    """On a device with a limit; what does not reach it is the same on every device."""
    known = _known(asked, depth, each)
    if limit is not None:
        if max(used, known[None].allocated if None in known else 0) > limit:
            raise OutOfMemory(f"more is in use at once than the {limit} bytes that can be had")
        if None in known and known[None].reserved <= limit:
            limit = None
    if limit not in known:
        steps = asked.steps(limit, depth, each)
        known[limit] = _replayed(steps, GLANCES if each else STEPS)
        if not steps.device.allocator.refused:
            known[None] = known[limit]
    return known[limit]


@cached(512)
def _known(asked: RankSteps, depth: int, each: int) -> dict[int | None, Replayed]:
    """What was replayed, by the limit that it reached."""
    return {}


def _replayed(found: Steps, most: int) -> Replayed:
    before = -1
    for _ in range(most):
        for sizes in found.lengths:
            if sizes != found.sizes:
                found.fill(sizes)
            found.step()
        if (reserved := found.device.allocator.peak.reserved) == before:
            break
        before = reserved
    return Replayed(*found.device.allocator.peak)
