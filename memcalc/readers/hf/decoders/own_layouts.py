"""Language models in layouts of their own: XLNet, BERT for generation, CPM-Ant. XLM is with the encoders."""

from collections.abc import Mapping
from dataclasses import replace

from memcalc.blocks.architecture import Architecture, Layer, Named
from memcalc.blocks.attention.shifted import Distances, ShiftedAttention
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.dropout import Dropout
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.prompted import PromptTokens
from memcalc.blocks.task_head import TaskHead
from memcalc.blocks.unread import Unread
from memcalc.blocks.values import facts_of
from memcalc.errors import Unsupported
from memcalc.readers.hf.common import attention, decoder, even_head_dim, layer_norm, mlp, norm_of_sum, pre_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.decoders.gpt import full_attention
from memcalc.readers.hf.tasks import label_count, task


def _under(c: Config, model: Architecture, heads: Mapping[str, Named]) -> Architecture:
    """The model with the head that its class has in place of the one that predicts tokens."""
    kind = task(c)
    if kind not in heads:
        return model
    (part,) = model.parts
    return replace(model, parts=(replace(part, exit=(*part.exit[:-1], *heads[kind])),), tied=False)


def _summary(c: Config, outputs: int) -> Named:
    """A dense layer over one token of each sequence."""
    if not c.flag("summary_use_proj"):
        return ()
    size = c.integer("hidden_size")
    return (("summary", Projection(size, outputs, bias=True, role="head")),)


def xlnet(c: Config) -> Architecture:
    """Relative attention in two streams: a matrix for the positions, and biases for content, positions and segments."""
    hidden, vocabulary, heads = c.integer("hidden_size"), c.integer("vocab_size"), c.integer("num_attention_heads")
    norm, dropout, size = layer_norm(c), c.number("dropout"), even_head_dim(c)
    if c.has("d_head") and c.integer("d_head") != size:
        raise c.error("d_head", f"must be the hidden size over the heads ({size})")
    plain = attention_of(
        hidden, heads, heads, size, rotary=False, causal=False, dropout=dropout, output_dropout=dropout, scores="as computed"
    )
    block = ShiftedAttention(**facts_of(plain))
    feed_forward = mlp(c, gated=False, bias=True, inner_dropout=dropout, dropout=dropout)
    tied = c.flag("tie_word_embeddings")
    mask = Unread(
        (Weight("mask", "other", (1, 1, hidden)),)
    )  # of the second stream, which predicting each next token needs not
    model = decoder(
        c, norm_of_sum(norm, block, feed_forward), None, tied=tied, embedding=Embedding(vocabulary, hidden, dropout=dropout),
        after_embedding=(("mask", mask), ("distances", Distances(hidden))),
        before_head=(("dropout", Dropout(dropout, copied=True)),),
        head=Head(vocabulary, hidden, tied=tied, bias=True, upcast=False),
    )  # fmt: skip
    labels, summed = label_count(c), _summary(c, hidden)
    each: Named = (("classifier", TaskHead(hidden, labels)),)
    heads_of = {
        "SequenceClassification": (*summed, *each),
        "MultipleChoice": (*summed, ("classifier", TaskHead(hidden, 1))),
        "TokenClassification": each,
        "QuestionAnsweringSimple": each,
    }
    return _under(c, model, heads_of)


def bert_generation(c: Config) -> Architecture:
    """BERT without segments and pooler, as an encoder or a decoder; each keeps learned positions."""
    if c.flag("add_cross_attention", False):
        raise Unsupported(f"{c.place}: add_cross_attention (a decoder that reads an encoder) is not modelled here")
    hidden, vocabulary, norm = c.integer("hidden_size"), c.integer("vocab_size"), layer_norm(c)
    dropout, tied = c.number("hidden_dropout_prob"), c.flag("tie_word_embeddings")
    block = full_attention(
        c, query_bias=True, output_bias=True, rotary=False, causal=c.flag("is_decoder"),
        dropout=c.number("attention_probs_dropout_prob"), output_dropout=dropout,
    )  # fmt: skip
    layer = norm_of_sum(norm, block, mlp(c, gated=False, bias=True, dropout=dropout))
    # the library keeps the decoder's bias beside the head's own once they are not tied
    bias: Named = () if tied else (("head_bias", Plain((Weight("bias", "head", (vocabulary,)),))),)
    model = decoder(
        c, layer, None, tied=tied, after_embedding=(("embedding_norm", norm),), before_head=bias,
        embedding=Embedding(vocabulary, hidden, position=c.integer("max_position_embeddings"), dropout=dropout),
        head=Head(vocabulary, hidden, tied=tied, bias=True),
    )  # fmt: skip
    if task(c) != "BertGenerationEncoder":
        return model
    (part,) = model.parts
    return replace(model, parts=(replace(part, exit=()),), tied=False)


def cpmant(c: Config) -> Architecture:
    """A bias of the scores from distances and segments, one table for all layers; prompts have embeddings of their own."""
    hidden, heads, vocabulary = c.integer("hidden_size"), c.integer("num_attention_heads"), c.integer("vocab_size")
    norm, segments, dropout = Norm(hidden, epsilon=c.number("eps", 1e-6)), c.integer("segment_types"), c.number("dropout_p")
    block = attention(c, kv_heads=heads, rotary=False, output_dropout=dropout)
    feed_forward = mlp(c, activation="gelu", inner_dropout=dropout, dropout=dropout)
    buckets = segments * segments + c.integer("position_bias_num_buckets")
    tables = (Weight("segments", "other", (segments, hidden)), Weight("relative_bias", "attention", (buckets, heads)))
    embedding = Embedding(vocabulary + c.integer("prompt_types") * c.integer("prompt_length"), hidden)
    layer = pre_norm(norm, block, feed_forward)
    prompt = PromptTokens(tokens=c.integer("prompt_length", low=0), heads=heads, width=2 * block.head_dim)
    layer = Layer((*layer.blocks, ("positions", prompt)))  # added to the scores of every layer: no kernel knows it
    return decoder(
        c, layer, norm, tied=False, embedding=embedding, after_embedding=(("tables", Plain(tables)),),
        head=Head(vocabulary, hidden),
    )  # fmt: skip


FAMILIES = {
    "xlnet": Family(
        xlnet,
        {"dropout": 0.1, "hidden_act": "gelu", "summary_use_proj": True, "tie_word_embeddings": True},
        {"d_inner": "intermediate_size", "ff_activation": "hidden_act"},
    ),
    "bert-generation": Family(
        bert_generation,
        {
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "max_position_embeddings": 512,
            "is_decoder": False,
            "tie_word_embeddings": True,
        },
    ),
    "cpmant": Family(
        cpmant,
        {
            "dropout_p": 0.0,
            "position_bias_num_buckets": 512,
            "prompt_types": 32,
            "prompt_length": 32,
            "segment_types": 32,
            "head_dim": 128,
        },
        {"dim_head": "head_dim", "dim_ff": "intermediate_size"},
    ),
}
