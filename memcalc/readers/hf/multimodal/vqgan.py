"""Models that read, and draw, images as tokens of a VQGAN: Chameleon, Emu3, Janus.

Structures follow transformers src/transformers/models/{chameleon,emu3,janus}/.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import biased_attention, decoder, mlp, pre_norm, rms
from memcalc.readers.hf.config import MAX_SIZE, Config, Family
from memcalc.readers.hf.multimodal.nested import assumed_tied, joined, read_language, text_type, tied_outside
from memcalc.readers.hf.multimodal.vision import full_attention, patches, table

Normed = Callable[[int], Named]  # channels → the norm over them


def chameleon(c: Config) -> Architecture:
    """A llama with norms of each head, and the encoder of the codes that images are."""
    model = chameleon_text(c)
    return replace(model, parts=(*model.parts, _codes(c.sub("vq_config", _CHAMELEON_VQ), attends=_by_resolution)))


def chameleon_text(c: Config) -> Architecture:
    norm, mixer = rms(c), biased_attention(c)
    normed = revised(
        mixer,
        query_norm=Norm(mixer.head_dim, "layer", heads=mixer.heads),
        key_norm=Norm(mixer.head_dim, "layer", heads=mixer.kv_heads),
    )
    return decoder(c, pre_norm(norm, normed, mlp(c, bias=c.flag("mlp_bias", False))), norm)


def janus(c: Config) -> Architecture:
    """Images are read through SigLIP's kin and drawn as codes, from a head of their own."""
    language = read_language(c, text_type(c, "llama"), tied=tied_outside(c, True))
    vision, codes = c.sub("vision_config", _JANUS_VISION), c.sub("vq_config", _JANUS_VQ)
    hidden, norm, width = (
        vision.integer("hidden_size"),
        Norm(vision.integer("hidden_size"), "layer"),
        vision.integer("projection_dim"),
    )
    count, convolution = patches(vision, bias=True)
    mixer = revised(full_attention(vision), **dict.fromkeys(("query_bias",), vision.flag("attention_bias")))
    if vision.flag("use_qk_norm"):
        mixer = revised(mixer, query_norm=norm, key_norm=norm)
    feed_forward = MLP(
        hidden, int(hidden * vision.number("mlp_ratio")), gated=False, bias=True, activation=vision.text("hidden_act")
    )
    tower = Part(
        "vision",
        entry=(("patches", convolution), ("positions", table("position", (count, hidden)))),
        stacks=(Stack.uniform(pre_norm(norm, mixer, feed_forward), vision.layers()),),
        exit=(("final_norm", norm),),
    )
    size, words, drawn = codes.integer("embed_dim"), codes.integer("num_embeddings"), codes.integer("projection_dim")
    drawing: Named = (
        ("embedding", table("other", (words, size))),
        *_deep("aligner", size, drawn, codes.layers()),
        ("head_input", Projection(codes.integer("image_token_embed_dim"), drawn, bias=True, activation="gelu")),
        ("head_words", Projection(drawn, words, bias=True)),
    )
    image_codes = _codes(codes, attends=lambda _c, level, levels: level == levels - 1, decodes=True)
    parts = (tower, Part("projector", entry=_deep("aligner", hidden, width, vision.layers("depth"))))
    drawn_part = Part("image generation", entry=drawing)
    return joined(c, language, (*parts, image_codes, drawn_part), warnings=assumed_tied(c))


def _deep(name: str, inputs: int, outputs: int, depth: int) -> Named:
    """`depth` layers with biases, the first from `inputs`."""
    return tuple((f"{name}{i}", Projection(outputs if i else inputs, outputs, bias=True)) for i in range(depth))


def _by_resolution(c: Config, level: int, levels: int) -> bool:
    """Chameleon attends where the image has one of these sides."""
    sides = c.entries("attn_resolutions", (), of=int) if c.has("attn_resolutions") else []
    return c.integer("resolution") // 2**level in sides and c.text("attn_type") == "vanilla"


