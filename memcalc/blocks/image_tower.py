"""The image tower of a GGUF file (mmproj) as llama.cpp warms it up: which image, and what its layers are made of.

Source: llama.cpp tools/mtmd/clip.cpp (load_hparams: merged patches, tokens of an image and of the warm-up's) and clip-model.h.
"""

from memcalc.blocks.stored import AUDIO, UNBUFFERED, VISION, StoredTensors
from memcalc.frozen import NamedTuple

GATE = "v.blk.0.ffn_gate.weight"
MAX_PATCHES = 1 << 20  # of an image: what a file says beyond that is not believed


class Projector(NamedTuple):
    """What llama.cpp sets for a kind of projector."""

    side: int = 0  # of the warm-up's image [tokens]; 0: the file's own image size
    most: int = 0  # tokens of the largest image; 0: all are of one size
    merge: int = 1  # patches to a token, each way, where the file says nothing
    position: int = 4  # bytes of a patch's place


PROJECTORS = {
    "gemma3": Projector(),
    "qwen2vl_merger": Projector(46, 4096, 2, 16),
    "qwen3vl_merger": Projector(46, 4096, 2, 16),
    "pixtral": Projector(16, 1024, 1, 8),
    "gemma4v": Projector(16, 280, 3, 8),
}
MERGED = ("clip.vision.spatial_merge_size", "clip.vision.projector.scale_factor")


class ImageTower(NamedTuple):
    """A tower that is warmed up with one image of `side` × `side` pixels."""

    hidden: int
    feed_forward: int
    branches: int  # of an MLP that are kept at once: three where it is gated
    heads: int
    side: int
    patches: int
    position: int
    most: int = 0  # tokens of the largest image, where it can be larger than the warm-up's
    merged: int = 1  # patches to a token

    def largest(self) -> "ImageTower":
        """The same for the largest image."""
        if not self.most:
            return self
        each = self.side * self.side / self.patches
        patches = self.most * self.merged
        return self._replace(side=round((patches * each) ** 0.5), patches=patches)


def image_tower(stored: StoredTensors) -> ImageTower | None:
    """None where llama.cpp's way with the projector is not known, or sound comes in as well."""
    parts = {tensor.part for tensor in stored.tensors}
    row = _projector(stored)
    if row is None or VISION not in parts or AUDIO in parts:
        return None
    hidden, wide, heads, patch, image = (_size(stored, f"clip.vision.{key}") for key in (
        "embedding_length", "feed_forward_length", "attention.head_count", "patch_size", "image_size"))  # fmt: skip
    merge = next((size for key in MERGED if (size := _size(stored, key))), row.merge) if row.side else 1
    side = row.side * patch * merge if row.side else image
    patches = (side // patch) ** 2 if patch else 0
    if not (hidden and wide and heads and 0 < patches <= MAX_PATCHES):
        return None
    gated = any(tensor.name == GATE for tensor in stored.tensors)
    more = row.most if row.most > row.side * row.side else 0
    return ImageTower(hidden, wide, 3 if gated else 1, heads, side, patches, row.position, more, merge * merge)


def unbuffered(stored: StoredTensors) -> tuple[str, ...]:
    """What to say where the buffer of a file's towers is not counted."""
    return () if image_tower(stored) else (UNBUFFERED,)


def _projector(stored: StoredTensors) -> Projector | None:
    names = (stored.metadata.get(f"clip.{kind}projector_type") for kind in ("vision.", ""))
    return next((PROJECTORS[name] for name in names if isinstance(name, str) and name in PROJECTORS), None)


def _size(stored: StoredTensors, key: str) -> int:
    found = stored.metadata.get(key)
    return found if type(found) is int and 0 < found < MAX_PATCHES else 0
