"""How many patches a vision tower sees of an image, and how many tokens the language model reads of it."""

from collections.abc import Callable
from math import ceil, floor, sqrt
from typing import Protocol

from memcalc.frozen import NamedTuple

Sides = tuple[int, int]  # height and width, in pixels


class Pieces(NamedTuple):
    """So many images of one size, which the tower sees one by one."""

    number: int
    sides: Sides


class Seen(NamedTuple):
    """One image."""

    patches: int  # tokens of the tower
    tokens: int  # of the language model
    pairs: int = 0  # of the tower's tokens that attend to each other; 0: all of them do

    @property
    def attended(self) -> int:
        return self.pairs or self.patches**2


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


class Bounded(NamedTuple):
    """An image keeps its shape, rounded to whole squares, and between `least` and `most` pixels (transformers
    models/qwen2_vl/image_processing_qwen2_vl.py and models/glm4v/image_processing_glm4v.py, smart_resize).

    >>> Bounded(3136, 12845056).pieces(1080, 1920, (28, 28))
    (Pieces(number=1, sides=(1092, 1932)),)
    """

    least: int
    most: int

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        sides = round(height / square[0]) * square[0], round(width / square[1]) * square[1]
        if sides[0] * sides[1] > self.most:
            by = sqrt(height * width / self.most)
            sides = _rounded(height / by, square[0], floor), _rounded(width / by, square[1], floor)
        elif sides[0] * sides[1] < self.least:
            by = sqrt(self.least / (height * width))
            sides = _rounded(height * by, square[0], ceil), _rounded(width * by, square[1], ceil)
        return (Pieces(1, sides),)


class Capped(NamedTuple):
    """The longest side is at most so many pixels; what is left over of a square is filled (transformers
    models/pixtral/image_processing_pixtral.py, get_resize_output_image_size).

    >>> Capped(1540).pieces(1080, 1920, (28, 28))
    (Pieces(number=1, sides=(868, 1540)),)
    """

    longest: int

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        if (ratio := max(height, width) / self.longest) > 1:
            height, width = floor(height / ratio), floor(width / ratio)
        return (Pieces(1, (_rounded(height, square[0], ceil), _rounded(width, square[1], ceil))),)


