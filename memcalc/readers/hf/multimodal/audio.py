"""The audio encoders of Gemma 3n and 4: a strided convolution front and conformer layers."""

from collections.abc import Mapping
from typing import Any

from memcalc.blocks.architecture import Layer, Part, Stack
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.config import MAX_SIZE, Config

Side = tuple[int, int]  # over time, over frequency


def gemma3n_audio(c: Config) -> Part:
    first, second = _numbers(c, "sscp_conv_channel_size")
    kernels, strides = _pairs(c, "sscp_conv_kernel_size"), _pairs(c, "sscp_conv_stride_size")
    frequencies = c.integer("input_feat_size")
    for kernel, stride in zip(kernels, strides, strict=True):
        frequencies = (frequencies + 2 - kernel[1]) // stride[1] + 1
    if frequencies < 1:
        raise c.error("input_feat_size", "is too small for the convolutions")
    return _encoder(c, "conf_", (first, second), kernels, strides, second * frequencies)


def gemma4_audio(c: Config) -> Part:
    first, second = _numbers(c, "subsampling_conv_channels")
    kernels, strides = ((3, 3), (3, 3)), ((2, 2), (2, 2))
    features = first // 4 * second
    if not features:
        raise c.error("subsampling_conv_channels", "must have at least four channels first")
    encoder = _encoder(c, "", (first, second), kernels, strides, features)
    output = Projection(c.integer("hidden_size"), c.integer("output_proj_dims"), bias=True)
    return Part("audio", encoder.entry, encoder.stacks, exit=(("output", output),))


def _encoder(
    c: Config, prefix: str, channels: Side, kernels: tuple[Side, Side], strides: tuple[Side, Side], features: int
) -> Part:
    first, second = channels
    relu: dict[str, Any] = {"activation": "relu"}
    return Part(
        "audio",
        entry=(
            ("convolution1", Convolution(1, first, kernels[0], strides[0], **relu)),
            ("convolution1_norm", Norm(first, "layer", bias=False)),
            ("convolution2", Convolution(first, second, kernels[1], strides[1], **relu)),
            ("convolution2_norm", Norm(second, "layer", bias=False)),
            ("input", Projection(features, c.integer("hidden_size"))),
        ),
        stacks=(Stack.uniform(_conformer(c, prefix), c.layers(f"{prefix}num_hidden_layers")),),
    )


def _conformer(c: Config, prefix: str) -> Layer:
    """Half a feed-forward, local attention, a gated depthwise convolution, half a feed-forward; norms around each."""
    hidden, heads = c.integer("hidden_size"), c.integer(f"{prefix}num_attention_heads")
    if hidden % heads:
        raise c.error("hidden_size", f"({hidden}) is not a multiple of {prefix}num_attention_heads ({heads})")
    activation = c.text("hidden_act", "silu")
    norm = Norm(hidden, epsilon=c.number("rms_norm_eps"))
    half = MLP(hidden, 4 * hidden, gated=False, activation=activation)
    attention = attention_of(
        hidden,
        heads,
        heads,
        hidden // heads,
        causal=False,
        rotary=False,
        window=_context(c, prefix),
        chunked=True,
        softcap=c.number(f"{prefix}attention_logit_cap"),
    )
    relative = Plain(
        (Weight("relative_k", "attention", (hidden, hidden)), Weight("per_dim_scale", "other", (hidden // heads,)))
    )
    kernel = (c.integer(f"{prefix}conv_kernel_size"),)
    return Layer(
        (
            ("mlp_start_norm", norm),
            ("mlp_start", half),
            ("mlp_start_post_norm", norm),
            ("input_norm", norm),
            ("attention", attention),
            ("relative_positions", relative),
            ("post_attention_norm", norm),
            ("convolution_input_norm", norm),
            ("convolution_start", Projection(hidden, 2 * hidden, activation="glu", role="mlp")),
            ("convolution", Convolution(hidden, hidden, kernel, (1,), groups=hidden)),
            ("convolution_norm", norm),
            ("convolution_end", Projection(hidden, hidden, role="mlp")),
            ("mlp_end_norm", norm),
            ("mlp_end", half),
            ("mlp_end_post_norm", norm),
            ("output_norm", norm),
        )
    )


def _context(c: Config, prefix: str) -> int:
    """Positions that a chunk of queries reads: itself, and some to the left and right."""
    left = c.integer(f"{prefix}attention_context_left", low=0)
    right = c.integer(f"{prefix}attention_context_right", low=0)
    return c.integer(f"{prefix}attention_chunk_size") + max(0, left - 1) + right


def _numbers(c: Config, key: str) -> Side:
    return _two(c, key, c.entries(key))


def _pairs(c: Config, key: str) -> tuple[Side, Side]:
    values = c.entries(key)
    if len(values) != 2:
        raise c.error(key, f"must hold two pairs, one a convolution, not {len(values)}")
    return _two(c, key, values[0]), _two(c, key, values[1])


def _two(c: Config, key: str, value: Any) -> Side:
    if (
        not isinstance(value, (list, tuple))
        or len(value) != 2
        or not all(type(side) is int and 0 < side <= MAX_SIZE for side in value)
    ):
        raise c.error(key, f"must hold two positive whole numbers, not {value!r:.60}")
    return value[0], value[1]


GEMMA3N_AUDIO: Mapping[str, Any] = {
    "vocab_size": 128,
    "input_feat_size": 128,
    "hidden_size": 1536,
    "rms_norm_eps": 1e-6,
    "conf_attention_chunk_size": 12,
    "conf_attention_context_left": 13,
    "conf_attention_context_right": 0,
    "conf_attention_logit_cap": 50.0,
    "conf_num_attention_heads": 8,
    "conf_num_hidden_layers": 12,
    "conf_conv_kernel_size": 5,
    "sscp_conv_channel_size": (128, 32),
    "sscp_conv_kernel_size": ((3, 3), (3, 3)),
    "sscp_conv_stride_size": ((2, 2), (2, 2)),
}
GEMMA4_AUDIO: Mapping[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "hidden_act": "silu",
    "subsampling_conv_channels": (128, 32),
    "conv_kernel_size": 5,
    "attention_chunk_size": 12,
    "attention_context_left": 13,
    "attention_context_right": 0,
    "attention_logit_cap": 50.0,
    "rms_norm_eps": 1e-6,
    "output_proj_dims": 1536,
}
