"""Encoders of text that see images too: ModernVBERT, UltraVBERT."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from memcalc.blocks.architecture import Architecture, Named, Part
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.frozen import NamedTuple
from memcalc.readers.hf.common import architecture
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.families import family
from memcalc.readers.hf.multimodal.vision import SIGLIP, siglip


class Seeing(NamedTuple):
    """What tells the families apart."""

    text: str  # the model type of the encoder
    normed: bool = False  # the projected patches are
    vision: Mapping[str, Any] = SIGLIP


def seeing_encoder(c: Config, seeing: Seeing) -> Architecture:
    """Squares of patches are projected to the encoder's width; its own heads stand on it, tied as the outer config says."""
    reader = family(seeing.text)
    text = c.sub("text_config", {})
    if (kind := text.text("model_type", seeing.text)) != seeing.text:
        raise text.error("model_type", f"must be {seeing.text}, not {kind!r:.60}")
    outer = {key: c.raw(key) for key in ("architectures", "id2label", "num_labels", "classifier_dropout")}
    text = text.reread(reader.defaults, tie_word_embeddings=c.flag("tie_word_embeddings"), **outer)
    read = reader.read(text)
    vision, width, merged = (
        c.sub("vision_config", seeing.vision),
        text.integer("hidden_size"),
        c.integer("pixel_shuffle_factor"),
    )
    merged **= 2
    into: Named = (("linear", Projection(vision.integer("hidden_size") * merged, width, merge=merged)),)
    if seeing.normed:
        into += (("norm", Norm(width)),)
    (encoder,) = read.parts
    model = architecture(c, (encoder, siglip(vision), Part("projector", entry=into)), tied=read.tied, text=text)
    return replace(model, warnings=read.warnings)


_OUTER: Mapping[str, Any] = {"pixel_shuffle_factor": 4, "tie_word_embeddings": False, "classifier_dropout": 0.0}
_ULTRA = Seeing("ultrabert", normed=True, vision={**SIGLIP, "vision_use_head": False})

FAMILIES = {
    "modernvbert": Family(partial(seeing_encoder, seeing=Seeing("modernbert")), _OUTER),
    "ultravbert": Family(partial(seeing_encoder, seeing=_ULTRA), _OUTER),
}
