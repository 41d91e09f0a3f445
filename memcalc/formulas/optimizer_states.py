"""Tensors that optimizers keep: how many elements a state has for a parameter's shape, and which parameters have it."""

from collections.abc import Callable
from math import prod
from typing import Literal

from memcalc.frozen import NamedTuple

Shape = tuple[int, ...]


class State(NamedTuple):
    """One tensor that an optimizer keeps beside a parameter tensor."""

    name: str
    rule: str = "full"  # a key of RULES
    format: str = "parameter"  # a key of FORMAT_BYTES, or "parameter": the dtype of the weight
    size: int = 0  # the number the rule needs: block length, rank, count, or largest preconditioned dimension
    place: Literal["device", "host", "host-unless-fused"] = "device"


class Optimizer(NamedTuple):
    """An optimizer: the states of the tensors in its scope, and those of all other tensors."""

    name: str
    title: str
    states: tuple[State, ...]
    source: str
    note: str = ""
    scope: str = "all tensors"  # a key of SCOPES
    otherwise: tuple[State, ...] = ()
    elementwise: bool = True  # a value's update needs no other value (but its block's scale): flat shards are enough
    paged: bool = False  # large states live in unified memory: see paged_bytes
    in_backward: bool = False  # steps inside the backward whether asked to or not


# Bytes of one element; "parameter" is not here, it follows the weight.
FORMAT_BYTES = {"fp32": 4, "bf16": 2, "fp8-e4m3": 1, "uint8": 1}

MINIMUM_8BIT = 4096  # values; smaller tensors are not quantised (bitsandbytes `min_8bit_size`, followed by torchao)

# Which tensors bitsandbytes quantises; under transformers' Trainer nn.Embedding's not (trainer.py, create_optimizer)
LARGE, LARGE_BUT_TABLES = "4096 values or more", "tables aside, 4096 values or more"
TABLE_ROLES = ("embedding", "position")

# Muon, GaLore and APOLLO are for hidden matrices; tensors of these roles are left to AdamW (README of each).
ADAMW_ROLES = frozenset({"embedding", "position", "head", "norm"})


# --- shape rules: (shape, the state's size, bytes of a parameter) -> elements -----------------------------------------


def _rows(shape: Shape, _size: int, _bytes: int) -> int:
    """One value per row of each matrix: n / last dimension.

    >>> _rows((8, 4096, 1024), 0, 4)
    32768
    """
    return prod(shape[:-1])


def _columns(shape: Shape, _size: int, _bytes: int) -> int:
    """One value per column of each matrix: n / second-last dimension.

    >>> _columns((8, 4096, 1024), 0, 4)
    8192
    """
    return prod(shape[:-2]) * shape[-1]


