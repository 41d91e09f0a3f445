"""T5Gemma: a Gemma 2 that sees both ways, and one that reads it."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.task_head import TaskHead
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import (
    architecture,
    biased_attention,
    every_nth_full,
    layer_windows,
    mlp,
    optional_number,
    rms,
    sandwich,
    windowed,
)
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.seq2seq import GENERATION
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
    size, vocabulary = last.integer("hidden_size"), last.integer("vocab_size")
    exit_blocks: Named = ()
    warnings: tuple[str, ...] = ()
    if kind in GENERATION:
        softcap = optional_number(decoder, "final_logit_softcapping")
        exit_blocks = (("head", Head(vocabulary, size, tied=tied, softcap=softcap)),)
    elif kind in ("SequenceClassification", "TokenClassification"):
        exit_blocks = (("classifier", TaskHead(size, label_count(c), dropout=c.number("classifier_dropout_rate"))),)
    elif kind not in ("Model", "EncoderModel"):
        warnings = uncounted(c)
    parts[-1] = replace(parts[-1], exit=parts[-1].exit + exit_blocks)
    return replace(architecture(c, tuple(parts), tied=tied and kind in GENERATION, text=last), warnings=warnings)


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

FAMILIES = {
    "t5gemma": Family(
        t5gemma,
        {"is_encoder_decoder": True, "dropout_rate": 0.0, "classifier_dropout_rate": 0.0, "tie_word_embeddings": True},
    )
}
