"""How the families of `image_text` turn images into tokens, as their image processors do with the values they ship with.

Each takes the outer config and the tower, and gives the family's rule; None where it cannot be told.
"""

from collections.abc import Callable

from memcalc.blocks.architecture import Part
from memcalc.blocks.images import ImageRule, NearestGrid, OneSize, TilesOfLongest
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


def _square(tower: Part) -> int:
    """The side of the images that a tower of squares reads, else 0."""
    sizing = tower.images.sizing if tower.images else None
    return sizing.sides[0] if isinstance(sizing, OneSize) and sizing.sides[0] == sizing.sides[1] else 0


def _idle(c: Config) -> int | None:
    """Layers of the tower after the one whose output is taken; -1 takes the last one's; None: the tower's own result."""
    layer = c.raw("vision_feature_layer")
    return -1 - layer if isinstance(layer, int) and -100 < layer < 0 else None
