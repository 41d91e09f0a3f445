"""A block that runs again with the weights of an earlier layer."""

from dataclasses import dataclass

from memcalc.blocks.ledger import Block, Weight


@dataclass(frozen=True)
class Reused:
    """Stored once, in the layer that has `block` itself; computed, and its activations and cache kept, here too."""

    block: Block

    def weights(self) -> tuple[Weight, ...]:
        return ()
