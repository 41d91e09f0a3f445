"""SpeechT5 that transcribes: wav2vec 2's front before an encoder with relative positions, and a decoder of characters."""

from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import architecture, layer_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.layers import UNRECORDED, tables
from memcalc.readers.hf.encoders.seq2seq import decoder_layer, encoder_layer
from memcalc.readers.hf.encoders.waveform import positioned
from memcalc.readers.hf.multimodal.sound_encoders import waveform
from memcalc.readers.hf.tasks import task


def speecht5(c: Config) -> Architecture:
    """The bare model has neither front nor head; norms come after each sum (modeling_speecht5.py)."""
    kind = task(c)
    if kind not in ("", "SpeechToText", "Model"):
        raise c.error("architectures", f"names {c.entries('architectures')[0]!r:.60}, which is not modelled")
    hidden, norm, vocabulary = c.integer("hidden_size"), layer_norm(c), c.integer("vocab_size")
    tied, bare = c.flag("tie_word_embeddings"), kind == "Model"
    usual = c.reread(d_model=hidden, dropout=c.number("hidden_dropout"), activation_function=c.text("hidden_act"))
    heads = c.integer("encoder_attention_heads")
    first, second = encoder_layer(usual, norm, after=True), decoder_layer(usual, norm, after=True)
    distances = tables(("distances", 2 * c.integer("encoder_max_relative_position"), hidden // heads))
    first = replace(first, blocks=(*first.blocks, *UNRECORDED))
    front: Named = ()
    if not bare:
        front, width = waveform(c, normed=c.text("feat_extract_norm") == "layer")
        front += (("features_norm", Norm(width, "layer")), ("features", Projection(width, hidden, bias=True)), *positioned(c))
    encoder = Part(
        "encoder", (*front, ("distances", distances), ("input_norm", norm)), (Stack.uniform(first, c.layers("encoder_layers")),)
    )
    table: Named = () if bare else (("embedding", Embedding(vocabulary, hidden)),)
    head: Named = () if bare else (("head", Head(vocabulary, hidden, tied=tied, upcast=False)),)
    decoder = Part("decoder", table, (Stack.uniform(second, c.layers("decoder_layers")),), head)
    return architecture(c, (encoder, decoder), tied=tied and not bare)


_SPEECHT5: dict[str, Any] = {
    "vocab_size": 81, "hidden_size": 768, "encoder_layers": 12, "encoder_attention_heads": 12, "encoder_ffn_dim": 3072,
    "decoder_layers": 6, "decoder_ffn_dim": 3072, "decoder_attention_heads": 12, "hidden_act": "gelu",
    "hidden_dropout": 0.1, "attention_dropout": 0.1, "feat_extract_norm": "group", "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_bias": False, "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16, "mask_time_prob": 0.05, "mask_feature_prob": 0.0,
    "encoder_max_relative_position": 160, "tie_word_embeddings": True, "max_text_positions": 450,
}  # fmt: skip

FAMILIES = {"speecht5": Family(speecht5, _SPEECHT5)}
