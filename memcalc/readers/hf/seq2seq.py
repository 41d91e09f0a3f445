"""Encoder-decoder models: T5, BART, Whisper."""

from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.core import FIRST, LATER, Relative
from memcalc.blocks.attention.softmax import Attention, attention_of
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.dropout import Dropout
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.task_head import Pooler
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import architecture, layer_norm, norm_of_sum, pre_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.tasks import classification, classifier, label_count, task, uncounted

GENERATION = ("", "ConditionalGeneration")


def t5(c: Config) -> Architecture:
    """T5 and mT5: the library always ties the head, whatever `tie_word_embeddings` says (that only sets a scale)."""
    hidden, vocabulary, kind = c.integer("hidden_size"), c.integer("vocab_size"), task(c)
    dropout = c.number("dropout_rate")
    norm = Norm(hidden, "rms-direct", epsilon=c.number("layer_norm_epsilon"))
    dropped = ("final_dropout", Dropout(dropout))
    depth = c.layers()
    decoder_depth = c.layers("num_decoder_layers") if c.has("num_decoder_layers") else depth
    encoder = Part(
        "encoder",
        entry=(("embedding", Embedding(vocabulary, hidden, dropout=dropout)),),
        stacks=(_t5_stack(c, norm, depth, decodes=False),),
        exit=(("final_norm", norm), dropped),
    )
    if kind in ("EncoderModel", "TokenClassification"):
        exit_blocks: Named = encoder.exit
        if kind == "TokenClassification":
            exit_blocks += (("classifier", classifier(hidden, label_count(c))),)
        return architecture(c, (replace(encoder, exit=exit_blocks),), tied=False)
    head: Named = ()
    warnings: tuple[str, ...] = ()
    if kind in GENERATION:
        scaled = c.flag("tie_word_embeddings")
        head = (("head", Head(vocabulary, hidden, tied=True, input_scaled=scaled, upcast=False)),)
    elif kind != "Model":
        known = classification(c, hidden, kind)
        head, warnings = known or (), () if known else uncounted(c)
    decoder = Part(
        "decoder",
        entry=(("embedding", Embedding(vocabulary, hidden, dropout=dropout, tied=True)),),
        stacks=(_t5_stack(c, norm, decoder_depth, decodes=True),),
        exit=(("final_norm", norm), dropped, *head),
    )
    return replace(architecture(c, (encoder, decoder), tied=kind in GENERATION), warnings=warnings)


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
        stacks=(Stack.uniform(_encoder_layer(c, norm, key_bias=False), c.layers("encoder_layers")),),
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
        stacks=(Stack.uniform(_decoder_layer(c, norm, key_bias=False), c.layers("decoder_layers")),),
        exit=(("final_norm", norm), *((("head", Head(vocabulary, hidden, tied=tied, upcast=False)),) if headed else ())),
    )
    if kind == "CausalLM":  # a decoder alone keeps its cross-attention
        return architecture(c, (decoder,), tied=tied)
    warnings = () if headed or kind == "Model" else uncounted(c)
    return replace(architecture(c, (encoder, decoder), tied=headed and tied), warnings=warnings)


def bart(c: Config) -> Architecture:
    """BART: norms after each block, learned positions shifted by two, one token table for both halves."""
    hidden, vocabulary, kind = c.integer("d_model"), c.integer("vocab_size"), task(c)
    norm, tied = layer_norm(c, size=hidden), c.flag("tie_word_embeddings")
    embedding = Embedding(
        vocabulary,
        hidden,
        position=c.integer("max_position_embeddings") + 2,
        dropout=c.number("dropout"),
        scaled=c.flag("scale_embedding"),
    )
    alone = kind == "CausalLM"
    head: Named = ()
    warnings: tuple[str, ...] = ()
    if kind in GENERATION or alone:
        head = (("head", Head(vocabulary, hidden, tied=tied, upcast=False)),)
    elif kind == "QuestionAnswering":  # start and end, whatever the labels
        head = (("classifier", classifier(hidden, 2)),)
    elif kind != "Model":
        known = classification(c, hidden, kind, labels=3)
        head, warnings = known or (), () if known else uncounted(c)
    # untied, the library keeps a table for each half beside the shared one, which then only sets the head's size
    shared: Named = () if tied else (("shared", Embedding(vocabulary, hidden)),)
    encoder = Part(
        "encoder",
        entry=(*shared, ("embedding", embedding), ("embedding_norm", norm)),
        stacks=(Stack.uniform(_encoder_layer(c, norm, after=True), c.layers("encoder_layers")),),
    )
    decoder = Part(
        "decoder",
        entry=(("embedding", replace(embedding, tied=tied and not alone)), ("embedding_norm", norm)),
        stacks=(Stack.uniform(_decoder_layer(c, norm, after=True), c.layers("decoder_layers")),),
        exit=head,
    )
    parts = (decoder,) if alone else (encoder, decoder)
    generates = bool(head) and (kind in GENERATION or alone)
    return replace(architecture(c, parts, tied=generates and tied), warnings=warnings)


