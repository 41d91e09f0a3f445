"""Phi-4 multimodal: Phi 3's language model with a SigLIP tower and a conformer for sound, each with a projector."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.ledger import Weight, linear
from memcalc.blocks.mlp import MLP
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import even_head_dim, layer_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.decoders.dense import phi3
from memcalc.readers.hf.multimodal.vision import SIGLIP, siglip


def phi4_multimodal(c: Config) -> Architecture:
    model = phi3(c)
    vision, audio = c.sub("vision_config", _VISION), c.sub("audio_config", _AUDIO)
    return replace(model, parts=(*model.parts, siglip(vision), _conformers(audio), _projector(c, vision, audio)))


def _projector(c: Config, vision: Config, audio: Config) -> Part:
    """Two layers from each tower; sound beside images has a pair of its own."""
    hidden, seen = c.integer("hidden_size"), vision.integer("hidden_size")
    heard = audio.integer("hidden_size") * audio.integer("downsample_rate")
    inputs = {"vision": seen, "audio": heard, "audio_with_vision": heard}
    pairs: Named = tuple(
        (f"{name}_{step}", Projection(size, hidden, bias=True))
        for name, width in inputs.items()
        for step, size in (("up", width), ("down", hidden))
    )
    marks = Plain((Weight("global", "other", (1, 1, seen)), Weight("part", "other", (1, 1, 1, seen))))
    return Part("projector", entry=(("marks", marks), *pairs))


def _conformers(c: Config) -> Part:
    hidden, channels, heads = c.integer("hidden_size"), c.integer("nemo_conv_channels"), c.integer("num_attention_heads")
    reduction = c.integer("time_reduction")
    if reduction & (reduction - 1):
        raise c.error("time_reduction", f"({reduction}) must be a power of two")
    steps, features = reduction.bit_length() - 1, c.integer("input_size")
    for _ in range(steps):
        features = (features - 1) // 2 + 1
    features = c.integer("nemo_final_size", features)  # saved files repeat it, and the library takes theirs
    later = tuple(
        weight
        for i in range(1, steps)
        for weight in (
            Weight(f"conv_{i}", "other", (channels, 1, 3, 3)),
            Weight(f"conv_{i}.bias", "other", (channels,)),
            Weight(f"mix_{i}", "other", (channels, channels, 1, 1)),
            Weight(f"mix_{i}.bias", "other", (channels,)),
        )
    )
    buckets = c.integer("bias_max_distance") * (1 if c.flag("bias_symmetric") else 2)
    return Part(
        "audio",
        entry=(
            ("convolution", Convolution(1, channels, (3, 3), (2, 2), bias=True)),
            ("convolutions", Plain(later)),
            ("input", Projection(channels * features, hidden, bias=True)),
            ("relative_bias", Plain((Weight("table", "attention", (buckets, heads)),))),
        ),
        stacks=(Stack.uniform(_conformer(c), c.layers("num_blocks")),),
    )


def _conformer(c: Config) -> Layer:
    """Half a feed-forward, attention, a gated convolution, half a feed-forward, and a norm of it all."""
    hidden, heads, norm = c.integer("hidden_size"), c.integer("num_attention_heads"), layer_norm(c)
    half = MLP(hidden, c.integer("intermediate_size"), fused=True, bias=True, activation=c.text("activation"))
    attention = attention_of(
        hidden, heads, heads, even_head_dim(c), causal=False, rotary=False, query_bias=True, output_bias=True
    )
    wide, inner = hidden * c.integer("depthwise_multiplier"), c.integer("depthwise_separable_out_channel")
    outer = c.integer("ext_pw_out_channel")
    convolution = Plain(
        (
            *(Weight(name, "other", (1, outer, 1)) for name in ("b1", "b2")),
            *linear("gate", "other", hidden, 2 * outer, bias=True),
            Weight("depthwise", "other", (wide, 1, c.integer("kernel_size"))),
            Weight("depthwise.bias", "other", (wide,)),
            *linear("pointwise", "other", wide, inner, bias=True),
            *linear("output", "other", hidden, outer, bias=True),
        )
    )
    return Layer(
        (
            ("mlp_start_norm", norm),
            ("mlp_start", half),
            ("input_norm", norm),
            ("attention", attention),
            ("convolution_norm", norm),
            ("convolution", convolution),
            ("mlp_end_norm", norm),
            ("mlp_end", half),
            ("output_norm", norm),
        )
    )


_VISION: Mapping[str, Any] = {
    **SIGLIP,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 448,
    "patch_size": 14,
}
_AUDIO: Mapping[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 1536,
    "num_blocks": 24,
    "num_attention_heads": 16,
    "activation": "swish",
    "ext_pw_out_channel": 1024,
    "depthwise_separable_out_channel": 1024,
    "depthwise_multiplier": 1,
    "kernel_size": 3,
    "input_size": 80,
    "time_reduction": 8,
    "bias_max_distance": 1000,
    "bias_symmetric": False,
    "nemo_conv_channels": 1024,
    "downsample_rate": 1,
}

FAMILIES = {
    "phi4_multimodal": Family(
        phi4_multimodal, {"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "max_position_embeddings": 131072}
    )
}
