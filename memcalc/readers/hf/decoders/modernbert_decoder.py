"""ModernBERT's decoder: an encoder's layers with a causal mask, and a transformed head."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture, Layer, Named
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.projection import Projection
from memcalc.blocks.task_head import TaskHead
from memcalc.readers.hf.common import biased_attention, decoder, even_head_dim, layer_norm, layer_windows, mlp, pre_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.tasks import label_count, task


def modernbert_decoder(c: Config) -> Architecture:
    """Norms before each block but the first, whose input the embedding has normalised; windows in two layers of three."""
    hidden, vocabulary, depth = c.integer("hidden_size"), c.integer("vocab_size"), c.layers()
    norm, tied, kind = layer_norm(c, bias=c.flag("norm_bias")), c.flag("tie_word_embeddings"), task(c)
    period, local = c.integer("global_attn_every_n_layers"), c.integer("local_attention") // 2
    c = c.reread(sliding_window=c.integer("sliding_window", local))
    windows = layer_windows(c, default=[c.integer("sliding_window") if i % period else None for i in range(depth)])
    feed_forward = mlp(c, bias=c.flag("mlp_bias"), fused=True, inner_dropout=c.number("mlp_dropout", 0.0))
    dropout = c.number("attention_dropout", 0.0)

    def layer(index: int) -> Layer:
        mixer = biased_attention(
            c,
            head_dim=even_head_dim(c),
            kv_heads=c.integer("num_attention_heads"),
            window=windows[index],
            output_dropout=dropout,
        )
        made = pre_norm(norm, mixer, feed_forward)
        return made if index else Layer(made.blocks[1:])

    bias, activation = c.flag("classifier_bias"), c.text("classifier_activation")
    transform = Projection(hidden, hidden, bias=bias, activation=activation, role="head")
    before: Named = (("head_transform", transform), ("head_norm", norm))
    model = decoder(
        c,
        [layer(index) for index in range(depth)],
        norm,
        tied=tied,
        embedding=Embedding(vocabulary, hidden, dropout=c.number("embedding_dropout", 0.0)),
        after_embedding=(("embedding_norm", norm),),
        before_head=before,
        head=Head(vocabulary, hidden, tied=tied, bias=c.flag("decoder_bias")),
    )
    if kind != "SequenceClassification":
        return model
    (part,) = model.parts
    scores = TaskHead(hidden, label_count(c), bias=bias, dropout=c.number("classifier_dropout", 0.0))
    return replace(model, parts=(replace(part, exit=(*part.exit[:-1], ("classifier", scores))),), tied=False)


FAMILIES = {
    "modernbert-decoder": Family(
        modernbert_decoder,
        {
            "hidden_act": "gelu",
            "norm_bias": False,
            "attention_bias": False,
            "mlp_bias": False,
            "decoder_bias": True,
            "classifier_bias": False,
            "classifier_activation": "gelu",
            "local_attention": 128,
            "global_attn_every_n_layers": 3,
            "tie_word_embeddings": True,
            "max_position_embeddings": 8192,
        },
    )
}
