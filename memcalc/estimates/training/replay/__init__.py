"""Steps of one rank replayed on PyTorch's caching allocator: what it holds beyond what is in use."""

from memcalc.blocks.architecture import Architecture
from memcalc.errors import Unsupported
from memcalc.estimates.training.activations import Evaluated, Filled
from memcalc.estimates.training.ranks import Rank
from memcalc.estimates.training.replay.extent import RankSteps, Replayed, glance_at, replay
from memcalc.specs.training import Training

__all__ = ["RankSteps", "Replayed", "glance_at", "replay", "replayed"]


def replayed(
    architecture: Architecture | None, run: Training, rank: Rank, found: Evaluated, limit: int | None, workspace: int,
    peak: int, *, glance: bool = False,
) -> Replayed | None:  # fmt: skip
    """The replay within a limit; None where the order of allocations is not known. `glance`: of a few layers alone.

    Raises OutOfMemory.
    """
    if architecture is None or rank.setup is None or not isinstance(found, Filled) or run.train_layers:
        return None
    asked = RankSteps(architecture, run, rank, found, workspace)
    try:
        return glance_at(asked, peak + workspace) if glance else replay(asked, limit, peak + workspace)
    except Unsupported:
        return None
