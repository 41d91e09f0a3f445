"""Steps of one rank replayed on PyTorch's caching allocator: what it holds beyond what is in use."""

from memcalc.estimates.training.replay.steps import Replayed, replay

__all__ = ["Replayed", "replay"]
