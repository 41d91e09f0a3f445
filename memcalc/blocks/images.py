"""How many patches a vision tower sees of an image, and how many tokens the language model reads of it."""

from math import ceil

from memcalc.blocks.image_sizes import LONGEST_SHAPE, Bounded, OneSize, Sides, Sizing
from memcalc.blocks.image_tiles import TILED
from memcalc.frozen import NamedTuple


class Seen(NamedTuple):
    """One image."""

    patches: int  # tokens of the tower
    tokens: int  # of the language model
    pairs: int = 0  # of the tower's tokens that attend to each other; 0: all of them do

    @property
    def attended(self) -> int:
        return self.pairs or self.patches**2


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
        return isinstance(self.sizing, TILED)

    def refused(self, height: int, width: int) -> str:
        """Why the processor takes no image of this shape; "" where it does."""
        if isinstance(self.sizing, Bounded) and max(height, width) > LONGEST_SHAPE * min(height, width):
            return f"this model's processor refuses images of which a side is more than {LONGEST_SHAPE} times the other"
        return ""

    def seen(self, height: int = 1, width: int = 1) -> Seen:
        """An image of so many pixels.

        >>> from memcalc.blocks.image_sizes import Bounded
        >>> ImageRule((14, 14), Bounded(3136, 12845056), 2).seen(1080, 1920)
        Seen(patches=10764, tokens=2691, pairs=0)
        """
        square = self.patch[0] * self.merge, self.patch[1] * self.merge
        patches = tokens = pairs = 0
        for number, sides, read in self.sizing.pieces(height, width, square):
            rows, columns = sides[0] // self.patch[0], sides[1] // self.patch[1]
            own = self.padded or rows * columns + self.extra
            patches, pairs = patches + number * own, pairs + number * own**2
            whole = self.tokens or rows // self.merge * (columns // self.merge + self.row_ends)
            tokens += number * whole if read is None else read
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
