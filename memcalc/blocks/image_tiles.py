"""What becomes of an image's height and width where it is cut into tiles of one size."""

from math import ceil, sqrt

from memcalc.blocks.image_sizes import Bounded, Pieces, Sides
from memcalc.frozen import NamedTuple


class TilesOfLongest(NamedTuple):
    """The longest side is made `longest` pixels, the image is cut into tiles, and the whole in a tile's size follows
    (transformers models/idefics3/image_processing_idefics3.py, resize, resize_for_vision_encoder, split_images).

    >>> TilesOfLongest(384, 1536).pieces(1080, 1920, (28, 28))
    (Pieces(number=13, sides=(384, 384), tokens=None),)
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
    (Pieces(number=9, sides=(448, 448), tokens=None),)
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


class LeastLost(NamedTuple):
    """Cut into the grid of at most `most` tiles that enlarges least, or else reduces least, and the whole in a tile's size when
    it has several (transformers models/llama4/image_processing_llama4.py, find_supported_resolutions and get_best_fit).

    >>> LeastLost(336, 16).pieces(1080, 1920, (28, 28))
    (Pieces(number=16, sides=(336, 336), tokens=None),)
    """

    tile: int
    most: int

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        del square
        tiles = self._best(height, width)
        return (Pieces(tiles + 1 if tiles > 1 else 1, (self.tile, self.tile)),)

    def _best(self, height: int, width: int) -> int:
        sides = range(1, self.most + 1)
        scales = [
            (min(high * self.tile / height, wide * self.tile / width), high * wide)
            for high in sides
            for wide in sides
            if high * wide <= self.most
        ]
        enlarged = [scale for scale, _ in scales if scale >= 1]
        best = min(enlarged) if enlarged else max(scale for scale, _ in scales)
        return min(tiles for scale, tiles in scales if scale == best)


class ChosenCanvas(NamedTuple):
    """The whole in a tile's size, and tiles of the canvas that holds most of the image and wastes least; of these the language
    model reads what is no padding, a token more after each row (transformers image_processing_utils.select_best_resolution,
    models/llava_next/processing_llava_next.py and models/llava_onevision/processing_llava_onevision.py,
    _get_unpadded_features).

    >>> ChosenCanvas(336, ((336, 672), (672, 336), (672, 672))).pieces(1080, 1920, (14, 14))
    (Pieces(number=1, sides=(336, 336), tokens=None), Pieces(number=4, sides=(336, 336), tokens=1372))
    """

    tile: int
    canvases: tuple[Sides, ...]
    most: int = 0  # tiles whose tokens are read: of more they are averaged to so many; 0: all of them

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        high, wide = self._best(height, width)
        across, along = wide // self.tile, high // self.tile
        rows, columns = self._read(height, width, along * (self.tile // square[0]), across * (self.tile // square[1]))
        side = self.tile // square[0]
        if self.most and (ratio := sqrt(rows * columns / (self.most * side**2))) > 1.1:
            rows, columns = int(rows // ratio), int(columns // ratio)
        whole = (self.tile, self.tile)
        return (Pieces(1, whole), Pieces(along * across, whole, rows * (columns + 1)))

    def _best(self, height: int, width: int) -> Sides:
        def worth(canvas: Sides) -> tuple[int, int]:
            scale = min(canvas[1] / width, canvas[0] / height)
            held = min(int(width * scale) * int(height * scale), height * width)
            return held, held - canvas[0] * canvas[1]

        return max(self.canvases, key=worth)

    @staticmethod
    def _read(height: int, width: int, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of tokens without those of padding."""
        if width / height > columns / rows:
            return rows - (rows - int(round(height * (columns / width), 7))) // 2 * 2, columns
        return rows, columns - (columns - int(round(width * (rows / height), 7))) // 2 * 2


class TilesWhenLarge(NamedTuple):
    """Whole where it is small; else the grid of tiles whose shape is nearest, and the whole as a small one would be
    (transformers models/lfm2_vl/image_processing_lfm2_vl.py, resize_and_split with max_pixels_tolerance 2).

    >>> TilesWhenLarge(NearestGrid(512, 2, 10), Bounded(65536, 262144)).pieces(1080, 1920, (32, 32))
    (Pieces(number=8, sides=(512, 512), tokens=None), Pieces(number=1, sides=(384, 672), tokens=None))
    """

    grid: NearestGrid
    small: Bounded

    def pieces(self, height: int, width: int, square: Sides) -> tuple[Pieces, ...]:
        high, wide = max(square[0], round(height / square[0]) * square[0]), max(square[1], round(width / square[1]) * square[1])
        whole = self.small.pieces(height, width, square)
        if high * wide <= 2 * self.small.most:
            return whole
        (cut,) = self.grid.pieces(height, width, square)
        return (cut._replace(number=cut.number - 1), *whole)


TILED = (TilesOfLongest, NearestGrid, LeastLost, ChosenCanvas, TilesWhenLarge)
