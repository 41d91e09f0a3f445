"""Fuyu: Persimmon reads image patches through one linear layer, without a tower."""

from memcalc.blocks.architecture import Architecture, Part
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal.nested import joined, read_language, tied_outside


def fuyu(c: Config) -> Architecture:
    """Published files have the language model's keys at the top, those that are saved anew in text_config."""
    nested = None if c.has("text_config") else c.reread({})
    language = read_language(c, "persimmon", _PERSIMMON, tied=tied_outside(c, False), nested=nested)
    pixels = c.integer("patch_size") ** 2 * c.integer("num_channels")
    patches = Part("projector", entry=(("patches", Projection(pixels, language.hidden, bias=True)),))
    return joined(c, language, (patches,))


_PERSIMMON = {
    "vocab_size": 262144,
    "hidden_size": 4096,
    "intermediate_size": 16384,
    "num_hidden_layers": 36,
    "num_attention_heads": 64,
    "max_position_embeddings": 16384,
}

FAMILIES = {"fuyu": Family(fuyu, {"patch_size": 30, "num_channels": 3})}
