"""T5 and its kin: one learned bias by distance a stack, a shared table, a head that is always tied."""

from dataclasses import replace
from typing import Protocol

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.core import FIRST, LATER, Relative
from memcalc.blocks.attention.softmax import Attention, attention_of
from memcalc.blocks.dropout import Dropout
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.experts.mixture import experts_of
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import architecture, pre_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.seq2seq import GENERATION
from memcalc.readers.hf.tasks import classification, classifier, label_count, task, uncounted


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


T5 = {
    "d_kv": 64,
    "relative_attention_num_buckets": 32,
    "dropout_rate": 0.1,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu",
    "tie_word_embeddings": True,
}
_T5_SIZES = {**T5, "vocab_size": 32128, "d_model": 512, "d_ff": 2048, "num_layers": 6, "num_heads": 8}

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
}  # fmt: skip
