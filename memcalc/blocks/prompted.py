"""Learned tokens that stand before every sequence: their keys and values are cached beside its own."""

from memcalc.blocks.ledger import Cache, Weight
from memcalc.blocks.plain import Plain
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class PromptTokens(Plain, without=("constants", "state", "traits")):
    """What a layer's attention caches of `tokens` such tokens (CPM-Ant), whatever the sequence's length."""

    tensors: tuple[Weight, ...] = ()
    tokens: int = 0
    heads: int = 0
    width: int = 0  # of a head's keys and values

    def cache(self) -> tuple[Cache, ...]:
        return (Cache("prompt tokens", self.heads, self.tokens * self.width, per_token=False),) if self.tokens else ()