def trocr(c: Config) -> Architecture:
    """TrOCR's decoder, which reads an image encoder: BART's with learned or sinusoidal positions."""
    hidden, vocabulary, tied = c.integer("d_model"), c.integer("vocab_size"), c.flag("tie_word_embeddings")
    norm, learned = layer_norm(c, size=hidden), c.flag("use_learned_position_embeddings")
    layer = _decoder_layer(c, norm, after=True)
    width = c.integer("cross_attention_hidden_size") if c.has("cross_attention_hidden_size") else hidden
    crossing = revised(dict(layer.blocks)["cross_attention"], kv_inputs=width)
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


def _t5_stack(c: Config, norm: Norm, depth: int, *, decodes: bool) -> Stack:
    """The first layer holds the learned relative-position bias that all layers of the stack use."""
    hidden, heads, dropout = c.integer("hidden_size"), c.integer("num_attention_heads"), c.number("dropout_rate")
    attention = attention_of(
        hidden, heads, heads, c.integer("d_kv"), causal=decodes, rotary=False, dropout=dropout, output_dropout=dropout,
        relative=Relative(LATER),
    )  # fmt: skip
    gated, activation = _t5_activation(c)
    feed_forward = MLP(hidden, c.integer("intermediate_size"), gated=gated, activation=activation, dropout=dropout,
                       inner_dropout=dropout)  # fmt: skip
    own = revised(attention, relative=Relative(FIRST, c.integer("relative_attention_num_buckets")))

    def layer(mixer: Attention) -> Layer:
        made = pre_norm(norm, mixer, feed_forward)
        crossing = revised(attention, cross=True, causal=False, relative=mixer.positions.relative._replace(buckets=0))
        cross: Named = (("cross_attention_norm", norm), ("cross_attention", crossing)) if decodes else ()
        return replace(made, blocks=made.blocks[:2] + cross + made.blocks[2:], source=not decodes)

    first, rest = layer(own), layer(attention)
    return Stack.of([first] + [rest] * (depth - 1))


def _t5_activation(c: Config) -> tuple[bool, str]:
    projection = c.text("feed_forward_proj")
    kind, _, activation = projection.rpartition("-")
    if kind not in ("", "gated") or not activation:
        raise c.error("feed_forward_proj", f"must be ACTIVATION or gated-ACTIVATION, not {projection!r:.60}")
    gated = c.flag("is_gated_act", kind == "gated")  # saved beside it, and wins
    return gated, "gelu_new" if projection == "gated-gelu" else activation


def _encoder_layer(c: Config, norm: Norm, *, after: bool = False, key_bias: bool = True) -> Layer:
    make = norm_of_sum if after else pre_norm
    return replace(make(norm, _attention(c, "encoder", key_bias=key_bias), _mlp(c, "encoder")), source=True)


def _decoder_layer(c: Config, norm: Norm, *, after: bool = False, key_bias: bool = True) -> Layer:
    make = norm_of_sum if after else pre_norm
    attention = revised(_attention(c, "decoder", key_bias=key_bias), causal=True)
    layer = make(norm, attention, _mlp(c, "decoder"))
    source = 0 if key_bias else c.integer("max_source_positions")  # Whisper's
    crossing = ("cross_attention", revised(attention, cross=True, causal=False, source=source))
    cross: Named = (crossing, ("cross_attention_norm", norm))
    return replace(layer, blocks=layer.blocks[:2] + (cross if after else cross[::-1]) + layer.blocks[2:])


def _attention(c: Config, side: str, *, key_bias: bool) -> Attention:
    hidden, heads = c.integer("d_model"), c.integer(f"{side}_attention_heads")
    if hidden % heads:
        raise c.error("d_model", f"({hidden}) is not a multiple of {side}_attention_heads ({heads})")
    return attention_of(
        hidden,
        heads,
        heads,
        hidden // heads,
        query_bias=True,
        key_bias=key_bias,
        output_bias=True,
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


_T5 = {
    "d_kv": 64,
    "relative_attention_num_buckets": 32,
    "dropout_rate": 0.1,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu",
    "tie_word_embeddings": True,
}
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
_BART = {
    "max_position_embeddings": 1024,
    "activation_function": "gelu",
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "scale_embedding": False,
    "tie_word_embeddings": True,
}

FAMILIES = {
    "t5": Family(t5, _T5),
    "mt5": Family(t5, {**_T5, "feed_forward_proj": "gated-gelu"}),
    "whisper": Family(whisper, _WHISPER),
    "bart": Family(bart, _BART),
    "trocr": Family(
        trocr,
        {**_BART, "max_position_embeddings": 512, "use_learned_position_embeddings": True, "layernorm_embedding": True},
    ),
}
