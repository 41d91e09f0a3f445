"""Steps of one rank replayed on PyTorch's caching allocator: what it holds beyond what is in use."""

from memcalc.errors import Unsupported
from memcalc.estimates.training.activations import Evaluated, Filled
from memcalc.estimates.training.ranks import Rank
from memcalc.estimates.training.replay.steps import Replayed, glance_at, replay
from memcalc.specs.training import Training

__all__ = ["Replayed", "glance_at", "replay", "replayed"]


def replayed(
    run: Training, rank: Rank, found: Evaluated, limit: int | None, workspace: int, peak: int, *, glance: bool = False
) -> Replayed | None:
    """The replay within a limit; None where the order of allocations is not known. `glance`: of a few layers alone.

    Raises OutOfMemory.
    """
    if rank.setup is None or not isinstance(found, Filled) or run.train_layers:
        return None
    how = glance_at if glance else replay
    try:
        return how(run, rank, found, run.allocator_settings, limit, workspace, peak + workspace)
    except Unsupported:
        return None