class Budgeted(NamedTuple):
    """At most `patches` patches of `patch` pixels a side in all and `a_side` on a side, never enlarged; what is left over of
    a square is filled (transformers models/kimi_k25/image_processing_kimi_k25.py, navit_resize).

    >>> Budgeted(14, 16384, 512).pieces(1080, 1920, (28, 28))
    (Pieces(number=1, sides=(1092, 1932)),)
    """

    patch: int
    patches: int
    a_side: int

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        longest = self.a_side * self.patch
        cut = max(1, height // self.patch) * max(1, width // self.patch)
        scale = min(1.0, sqrt(self.patches / cut), longest / height, longest / width)
        sides = (min(max(1, int(side * scale)), longest) for side in (height, width))
        high, wide = (_rounded(side, step, ceil) for side, step in zip(sides, square, strict=True))
        return (Pieces(1, (high, wide)),)


class Enlarged(NamedTuple):
    """Enlarged or reduced to as many whole squares as `tokens` allow (transformers models/gemma4/image_processing_gemma4.py,
    get_aspect_ratio_preserving_size).

    >>> Enlarged(280).pieces(1080, 1920, (48, 48))
    (Pieces(number=1, sides=(576, 1056)),)
    """

    tokens: int

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        by = sqrt(self.tokens * square[0] * square[1] / (height * width))
        high, wide = floor(height * by / square[0]), floor(width * by / square[1])
        high, wide = high or 1, wide or 1
        if high * wide > self.tokens:  # a strip one square high or wide
            high, wide = min(high, self.tokens), min(wide, self.tokens)
        return (Pieces(1, (high * square[0], wide * square[1])),)


class TilesOfLongest(NamedTuple):
    """The longest side is made `longest` pixels, the image is cut into tiles, and the whole in a tile's size follows
    (transformers models/idefics3/image_processing_idefics3.py, resize, resize_for_vision_encoder, split_images).

    >>> TilesOfLongest(384, 1536).pieces(1080, 1920, (28, 28))
    (Pieces(number=13, sides=(384, 384)),)
    """

    tile: int
    longest: int

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        del square
        long, short = max(height, width), min(height, width)
        columns = ceil(self.longest / self.tile)
        rows = ceil(max(1, int(columns * self.tile * short / long)) / self.tile)
        tiles = rows * columns
        return (Pieces(tiles + 1 if tiles > 1 else 1, (self.tile, self.tile)),)


class NearestGrid(NamedTuple):
    """Cut into the grid of `least` to `most` tiles whose shape is nearest, and the whole in a tile's size when it has several
    (transformers models/got_ocr2/image_processing_got_ocr2.py, get_optimal_tiled_canvas and crop_image_to_patches).

    >>> NearestGrid(448, 1, 12).pieces(1080, 1920, (28, 28))
    (Pieces(number=9, sides=(448, 448)),)
    """

    tile: int
    least: int
    most: int

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        del square
        columns, rows = self._nearest(height, width)
        tiles = rows * columns
        return (Pieces(tiles + 1 if tiles > 1 else 1, (self.tile, self.tile)),)

    def _nearest(self, height: int, width: int) -> tuple[int, int]:
        sides = range(1, self.most + 1)
        grids = [(wide, high) for wide in sides for high in sides if self.least <= wide * high <= self.most]
        best, nearest = (1, 1), float("inf")
        for wide, high in sorted(grids, key=lambda grid: grid[0] * grid[1]):
            off = abs(width / height - wide / high)
            large = height * width > 0.5 * self.tile**2 * wide * high
            if off < nearest or (off == nearest and large):
                best, nearest = (wide, high), off
        return best


class ImageRule(NamedTuple):
    """A family's rule, as its image processor has it. Sizes are height and width in pixels."""

    patch: Sides
    sizing: Sizing
    merge: int = 1  # patches on a side of a square that becomes one token
    extra: int = 0  # tokens of the tower beside the patches of an image (a class token)
    tokens: int = 0  # that the language model reads of each image, where they are pooled to so many
    # layers at the tower's end whose result nobody reads (vision_feature_layer); None: what is read is the tower's own result,
    # behind the norm that may follow its layers
    idle: int | None = None
    row_ends: int = 0  # tokens of the text after each row of an image's tokens
    padded: int = 0  # patches that the tower sees of every image, the empty ones included
    joined: bool = False  # all images of a micro-batch are one sequence, with a mask between them

    @property
    def fixed(self) -> bool:
        return isinstance(self.sizing, OneSize)

    @property
    def tiled(self) -> bool:
        return isinstance(self.sizing, (TilesOfLongest, NearestGrid))

    def seen(self, height: int = 1, width: int = 1) -> Seen:
        """An image of so many pixels.

        >>> ImageRule((14, 14), Bounded(3136, 12845056), 2).seen(1080, 1920)
        Seen(patches=10764, tokens=2691, pairs=0)
        """
        square = self.patch[0] * self.merge, self.patch[1] * self.merge
        patches = tokens = pairs = 0
        for number, sides in self.sizing.pieces(height, width, square):
            rows, columns = sides[0] // self.patch[0], sides[1] // self.patch[1]
            own = self.padded or rows * columns + self.extra
            patches, pairs = patches + number * own, pairs + number * own**2
            tokens += number * (self.tokens or rows // self.merge * (columns // self.merge + self.row_ends))
        return Seen(patches, tokens, pairs if pairs != patches**2 else 0)

    def of_tokens(self, tokens: int) -> Seen:
        """An image of which the language model reads so many tokens: of whole tiles where it is cut into these, else square."""
        pieces = self.sizing.pieces(1, 1, (self.patch[0] * self.merge, self.patch[1] * self.merge))
        if self.fixed:
            return self.seen()._replace(tokens=tokens)
        if self.tiled:
            tile = self._replace(sizing=OneSize(pieces[0].sides)).seen()
            count = ceil(tokens / tile.tokens)
            return Seen(count * tile.patches, tokens, count * tile.attended)
        return Seen(self.padded or tokens * self.merge**2 + self.extra, tokens)


def _rounded(side: float, step: int, how: Callable[[float], int]) -> int:
    return max(step, how(side / step) * step)
