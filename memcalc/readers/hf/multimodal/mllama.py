"""Llama 3.2 Vision: a two-stage tile encoder, read through cross-attention layers inside a Llama decoder."""

from collections.abc import Mapping
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.ledger import Weight
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import attention, decoder_part, even_head_dim, head_norms, mlp, pre_norm, rms, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal.nested import Language, joined
from memcalc.readers.hf.multimodal.vision import full_attention, patches, plain_mlp, table
from memcalc.readers.hf.tasks import task

EXTRA_TOKENS = 8  # rows of the embedding beyond the vocabulary, for images; so the head is never tied


def mllama(c: Config) -> Architecture:
    text, vision = c.sub("text_config", _TEXT), c.sub("vision_config", _VISION)
    language = Language(_language(text), text, tied=False)
    if task(c) == "CausalLM":  # the language model alone
        return joined(c, language, ())
    projector = Projection(vision.integer("vision_output_dim"), language.hidden, bias=True)
    return joined(c, language, (_tower(vision), Part("projector", entry=(("linear", projector),))))


def _language(c: Config) -> Part:
    """Cross-attention layers stand among the others, with learned gates and normalised heads; no causal attention."""
    norm, crossing = rms(c), set(c.entries("cross_attention_layers", of=int))
    own: Attention = attention(c, head_dim=even_head_dim(c), dropout=c.number("dropout"))

    def layer(crosses: bool) -> Layer:
        if not crosses:
            return pre_norm(norm, own, mlp(c))
        cross = revised(head_norms(c, own), cross=True, images=True, causal=False, rotary=False, rotary_dim=None)
        gates = ("gates", Plain((Weight("attention", "other", (1,)), Weight("mlp", "other", (1,)))))
        return Layer((*pre_norm(norm, cross, mlp(c), "cross_attention").blocks, gates))

    layers = windowed([i in crossing for i in range(c.layers())], layer)
    hidden, vocabulary = c.integer("hidden_size"), c.integer("vocab_size")
    return decoder_part(c, layers, norm, tied=False, embedding=Embedding(vocabulary + EXTRA_TOKENS, hidden))


def _tower(c: Config) -> Part:
    hidden, tiles = c.integer("hidden_size"), c.integer("max_num_tiles")
    ratios = len(c.entries("supported_aspect_ratios")) + 1
    count, convolution = patches(c)
    norm = Norm(hidden, "layer", epsilon=c.number("norm_eps"))
    mixer = full_attention(c, heads="attention_heads", bias=False)
    feed_forward = plain_mlp(c)
    plain = pre_norm(norm, mixer, feed_forward)
    gates = ("gates", Plain((Weight("attention", "other", (1,)), Weight("mlp", "other", (1,)))))
    gated = Layer((*plain.blocks, gates))
    # the class token of each tile is a position too
    positions = (
        Weight("gate", "other", (1,)),
        Weight("weight", "other", (count + 1, hidden)),
        Weight("tiles", "other", (ratios, tiles * (count + 1) * hidden)),
    )
    entry: Named = (
        ("patches", convolution),
        ("tiles_before", _tile_embedding(ratios, tiles * hidden)),
        ("class", table("other", (hidden,))),
        ("positions", Plain(positions)),
        ("input_norm", norm),
    )
    return Part(
        "vision",
        entry=entry,
        stacks=(
            Stack.uniform(plain, c.layers()),
            Stack.uniform(gated, c.layers("num_global_layers"), "global_layers"),
        ),
        exit=(("final_norm", norm), ("tiles_after", _tile_embedding(ratios, tiles * hidden))),
    )


def _tile_embedding(ratios: int, width: int) -> Plain:
    """What distinguishes the tiles of an image, for each aspect ratio."""
    return Plain((Weight("gate", "other", (1,)), Weight("weight", "other", (ratios, width))))


_TEXT: Mapping[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 131072,
    "dropout": 0.0,
    "cross_attention_layers": (3, 8, 13, 18, 23, 28, 33, 38),
}
_VISION: Mapping[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_global_layers": 8,
    "attention_heads": 16,
    "num_channels": 3,
    "vision_output_dim": 7680,
    "image_size": 448,
    "patch_size": 14,
    "hidden_act": "gelu",
    "norm_eps": 1e-5,
    "max_num_tiles": 4,
    "supported_aspect_ratios": ((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1)),
}

FAMILIES = {"mllama": Family(mllama, {})}
