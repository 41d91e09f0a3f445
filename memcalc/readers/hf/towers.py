"""Which vision tower a nested config names, and the towers beyond those of `vision`."""

from collections.abc import Mapping
from typing import Any

from memcalc.blocks.architecture import Layer, Named, Part, Stack
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.values import revised
from memcalc.errors import Unsupported
from memcalc.readers.hf.common import layer_norm
from memcalc.readers.hf.config import Config
from memcalc.readers.hf.vision import (
    CLIP,
    PIXTRAL,
    SIGLIP,
    Tower,
    clip,
    encoder_layer,
    full_attention,
    patches,
    pixtral,
    plain_mlp,
    siglip,
    siglip_pooling,
    table,
)

NORMS = {"layer_norm": "layer", "rms_norm": "rms"}


def siglip2(c: Config) -> Part:
    """SigLIP 2 (NaFlex): patches of any image, flattened, and a learned table of `num_patches` positions."""
    hidden, norm, patch = c.integer("hidden_size"), layer_norm(c), c.integer("patch_size")
    embedding = Projection(c.integer("num_channels") * patch * patch, hidden, bias=True, role="other")
    return Part(
        "vision",
        entry=(("patches", embedding), ("positions", table("position", (c.integer("num_patches"), hidden)))),
        stacks=(Stack.uniform(encoder_layer(c, norm), c.layers()),),
        exit=(("final_norm", norm), *(siglip_pooling(c, norm) if c.flag("vision_use_head") else ())),
    )


def internvl(c: Config) -> Part:
    """InternViT: a class token, learned scales of what each block returns; norms of whole queries and keys in the 6B."""
    hidden, kind = c.integer("hidden_size"), c.text("norm_type")
    if kind not in NORMS:
        raise c.error("norm_type", f"must be one of {', '.join(NORMS)}, not {kind!r:.60}")
    attention = full_attention(c, bias=True, query_bias=c.flag("attention_bias"))
    if c.flag("use_qk_norm"):
        attention = revised(attention, query_norm=Norm(hidden), key_norm=Norm(hidden))
    count, convolution = patches(c, bias=True)
    entry: Named = (("patches", convolution), ("class", table("other", (hidden,))))
    if c.flag("use_mask_token"):
        entry += (("mask", table("other", (hidden,))),)
    if c.flag("use_absolute_position_embeddings"):
        entry += (("positions", table("position", (count + 1, hidden))),)
    return Part(
        "vision",
        entry=entry,
        stacks=(Stack.uniform(scaled_layer(Norm(hidden, NORMS[kind]), attention, plain_mlp(c)), c.layers()),),
        exit=() if c.flag("use_mean_pooling") else (("final_norm", Norm(hidden, "layer")),),
    )


def scaled_layer(norm: Norm, attention: Block, feed_forward: Block) -> Layer:
    """x + s₁ · attention(norm(x)), then x + s₂ · mlp(norm(x)), s learned vectors (CaiT's LayerScale)."""
    scale = Plain((Weight("scale", "other", (norm.size,)),))
    return Layer(
        (
            ("input_norm", norm),
            ("attention", attention),
            ("attention_scale", scale),
            ("post_attention_norm", norm),
            ("mlp", feed_forward),
            ("mlp_scale", scale),
        )
    )


SIGLIP2: Mapping[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "num_patches": 256,
    "patch_size": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "vision_use_head": True,
}
INTERNVL: Mapping[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "attention_bias": False,
    "use_qk_norm": False,
    "hidden_act": "gelu",
    "norm_type": "layer_norm",
    "image_size": 448,
    "patch_size": 14,
    "num_channels": 3,
    "use_mask_token": False,
    "use_absolute_position_embeddings": True,
    "use_mean_pooling": True,
}
IDEFICS3: Mapping[str, Any] = {
    **SIGLIP,
    "vision_use_head": False,
    "hidden_size": 1152,
    "num_attention_heads": 16,
    "patch_size": 32,
}
IDEFICS2: Mapping[str, Any] = {**SIGLIP, "vision_use_head": False, "patch_size": 32}

# model_type of a nested vision config → how to read it, for the families that accept any tower
TOWERS: dict[str, tuple[Tower, Mapping[str, Any]]] = {
    "siglip_vision_model": (siglip, SIGLIP),
    "siglip2_vision_model": (siglip2, SIGLIP2),
    "clip_vision_model": (clip, CLIP),
    "pixtral": (pixtral, PIXTRAL),
    "internvl_vision": (internvl, INTERNVL),
    "idefics2_vision": (siglip, IDEFICS2),
    "idefics3_vision": (siglip, IDEFICS3),
    "smolvlm_vision": (siglip, IDEFICS3),
}


def tower(c: Config, key: str, default: str, absent: Mapping[str, Any], *, fixed: bool = False) -> tuple[Part, Config]:
    """The vision part of a config that names its tower; `absent`: the values when the whole object is left out.

    `fixed`: the library builds the default tower whatever the nested config calls itself.
    """
    kind = default if fixed else c.sub(key, {}).text("model_type", default)
    if kind not in TOWERS:
        raise Unsupported(f"{c.place}: the vision tower {kind!r:.60} is not modelled (known: {', '.join(TOWERS)})")
    read, defaults = TOWERS[kind]
    vision = c.sub(key, defaults if c.has(key) else {**defaults, **absent})
    return read(vision), vision
