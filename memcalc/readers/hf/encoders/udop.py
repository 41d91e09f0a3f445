"""UDOP: a T5 that reads words, where they stand on a page, and the page's image."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.ledger import Weight
from memcalc.blocks.plain import Plain
from memcalc.readers.hf.config import MAX_SIZE, Config, Family
from memcalc.readers.hf.encoders.layers import tables
from memcalc.readers.hf.encoders.t5_line import T5, t5
from memcalc.readers.hf.multimodal.vision import patches
from memcalc.readers.hf.tasks import task


def udop(c: Config) -> Architecture:
    """T5 with tables of two sides of a box, patches in both halves and one relative bias a direction (modeling_udop.py).

    The encoder's patches are those of the model, the decoder's its own. The first bias of each half is the stack's own one;
    the bare model stores it twice.
    """
    kind, rows = task(c), c.integer("max_2d_position_embeddings")
    model = t5(c.reread(tie_word_embeddings=True))
    _, convolution = patches(c.reread(hidden_size=c.integer("d_model")), bias=True)
    sides = ("boxes", tables(*((side, rows, c.integer("hidden_size")) for side in ("x", "y"))))
    encoder, *rest = model.parts
    encoder = replace(encoder, entry=(*encoder.entry, ("patches", convolution), sides, _biases(c, whole=kind == "Model")))
    rest = [replace(part, entry=(*part.entry, ("patches", convolution), _biases(c, whole=kind == "Model"))) for part in rest]
    return replace(model, parts=(encoder, *rest))


def _biases(c: Config, *, whole: bool) -> tuple[str, Plain]:
    """Of distances along the text, across and down the page."""
    found = c.entries("relative_bias_args", of=Mapping)
    biases = tuple(
        Weight(f"bias {i}", "attention", (_buckets(c, entry), c.integer("num_attention_heads")))
        for i, entry in enumerate(found)
    )
    return "page_bias", Plain(biases if whole else biases[1:])


def _buckets(c: Config, entry: Mapping[str, Any]) -> int:
    """Of one bias; those of the config are the stack's own."""
    count = entry.get("relative_attention_num_buckets", 32)
    if type(count) is not int or not 0 < count <= MAX_SIZE:
        raise c.error(
            "relative_bias_args", f"relative_attention_num_buckets must be a positive whole number, not {count!r:.40}"
        )
    return count + (2 if entry.get("prefix_bucket") and not entry.get("expand") else 0)


_BIASES = [{"type": kind} for kind in ("1d", "horizontal", "vertical")]

FAMILIES = {
    "udop": Family(
        udop,
        {
            **T5, "vocab_size": 33201, "d_model": 1024, "d_ff": 4096, "num_layers": 24, "num_heads": 16,
            "max_2d_position_embeddings": 1024, "image_size": 224, "patch_size": 16, "num_channels": 3,
            "relative_bias_args": _BIASES,
        },
    )
}  # fmt: skip