def _blocks(shape: Shape, size: int, _bytes: int) -> int:
    """One scale per block: ceil(n / size).

    >>> _blocks((5000,), 256, 4)
    20
    """
    return -(-prod(shape) // size)


def _svd_projector(shape: Shape, size: int, parameter_bytes: int) -> int:
    """The singular vectors GaLore keeps: shorter × min(rank, shorter); in fp32 shorter × shorter.

    They are a slice of the square factor which the SVD returns in fp32. Casting to a half-precision gradient copies the
    slice; in fp32 nothing is cast, and the slice keeps the whole factor alive.

    >>> _svd_projector((4096, 1024), 128, 2), _svd_projector((4096, 1024), 128, 4)
    (131072, 1048576)
    """
    shorter = min(shape)
    return shorter * (shorter if parameter_bytes == 4 else min(size, shorter))


def _svd_rank(shape: Shape, size: int, _bytes: int) -> int:
    """Row and column means of a gradient projected to a low rank: longer + min(rank, shorter).

    >>> _svd_rank((4096, 1024), 128, 4)
    4224
    """
    return max(shape) + min(size, *shape)


def _compensation(shape: Shape, _size: int, parameter_bytes: int) -> int:
    """What Kahan's summation keeps of a 16-bit parameter: one value each; nothing of an fp32 one.

    >>> _compensation((8, 8), 0, 2), _compensation((8, 8), 0, 4)
    (64, 0)
    """
    return prod(shape) if parameter_bytes == 2 else 0


def _squares(shape: Shape, size: int, _bytes: int) -> int:
    """One square matrix for each dimension of at most `size`: sum of d².

    >>> _squares((14336, 4096), 10_000, 4) == 4096**2
    True
    """
    return sum(dim * dim for dim in shape if dim <= size)


def _block_squares(shape: Shape, size: int, _bytes: int) -> int:
    """Square matrices of every block, once each dimension is cut in pieces of at most `size`.

    sum over dimensions of (sum over its pieces of piece²) × (product of the other dimensions' numbers of pieces)

    >>> _block_squares((4096, 4096), 1024, 4) == 2 * 4096 * 4096
    True
    """
    dims = _merged(shape, size)
    pieces = [-(-dim // size) for dim in dims]
    blocks = prod(pieces)
    return sum(blocks // count * (dim // size * size**2 + (dim % size) ** 2) for dim, count in zip(dims, pieces, strict=True))


def _merged(shape: Shape, size: int) -> Shape:
    """The shape without dimensions of 1, neighbours merged (from the last) while their product is at most `size`.

    >>> _merged((512, 1, 4, 8), 1024), _merged((16, 32), 1024)
    ((512, 32), (512,))
    """
    merged: Shape = ()
    for dim in reversed([dim for dim in shape if dim != 1]):
        if merged and merged[0] * dim <= size:
            merged = (merged[0] * dim, *merged[1:])
        elif dim > 1:
            merged = (dim, *merged)
    return merged or (1,)


RULES: dict[str, Callable[[Shape, int, int], int]] = {
    "full": lambda shape, size, _: prod(shape),
    "rows": _rows,
    "columns": _columns,
    "blocks": _blocks,
    "pairs": lambda shape, size, _: prod(shape) // 2,  # two 4-bit values in a byte
    "scalar": lambda shape, size, _: 1,
    "table": lambda shape, size, _: size,  # a lookup table of `size` values beside every tensor
    "low-rank": lambda shape, size, _: max(shape) * size,  # a gradient projected along its shorter side
    "projector": lambda shape, size, _: min(shape) * size,  # the matrix that projects it
    "svd-low-rank": lambda shape, size, _: max(shape) * min(size, *shape),  # an SVD has no more than min(m, n) vectors
    "svd-projector": _svd_projector,
    "svd-square": lambda shape, size, _: min(shape) ** 2,  # the whole factor, where the gradient is projected in fp32
    "svd-factors": _svd_rank,
    "compensation": _compensation,
    "low-rank-blocks": lambda shape, size, _: -(-max(shape) * size // 256),  # scales of a low-rank state's blocks
    "projector-groups": lambda shape, size, _: 2 * -(-min(shape) * size // 256),  # a scale and a zero each
    "squares": _squares,
    "block-squares": _block_squares,
}

RANKED = frozenset(
    {
        "low-rank",
        "projector",
        "svd-low-rank",
        "svd-projector",
        "svd-factors",
        "low-rank-blocks",
        "projector-groups",
    }
)  # rules whose size is a rank

# Elements per parameter of the rules that do not look at the shape.
DENSITIES: dict[str, Callable[[int], float]] = {
    "full": lambda size: 1.0,
    "blocks": lambda size: 1 / size,
    "pairs": lambda size: 0.5,
    "scalar": lambda size: 0.0,
    "table": lambda size: 0.0,
}


# --- scopes: the tensors that get `states`; all others get `otherwise` ------------------------------------------------


def _whole_blocks(shape: Shape, size: int) -> bool:
    """torchao quantises a tensor (or shard) only if it is large enough and blocks divide it."""
    values = prod(shape)
    return values >= MINIMUM_8BIT and values % size == 0


SCOPES: dict[str, Callable[[Shape, str], bool]] = {
    "all tensors": lambda shape, role: True,
    "matrices": lambda shape, role: len(shape) >= 2,
    "hidden matrices": lambda shape, role: len(shape) >= 2 and role not in ADAMW_ROLES,
    "hidden linear layers": lambda shape, role: len(shape) == 2 and role not in ADAMW_ROLES,
    LARGE: lambda shape, role: prod(shape) >= MINIMUM_8BIT,
    LARGE_BUT_TABLES: lambda shape, role: prod(shape) >= MINIMUM_8BIT and role not in TABLE_ROLES,
    "4096 values or more, whole blocks of 128": lambda shape, role: _whole_blocks(shape, 128),
    "4096 values or more, whole blocks of 256": lambda shape, role: _whole_blocks(shape, 256),
}

SHAPELESS_SCOPES = frozenset(scope for scope in SCOPES if scope.startswith(("all", "4096")))
