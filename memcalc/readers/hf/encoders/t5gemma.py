"""T5Gemma: a Gemma 2 that sees both ways, and one that reads it; T5Gemma 2: so of Gemma 3, whose encoder sees images too."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.reused import Reused
from memcalc.blocks.task_head import TaskHead
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import (
    architecture,
    biased_attention,
    every_nth_full,
    head_norms,
    layer_windows,
    mlp,
    optional_number,
    rms,
    sandwich,
    windowed,
)
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.seq2seq import GENERATION
from memcalc.readers.hf.multimodal.vision import SIGLIP, siglip
from memcalc.readers.hf.tasks import label_count, task, uncounted


def t5gemma(c: Config) -> Architecture:
    """Each half has a token table of its own; the head is tied to the decoder's."""
    halves = {side: c.sub(side, _MODULE) for side in ("encoder", "decoder")}
    kind, tied = task(c), c.flag("tie_word_embeddings")
    whole = kind in GENERATION or c.flag("is_encoder_decoder")  # the class that generates sets the flag itself
    encoder, decoder = halves["encoder"], halves["decoder"]
    if kind == "EncoderModel" or not whole:
        if kind == "Model":
            raise c.error("is_encoder_decoder", "must be true for a model of two halves")
        last, parts = encoder, [_half(c, encoder, "encoder")]
    else:
        last = decoder
        parts = [_half(c, encoder, "encoder"), _half(c, decoder, "decoder", read=encoder.integer("hidden_size"))]
    parts[-1], warnings = _headed(c, parts[-1], last)
    return replace(architecture(c, tuple(parts), tied=tied and kind in GENERATION, text=last), warnings=warnings)


def _headed(c: Config, part: Part, half: Config) -> tuple[Part, tuple[str, ...]]:
    """The last half under the head of the class that the config names, and what is to be said about it."""
    size, kind = half.integer("hidden_size"), task(c)
    blocks: Named = ()
    if kind in GENERATION:
        softcap = optional_number(half, "final_logit_softcapping")
        tied = c.flag("tie_word_embeddings")
        blocks = (("head", Head(half.integer("vocab_size"), size, tied=tied, softcap=softcap)),)
    elif kind in ("SequenceClassification", "TokenClassification"):
        blocks = (("classifier", TaskHead(size, label_count(c), dropout=c.number("classifier_dropout_rate"))),)
    known = blocks or kind in ("Model", "EncoderModel")
    return replace(part, exit=part.exit + blocks), () if known else uncounted(c)


def _half(c: Config, half: Config, name: str, *, read: int = 0) -> Part:
    """One of the two; `read`: the width of the encoder that it reads."""
    norm, softcap = rms(half, kind="rms-zero-centred"), optional_number(half, "attn_logit_softcapping")
    dropout = c.number("dropout_rate")

    def layer(window: int | None) -> Layer:
        mixer: Attention = biased_attention(half, window=window, softcap=softcap, causal=bool(read), output_dropout=dropout)
        made = sandwich(norm, mixer, mlp(half, dropout=dropout))
        if not read:
            return replace(made, source=True)
        crossing = revised(mixer, cross=True, causal=False, window=None, kv_inputs=read, rotary=False)
        cross: Named = (
            ("pre_cross_attention_norm", norm), ("cross_attention", crossing), ("post_cross_attention_norm", norm)
        )  # fmt: skip
        return replace(made, blocks=made.blocks[:3] + cross + made.blocks[3:])

    layers = windowed(layer_windows(half, default=every_nth_full(half, 2)), layer)
    table = Embedding(half.integer("vocab_size"), half.integer("hidden_size"), scaled=True, dropout=dropout)
    return Part(name, (("embedding", table),), (Stack.of(layers),), (("final_norm", norm),))


def t5gemma2(c: Config) -> Architecture:
    """Both halves read one token table, in which the mark that ends an image has a vector of its own."""
    outer = c.sub("encoder", {})
    encoder, decoder = outer.sub("text_config", _MODULE2), c.sub("decoder", _MODULE2)
    for key in ("hidden_size", "vocab_size"):
        if encoder.integer(key) != decoder.integer(key):
            raise decoder.error(key, f"({decoder.integer(key)}) must be the encoder's ({encoder.integer(key)})")
    if not c.flag("is_encoder_decoder"):
        raise c.error("is_encoder_decoder", "must be true for a model of two halves")
    vision, tied, hidden = outer.sub("vision_config", SIGLIP), c.flag("tie_word_embeddings"), encoder.integer("hidden_size")
    width = vision.integer("hidden_size")
    seen: Named = (("norm", Norm(width, "rms-zero-centred")), ("linear", Projection(width, hidden, transposed=True)))
    first, second = (_half2(c, half, name) for half, name in ((encoder, "encoder"), (decoder, "decoder")))
    if tied:  # the token table is the encoder's
        own = Embedding(decoder.integer("vocab_size"), hidden, scaled=True, tied=True)
        second = replace(second, entry=(("embedding", own),))
    last, warnings = _headed(c, second, decoder)
    parts = (first, last, siglip(vision), Part("projector", entry=seen))
    return replace(architecture(c, parts, tied=tied and task(c) in GENERATION, text=decoder), warnings=warnings)


def _half2(c: Config, half: Config, name: str) -> Part:
    """The decoder attends to its own tokens and the encoder's at once, through the same projections
    (modeling_t5gemma2.py T5Gemma2MergedAttention); each side's keys are kept apart.
    """
    norm, softcap, reads = (
        rms(half, kind="rms-zero-centred"),
        optional_number(half, "attn_logit_softcapping"),
        name == "decoder",
    )
    dropout, hidden = c.number("dropout_rate"), half.integer("hidden_size")

    def layer(window: int | None) -> Layer:
        mixer: Attention = biased_attention(half, window=window, softcap=softcap, causal=reads, output_dropout=dropout)
        mixer = head_norms(half, mixer, "rms-zero-centred")
        made = sandwich(norm, mixer, mlp(half, dropout=dropout))
        if not reads:
            return replace(made, source=True)
        crossing = Reused(revised(mixer, cross=True, causal=False, window=None, rotary=False))
        return replace(made, blocks=(*made.blocks[:2], ("cross_attention", crossing), *made.blocks[2:]))

    layers = windowed(layer_windows(half, default=every_nth_full(half, 6)), layer)
    table = Embedding(half.integer("vocab_size"), hidden, scaled=True, dropout=dropout)
    mark: Named = (("image_end", Plain((Weight("vector", "other", (hidden,)),))),)
    return Part(name, (("embedding", table), *mark), (Stack.of(layers),), (("final_norm", norm),))


_MODULE = {
    "vocab_size": 256000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 8192,
    "sliding_window": 4096,
    "final_logit_softcapping": 30.0,
    "attn_logit_softcapping": 50.0,
}

_MODULE2 = {
    **_MODULE,
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "final_logit_softcapping": None,
    "attn_logit_softcapping": None,
}
_OUTER = {"is_encoder_decoder": True, "dropout_rate": 0.0, "classifier_dropout_rate": 0.0, "tie_word_embeddings": True}

FAMILIES = {
    "t5gemma2": Family(t5gemma2, _OUTER),
    "t5gemma": Family(t5gemma, _OUTER),
}
