"""Images in vLLM's profile: as many of the largest as an encoder's budget takes, before the text's own pass.

vllm/v1/worker/gpu_model_runner.py, profile_run; multimodal/encoder_budget.py; v1/core/encoder_cache_manager.py,
compute_mm_encoder_budget. Inputs and embeddings stay until the pass is over. Videos are not counted: of the 999 that a prompt
may have by default each is one pair of frames, no larger than the largest image (model_executor/models/qwen2_vl.py,
get_num_frames_with_most_features; qwen3_vl.py, get_max_video_tokens: 12,288 tokens beside 16,384).
"""

from math import prod
from typing import TYPE_CHECKING

from memcalc.blocks.architecture import Architecture, Part
from memcalc.blocks.stored import VISION
from memcalc.caches import cached
from memcalc.estimates.lines import Line, line
from memcalc.formulas import serving as formulas
from memcalc.frozen import NamedTuple

if TYPE_CHECKING:
    from memcalc.blocks.images import ImageRule, Seen

SIDE = 20_000  # pixels: no rule takes more
SHAPES = (1, 2, 2.5, 3, 4, 6, 12)  # widths beside that height: tiles are most where the shape is theirs


class Encoded(NamedTuple):
    """What one profile reads."""

    images: int
    seen: "Seen"  # of each
    values: int  # of a patch, as the tower takes it
    hidden: int  # of the tower
    feed_forward: int  # on a rank
    gated: bool


@cached(512)
def encoded(architecture: Architecture, tokens: int, tp: int, limit: int | None, sequences: int) -> Encoded | None:
    """Of a pass of so many tokens; `limit`: images that a prompt may have. None without a tower whose rule is known."""
    tower = next((part for part in architecture.parts if part.name == VISION), None)
    if tower is None or tower.images is None or limit == 0 or not tower.stacks:
        return None
    seen = largest(tower.images)
    images = max(1, max(tokens, seen.tokens) // max(1, seen.tokens))
    images = min(images, sequences * limit) if limit else images
    blocks = [block for stack in tower.stacks for layer in stack.layers for _, block in layer.blocks]
    wide = max(blocks, key=lambda block: block.traits.feed_forward)
    hidden = next((w.shape[0] for s in tower.stacks for layer in s.layers for w in layer.weights if len(w.shape) == 1), 0)
    return Encoded(images, seen, _values(tower, hidden), hidden, -(-wide.traits.feed_forward // tp), wide.traits.gated)


def largest(rule: "ImageRule") -> "Seen":
    """The image of which the language model reads most: where its pixels are bounded, all of them (vllm/model_executor/models/
    qwen2_vl.py, get_image_size_with_most_features).

    >>> from memcalc.blocks.images import ImageRule
    >>> from memcalc.blocks.image_sizes import Bounded
    >>> largest(ImageRule((14, 14), Bounded(3136, 12845056), 2)).tokens
    16384
    """
    from memcalc.blocks.image_sizes import Bounded

    if isinstance(rule.sizing, Bounded):
        return rule.of_tokens(rule.sizing.most // (rule.patch[0] * rule.patch[1] * rule.merge**2))
    return max((rule.seen(SIDE, int(SIDE * wide)) for wide in SHAPES), key=lambda seen: seen.tokens)


def _values(tower: Part, hidden: int) -> int:
    """Pixels of a patch in all colours (and frames): the inputs of the matrix that embeds it."""
    assert tower.images
    square = tower.images.patch[0] * tower.images.patch[1]
    inputs = [prod(w.shape) // hidden for _, block in tower.entry for w in block.weights() if hidden and len(w.shape) > 1]
    return next((size for size in inputs if size and size % square == 0), 3 * square)


def image_lines(found: Encoded, hidden: int, size: int) -> tuple[Line, Line, Line]:
    """The inputs, what the language model reads of them, and the tower's widest moment."""
    patches = found.images * found.seen.patches
    return (
        line("activations", "images' pixels", "forward", formulas.pixels_bytes, patches=patches, values=found.values,
             bytes_per_value=size),
        line("activations", "images' embeddings", "forward", formulas.embeddings_bytes,
             tokens=found.images * found.seen.tokens, hidden=hidden, bytes_per_value=size),
        line("activations", "widest layer of the tower", "forward", formulas.tower_bytes, patches=patches,
             feed_forward=found.feed_forward, hidden=found.hidden, kept=3 if found.gated else 2, bytes_per_value=size),
    )  # fmt: skip
