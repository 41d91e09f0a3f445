"""How many patches a vision tower sees of an image, and how many tokens the language model reads of it."""

from collections.abc import Callable
from math import ceil, floor, sqrt

from memcalc.frozen import NamedTuple


class Seen(NamedTuple):
    """One image."""

    patches: int  # tokens of the tower
    tokens: int  # of the language model


class ImageRule(NamedTuple):
    """A family's rule, as its image processor has it. Sizes are height and width in pixels.

    `size`: any image is resized to it. Else an image keeps its shape, rounded to whole squares of merge × merge patches, and
    between `least` and `most` pixels (transformers models/qwen2_vl/image_processing_qwen2_vl.py, smart_resize).
    """

    patch: tuple[int, int]
    merge: int = 1  # patches on a side of a square that becomes one token
    size: tuple[int, int] = (0, 0)
    least: int = 0
    most: int = 0
    extra: int = 0  # tokens of the tower beside the patches (a class token)
    tokens: int = 0  # that the language model reads of each image, where they are pooled to so many
    idle: int = 0  # layers at the tower's end whose result nobody reads (vision_feature_layer)

    @property
    def fixed(self) -> bool:
        return self.size != (0, 0)

    def seen(self, height: int = 0, width: int = 0) -> Seen:
        """An image of so many pixels.

        >>> ImageRule((14, 14), 2, least=3136, most=12845056).seen(1080, 1920)
        Seen(patches=10764, tokens=2691)
        """
        rows, columns = (side // patch for side, patch in zip(self.resized(height, width), self.patch, strict=True))
        return Seen(rows * columns + self.extra, self.tokens or rows * columns // self.merge**2)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        if self.fixed:
            return self.size
        steps = self.patch[0] * self.merge, self.patch[1] * self.merge
        sides = round(height / steps[0]) * steps[0], round(width / steps[1]) * steps[1]
        if sides[0] * sides[1] > self.most:
            by = sqrt(height * width / self.most)
            return _rounded(height / by, steps[0], floor), _rounded(width / by, steps[1], floor)
        if sides[0] * sides[1] < self.least:
            by = sqrt(self.least / (height * width))
            return _rounded(height * by, steps[0], ceil), _rounded(width * by, steps[1], ceil)
        return sides

    def of_tokens(self, tokens: int) -> Seen:
        """An image of which the language model reads so many tokens."""
        if self.fixed:
            return self.seen()._replace(tokens=tokens)
        return Seen(tokens * self.merge**2 + self.extra, tokens)


def _rounded(side: float, step: int, how: Callable[[float], int]) -> int:
    return max(step, how(side / step) * step)
