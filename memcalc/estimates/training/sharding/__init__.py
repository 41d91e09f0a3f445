"""Sharding strategies, one file each: how data-parallel ranks share model states, and what travels between them."""

from memcalc.estimates.training.sharding.fsdp import Fsdp
from memcalc.estimates.training.sharding.replicated import Replicated
from memcalc.estimates.training.sharding.strategy import Around, Places, Strategy
from memcalc.estimates.training.sharding.zero import Zero
from memcalc.specs.parallelism import Parallelism

__all__ = ["Around", "Places", "Strategy", "strategy_of"]


def strategy_of(p: Parallelism) -> Strategy:
    """The strategy that a run names."""
    if p.zero is not None:
        return Zero(p.zero)
    return Replicated() if p.fsdp is None else Fsdp(p.fsdp)
