"""What becomes of an image's height and width before a vision tower cuts it into patches: kinds that keep it whole."""

from collections.abc import Callable
from math import ceil, floor, sqrt
from typing import Protocol

from memcalc.formulas.bisection import largest
from memcalc.frozen import NamedTuple

Sides = tuple[int, int]  # height and width, in pixels


class Pieces(NamedTuple):
    """So many images of one size, which the tower sees one by one."""

    number: int
    sides: Sides
    # of the language model, of all of them; None: one for each square of patches
    tokens: int | None = None


class Sizing(Protocol):
    """What becomes of an image of any size before it is cut into patches."""

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        """What the tower sees of height × width pixels. `square`: pixels of what becomes one token of the language model."""


class OneSize(NamedTuple):
    """Any image is resized to one size."""

    sides: Sides

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        del height, width, square
        return (Pieces(1, self.sides),)


LONGEST_SHAPE = 200  # times the shorter side: smart_resize refuses images that are longer


class Bounded(NamedTuple):
    """An image keeps its shape, rounded to whole squares, and between `least` and `most` pixels (transformers
    models/qwen2_vl/image_processing_qwen2_vl.py and models/glm4v/image_processing_glm4v.py, smart_resize).

    >>> Bounded(3136, 12845056).pieces(1080, 1920, (28, 28))
    (Pieces(number=1, sides=(1092, 1932), tokens=None),)
    """

    least: int
    most: int
    one_square: bool = False  # each side is made that of one square first where it is less

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        if self.one_square and height < square[0]:
            height, width = square[0], round(width * square[0] / height)
        if self.one_square and width < square[1]:
            height, width = round(height * square[1] / width), square[1]
        sides = round(height / square[0]) * square[0], round(width / square[1]) * square[1]
        if sides[0] * sides[1] > self.most:
            by = sqrt(height * width / self.most)
            sides = rounded(height / by, square[0], floor), rounded(width / by, square[1], floor)
        elif sides[0] * sides[1] < self.least:
            by = sqrt(self.least / (height * width))
            sides = rounded(height * by, square[0], ceil), rounded(width * by, square[1], ceil)
        return (Pieces(1, sides),)


class Capped(NamedTuple):
    """The longest side is at most so many pixels; what is left over of a square is filled (transformers
    models/pixtral/image_processing_pixtral.py, get_resize_output_image_size).

    >>> Capped(1540).pieces(1080, 1920, (28, 28))
    (Pieces(number=1, sides=(868, 1540), tokens=None),)
    """

    longest: int

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        if (ratio := max(height, width) / self.longest) > 1:
            height, width = floor(height / ratio), floor(width / ratio)
        return (Pieces(1, (rounded(height, square[0], ceil), rounded(width, square[1], ceil))),)


class Budgeted(NamedTuple):
    """At most `patches` patches of `patch` pixels a side in all and `a_side` on a side, never enlarged; what is left over of
    a square is filled (transformers models/kimi_k25/image_processing_kimi_k25.py, navit_resize).

    >>> Budgeted(14, 16384, 512).pieces(1080, 1920, (28, 28))
    (Pieces(number=1, sides=(1092, 1932), tokens=None),)
    """

    patch: int
    patches: int
    a_side: int

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        longest = self.a_side * self.patch
        cut = max(1, height // self.patch) * max(1, width // self.patch)
        scale = min(1.0, sqrt(self.patches / cut), longest / height, longest / width)
        sides = (min(max(1, int(side * scale)), longest) for side in (height, width))
        high, wide = (rounded(side, step, ceil) for side, step in zip(sides, square, strict=True))
        return (Pieces(1, (high, wide)),)


class WholeSquares(NamedTuple):
    """Between `least` and `most` tokens of the language model; kept as it is where that is enough, else reduced as little as
    whole pixels of its height allow; what is left over of a square is filled (transformers
    models/glm5_next/image_processing_glm5_next.py, smart_resize).

    >>> WholeSquares(16, 8000).pieces(1080, 1920, (28, 28))
    (Pieces(number=1, sides=(1092, 1932), tokens=None),)
    """

    least: int
    most: int

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        def filled(high: float, wide: float) -> Sides:
            return rounded(high, square[0], ceil), rounded(wide, square[1], ceil)

        def reduced(high: int) -> Sides:
            return filled(high, max(1, floor(width * high / height)))

        def tokens(sides: Sides) -> int:
            return sides[0] * sides[1] // (square[0] * square[1])

        sides = filled(height, width)
        if tokens(sides) < self.least:
            by = sqrt(self.least * square[0] * square[1] / (height * width))
            sides = filled(ceil(height * by), ceil(width * by))
        if tokens(sides) > self.most:
            high = largest(1, height, 1, lambda high: tokens(reduced(high)) <= self.most)
            sides = reduced(high) if high else square
        return (Pieces(1, sides),)


class Enlarged(NamedTuple):
    """Enlarged or reduced to as many whole squares as `tokens` allow (transformers models/gemma4/image_processing_gemma4.py,
    get_aspect_ratio_preserving_size).

    >>> Enlarged(280).pieces(1080, 1920, (48, 48))
    (Pieces(number=1, sides=(576, 1056), tokens=None),)
    """

    tokens: int

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        by = sqrt(self.tokens * square[0] * square[1] / (height * width))
        high, wide = floor(height * by / square[0]), floor(width * by / square[1])
        high, wide = high or 1, wide or 1
        if high * wide > self.tokens:  # a strip one square high or wide
            high, wide = min(high, self.tokens), min(wide, self.tokens)
        return (Pieces(1, (high * square[0], wide * square[1])),)


def rounded(side: float, step: int, how: Callable[[float], int]) -> int:
    """A whole number of steps, one at least."""
    return max(step, how(side / step) * step)
