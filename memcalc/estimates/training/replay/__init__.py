"""Steps of one rank replayed on PyTorch's caching allocator: what it holds beyond what is in use."""

from memcalc.allocator.caching import OutOfMemory
from memcalc.errors import Unsupported
from memcalc.estimates.training.activations import Evaluated, Filled
from memcalc.estimates.training.ranks import Rank
from memcalc.estimates.training.replay.steps import Replayed, replay
from memcalc.specs.training import Training

__all__ = ["Replayed", "replay", "replayed"]


def replayed(run: Training, rank: Rank, found: Evaluated, limit: int | None, workspace: int, peak: int) -> Replayed | None:
    """The replay within a limit, or beyond it where nothing fits; None where the order of allocations is not known."""
    if rank.setup is None or not isinstance(found, Filled):
        return None
    settings = run.allocator_settings
    for most in (limit, None):
        try:
            return replay(run, rank, found, settings, most, workspace, peak + workspace)
        except Unsupported:
            return None
        except OutOfMemory:
            continue
    return None