def _codes(c: Config, *, attends: Callable[[Config, int, int], bool], decodes: bool = False) -> Part:
    """An encoder of residual convolutions, ever smaller and wider, the book of codes, and with `decodes` the way back."""
    base, blocks, widths = c.integer("base_channels"), c.integer("num_res_blocks"), _widths(c)
    latent, size = c.integer("latent_channels"), c.integer("embed_dim")
    levels, top = len(widths), widths[-1]
    middle: Named = (*_residual(top, top), *(_attention(top) if c.text("attn_type", "vanilla") == "vanilla" else ()))
    middle = (*middle, *_renamed("second", _residual(top, top)))
    found: list[tuple[str, Named]] = [("input", (("convolution", _square(c.integer("in_channels"), base)),))]
    width = base
    for level, wide in enumerate(widths):
        for block in range(blocks):
            inner = (*_residual(width, wide), *(_attention(wide) if attends(c, level, levels) else ()))
            found.append((f"down{level}/{block}", inner))
            width = wide
        if level < levels - 1:
            found.append((f"down{level}", (("downsampling", _square(width, width, 2)),)))
    double = 2 if c.flag("double_latent", False) else 1
    found += [("middle", middle), ("output", (*_group(top), ("convolution", _square(top, double * latent))))]
    found.append(("codes", (("book", table("other", (c.integer("num_embeddings"), size))), *_pointwise(latent, size))))
    if decodes:
        found += [("decoder_input", (("convolution", _square(latent, top)),)), ("decoder_middle", middle)]
        width = top
        for level in reversed(range(levels)):
            for block in range(blocks + 1):
                inner = (*_residual(width, widths[level]), *(_attention(widths[level]) if level == levels - 1 else ()))
                found.append((f"up{level}/{block}", inner))
                width = widths[level]
            if level:
                found.append((f"up{level}", (("upsampling", _square(width, width)),)))
        found.append(("decoder_output", (*_group(width), ("convolution", _square(width, c.integer("out_channels"))))))
    return Part("image codes", entry=tuple(pair for prefix, named in found for pair in _renamed(prefix, named)))


def _widths(c: Config) -> list[int]:
    multipliers, base = c.entries("channel_multiplier", of=int), c.integer("base_channels")
    if not multipliers or not all(0 < factor <= MAX_SIZE for factor in multipliers):
        raise c.error("channel_multiplier", "must hold positive whole numbers")
    return [base * factor for factor in multipliers]


def _renamed(prefix: str, named: Named) -> Named:
    return tuple((f"{prefix}/{name}", block) for name, block in named)


def _square(inputs: int, outputs: int, stride: int = 1) -> Convolution:
    return Convolution(inputs, outputs, (3, 3), (stride, stride), bias=True)


def _pointwise(latent: int, size: int) -> Named:
    return (
        ("to_codes", Convolution(latent, size, (1, 1), bias=True)),
        ("from_codes", Convolution(size, latent, (1, 1), bias=True)),
    )


def _group(channels: int) -> Named:
    """A norm over groups of channels: a scale and a shift each."""
    return (("norm", Norm(channels, "layer")),)


def _residual(inputs: int, outputs: int, normed: Normed = _group) -> Named:
    shortcut: Named = (("shortcut", Convolution(inputs, outputs, (1, 1), bias=True)),) if inputs != outputs else ()
    return (
        *_renamed("first", normed(inputs)),
        ("first", _square(inputs, outputs)),
        *_renamed("last", normed(outputs)),
        ("last", _square(outputs, outputs)),
        *shortcut,
    )


def _attention(channels: int) -> Named:
    point = Convolution(channels, channels, (1, 1), bias=True)
    return (("attention_norm", Norm(channels, "layer")), *((f"attention/{name}", point) for name in ("q", "k", "v", "output")))


def emu3(c: Config) -> Architecture:
    """A llama over text and codes of images and video; the codes' own model attends in some levels and folds frames."""
    language = read_language(c, "emu3_text_model", _EMU3_TEXT, tied=tied_outside(c, False))
    return joined(c, language, (_emu3_codes(c.sub("vq_config", _EMU3_VQ)),))


