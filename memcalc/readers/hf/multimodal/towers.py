"""Which vision tower a nested config names, and the towers beyond those of `vision`."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from memcalc.blocks.architecture import Layer, Named, Part, Stack
from memcalc.blocks.block import Block
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.image_sizes import OneSize
from memcalc.blocks.images import ImageRule
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.values import revised
from memcalc.errors import Unsupported
from memcalc.readers.hf.common import layer_norm, pre_norm, rms, windowed
from memcalc.readers.hf.config import Config
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.multimodal.vision import (
    CLIP,
    PIXTRAL,
    SIGLIP,
    Tower,
    clip,
    encoder_layer,
    full_attention,
    pair,
    patches,
    pixtral,
    plain_mlp,
    siglip,
    siglip_pooling,
    table,
)

NORMS = {"layer_norm": "layer", "rms_norm": "rms"}


def video_llama_3(c: Config) -> Part:
    """SigLIP's layers with rotary positions."""
    norm, patch = layer_norm(c), c.integer("patch_size")
    convolution = Convolution(c.integer("num_channels"), c.integer("hidden_size"), (patch, patch), bias=True)
    stack = Stack.uniform(encoder_layer(c, norm, rotary=True), c.layers())
    return Part("vision", entry=(("patches", convolution),), stacks=(stack,), exit=(("final_norm", norm),))


def minicpm(c: Config) -> Part:
    """SigLIP; after one of its layers windows of patches are attended to and merged, each into one."""
    part, norm, hidden = siglip(c), layer_norm(c), c.integer("hidden_size")
    count = prod(pair(c, "window_kernel_size"))
    wide, inner = hidden * count, c.integer("intermediate_size") * count
    merger: Named = (
        ("merger_input_norm", norm),
        ("merger_attention", full_attention(c)),
        ("merger_norm", Norm(wide, "layer")),
        ("merger_up", Projection(wide, inner, bias=True, activation="gelu_pytorch_tanh", cut="outputs", merge=count)),
        ("merger_down", Projection(inner, hidden, bias=True, cut="inputs")),
    )
    return replace(part, exit=(*part.exit, *merger))


def aimv2(c: Config) -> Part:
    """AIMv2: RMSNorm and a gated MLP (Ovis 2)."""
    hidden, norm = c.integer("hidden_size"), rms(c)
    count, convolution = patches(c, bias=True)
    attention = full_attention(c, bias=c.flag("qkv_bias"))
    feed_forward = MLP(hidden, c.integer("intermediate_size"), bias=c.flag("mlp_bias"), activation=c.text("hidden_act"))
    return Part(
        "vision",
        entry=(("patches", convolution), ("input_norm", norm), ("positions", table("position", (count, hidden)))),
        stacks=(Stack.uniform(pre_norm(norm, attention, feed_forward), c.layers()),),
        exit=(("final_norm", norm),),
    )


