"""Sharding strategies, one file each: how data-parallel ranks share model states, and what travels between them."""

from memcalc.estimates.training.sharding.strategy import Around, Places, Strategy
from memcalc.specs.parallelism import Parallelism

__all__ = ["Around", "Places", "Strategy", "strategy_of"]


def strategy_of(p: Parallelism) -> Strategy:
    """The strategy that a run names; the others are not imported."""
    if p.zero is not None:
        from memcalc.estimates.training.sharding.zero import Zero

        return Zero(p.zero)
    if p.fsdp is not None:
        from memcalc.estimates.training.sharding.fsdp import Fsdp

        return Fsdp(p.fsdp)
    from memcalc.estimates.training.sharding.replicated import Replicated

    return Replicated()
