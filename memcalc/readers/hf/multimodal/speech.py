"""Encoders of sound as Whisper builds them: a strided convolution in front of a transformer that sees both ways.

Each reads its own nested config and gives one Part; its defaults are the whole configuration class.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.frozen import NamedTuple
from memcalc.readers.hf.common import attention, pre_norm, rms, sliding_window
from memcalc.readers.hf.config import Config


class Keys(NamedTuple):
    """How a config spells its sizes."""

    hidden: str = "hidden_size"
    heads: str = "num_attention_heads"
    inner: str = "intermediate_size"
    layers: str = "num_hidden_layers"
    activation: str = "activation_function"


BART_KEYS = Keys("d_model", "encoder_attention_heads", "encoder_ffn_dim", "encoder_layers")


def whisper(c: Config, keys: Keys = BART_KEYS) -> Part:
    """Whisper's own encoder: fixed sinusoids as positions, kept as a parameter (Qwen2-Audio, Voxtral, Audio Flamingo 3)."""
    hidden, positions = c.integer(keys.hidden), c.integer("max_source_positions")
    table = Embedding(0, hidden, position=positions, trainable_position=False)
    return _encoder(c, keys, (*_stem(c, hidden), ("positions", table)), key_bias=False)


def qwen2_5_omni(c: Config) -> Part:
    """Sinusoids that are no parameter; the marks of beginning and end of sound; a projection to the text's width."""
    hidden, outputs = c.integer("d_model"), c.integer("output_dim")
    part = _encoder(c, BART_KEYS, _stem(c, hidden), key_bias=False)
    output: Named = (("output", Projection(hidden, outputs, bias=True)), ("marks", Embedding(2, outputs)))
    return replace(part, exit=(*part.exit, *output))


def qwen3_omni(c: Config) -> Part:
    """The projector of Qwen3-ASR is a part of this encoder."""
    part, hidden = qwen3_asr(c), c.integer("d_model")
    up = Projection(hidden, hidden, bias=True, activation=c.text("activation_function"), cut="outputs")
    return replace(
        part, exit=(*part.exit, ("up", up), ("down", Projection(hidden, c.integer("output_dim"), bias=True, cut="inputs")))
    )


def qwen3_asr(c: Config) -> Part:
    """Three convolutions over time and frequency, each halving both."""
    hidden, width, frequencies = c.integer("d_model"), c.integer("downsample_hidden_size"), c.integer("num_mel_bins")
    for _ in range(3):
        frequencies = (frequencies + 1) // 2
    stem: Named = tuple(
        (f"convolution{i + 1}", Convolution(width if i else 1, width, (3, 3), (2, 2), bias=True, activation="gelu"))
        for i in range(3)
    )
    return _encoder(c, BART_KEYS, (*stem, ("input", Projection(width * frequencies, hidden))), key_bias=True)


def glm(c: Config) -> Part:
    """Rotary positions in half of each head, grouped keys and values."""
    hidden, norm = c.integer("hidden_size"), Norm(c.integer("hidden_size"), "layer")
    mixer = attention(c, query_bias=True, key_bias=False, value_bias=True, output_bias=True, causal=False)
    feed_forward = MLP(hidden, c.integer("intermediate_size"), gated=False, bias=True, activation=c.text("hidden_act"))
    return _part(_stem(c, hidden), pre_norm(norm, mixer, feed_forward), c.layers(), norm)


