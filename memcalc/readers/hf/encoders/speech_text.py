"""Encoder-decoders that hear: Speech2Text, Moonshine and its streaming kin."""

from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import architecture, biased_attention, layer_norm, mlp, pre_norm, windowed
from memcalc.readers.hf.config import MAX_SIZE, Config, Family
from memcalc.readers.hf.encoders.seq2seq import BART, GENERATION, decoder_layer, encoder_layer
from memcalc.readers.hf.tasks import task, uncounted


def speech_to_text(c: Config) -> Architecture:
    """Convolutions with a gate over the frames, then BART's layers with norms before each block; sines are not stored."""
    hidden, norm = c.integer("d_model"), layer_norm(c, size=c.integer("d_model"))
    depth, middle = c.layers("num_conv_layers"), c.integer("conv_channels")
    kernels = c.entries("conv_kernel_sizes", length=depth, of=int)
    inputs = c.integer("input_feat_per_channel") * c.integer("input_channels")
    front: Named = ()
    for i, kernel in enumerate(kernels):  # the gate halves what each gives
        outputs = middle if i < depth - 1 else 2 * hidden
        convolution = Convolution(inputs if i == 0 else middle // 2, outputs, (kernel,), stride=(2,), bias=True)
        front += ((f"convolution{i + 1}", convolution),)
    encoder = Part(
        "encoder",
        tokens=c.integer("max_source_positions"),
        entry=front,
        stacks=(Stack.uniform(encoder_layer(c), c.layers("encoder_layers")),),
        exit=(("final_norm", norm),),
    )
    table = Embedding(c.integer("vocab_size"), hidden, dropout=c.number("dropout"), scaled=c.flag("scale_embedding"))
    decoder = Part(
        "decoder",
        entry=(("embedding", table),),
        stacks=(Stack.uniform(decoder_layer(c), c.layers("decoder_layers")),),
        exit=(("final_norm", norm),),
    )
    return _headed(c, encoder, decoder, hidden)


def moonshine(c: Config) -> Architecture:
    """Convolutions over the sound itself, rotary positions, norms without shifts, a gated feed-forward in the decoder."""
    hidden, norm = c.integer("hidden_size"), layer_norm(c, bias=False)
    encoder_layer = pre_norm(
        norm, _grouped(c, "encoder"), mlp(c, gated=False, bias=True, activation=c.text("encoder_hidden_act"))
    )
    front: Named = (
        ("convolution1", Convolution(1, hidden, (127,), stride=(64,), activation="tanh", frames=384)),
        ("group_norm", Norm(hidden, "layer")),
        ("convolution2", Convolution(hidden, 2 * hidden, (7,), stride=(3,), bias=True, activation="gelu", frames=6)),
        ("convolution3", Convolution(2 * hidden, hidden, (3,), stride=(2,), bias=True, activation="gelu", frames=2)),
    )
    depth = c.layers("encoder_num_hidden_layers")
    encoder = Part("encoder", front, (Stack.uniform(replace(encoder_layer, source=True), depth),), (("final_norm", norm),))
    mixer = _grouped(c, "decoder")
    layer = pre_norm(norm, revised(mixer, causal=True), mlp(c, bias=True, fused=True, activation=c.text("decoder_hidden_act")))
    cross: Named = (("cross_attention_norm", norm), ("cross_attention", revised(mixer, cross=True, rotary=False)))
    layer = replace(layer, blocks=layer.blocks[:2] + cross + layer.blocks[2:])
    decoder = Part(
        "decoder",
        entry=(("embedding", Embedding(c.integer("vocab_size"), hidden)),),
        stacks=(Stack.uniform(layer, c.layers("decoder_num_hidden_layers")),),
        exit=(("final_norm", norm),),
    )
    return _headed(c, encoder, decoder, hidden, upcast=True)


def moonshine_streaming(c: Config) -> Architecture:
    """The encoder attends in a window of each layer's own; its norms have scales only, the decoder learned positions for what
    it hears (modeling_moonshine_streaming.py).
    """
    encoder, hidden, norm = c.sub("encoder_config", _STREAMING), c.integer("hidden_size"), layer_norm(c, bias=False)
    width, depth = encoder.integer("hidden_size"), encoder.layers()
    heard_norm = Norm(width, "layer", bias=False)
    frame = round(encoder.integer("sample_rate") * encoder.number("frame_ms") / 1000)
    if not 0 < frame <= MAX_SIZE:
        raise encoder.error("frame_ms", "times sample_rate must be at least one sample a frame")
    front: Named = (
        ("compression", Plain((Weight("log_k", "other", ()),))),
        ("frames", Projection(frame, width, activation="silu")),
        ("convolution1", Convolution(width, 2 * width, (5,), (2,), bias=True, activation="silu")),
        ("convolution2", Convolution(2 * width, width, (5,), (2,), bias=True)),
    )
    feed_forward = mlp(encoder, gated=False, bias=True)

    def heard(window: int) -> Layer:
        mixer = biased_attention(encoder, causal=False, rotary=False, window=window)
        return replace(pre_norm(heard_norm, mixer, feed_forward), source=True)

    windows = encoder.entries("sliding_windows", length=depth, of=list)
    reach = [sum(side for side in pair if isinstance(side, int)) + 1 for pair in windows]
    first = Part("encoder", front, (Stack.of(windowed(reach, heard)),), (("final_norm", heard_norm),))
    mixer = revised(biased_attention(c), output_bias=False)
    layer = pre_norm(norm, mixer, mlp(c, bias=True, fused=True))
    cross: Named = (
        ("cross_attention_norm", norm), ("cross_attention", revised(mixer, cross=True, causal=False, rotary=False))
    )  # fmt: skip
    layer = replace(layer, blocks=layer.blocks[:2] + cross + layer.blocks[2:])
    into: Named = (("projection", Projection(width, hidden)),) if width != hidden else ()
    positions = Embedding(0, width, position=c.integer("max_position_embeddings"))
    second = Part(
        "decoder",
        entry=(("embedding", Embedding(c.integer("vocab_size"), hidden)),),
        stacks=(Stack.uniform(layer, c.layers()),),
        exit=(("final_norm", norm),),
    )
    return _headed(c, replace(first, exit=(*first.exit, ("positions", positions), *into)), second, hidden)


def _grouped(c: Config, side: str) -> Attention:
    """Attention of one half; a null of key-value heads means as many as there are heads."""
    heads = c.integer(f"{side}_num_attention_heads")
    shared = f"{side}_num_key_value_heads"
    counts = [c.integer(f"{half}_num_attention_heads") for half in ("encoder", "decoder")]
    counts += [c.integer(f"{half}_num_key_value_heads", heads) for half in ("encoder", "decoder")]
    if len(set(counts)) > 1:  # the library writes one half's heads into the config that the other reads
        raise c.error(shared, "must be that of both halves, and the number of their heads")
    own: dict[str, Any] = {"num_attention_heads": heads, "num_key_value_heads": c.integer(shared) if c.has(shared) else heads}
    return revised(biased_attention(c.reread(**own), causal=False), output_bias=False, rotary_tables="copied")


def _headed(c: Config, encoder: Part, decoder: Part, hidden: int, *, upcast: bool = False) -> Architecture:
    kind, tied, vocabulary = task(c), c.flag("tie_word_embeddings"), c.integer("vocab_size")
    head: Named = (("head", Head(vocabulary, hidden, tied=tied, upcast=upcast)),) if kind in GENERATION else ()
    warnings = () if head or kind == "Model" else uncounted(c)
    parts = (encoder, replace(decoder, exit=decoder.exit + head))
    return replace(architecture(c, parts, tied=tied and bool(head)), warnings=warnings)


_STREAMING = {
    "hidden_size": 320, "intermediate_size": 1280, "num_hidden_layers": 6, "num_attention_heads": 8,
    "num_key_value_heads": 8, "hidden_act": "gelu", "max_position_embeddings": 4096, "sample_rate": 16000, "frame_ms": 5.0,
    "sliding_windows": [[16, 4], [16, 4], [16, 0], [16, 0], [16, 4], [16, 4]],
}  # fmt: skip

FAMILIES = {
    "moonshine_streaming": Family(
        moonshine_streaming,
        {
            **_STREAMING, "vocab_size": 32768, "hidden_act": "silu", "num_key_value_heads": None, "tie_word_embeddings": False,
            "partial_rotary_factor": 0.8,
        },
    ),
    "speech_to_text": Family(
        speech_to_text,
        {
            **BART, "vocab_size": 10000, "d_model": 256, "encoder_layers": 12, "decoder_layers": 6, "encoder_ffn_dim": 2048,
            "decoder_ffn_dim": 2048, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "activation_function": "relu",
            "scale_embedding": True, "max_source_positions": 6000, "num_conv_layers": 2, "conv_kernel_sizes": [5, 5],
            "conv_channels": 1024, "input_feat_per_channel": 80, "input_channels": 1,
        },
    ),
    "moonshine": Family(
        moonshine,
        {
            "vocab_size": 32768, "hidden_size": 288, "intermediate_size": 1152, "encoder_num_hidden_layers": 6,
            "decoder_num_hidden_layers": 6, "encoder_num_attention_heads": 8, "decoder_num_attention_heads": 8,
            "encoder_hidden_act": "gelu", "decoder_hidden_act": "silu", "max_position_embeddings": 512,
            "attention_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": True, "partial_rotary_factor": 0.9,
        },
    ),
}  # fmt: skip
