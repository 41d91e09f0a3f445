"""Towers in front of BART's line: Florence 2 (a DaViT, which attends among patches and then among channels), PP-FormulaNet.

Structures follow transformers src/transformers/models/{florence2,pp_formulanet}/.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import Attention, attention_of
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.head import Head
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.blocks.values import revised
from memcalc.errors import Unsupported
from memcalc.readers.hf.common import architecture
from memcalc.readers.hf.config import MAX_SIZE, Config, Family
from memcalc.readers.hf.families import family
from memcalc.readers.hf.multimodal.nested import text_type
from memcalc.readers.hf.multimodal.towers import SAM, sam
from memcalc.readers.hf.multimodal.vision import table


def florence2(c: Config) -> Architecture:
    """The head is tied by the outer config, the tables of both halves by the text's own."""
    if (kind := text_type(c, "bart")) != "bart":
        raise Unsupported(f"{c.place}: the language model {kind!r:.60} inside text_config is not modelled")
    bart = family("bart")
    text = c.sub("text_config", bart.defaults).reread(architectures=["BartModel"])
    encoder, decoder = bart.read(text).parts
    tied, vocabulary, hidden = c.flag("tie_word_embeddings", True), text.integer("vocab_size"), text.integer("d_model")
    decoder = replace(decoder, exit=(*decoder.exit, ("head", Head(vocabulary, hidden, tied=tied, upcast=False))))
    vision = c.sub("vision_config", _VISION)
    width, outputs, places = _widths(vision)[-1], vision.integer("projection_dim"), vision.integer("max_position_embeddings")
    projector: Named = (
        ("rows", table("position", (places, width // 2))),
        ("columns", table("position", (places, width - width // 2))),
        ("linear", Projection(width, outputs)),
        ("norm", Norm(outputs, "layer")),
    )
    parts = (encoder, decoder, _davit(vision), Part("projector", entry=projector))
    return architecture(c, parts, tied=tied, text=text.reread(hidden_size=hidden))


def pp_formulanet(c: Config) -> Architecture:
    """SAM's encoder and two strided convolutions, whose output mBART's decoder attends to. The library ties nothing."""
    mbart, vision = family("mbart"), c.sub("vision_config", _FORMULA_VISION)
    text = c.sub("text_config", {**mbart.defaults, **_FORMULA_TEXT}).reread(
        architectures=["MBartForCausalLM"], tie_word_embeddings=False, add_cross_attention=True
    )
    (decoder,) = mbart.read(text).parts
    widths = [vision.integer(f"post_conv_{name}_channels") for name in ("in", "mid", "out")]
    seeing = sam(vision)
    merged: Named = tuple(
        (f"downsampling{i}", Convolution(widths[i], widths[i + 1], (3, 3), (2, 2), role="projector")) for i in range(2)
    )
    linear: Named = (
        ("linear", Projection(widths[2], widths[2], bias=True)),
        ("output", Projection(widths[2], vision.integer("decoder_hidden_size"), bias=True)),
    )
    side = vision.integer("image_size") // vision.integer("patch_size")
    read = -((-side // 4) ** 2)  # patches that are left of an image
    stacks = tuple(replace(stack, layers=tuple(_reading(layer, read) for layer in stack.layers)) for stack in decoder.stacks)
    parts = (replace(decoder, stacks=stacks), seeing, Part("projector", entry=(*merged, *linear)))
    return architecture(c, parts, tied=False, text=text.reread(hidden_size=text.integer("d_model")))


def _reading(layer: Layer, tokens: int) -> Layer:
    """The layer with cross-attention to so many tokens, whatever the text's length."""
    blocks = tuple(
        (name, revised(block, source=tokens) if isinstance(block, Attention) and block.cross else block)
        for name, block in layer.blocks
    )
    return replace(layer, blocks=blocks)


def _davit(c: Config) -> Part:
    widths = _widths(c)
    sizes, depths, heads, groups = (
        _entries(c, key, len(widths)) for key in ("patch_size", "depths", "num_heads", "num_groups")
    )
    before = c.entries("patch_prenorm", length=len(widths), of=bool)
    stacks, inputs = [], c.integer("in_channels")
    for stage, (width, size) in enumerate(zip(widths, sizes, strict=True)):
        convolution = Convolution(inputs, width, (size, size), bias=True)
        start = Layer((("patches", convolution), ("patch_norm", Norm(inputs if before[stage] else width, "layer"))))
        block = Layer((*_half(c, width, heads[stage], "window"), *_half(c, width, groups[stage], "channel")))
        stacks.append(Stack.of([start, *[block] * depths[stage]], f"stages{stage}"))
        inputs = width
    return Part("vision", stacks=tuple(stacks))


def _half(c: Config, width: int, heads: int, name: str) -> Named:
    """Depthwise convolutions before attention and feed-forward."""
    if width % heads:
        raise c.error("embed_dim", f"({width}) is not a multiple of its heads ({heads})")
    norm, mixing = Norm(width, "layer"), Convolution(width, width, (3, 3), (1, 1), groups=width, bias=True)
    window = c.integer("window_size") ** 2 if name == "window" else None
    mixer = attention_of(
        width, heads, heads, width // heads, query_bias=c.flag("qkv_bias"), output_bias=True, fused=True, causal=False,
        rotary=False, window=window, chunked=window is not None,
    )  # fmt: skip
    inner = int(width * c.number("mlp_ratio"))
    feed_forward = MLP(width, inner, gated=False, bias=True, activation=c.text("activation_function"))
    return (
        (f"{name}_convolution", mixing),
        (f"{name}_norm", norm),
        (f"{name}_attention", mixer),
        (f"{name}_mlp_convolution", mixing),
        (f"{name}_mlp_norm", norm),
        (f"{name}_mlp", feed_forward),
    )


def _widths(c: Config) -> list[int]:
    return _entries(c, "embed_dim", len(c.entries("embed_dim")))


def _entries(c: Config, key: str, count: int) -> list[int]:
    values = c.entries(key, length=count, of=int)
    if not values or not all(0 < value <= MAX_SIZE for value in values):
        raise c.error(key, "must hold positive whole numbers")
    return values


_VISION: Mapping[str, Any] = {
    "in_channels": 3,
    "depths": (1, 1, 9, 1),
    "patch_size": (7, 3, 3, 3),
    "patch_prenorm": (False, True, True, True),
    "embed_dim": (128, 256, 512, 1024),
    "num_heads": (4, 8, 16, 32),
    "num_groups": (4, 8, 16, 32),
    "window_size": 12,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "activation_function": "gelu",
    "projection_dim": 1024,
    "max_position_embeddings": 50,
}

_FORMULA_VISION: Mapping[str, Any] = {
    **SAM,
    "image_size": 512,
    "post_conv_in_channels": 256,
    "post_conv_mid_channels": 512,
    "post_conv_out_channels": 1024,
    "decoder_hidden_size": 512,
}
_FORMULA_TEXT: Mapping[str, Any] = {
    "vocab_size": 50000,
    "max_position_embeddings": 2560,
    "d_model": 512,
    "decoder_layers": 8,
    "decoder_ffn_dim": 2048,
    "decoder_attention_heads": 16,
    "scale_embedding": True,
}

FAMILIES = {"florence2": Family(florence2, {}), "pp_formulanet": Family(pp_formulanet, {})}
