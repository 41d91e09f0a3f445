"""Images in a training step: which tower reads them, and how many tokens each is."""

from typing import TYPE_CHECKING

from memcalc.blocks.architecture import Architecture, Part
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

if TYPE_CHECKING:  # models of text import neither
    from memcalc.blocks.images import ImageRule, Seen


def seen_by(architecture: Architecture, run: Training) -> "Seen | None":
    """What the tower and the language model see of one image. Raises SpecError where the family's rule is not known."""
    if not run.images:
        return None
    part = vision_of(architecture)
    rule = part.images if part else None
    if part is None:
        raise SpecError("this model reads no images: it has no vision tower", "images")
    if rule is None:
        raise SpecError(f"how {architecture.model_type} turns an image into tokens is not modelled", "images")
    if run.image_tokens:
        return _of_tokens(rule, run.image_tokens)
    if not rule.fixed and not run.image_size:
        raise SpecError("this model reads images of any size; add image_size WIDTHxHEIGHT or image_tokens", "images")
    width, height = run.image_sides
    if why := rule.refused(height, width):
        raise SpecError(why, "image_size")
    return rule.seen(height, width)


def _of_tokens(rule: "ImageRule", tokens: int) -> "Seen":
    if rule.fixed and tokens != rule.seen().tokens:
        raise SpecError(f"every image is {rule.seen().tokens} tokens of this model, whatever its size", "image_tokens")
    return rule.of_tokens(tokens)


def vision_of(architecture: Architecture) -> Part | None:
    """The tower that reads images beside a language model."""
    parts = {part.name: part for part in architecture.parts}
    return parts.get("vision") if "language" in parts else None


def check_images(architecture: Architecture, run: Training) -> None:
    """Raises SpecError where images do not go with the model or into its sequences."""
    seen = seen_by(architecture, run)
    if seen is None:
        return
    assert run.images
    if (tokens := run.images * seen.tokens) > run.row_length:
        raise SpecError(f"{run.images} images are {tokens:,} of {run.row_length:,} tokens of a sequence", "images", "seq_len")