def sam(c: Config) -> Part:
    """Segment Anything's encoder: windows in most layers, learned positions relative in height and width, and a neck."""
    hidden, norm, heads = c.integer("hidden_size"), layer_norm(c), c.integer("num_attention_heads")
    side, window = c.integer("image_size") // c.integer("patch_size"), c.integer("window_size", low=0)
    full, relative = set(c.entries("global_attn_indexes", of=int)), c.flag("use_rel_pos")
    _, convolution = patches(c, bias=True)
    inner = c.integer("mlp_dim") if c.has("mlp_dim") else int(hidden * c.number("mlp_ratio"))
    feed_forward = MLP(hidden, inner, gated=False, bias=True, activation=c.text("hidden_act"))

    def layer(reach: int) -> Layer:
        rows = tuple(Weight(name, "position", (2 * (reach or side) - 1, hidden // heads)) for name in ("height", "width"))
        attention = full_attention(
            c, fused=True, query_bias=c.flag("qkv_bias"), window=reach * reach or None, chunked=reach > 0
        )
        made = pre_norm(norm, attention, feed_forward)
        blocks = (*made.blocks[:2], ("relative_positions", Plain(rows)), *made.blocks[2:]) if relative else made.blocks
        return replace(made, blocks=blocks)

    channels, absolute = c.integer("output_channels"), c.flag("use_abs_pos")
    positions: Named = (("positions", table("position", (side, side, hidden))),) if absolute else ()
    neck_norm = Norm(channels, "layer")
    return Part(
        "vision",
        entry=(("patches", convolution), *positions),
        stacks=(Stack.of(windowed([0 if i in full else window for i in range(c.layers())], layer)),),
        exit=(
            ("neck1", Convolution(hidden, channels, (1, 1))),
            ("neck1_norm", neck_norm),
            ("neck2", Convolution(channels, channels, (3, 3), (1, 1))),
            ("neck2_norm", neck_norm),
        ),
    )


def lfm3(c: Config) -> Part:
    """Gated short convolutions over both sides of the image in most layers, grouped attention in the others."""
    hidden, norm, patch = c.integer("hidden_size"), rms(c), c.integer("patch_size")
    pixels = c.integer("in_channels") * c.integer("temporal_patch_size") * patch * patch
    depth, kernel = c.layers(), c.integer("conv_kernel_size")
    default = ["conv" if i < 2 or i % 2 else "full_attention" for i in range(depth)]
    kinds = layer_kinds(c, default, ("conv", "full_attention"))
    feed_forward = MLP(hidden, c.integer("intermediate_size"))

    def layer(kind: str) -> Layer:
        if kind == "full_attention":
            mixer = full_attention(c, kv_heads="num_key_value_heads", bias=False, rotary=True)
            head_norm = rms(c, size=mixer.head_dim)
            return pre_norm(norm, revised(mixer, query_norm=head_norm, key_norm=head_norm), feed_forward)
        return Layer(
            (
                ("input_norm", norm),
                ("convolution_start", Projection(hidden, 3 * hidden, role="mlp")),
                ("convolution", Convolution(hidden, hidden, (kernel, kernel), (1, 1), groups=hidden)),
                ("convolution_end", Projection(hidden, hidden, role="mlp")),
                ("post_attention_norm", norm),
                ("mlp", feed_forward),
            )
        )

    patches_of = Projection(pixels, hidden, role="other")
    return Part("vision", entry=(("patches", patches_of), ("input_norm", norm)), stacks=(Stack.of(windowed(kinds, layer)),))


def hunyuan(c: Config) -> Part:
    """Learned positions of the largest image and one more; no norm after the last layer."""
    hidden, norm, patch = c.integer("hidden_size"), layer_norm(c), c.integer("patch_size")
    positions = (c.integer("max_image_size") // patch) ** 2 + 1
    convolution = Convolution(c.integer("num_channels"), hidden, (patch, patch), bias=True)
    layer = encoder_layer(c, norm)
    return Part(
        "vision",
        entry=(("patches", convolution), ("positions", table("position", (positions, hidden)))),
        stacks=(Stack.uniform(layer, c.layers()),),
    )


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
        images=ImageRule(pair(c, "patch_size"), OneSize(pair(c, "image_size")), extra=1),
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
        ),
        wiring="scaled",
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

MINICPM: Mapping[str, Any] = {**SIGLIP, "vision_use_head": False, "window_kernel_size": (2, 2)}
PADDLEOCR: Mapping[str, Any] = {
    **SIGLIP,
    "vision_use_head": False,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "spatial_merge_size": 2,
}
COSMOS3: Mapping[str, Any] = {**PADDLEOCR, "patch_size": 16, "num_patches": 256}
OVIS2: Mapping[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 24,
    "num_attention_heads": 8,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 14,
    "rms_norm_eps": 1e-5,
    "qkv_bias": False,
    "mlp_bias": False,
    "hidden_act": "silu",
    "vocab_size": 16384,
    "hidden_stride": 1,
    "num_visual_indicator_tokens": 5,
}
SAM: Mapping[str, Any] = {
    "hidden_size": 768,
    "output_channels": 256,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 1024,
    "patch_size": 16,
    "hidden_act": "gelu",
    "qkv_bias": True,
    "use_abs_pos": True,
    "use_rel_pos": True,
    "window_size": 14,
    "global_attn_indexes": (2, 5, 8, 11),
    "mlp_dim": 3072,
}

LFM3: Mapping[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 2560,
    "in_channels": 3,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_hidden_layers": 14,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "conv_kernel_size": 3,
}
HUNYUAN: Mapping[str, Any] = {
    "hidden_act": "gelu",
    "hidden_size": 1536,
    "intermediate_size": 6144,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "num_channels": 3,
    "num_hidden_layers": 40,
    "out_hidden_size": 6144,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "max_image_size": 2048,
}

GRANITE_DOCLING: Mapping[str, Any] = {
    **SIGLIP,
    "vision_use_head": False,
    "image_size": 512,
    "out_hidden_size": 1024,
    "scale_factor": 4,
    "deepstack_visual_indexes": (3, 7, 10),
    "use_fine_route": True,
}
HUNYUAN_VL: Mapping[str, Any] = {
    **HUNYUAN,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
}

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
    "qianfan_ocr_vision": (internvl, {**INTERNVL, "attention_bias": True}),
    "paddleocr_vl_vision": (siglip, PADDLEOCR),
    "cosmos3_edge_vision": (siglip2, COSMOS3),
    "video_llama_3_vision": (video_llama_3, SIGLIP),
    "minicpm_vision": (minicpm, MINICPM),
    "ovis2_vision": (aimv2, OVIS2),
    "got_ocr2_vision": (sam, SAM),
    "lfm3_vl_vision": (lfm3, LFM3),
    "hy_v4_vl_vision": (hunyuan, HUNYUAN),
    "hunyuan_vl_vision": (hunyuan, HUNYUAN_VL),
    "granite_docling_vision": (siglip, GRANITE_DOCLING),
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
