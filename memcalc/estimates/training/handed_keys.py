"""Keys and values that some layers put where later ones can read them, in a step whose layers are recomputed.

The last layer of each kind hands them on in a dictionary that lives through the step (transformers modeling_gemma4.py,
shared_kv_states). When that layer runs again in its backward it puts the new ones there, which hold what made them.
"""

from collections.abc import Iterator

from memcalc.blocks.architecture import Layer
from memcalc.estimates.training.layer_kinds import Setup, recorded_kind, term_of
from memcalc.estimates.training.moments import Term
from memcalc.frozen import NamedTuple


class Handed(NamedTuple):
    """What one kind of layer hands on."""

    kind: int  # its number in the stage
    forward: Term  # keys and values
    again: Term  # and what made them, once it has run again


def handed_on(setup: Setup) -> tuple[Handed, ...]:
    """One for each kind of attention whose last layer is recomputed."""
    sequence, last = setup.stage.sequence, dict[int | None, tuple[int, int]]()
    for index, layer in enumerate(sequence.kinds):
        if layer.hands_on and recorded_kind(setup, index).handed:
            place = sum(sequence.places[index][-1])
            last[_window(layer)] = max(last.get(_window(layer), (place, index)), (place, index))
    return tuple(_handed(setup, index) for _, index in last.values() if sequence.marks[index].recomputed)


def terms(handed: tuple[Handed, ...], after: tuple[int, ...] = (), current: int | None = None) -> Iterator[Term]:
    """What is there once the backward is through with so many layers of each kind (`after`) and in one of kind `current`."""
    for kind, forward, again in handed:
        if after and after[kind]:
            yield again
        elif kind != current:
            yield forward


def _handed(setup: Setup, index: int) -> Handed:
    made = recorded_kind(setup, index)
    return Handed(index, term_of("layers/handed on/", made.handed), term_of("layers/handed on/", (*made.handed, *made.history)))


def _window(layer: Layer) -> int | None:
    return next((block.traits.window for _, block in layer.blocks if block.traits.heads), None)
