"""Encoder-decoder models: T5, Whisper, and the layers that BART's line has too."""

from dataclasses import replace
from typing import Any, Protocol

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.core import FIRST, LATER, Relative
from memcalc.blocks.attention.softmax import Attention, attention_of
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.dropout import Dropout
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.experts.mixture import experts_of
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.task_head import Pooler
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import architecture, layer_norm, norm_of_sum, pre_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.tasks import classification, classifier, label_count, task, uncounted

GENERATION = ("", "ConditionalGeneration")


def t5(c: Config, stack: "Halves | None" = None, *, tied: bool = True, own_head: bool = False) -> Architecture:
    """T5 and mT5: the library always ties the head, whatever `tie_word_embeddings` says (that only sets a scale).

    `stack`: the layers of either half where they are not T5's. `tied`: not so, and each half has a table of its own.
    `own_head`: the halves share their table, the head has another.
    """
    layers = stack or _t5_stack
    hidden, vocabulary, kind = c.integer("hidden_size"), c.integer("vocab_size"), task(c)
    dropout = c.number("dropout_rate")
    norm = Norm(hidden, "rms-direct", epsilon=c.number("layer_norm_epsilon"))
    dropped = ("final_dropout", Dropout(dropout))
    depth = c.layers()
    decoder_depth = c.layers("num_decoder_layers") if c.has("num_decoder_layers") else depth
    shared: Named = () if tied else (("shared", Embedding(vocabulary, hidden)),)
    encoder = Part(
        "encoder",
        entry=(*shared, ("embedding", Embedding(vocabulary, hidden, dropout=dropout))),
        stacks=(layers(c, norm, depth, decodes=False),),
        exit=(("final_norm", norm), dropped),
    )
    if kind in ("EncoderModel", "TokenClassification"):
        if c.flag("is_decoder", False):
            raise c.error("is_decoder", f"makes no sense for an encoder alone ({kind})")
        exit_blocks: Named = encoder.exit
        if kind == "TokenClassification":
            exit_blocks += (("classifier", classifier(hidden, label_count(c))),)
        return architecture(c, (replace(encoder, exit=exit_blocks),), tied=False)
    head: Named = ()
    warnings: tuple[str, ...] = ()
    if kind in GENERATION:
        scaled = c.flag("tie_word_embeddings")
        head = (("head", Head(vocabulary, hidden, tied=tied and not own_head, input_scaled=scaled, upcast=False)),)
    elif kind != "Model":
        known = classification(c, hidden, kind)
        head, warnings = known or (), () if known else uncounted(c)
    decoder = Part(
        "decoder",
        entry=(("embedding", Embedding(vocabulary, hidden, dropout=dropout, tied=tied)),),
        stacks=(layers(c, norm, decoder_depth, decodes=True),),
        exit=(("final_norm", norm), dropped, *head),
    )
    return replace(architecture(c, (encoder, decoder), tied=tied and not own_head and kind in GENERATION), warnings=warnings)


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


def umt5(c: Config) -> Architecture:
    """Each layer has a bias of its own."""
    return t5(c, lambda c, norm, depth, *, decodes: Stack.uniform(_t5_layers(c, norm, decodes=decodes)[0], depth))


def longt5(c: Config) -> Architecture:
    """The encoder attends in a window, and to means of blocks where the config asks for it."""
    kind = c.text("encoder_attention_type")
    if kind not in ("local", "transient-global"):
        raise c.error("encoder_attention_type", f"must be local or transient-global, not {kind!r:.60}")

    def stack(c: Config, norm: Norm, depth: int, *, decodes: bool) -> Stack:
        first, rest = _t5_layers(c, norm, decodes=decodes)
        if not decodes:
            table = (c.integer("relative_attention_num_buckets"), c.integer("num_attention_heads"))
            blocks: Named = (("global_norm", norm),) if kind == "transient-global" else (("approximation", Plain(())),)
            bias: Named = (("global_bias", Plain((Weight("bias", "attention", table),))),) if len(kind) > len("local") else ()
            first, rest = (replace(layer, blocks=layer.blocks + blocks) for layer in (first, rest))
            first = replace(first, blocks=first.blocks + bias)
        return Stack.of([first] + [rest] * (depth - 1))

    return t5(c, stack)


