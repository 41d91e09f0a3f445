"""Tensors on one rank as matrices: how many, outputs, inputs."""

from math import prod

from memcalc.blocks.ledger import Shape, Weight
from memcalc.blocks.linears import leaf
from memcalc.estimates.placement import Held
from memcalc.frozen import NamedTuple

_COLUMN, _ROW = ("q", "k", "v", "qkv", "gate", "up", "gate_up"), ("output", "down")


class Matrices(NamedTuple):
    """`number` equal matrices of one copy of a tensor: 1, or one an expert."""

    number: int
    outputs: int
    inputs: int


def matrices(held: Held) -> Matrices:
    """The matrices of one copy as placed; convolutions and tables as outputs × everything else."""
    return _matrices(held.shape, leaf(held.path), held.weight)


def whole_inputs(held: Held) -> int:
    """Length of a row before any parallelism."""
    return _matrices(held.weight.shape if held.weight else held.shape, leaf(held.path), held.weight).inputs


def of_shape(shape: Shape, weight: Weight) -> Matrices:
    """The matrices of a weight in this shape, whole or a rank's part."""
    return _matrices(shape, leaf(weight.path), weight)


def _matrices(shape: Shape, name: str, weight: Weight | None) -> Matrices:
    if len(shape) < 2:
        return Matrices(1, 1, shape[0] if shape else 1)
    number = prod(shape[:-2])
    outputs, inputs = shape[-2:]
    return Matrices(number, inputs, outputs) if _transposed(name, weight) else Matrices(number, outputs, inputs)


def _transposed(name: str, weight: Weight | None) -> bool:
    """Stored [inputs, outputs]: tensor parallelism cuts what its name says it cuts along the other dimension."""
    if weight is None or weight.split is None or name not in _COLUMN + _ROW:
        return False
    last = weight.split.dim == len(weight.shape) - 1
    return last if name in _COLUMN else not last
