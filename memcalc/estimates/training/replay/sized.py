"""A piece's events with batch and length filled in."""

from collections.abc import Iterable

from memcalc.autograd.events import OUTPUT, Event, Piece
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Size
from memcalc.blocks.architecture import Layer
from memcalc.blocks.recording import layer_piece
from memcalc.caches import cached, cached_property
from memcalc.estimates.training.itemised import Sizes

LEAVES = -1  # in place of bytes
Sequence = tuple[tuple[int, int], ...]  # (key, bytes or LEAVES)


class SizedPiece:
    """As Piece; tensors of no bytes are gone, as PyTorch allocates nothing for them."""

    def __init__(self, piece: Piece, sizes: Sizes) -> None:
        self._piece, self._sizes = piece, sizes

    @cached_property
    def forward(self) -> Sequence:
        return _filled(self._piece.forward, self._sizes)

    @cached_property
    def discarding(self) -> Sequence:
        return _filled(self._piece.discarding, self._sizes)

    @cached_property
    def again(self) -> Sequence:
        return _filled(self._piece.again, self._sizes)

    @cached_property
    def backward(self) -> Sequence:
        return _filled(self._piece.backward, self._sizes)

    @cached_property
    def accumulating(self) -> Sequence:
        return _filled(self._piece.accumulating, self._sizes)

    @cached_property
    def gradients(self) -> frozenset[int]:
        return frozenset(self._piece.gradients)

    @cached_property
    def casts(self) -> frozenset[int]:
        return frozenset(self._piece.casts)

    @cached_property
    def saves_output(self) -> bool:
        return any(event.key == OUTPUT and event.bytes is None for event in self._piece.backward)


@cached(256)
def sized_layer(layer: Layer, profile: Profile, hidden: int, sizes: Sizes, *, input_grad: bool, chosen: bool) -> SizedPiece:
    """A layer's allocations; `chosen`: recomputation keeps the results of chosen operations."""
    return SizedPiece(layer_piece(layer, profile, hidden, input_grad=input_grad, chosen=chosen), sizes)


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