def voxtral_realtime(c: Config) -> Part:
    """Causal, within a window: rotary positions, RMSNorm and a gated MLP whose last matrix has a bias."""
    hidden, norm, heads = c.integer("hidden_size"), rms(c), c.integer("num_attention_heads")
    size = c.integer("head_dim", hidden // heads)
    mixer = attention_of(
        hidden, heads, heads, size, query_bias=True, key_bias=False, value_bias=True, output_bias=True, window=sliding_window(c)
    )
    feed_forward = MLP(hidden, c.integer("intermediate_size"), down_bias=True, activation=c.text("hidden_act"))
    return _part(_stem(c, hidden), pre_norm(norm, mixer, feed_forward), c.layers(), norm)


def parakeet(c: Config) -> Part:
    """A fast conformer: depthwise convolutions in front, then half a feed-forward, attention with relative positions, a gated
    depthwise convolution and half a feed-forward.
    """
    hidden, heads, bias = c.integer("hidden_size"), c.integer("num_attention_heads"), c.flag("attention_bias")
    mixer = attention(c, query_bias=bias, output_bias=bias, causal=False, rotary=False)
    rows = mixer.query_size
    size = (heads, mixer.head_dim)
    relative = Plain(
        (
            Weight("relative_k", "attention", (rows, hidden)),
            Weight("content_bias", "attention", size),
            Weight("position_bias", "attention", size),
        )
    )
    half = MLP(hidden, c.integer("intermediate_size"), gated=False, bias=bias, activation=c.text("hidden_act"))
    norm, biased = Norm(hidden, "layer"), c.flag("convolution_bias")
    kernel = (c.integer("conv_kernel_size"),)
    layer = Layer(
        (
            ("mlp_start_norm", norm),
            ("mlp_start", half),
            ("input_norm", norm),
            ("attention", mixer),
            ("relative_positions", relative),
            ("convolution_input_norm", norm),
            ("convolution_start", Projection(hidden, 2 * hidden, bias=biased, activation="glu", role="mlp")),
            ("convolution", Convolution(hidden, hidden, kernel, (1,), groups=hidden, bias=biased)),
            ("convolution_norm", norm),  # over the batch
            ("convolution_end", Projection(hidden, hidden, bias=biased, role="mlp")),
            ("mlp_end_norm", norm),
            ("mlp_end", half),
            ("output_norm", norm),
        )
    )
    return Part("audio", entry=_subsampling(c, hidden), stacks=(Stack.uniform(layer, c.layers()),))


def _subsampling(c: Config, hidden: int) -> Named:
    """Strided convolutions that leave one frame of `subsampling_factor`; all but the first are depthwise and pointwise."""
    factor, stride, width = (c.integer(f"subsampling_{key}") for key in ("factor", "conv_stride", "conv_channels"))
    kernel, depth = (c.integer("subsampling_conv_kernel_size"),) * 2, factor.bit_length() - 1
    if not depth:
        raise c.error("subsampling_factor", f"must be 2 or more, not {factor}")
    frequencies = c.integer("num_mel_bins") // stride**depth
    if not frequencies:
        raise c.error("num_mel_bins", "is too small for the convolutions")
    traits: dict[str, Any] = {"bias": True}
    later = tuple(
        pair
        for i in range(2, depth + 1)
        for pair in (
            (f"depthwise{i}", Convolution(width, width, kernel, (stride, stride), groups=width, **traits)),
            (f"pointwise{i}", Convolution(width, width, (1, 1), activation="relu", **traits)),
        )
    )
    first = Convolution(1, width, kernel, (stride, stride), activation="relu", **traits)
    return (("convolution1", first), *later, ("input", Projection(width * frequencies, hidden, bias=True)))


def _stem(c: Config, hidden: int) -> Named:
    traits: dict[str, Any] = {"kernel": (3,), "bias": True, "activation": "gelu"}
    return (
        ("convolution1", Convolution(c.integer("num_mel_bins"), hidden, stride=(1,), **traits)),
        ("convolution2", Convolution(hidden, hidden, stride=(2,), **traits)),
    )


def _encoder(c: Config, keys: Keys, stem: Named, *, key_bias: bool) -> Part:
    hidden, heads, norm = c.integer(keys.hidden), c.integer(keys.heads), Norm(c.integer(keys.hidden), "layer")
    if hidden % heads:
        raise c.error(keys.hidden, f"({hidden}) is not a multiple of {keys.heads} ({heads})")
    mixer = attention_of(
        hidden, heads, heads, hidden // heads, query_bias=True, key_bias=key_bias, output_bias=True, causal=False, rotary=False
    )
    feed_forward = MLP(hidden, c.integer(keys.inner), gated=False, bias=True, activation=c.text(keys.activation))
    return _part(stem, pre_norm(norm, mixer, feed_forward), c.layers(keys.layers), norm)


def _part(stem: Named, layer: Layer, depth: int, norm: Norm) -> Part:
    return Part("audio", entry=stem, stacks=(Stack.uniform(layer, depth),), exit=(("final_norm", norm),))


PARAKEET: Mapping[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 8,
    "intermediate_size": 4096,
    "hidden_act": "silu",
    "attention_bias": True,
    "convolution_bias": True,
    "conv_kernel_size": 9,
    "subsampling_factor": 8,
    "subsampling_conv_channels": 256,
    "subsampling_conv_kernel_size": 3,
    "subsampling_conv_stride": 2,
    "num_mel_bins": 80,
}
QWEN2_AUDIO: Mapping[str, Any] = {
    "num_mel_bins": 128,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "d_model": 1280,
    "activation_function": "gelu",
    "max_source_positions": 1500,
}
QWEN2_5_OMNI: Mapping[str, Any] = {**QWEN2_AUDIO, "output_dim": 3584}
QWEN3_OMNI: Mapping[str, Any] = {**QWEN2_5_OMNI, "downsample_hidden_size": 480}
QWEN3_ASR: Mapping[str, Any] = {
    **QWEN3_OMNI,
    "encoder_layers": 24,
    "encoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "d_model": 1024,
}
VOXTRAL: Mapping[str, Any] = {
    "num_mel_bins": 128,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "intermediate_size": 5120,
    "hidden_size": 1280,
    "activation_function": "gelu",
    "max_source_positions": 1500,
}
GLM_ASR: Mapping[str, Any] = {
    "num_mel_bins": 128,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "intermediate_size": 5120,
    "hidden_size": 1280,
    "hidden_act": "gelu",
    "partial_rotary_factor": 0.5,
}
VOXTRAL_REALTIME: Mapping[str, Any] = {
    "num_mel_bins": 128,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 5120,
    "hidden_size": 1280,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "sliding_window": 750,
    "head_dim": 64,
}
