"""How the families of `image_text` turn images into tokens, as their image processors do with the values they ship with.

Each takes the outer config and the tower, and gives the family's rule; None where it cannot be told.
"""

from collections.abc import Callable
from typing import Any

from memcalc.blocks.architecture import Part
from memcalc.blocks.image_sizes import Bounded, OneSize, Sides
from memcalc.blocks.image_tiles import ChosenCanvas, NearestGrid, TilesOfLongest, TilesWhenLarge
from memcalc.blocks.images import ImageRule
from memcalc.readers.hf.config import Config

Rule = Callable[[Config, Part], ImageRule | None]


def of_tower(c: Config, tower: Part) -> ImageRule | None:
    """The tower's own: an image is resized to its size, whole (LLaVA, PaliGemma), or keeps its shape (Pixtral)."""
    return tower.images._replace(idle=_idle(c)) if tower.images else None


def split(c: Config, tower: Part) -> ImageRule | None:
    """Tiles of the tower's size, four on the longest side, and the whole (Idefics 3, SmolVLM: preprocessor_config.json says
    size.longest_edge = 4 × max_image_size.longest_edge)."""
    side = _square(tower)
    rule = tower.images
    return rule._replace(sizing=TilesOfLongest(side, 4 * side), merge=c.integer("scale_factor")) if rule and side else None


def internvl(c: Config, tower: Part) -> ImageRule | None:
    """One to twelve tiles and the whole (InternVL 2.5 and later: preprocessor_config.json)."""
    side, rule = _square(tower), tower.images
    merge = round(1 / c.number("downsample_ratio"))
    return rule._replace(sizing=NearestGrid(side, 1, 12), merge=merge) if rule and side else None


def cohere(c: Config, tower: Part) -> ImageRule | None:
    """The same of Aya Vision and Command A Vision (models/cohere2_vision/image_processing_cohere2_vision.py)."""
    side, rule = _square(tower), tower.images
    merge = c.integer("downsample_factor")
    return rule._replace(sizing=NearestGrid(side, 1, 12), merge=merge, idle=_idle(c)) if rule and side else None


def anyres(c: Config, tower: Part) -> ImageRule | None:
    """The whole, and tiles of the nearest of the config's canvases (LLaVA-NeXT, LLaVA-OneVision)."""
    side, rule, kind = _square(tower), tower.images, c.text("vision_aspect_ratio", "anyres")
    if not (rule and side):
        return None
    most = kind.removeprefix("anyres_max_")
    canvases = tuple(_canvas(c, sides) for sides in c.entries("image_grid_pinpoints"))
    cut = all(pixels % side == 0 for sides in canvases for pixels in sides)  # into whole tiles
    if not (canvases and cut) or not (most.isdecimal() or kind == "anyres"):
        return None
    return rule._replace(sizing=ChosenCanvas(side, canvases, int(most) if most.isdecimal() else 0), idle=_idle(c))


def _canvas(c: Config, sides: Any) -> Sides:
    if not isinstance(sides, (list, tuple)) or len(sides) != 2 or not all(isinstance(n, int) and 0 < n < 10**5 for n in sides):
        raise c.error("image_grid_pinpoints", f"must hold heights and widths in pixels, not {sides!r:.60}")
    return sides[0], sides[1]


def lfm2(c: Config, tower: Part) -> ImageRule:
    """Padded to 1,024 patches, the most of a tile and of a whole image, which large images are cut into (LFM2-VL:
    image_processing_lfm2_vl.py)."""
    del tower
    patch, merge = c.sub("vision_config", {"patch_size": 16}).integer("patch_size"), c.integer("downsample_factor")
    square, tile = (patch * merge) ** 2, 512
    sizing = TilesWhenLarge(NearestGrid(tile, 2, 10), Bounded(64 * square, 256 * square))
    return ImageRule((patch, patch), sizing, merge, padded=max(256 * merge**2, (tile // patch) ** 2))


def paddleocr(c: Config, tower: Part) -> ImageRule:
    """Kept in shape; lines of text lower than a square are enlarged first (models/paddleocr_vl/
    image_processing_paddleocr_vl.py, smart_resize)."""
    del tower
    vision = c.sub("vision_config", {"patch_size": 14, "spatial_merge_size": 2})
    patch, merge = vision.integer("patch_size"), vision.integer("spatial_merge_size")
    return ImageRule((patch, patch), Bounded(384 * 384, 1536 * 1536, one_square=True), merge)


def _square(tower: Part) -> int:
    """The side of the images that a tower of squares reads, else 0."""
    sizing = tower.images.sizing if tower.images else None
    return sizing.sides[0] if isinstance(sizing, OneSize) and sizing.sides[0] == sizing.sides[1] else 0


def _idle(c: Config) -> int | None:
    """Layers of the tower after the one whose output is taken; -1 takes the last one's; None: the tower's own result."""
    layer = c.raw("vision_feature_layer")
    return -1 - layer if isinstance(layer, int) and -100 < layer < 0 else None
