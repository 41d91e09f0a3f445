"""An mmproj file (the GGUF architecture `clip`): image and sound towers and the projector beside a decoder.

Source: llama.cpp tools/mtmd/clip.cpp and clip-impl.h (names of tensors and keys). Its compute buffer depends on the projector
and on the image that it is warmed up with: memcalc/blocks/image_tower.py.
"""

from collections.abc import Iterable, Sequence

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.ledger import Weight
from memcalc.blocks.stored import AUDIO, PROJECTOR, VISION, StoredTensor, StoredTensors
from memcalc.errors import InputError, one_line

TOWER = "clip"
LAYERS = ("v.blk", "a.blk")
PREFIXES = (("a.", AUDIO), ("mm.a.", AUDIO), ("mm.", PROJECTOR))  # of names; what has none of them is the image tower's


def part_of(name: str) -> str:
    """The part that a tensor of such a file belongs to.

    >>> part_of("v.blk.0.attn_q.weight"), part_of("mm.0.weight"), part_of("a.conv1d.1.weight")
    ('vision', 'projector', 'audio')
    """
    return next((part for prefix, part in PREFIXES if name.startswith(prefix)), VISION)


def is_tower(stored: StoredTensors) -> bool:
    return stored.metadata.get("general.architecture") == TOWER


def tower(stored: StoredTensors, place: str) -> Architecture:
    """The towers of an mmproj file by themselves."""
    from memcalc.blocks.image_tower import unbuffered

    parts = tower_parts(stored.tensors)
    if not parts:
        raise InputError("holds no tensors", place=place)
    sizes = [stored.metadata.get(f"{TOWER}.{kind}.embedding_length") for kind in ("vision", "audio")]
    kinds = [stored.metadata.get(f"{TOWER}.{kind}projector_type") for kind in ("", "vision.", "audio.")]
    named = tuple(f"projector {one_line(kind, 40)}" for kind in kinds if isinstance(kind, str))
    hidden = next((size for size in sizes if type(size) is int and size > 0), 0)
    return Architecture(TOWER, parts, hidden, 0, False, notes=(*named, *unbuffered(stored)), as_stored=True)


def tower_parts(tensors: Iterable[StoredTensor]) -> tuple[Part, ...]:
    """Image tower, sound tower and projector, each of what its tensors are."""
    listed = [tensor for tensor in tensors if tensor.part in (VISION, AUDIO, PROJECTOR) and tensor.parameters]
    return tuple(
        _part(name, [t for t in listed if t.part == name])
        for name in (VISION, AUDIO, PROJECTOR)
        if any(t.part == name for t in listed)
    )


def _part(name: str, tensors: Sequence[StoredTensor]) -> Part:
    prefixes = dict.fromkeys(_prefix(tensor) for tensor in tensors if tensor.layer is not None)
    stacks = tuple(_stack(prefix, [t for t in tensors if t.layer is not None and _prefix(t) == prefix]) for prefix in prefixes)
    return Part(name, _by_role(t for t in tensors if t.layer is None), stacks)


def _prefix(tensor: StoredTensor) -> str:
    """What stands before the layer's number: "v.blk"."""
    return tensor.name.partition(f".{tensor.layer}.")[0]


def _stack(prefix: str, tensors: Sequence[StoredTensor]) -> Stack:
    layers: dict[int, list[StoredTensor]] = {}
    for tensor in tensors:
        layers.setdefault(tensor.layer or 0, []).append(tensor)
    made: dict[Named, Layer] = {}
    sequence = []
    for number in sorted(layers):
        blocks = _by_role(layers[number])
        sequence.append(made.setdefault(blocks, Layer(blocks)))
    return Stack.of(sequence, "layers" if prefix in LAYERS else prefix.replace(".", "_"))


def _by_role(tensors: Iterable[StoredTensor]) -> Named:
    from memcalc.blocks.stored_block import StoredBlock

    groups: dict[str, list[Weight]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.role, []).append(Weight(_inner(tensor), tensor.role, tensor.shape))
    return tuple((role, StoredBlock(tuple(weights))) for role, weights in groups.items())


def _inner(tensor: StoredTensor) -> str:
    return tensor.name if tensor.layer is None else tensor.name.partition(f".{tensor.layer}.")[2]
