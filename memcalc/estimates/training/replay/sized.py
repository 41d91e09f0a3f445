"""A piece's events with batch and length filled in."""

from collections.abc import Iterable

from memcalc.autograd.events import OUTPUT, Event, Piece
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Size
from memcalc.blocks.architecture import Layer
from memcalc.blocks.recording import layer_piece
from memcalc.caches import cached
from memcalc.estimates.training.itemised import Sizes
from memcalc.frozen import NamedTuple

LEAVES = -1  # in place of bytes
Sequence = tuple[tuple[int, int], ...]  # (key, bytes or LEAVES)


class SizedPiece(NamedTuple):
    """As Piece; tensors of no bytes are gone, as PyTorch allocates nothing for them."""

    forward: Sequence
    discarding: Sequence
    again: Sequence
    backward: Sequence
    accumulating: Sequence
    gradients: frozenset[int]
    casts: frozenset[int]
    saves_output: bool


def sized(piece: Piece, sizes: Sizes) -> SizedPiece:
    return SizedPiece(
        forward=_filled(piece.forward, sizes),
        discarding=_filled(piece.discarding, sizes),
        again=_filled(piece.again, sizes),
        backward=_filled(piece.backward, sizes),
        accumulating=_filled(piece.accumulating, sizes),
        gradients=frozenset(piece.gradients),
        casts=frozenset(piece.casts),
        saves_output=any(event.key == OUTPUT and event.bytes is None for event in piece.backward),
    )


@cached(256)
def sized_layer(layer: Layer, profile: Profile, hidden: int, sizes: Sizes, *, input_grad: bool, chosen: bool) -> SizedPiece:
    """A layer's allocations; `chosen`: recomputation keeps the results of chosen operations."""
    return sized(layer_piece(layer, profile, hidden, input_grad=input_grad, chosen=chosen), sizes)


def _filled(events: Iterable[Event], sizes: Sizes) -> Sequence:
    empty: set[int] = set()
    out: list[tuple[int, int]] = []
    counts: dict[Size, int] = {}  # few sizes are many tensors'
    for key, size in events:
        if size is None:
            if key not in empty:
                out.append((key, LEAVES))
            continue
        count = counts.get(size)
        if count is None:
            count = counts[size] = round(sizes.bytes_of(size))
        if count > 0:
            empty.discard(key)
            out.append((key, count))
        else:
            empty.add(key)
    return tuple(out)
