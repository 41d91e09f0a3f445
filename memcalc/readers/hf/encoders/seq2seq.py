"""Encoder-decoder models: Whisper, TrOCR, and the layers that BART's line has too."""

from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import Attention, attention_of
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.task_head import Pooler
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import architecture, layer_norm, norm_of_sum, pre_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.tasks import classifier, label_count, task, uncounted

GENERATION = ("", "ConditionalGeneration")


def whisper(c: Config) -> Architecture:
    hidden, vocabulary, kind = c.integer("d_model"), c.integer("vocab_size"), task(c)
    norm, dropout = layer_norm(c, size=hidden), c.number("dropout")
    convolution: dict[str, Any] = {"kernel": (3,), "bias": True, "frames": 2, "activation": "gelu"}
    encoder = Part(
        "encoder",
        tokens=c.integer("max_source_positions"),
        entry=(
            ("convolution1", Convolution(c.integer("num_mel_bins"), hidden, stride=(1,), **convolution)),
            ("convolution2", Convolution(hidden, hidden, stride=(2,), **convolution)),
            (
                "positions",
                Embedding(
                    0,
                    hidden,
                    position=c.integer("max_source_positions"),
                    trainable_position=False,
                    dropout=dropout,
                ),
            ),
        ),
        stacks=(Stack.uniform(encoder_layer(c, norm, key_bias=False), c.layers("encoder_layers")),),
        exit=(("final_norm", norm),),
    )
    if kind == "AudioClassification":
        projected = c.integer("classifier_proj_size")
        projector = Pooler(hidden, projected, "")
        exit_blocks = (*encoder.exit, ("projector", projector), ("classifier", classifier(projected, label_count(c))))
        warning = "the learned sum over layers is not counted" if c.flag("use_weighted_layer_sum") else ""
        audio = architecture(c, (replace(encoder, exit=exit_blocks),), tied=False)
        return replace(audio, warnings=(warning,) if warning else ())
    headed = kind in (*GENERATION, "CausalLM")
    tied = c.flag("tie_word_embeddings")
    embedding = Embedding(
        vocabulary,
        hidden,
        position=c.integer("max_target_positions"),
        dropout=dropout,
        scaled=c.flag("scale_embedding"),
    )
    decoder = Part(
        "decoder",
        entry=(("embedding", embedding),),
        stacks=(Stack.uniform(decoder_layer(c, norm, key_bias=False), c.layers("decoder_layers")),),
        exit=(("final_norm", norm), *((("head", Head(vocabulary, hidden, tied=tied, upcast=False)),) if headed else ())),
    )
    if kind == "CausalLM":  # a decoder alone keeps its cross-attention
        return architecture(c, (decoder,), tied=tied)
    warnings = () if headed or kind == "Model" else uncounted(c)
    return replace(architecture(c, (encoder, decoder), tied=headed and tied), warnings=warnings)


def trocr(c: Config) -> Architecture:
    """TrOCR's decoder, which reads an image encoder: BART's with learned or sinusoidal positions."""
    hidden, vocabulary, tied = c.integer("d_model"), c.integer("vocab_size"), c.flag("tie_word_embeddings")
    norm, learned = layer_norm(c, size=hidden), c.flag("use_learned_position_embeddings")
    layer = decoder_layer(c, norm, after=True)
    width = c.integer("cross_attention_hidden_size") if c.has("cross_attention_hidden_size") else hidden
    alone = not c.flag("add_cross_attention", False)  # whoever joins it with an encoder says so
    crossing = revised(dict(layer.blocks)["cross_attention"], kv_inputs=width, images=alone)
    layer = replace(
        layer, blocks=tuple((name, crossing if name == "cross_attention" else block) for name, block in layer.blocks)
    )
    embedding = Embedding(
        vocabulary,
        hidden,
        position=c.integer("max_position_embeddings") + 2 if learned else 0,
        dropout=c.number("dropout"),
        scaled=c.flag("scale_embedding"),
    )
    part = Part(
        "decoder",
        entry=(("embedding", embedding), *((("embedding_norm", norm),) if c.flag("layernorm_embedding") else ())),
        stacks=(Stack.uniform(layer, c.layers("decoder_layers")),),
        exit=(("head", Head(vocabulary, hidden, tied=tied, upcast=False)),),
    )
    return architecture(c, (part,), tied=tied)


def encoder_layer(
    c: Config, norm: Norm | None = None, *, after: bool = False, key_bias: bool = True, bias: bool = True
) -> Layer:
    """BART's; `after`: norms after each sum. `bias`: of the attention's projections."""
    norm = norm or layer_norm(c, size=c.integer("d_model"))
    make = norm_of_sum if after else pre_norm
    return replace(make(norm, _attention(c, "encoder", key_bias=key_bias, bias=bias), _mlp(c, "encoder")), source=True)


def decoder_layer(
    c: Config, norm: Norm | None = None, *, after: bool = False, key_bias: bool = True, bias: bool = True
) -> Layer:
    """The same, causal, with attention to the encoder's tokens."""
    norm = norm or layer_norm(c, size=c.integer("d_model"))
    make = norm_of_sum if after else pre_norm
    attention = revised(_attention(c, "decoder", key_bias=key_bias, bias=bias), causal=True)
    layer = make(norm, attention, _mlp(c, "decoder"))
    source = 0 if key_bias else c.integer("max_source_positions")  # Whisper's
    crossing = ("cross_attention", revised(attention, cross=True, causal=False, source=source))
    cross: Named = (crossing, ("cross_attention_norm", norm))
    return replace(layer, blocks=layer.blocks[:2] + (cross if after else cross[::-1]) + layer.blocks[2:])


def encoder_attention(c: Config, *, key_bias: bool = True, bias: bool = True) -> Attention:
    return _attention(c, "encoder", key_bias=key_bias, bias=bias)


def _attention(c: Config, side: str, *, key_bias: bool, bias: bool) -> Attention:
    hidden, heads = c.integer("d_model"), c.integer(f"{side}_attention_heads")
    if hidden % heads:
        raise c.error("d_model", f"({hidden}) is not a multiple of {side}_attention_heads ({heads})")
    return attention_of(
        hidden,
        heads,
        heads,
        hidden // heads,
        query_bias=bias,
        key_bias=bias and key_bias,
        output_bias=bias,
        causal=False,
        rotary=False,
        scores="as computed",
        by_head=not key_bias,  # Whisper
        dropout=c.number("attention_dropout"),
        output_dropout=c.number("dropout"),
    )


def _mlp(c: Config, side: str) -> MLP:
    return MLP(
        c.integer("d_model"),
        c.integer(f"{side}_ffn_dim"),
        gated=False,
        bias=True,
        activation=c.text("activation_function"),
        inner_dropout=c.number("activation_dropout", 0.0),
        dropout=c.number("dropout"),
    )


_WHISPER = {
    "num_mel_bins": 80,
    "max_source_positions": 1500,
    "max_target_positions": 448,
    "activation_function": "gelu",
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "scale_embedding": False,
    "tie_word_embeddings": True,
    "classifier_proj_size": 256,
    "use_weighted_layer_sum": False,
}
BART = {
    "max_position_embeddings": 1024,
    "activation_function": "gelu",
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "scale_embedding": False,
    "tie_word_embeddings": True,
}

FAMILIES = {
    "trocr": Family(
        trocr, {**BART, "max_position_embeddings": 512, "use_learned_position_embeddings": True, "layernorm_embedding": True}
    ),
    "whisper": Family(whisper, _WHISPER),
}  # fmt: skip