def _emu3_codes(c: Config) -> Part:
    base, blocks, widths, latent = (
        c.integer("base_channels"),
        c.integer("num_res_blocks"),
        _widths(c),
        c.integer("latent_channels"),
    )
    size, top, levels = c.integer("embed_dim"), widths[-1], set(c.entries("attn_resolutions", (), of=int))
    spatial = partial(_spatial, size)
    outer = (2 if c.flag("double_latent") else 1) * latent
    folds = c.integer("temporal_downsample_factor").bit_length() - 1
    heads: Named = tuple(
        (f"attention/{name}", Projection(c.integer("hidden_size"), c.integer("hidden_size"), bias=True))
        for name in ("q", "k", "v", "output")
    )

    def levelled(width: int, wide: int, level: int, normed: Normed = _group) -> Named:
        attends: Named = (*heads, *_renamed("attention", normed(wide))) if level in levels else ()
        return (*_residual(width, wide, normed), *attends)

    def middle(normed: Normed) -> Named:
        second = _renamed("second", _residual(top, top, normed))
        return (*_residual(top, top, normed), *heads, *_renamed("attention", normed(top)), *second)

    found: list[tuple[str, Named]] = [("input", (("convolution", _square(c.integer("in_channels"), base)),))]
    width = base
    for level, wide in enumerate(widths):
        for block in range(blocks):
            found.append((f"down{level}/{block}", levelled(width, wide, level)))
            width = wide
        if level < len(widths) - 1:
            found.append((f"down{level}", (("downsampling", _square(width, width, 2)),)))
    found += [("middle", middle(_group)), ("output", (*_group(top), ("convolution", _square(top, outer))))]
    found += [(f"fold{i}", (("convolution", Convolution(outer, outer, (4, 3, 3), bias=True)),)) for i in range(folds)]
    found += [(f"time{i}", _in_time(outer)) for i in range(blocks)]
    cube, back = Convolution(latent, size, (3, 1, 1), bias=True), Convolution(size, latent, (3, 1, 1), bias=True)
    book = ("book", table("other", (c.integer("codebook_size"), size)))
    found.append(("codes", (book, ("to_codes", cube), ("from_codes", back))))
    found += [(f"decoder_time{i}", _in_time(latent)) for i in range(blocks)]
    found += [(f"unfold{i}", (("convolution", Convolution(latent, latent, (3, 3, 3), bias=True)),)) for i in range(folds)]
    found += [("decoder_input", (("convolution", _square(latent, top)),)), ("decoder_middle", middle(spatial))]
    width = top
    for level in reversed(range(len(widths))):
        for block in range(blocks + 1):
            found.append((f"up{level}/{block}", levelled(width, widths[level], level, spatial)))
            width = widths[level]
        if level:
            found.append((f"up{level}", (("upsampling", _square(width, width)),)))
    end = (*_renamed("norm", spatial(width)), ("convolution", _square(width, c.integer("out_channels"))))
    found.append(("decoder_output", end))
    return Part("image codes", entry=tuple(pair for prefix, named in found for pair in _renamed(prefix, named)))


def _spatial(codes: int, channels: int) -> Named:
    """A norm whose scale and shift each place gets from the codes."""
    point = Convolution(codes, channels, (1, 1), bias=True)
    return (*_group(channels), ("scale", point), ("shift", point))


def _in_time(channels: int) -> Named:
    cube = Convolution(channels, channels, (3, 3, 3), bias=True)
    return (*_renamed("first", _group(channels)), ("first", cube), *_renamed("last", _group(channels)), ("last", cube))


_CHAMELEON_VQ: Mapping[str, Any] = {
    "embed_dim": 256,
    "num_embeddings": 8192,
    "latent_channels": 256,
    "resolution": 512,
    "in_channels": 3,
    "base_channels": 128,
    "channel_multiplier": (1, 1, 2, 2, 4),
    "num_res_blocks": 2,
    "attn_type": "vanilla",
}
_JANUS_VQ: Mapping[str, Any] = {
    **_CHAMELEON_VQ,
    "embed_dim": 8,
    "num_embeddings": 16384,
    "out_channels": 3,
    "projection_dim": 2048,
    "image_token_embed_dim": 2048,
    "num_hidden_layers": 2,
}
_JANUS_VISION: Mapping[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_channels": 3,
    "patch_size": 16,
    "image_size": 384,
    "hidden_act": "gelu",
    "mlp_ratio": 4.0,
    "attention_bias": True,
    "use_qk_norm": False,
    "projection_dim": 2048,
    "depth": 2,
}
_EMU3_VQ: Mapping[str, Any] = {
    "codebook_size": 32768,
    "embed_dim": 4,
    "latent_channels": 4,
    "double_latent": False,
    "in_channels": 3,
    "out_channels": 3,
    "temporal_downsample_factor": 4,
    "base_channels": 256,
    "channel_multiplier": (1, 2, 2, 4),
    "num_res_blocks": 2,
    "attn_resolutions": (3,),
    "hidden_size": 1024,
}
_EMU3_TEXT: Mapping[str, Any] = {
    "vocab_size": 184622,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}

FAMILIES = {
    "chameleon": Family(chameleon, {"num_key_value_heads": 32, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096}),
    "janus": Family(janus, {}),
    "emu3": Family(emu3, {}),
}
