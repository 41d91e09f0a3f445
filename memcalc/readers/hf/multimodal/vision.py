"""Vision towers that several families share: SigLIP, CLIP and Pixtral, and the pieces that other towers are built from.

A tower reads its own nested config and gives one Part. Its defaults are the whole configuration class, because a saved
nested config leaves out what equals them.
"""

from collections.abc import Callable
from typing import Any

from memcalc.blocks.architecture import Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import Attention, attention_of
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.image_sizes import Capped, OneSize
from memcalc.blocks.images import ImageRule
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.readers.hf.common import layer_norm, pre_norm
from memcalc.readers.hf.config import MAX_SIZE, Config

Tower = Callable[[Config], Part]


def siglip(c: Config) -> Part:
    hidden, norm = c.integer("hidden_size"), layer_norm(c)
    count, convolution = patches(c, bias=True)
    layer = encoder_layer(c, norm)
    return Part(
        "vision",
        images=ImageRule(pair(c, "patch_size"), OneSize(pair(c, "image_size"))),
        entry=(("patches", convolution), ("positions", table("position", (count, hidden)))),
        stacks=(Stack.uniform(layer, c.layers()),),
        exit=(("final_norm", norm), *(siglip_pooling(c, norm) if c.flag("vision_use_head") else ())),
    )


def siglip_pooling(c: Config, norm: Norm) -> Named:
    """One vector of an image: a learned query that attends to all patches."""
    return (
        ("head_probe", Plain((Weight("probe", "other", (1, 1, c.integer("hidden_size"))),))),
        ("head_attention", full_attention(c, fused=True, cross=True)),
        ("head_norm", norm),
        ("head_mlp", plain_mlp(c)),
    )


def clip(c: Config) -> Part:
    hidden, norm = c.integer("hidden_size"), layer_norm(c)
    count, convolution = patches(c)
    return Part(
        "vision",
        images=ImageRule(pair(c, "patch_size"), OneSize(pair(c, "image_size")), extra=1),
        entry=(
            ("patches", convolution),
            ("class", table("other", (hidden,))),
            ("positions", table("position", (count + 1, hidden))),
            ("input_norm", norm),
        ),
        stacks=(Stack.uniform(encoder_layer(c, norm), c.layers()),),
        exit=(("final_norm", norm),),
    )


def pixtral(c: Config) -> Part:
    """Rotary positions, RMSNorm, a gated MLP and no biases; any image size."""
    hidden = c.integer("hidden_size")
    norm = Norm(hidden, epsilon=1e-5)
    _, convolution = patches(c)
    feed_forward = MLP(hidden, c.integer("intermediate_size"), activation=c.text("hidden_act"))
    layer = pre_norm(norm, full_attention(c, bias=False, rotary=True), feed_forward)
    return Part(
        "vision",
        images=ImageRule(pair(c, "patch_size"), Capped(max(pair(c, "image_size"))), row_ends=1, joined=True),
        entry=(("patches", convolution), ("input_norm", norm)),
        stacks=(Stack.uniform(layer, c.layers()),),
    )


def pair(c: Config, key: str) -> tuple[int, int]:
    """Height and width of an image or a patch, given as one number or as two."""
    value = c.raw(key)
    if not isinstance(value, (list, tuple)):
        size = c.integer(key)
        return size, size
    if len(value) != 2 or not all(type(side) is int and 0 < side <= MAX_SIZE for side in value):
        raise c.error(key, f"must be one size, or height and width, not {value!r:.60}")
    return value[0], value[1]


def patches(c: Config, *, bias: bool = False, flattened: bool = False) -> tuple[int, Convolution]:
    """How many patches an image has, and the convolution that embeds them."""
    image, patch = pair(c, "image_size"), pair(c, "patch_size")
    if image[0] < patch[0] or image[1] < patch[1]:
        raise c.error("image_size", f"({image[0]} × {image[1]}) is smaller than one patch ({patch[0]} × {patch[1]})")
    count = (image[0] // patch[0]) * (image[1] // patch[1])
    convolution = Convolution(c.integer("num_channels"), c.integer("hidden_size"), patch, bias=bias, flattened=flattened)
    return count, convolution


def video_patches(c: Config, hidden: int, *, bias: bool) -> Convolution:
    """Cubes of `temporal_patch_size` frames; an image counts as so many equal ones."""
    patch = c.integer("patch_size")
    return Convolution(c.integer("in_channels"), hidden, (c.integer("temporal_patch_size"), patch, patch), bias=bias)


def table(role: str, shape: tuple[int, ...]) -> Plain:
    """A learned table: positions, a class token."""
    return Plain((Weight("weight", role, shape),))


def full_attention(
    c: Config,
    *,
    size: str = "hidden_size",
    heads: str = "num_attention_heads",
    kv_heads: str = "",
    bias: bool = True,
    **traits: Any,
) -> Attention:
    """Attention of every patch to every other; heads × head size is the hidden size.

    `kv_heads`: the key of the number of key-value heads, where several heads share them.
    """
    hidden, count = c.integer(size), c.integer(heads)
    if hidden % count:
        raise c.error(size, f"({hidden}) is not a multiple of {c.spelling(heads)} ({count})")
    shared = c.integer(kv_heads) if kv_heads else count
    if count % shared:
        raise c.error(kv_heads, f"({shared}) does not divide {c.spelling(heads)} ({count})")
    traits.setdefault("dropout", c.number("attention_dropout", 0.0))
    traits.setdefault("causal", False)
    traits.setdefault("rotary", False)
    traits.setdefault("query_bias", bias)
    return attention_of(hidden, count, shared, hidden // count, output_bias=bias, **traits)


def encoder_layer(c: Config, norm: Norm, *, residual_dropout: float = 0.0, **traits: Any) -> Layer:
    """LayerNorm, attention with biases, LayerNorm, a plain MLP with biases (ViT and its descendants)."""
    mixer = full_attention(c, output_dropout=residual_dropout, **traits)
    return pre_norm(norm, mixer, plain_mlp(c, residual_dropout))


def plain_mlp(c: Config, dropout: float = 0.0) -> MLP:
    hidden, intermediate = c.integer("hidden_size"), c.integer("intermediate_size")
    return MLP(hidden, intermediate, gated=False, bias=True, activation=c.text("hidden_act"), dropout=dropout)


SIGLIP = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "vision_use_head": True,
}
CLIP = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
}
PIXTRAL = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_channels": 3,
    "image_size": 1024,
    "patch_size": 16,
    "hidden_act": "gelu",
}
