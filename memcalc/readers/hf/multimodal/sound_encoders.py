"""Encoders of sound that take the waveform or frames laid side by side: wav2vec 2's line, SAN-M, VibeVoice's tokenizers."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from memcalc.blocks.architecture import Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.convolved_positions import ConvolvedPositions
from memcalc.blocks.frame_convolution import FrameConvolution
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import pre_norm
from memcalc.readers.hf.config import MAX_LAYERS, MAX_SIZE, Config
from memcalc.readers.hf.multimodal.vision import full_attention, plain_mlp


def omniasr(c: Config) -> Part:
    """wav2vec 2 with norms before each block."""
    hidden, norm = c.integer("hidden_size"), Norm(c.integer("hidden_size"), "layer")
    front, width = waveform(c, normed=True)
    return Part(
        "audio",
        entry=(
            *front,
            ("features_norm", Norm(width, "layer")),
            ("features", Projection(width, hidden, bias=True)),
            ("positions", convolved_positions(c)),
        ),
        stacks=(Stack.uniform(pre_norm(norm, full_attention(c), plain_mlp(c)), c.layers()),),
        exit=(("final_norm", norm),),
    )


def waveform(c: Config, *, normed: bool) -> tuple[Named, int]:
    """Strided convolutions over the waveform, and the width that they give. `normed`: each, else the first alone."""
    widths, kernels = sizes(c, "conv_dim"), sizes(c, "conv_kernel")
    if len(kernels) != len(widths):
        raise c.error("conv_kernel", f"must have {len(widths)} entries as conv_dim has, not {len(kernels)}")
    strides = sizes(c, "conv_stride") if c.has("conv_stride") else [5] + [2] * (len(widths) - 1)
    if len(strides) != len(widths):
        raise c.error("conv_stride", f"must have {len(widths)} entries as conv_dim has, not {len(strides)}")
    front: Named = ()
    for i, (before, width, kernel) in enumerate(zip((1, *widths), widths, kernels, strict=False)):
        bias, frames = c.flag("conv_bias"), prod(strides[i:])
        made = Convolution(before, width, (kernel,), (strides[i],), bias=bias, frames=frames)
        norm = Norm(width, "layer") if normed or not i else None
        front += ((f"convolution{i + 1}", FrameConvolution(made, norm, grouped=not normed)),)
    return front, widths[-1]


def convolved_positions(c: Config, *, normed: bool = False) -> ConvolvedPositions:
    hidden, groups = c.integer("hidden_size"), c.integer("num_conv_pos_embedding_groups")
    if hidden % groups:
        raise c.error("hidden_size", f"({hidden}) is not a multiple of num_conv_pos_embedding_groups ({groups})")
    return ConvolvedPositions(hidden, c.integer("num_conv_pos_embeddings"), groups, normed=normed)


def fun_asr_nano(c: Config) -> Part:
    """SAN-M: a depthwise convolution over the values stands beside each attention. The first layer reads stacked frames; the
    last layer of transcription and the last of all are normalised again.
    """
    hidden, depth, width = c.integer("hidden_size"), c.layers(), c.integer("num_mel_bins") * c.integer("num_stacked_frames")
    memory = Plain((Weight("memory", "attention", (hidden, 1, c.integer("fsmn_kernel_size"))),))
    ends = (depth - c.integer("num_timestamp_prediction_layers", low=0) - 1, depth - 1)
    usual = fun_asr_layer(c, hidden)
    usual = replace(usual, blocks=(*usual.blocks[:2], ("memory", memory), *usual.blocks[2:]))
    first = fun_asr_layer(c, width)
    first = replace(first, blocks=(*first.blocks[:2], ("memory", memory), *first.blocks[2:]))
    last: Named = (("final_norm", Norm(hidden, "layer")),)
    sequence = [usual if i else first for i in range(depth)]
    for i in {end for end in ends if end >= 0}:
        sequence[i] = replace(sequence[i], blocks=sequence[i].blocks + last)
    return Part("audio", stacks=(Stack.of(sequence),))


def fun_asr_layer(c: Config, inputs: int) -> Layer:
    hidden, heads, norm = c.integer("hidden_size"), c.integer("num_attention_heads"), Norm(c.integer("hidden_size"), "layer")
    if hidden % heads:
        raise c.error("hidden_size", f"({hidden}) is not a multiple of num_attention_heads ({heads})")
    mixer = attention_of(
        hidden, heads, heads, hidden // heads, query_bias=True, output_bias=True, causal=False, rotary=False,
        inputs=inputs if inputs != hidden else 0,
    )  # fmt: skip
    layer = pre_norm(norm, mixer, plain_mlp(c))
    return replace(layer, blocks=(("input_norm", Norm(inputs, "layer")), *layer.blocks[1:]))


def vibevoice(c: Config, name: str, *, decodes: bool = False) -> Part:
    """ConvNeXt over the waveform: stages of depthwise convolutions and feed-forwards, fewer in time and twice as wide from one
    to the next. `decodes`: the same the other way round.
    """
    width, kernel, latent = c.integer("num_filters"), c.integer("kernel_size"), c.integer("hidden_size")
    ratios, depths = sizes(c, "downsampling_ratios"), sizes(c, "depths")
    if len(depths) != len(ratios) + 1:
        raise c.error("depths", f"must have one entry more than downsampling_ratios ({len(ratios)}), not {len(depths)}")
    if max(depths) > MAX_LAYERS or len(ratios) > MAX_STAGES:
        raise c.error("depths", "has more layers than can be meant")
    widths, channels = [width << i for i in range(len(depths))], c.integer("channels")
    ends = ((channels, widths[0]), (widths[-1], latent))
    first, last = (tuple(end[::-1] for end in ends[::-1])) if decodes else ends
    entry: Named = (("stem", Convolution(*first, (kernel,), (1,), bias=True)),)
    for i, ratio in enumerate(ratios):
        pair = (widths[i + 1], widths[i]) if decodes else (widths[i], widths[i + 1])
        entry += ((f"resampling{i}", Convolution(*pair, (2 * ratio,), (ratio,), bias=True)),)
    stacks = tuple(
        Stack.uniform(_stage(c, size, kernel), depth, f"stage{i}")
        for i, (size, depth) in enumerate(zip(widths, depths, strict=True))
    )
    return Part(name, entry, stacks, (("output", Convolution(*last, (kernel,), (1,), bias=True)),))


def _stage(c: Config, size: int, kernel: int) -> Layer:
    scale = Plain((Weight("scale", "other", (size,)),))
    mixer = Convolution(size, size, (kernel,), (1,), groups=size, bias=True)
    feed_forward = MLP(size, c.integer("ffn_expansion") * size, gated=False, bias=True, activation=c.text("hidden_act"))
    norm = Norm(size)
    return Layer(
        (
            ("norm", norm),
            ("mixer", mixer),
            ("mixer_scale", scale),
            ("mlp_norm", norm),
            ("mlp", feed_forward),
            ("mlp_scale", scale),
        )
    )


def sizes(c: Config, key: str) -> list[int]:
    """A list of positive whole numbers."""
    found = c.entries(key, of=int)
    if not found or not all(0 < size <= MAX_SIZE for size in found):
        raise c.error(key, "must hold positive whole numbers")
    return found


MAX_STAGES = 20  # each doubles the width

OMNIASR: Mapping[str, Any] = {
    "hidden_size": 1024, "conv_dim": [512] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_bias": True,
    "num_attention_heads": 16, "num_hidden_layers": 24, "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16, "intermediate_size": 4096, "hidden_act": "gelu",
}  # fmt: skip
FUN_ASR: Mapping[str, Any] = {
    "num_mel_bins": 80, "hidden_size": 512, "num_attention_heads": 4, "intermediate_size": 2048, "num_hidden_layers": 70,
    "hidden_act": "relu", "num_stacked_frames": 7, "num_timestamp_prediction_layers": 20, "fsmn_kernel_size": 11,
}  # fmt: skip
VIBEVOICE: Mapping[str, Any] = {
    "channels": 1, "hidden_size": 64, "kernel_size": 7, "num_filters": 32, "downsampling_ratios": [2, 2, 4, 5, 5, 8],
    "depths": [3, 3, 3, 3, 3, 3, 8], "hidden_act": "gelu", "ffn_expansion": 4,
}  # fmt: skip
