"""Weights that belong to no modelled computation of their own: projectors, patch embeddings, mixing coefficients."""

from dataclasses import dataclass

from memcalc.blocks.ledger import Weight


@dataclass(frozen=True)
class Plain:
    """A bag of named weights, counted exactly."""

    tensors: tuple[Weight, ...]

    def weights(self) -> tuple[Weight, ...]:
        return self.tensors