def switch_transformers(c: Config) -> Architecture:
    """T5 whose feed-forwards are experts in every so many layers, one of them for a token."""

    def stack(c: Config, norm: Norm, depth: int, *, decodes: bool) -> Stack:
        side = "decoder" if decodes else "encoder"
        sparse = c.integer(f"num_sparse_{side}_layers", low=0)
        if sparse > depth and not c.has(f"{side}_sparse_step"):
            raise c.error(f"num_sparse_{side}_layers", f"is at most {depth}")
        # saved files repeat the step, and the library takes theirs; none is one, in the second layer
        step = c.integer(f"{side}_sparse_step", depth // (sparse or 1), low=0)
        hidden, width = c.integer("hidden_size"), c.integer("intermediate_size")
        activation = c.text("dense_act_fn")
        dense = MLP(hidden, width, gated=False, activation=activation, dropout=c.number("dropout_rate"))
        experts = experts_of(
            hidden, width, c.integer("num_experts"), 1, gated=False, activation=activation, router_bias=c.flag("router_bias")
        )
        sequence = []
        for i in range(depth):
            layer = _t5_layers(c, norm, decodes=decodes)[min(i, 1)]
            routed = step == 1 or (step > 0 and i % step == 1)
            block: Named = (("mlp", experts), ("approximation", Plain(()))) if routed else (("mlp", dense),)
            sequence.append(replace(layer, blocks=layer.blocks[:-1] + block))
        return Stack.of(sequence)

    return t5(c, stack, tied=c.flag("tie_word_embeddings"))


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


def pop2piano(c: Config) -> Architecture:
    """T5 that reads a spectrogram and a composer's token, with a head of its own."""
    model = t5(c, own_head=True)
    encoder, *rest = model.parts
    composers = Weight("composers", "other", (c.integer("composer_vocab_size"), c.integer("hidden_size")))
    encoder = replace(encoder, entry=(*encoder.entry, ("composers", Plain((composers,)))))
    return replace(model, parts=(encoder, *rest))


class Halves(Protocol):
    """Makes the layers of an encoder or a decoder."""

    def __call__(self, c: Config, norm: Norm, depth: int, *, decodes: bool) -> Stack: ...


def _t5_stack(c: Config, norm: Norm, depth: int, *, decodes: bool) -> Stack:
    """The first layer holds the learned relative-position bias that all layers of the stack use."""
    first, rest = _t5_layers(c, norm, decodes=decodes)
    return Stack.of([first] + [rest] * (depth - 1))


def _t5_layers(c: Config, norm: Norm, *, decodes: bool) -> tuple[Layer, Layer]:
    """One with a bias of its own, one that reads it."""
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

    return layer(own), layer(attention)


def _t5_activation(c: Config) -> tuple[bool, str]:
    projection = c.text("feed_forward_proj")
    kind, _, activation = projection.rpartition("-")
    if kind not in ("", "gated") or not activation:
        raise c.error("feed_forward_proj", f"must be ACTIVATION or gated-ACTIVATION, not {projection!r:.60}")
    gated = c.flag("is_gated_act", kind == "gated")  # saved beside it, and wins
    return gated, "gelu_new" if projection == "gated-gelu" else activation


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


T5 = {
    "d_kv": 64,
    "relative_attention_num_buckets": 32,
    "dropout_rate": 0.1,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu",
    "tie_word_embeddings": True,
}
_T5_SIZES = {**T5, "vocab_size": 32128, "d_model": 512, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
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
    "t5": Family(t5, T5),
    "mt5": Family(t5, {**T5, "feed_forward_proj": "gated-gelu"}),
    "umt5": Family(
        umt5,
        {
            **_T5_SIZES, "vocab_size": 250112, "d_ff": 1024, "num_layers": 8, "num_heads": 6,
            "feed_forward_proj": "gated-gelu",
        },
    ),
    "longt5": Family(longt5, {**_T5_SIZES, "encoder_attention_type": "local"}),
    "switch_transformers": Family(
        switch_transformers,
        {
            **_T5_SIZES, "d_model": 768, "num_layers": 12, "num_heads": 12, "num_experts": 8, "num_sparse_encoder_layers": 3,
            "num_sparse_decoder_layers": 3, "router_bias": False, "dense_act_fn": "relu",
        },
    ),
    "pop2piano": Family(
        pop2piano, {**_T5_SIZES, "vocab_size": 2400, "composer_vocab_size": 21, "feed_forward_proj": "gated-gelu"}
    ),
    "trocr": Family(
        trocr, {**BART, "max_position_embeddings": 512, "use_learned_position_embeddings": True, "layernorm_embedding": True}
    ),
    "whisper": Family(whisper, _WHISPER),
}  # fmt: skip
