"""Encoders that changed what stands inside BERT's layers: convolutions, Fourier transforms, bottlenecks, pooled sequences."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.dynamic_convolution import DynamicConvolution
from memcalc.blocks.attention.grouped import GroupedAttention, GroupedMLP, Groups
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.block import Block
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight, linear
from memcalc.blocks.mixers.fourier import Fourier
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.task_head import Pooler
from memcalc.blocks.values import facts_of, revised
from memcalc.readers.hf.common import architecture, even_head_dim, layer_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.bert_line import summarised
from memcalc.readers.hf.encoders.heads import Heads, masked_lm, pooled_always, under, usual
from memcalc.readers.hf.encoders.layers import UNRECORDED, bert_but, bert_mlp, body, embedded, self_attention, tables
from memcalc.readers.hf.tasks import classifier, label_count, task

POOLED = ("SequenceClassification", "MultipleChoice", "NextSentencePrediction", "PreTraining")  # they read the pooler


def xlm(c: Config) -> Architecture:
    """XLM and FlauBERT: a table of languages where there are several; norms after each sum, or before with `pre_norm`."""
    hidden, heads, tied = c.integer("hidden_size"), c.integer("num_attention_heads"), c.flag("tie_word_embeddings")
    if c.flag("asm", False):
        raise c.error("asm", "must be false: an adaptive softmax is not modelled")
    dropout = c.number("dropout")
    attention = attention_of(
        hidden, heads, heads, even_head_dim(c), query_bias=True, output_bias=True, causal=c.flag("causal", False), rotary=False,
        dropout=c.number("attention_dropout"), output_dropout=dropout, scores="as computed",
    )  # fmt: skip
    activation = "gelu" if c.flag("gelu_activation") else "relu"
    feed_forward = MLP(hidden, 4 * hidden, gated=False, bias=True, activation=activation, dropout=dropout)
    table = Embedding(c.integer("vocab_size"), hidden, position=c.integer("max_position_embeddings"), dropout=dropout)
    entry: Named = (("embedding", table), ("embedding_norm", layer_norm(c)))
    if (languages := c.integer("n_langs")) > 1 and c.flag("use_lang_emb"):
        entry += (("languages", tables(("languages", languages, hidden))),)
    part = body(c, attention=attention, feed_forward=feed_forward, entry=entry, pre=c.flag("pre_norm", False), final=False)
    labels = label_count(c)
    width = labels if c.flag("summary_proj_to_labels", True) else hidden
    summary: Named = (("summary", Pooler(hidden, width, "")),) if c.flag("summary_use_proj", True) else ()
    scored: Named = (("classifier", classifier(hidden, labels)),)
    spans = (
        *linear("start", "head", hidden, 1, bias=True), *linear("end_dense", "head", 2 * hidden, hidden, bias=True),
        *layer_norm(c).weights(), *linear("end", "head", hidden, 1, bias=True),
        *linear("answer_dense", "head", 2 * hidden, hidden, bias=True), *linear("answer", "head", hidden, 1),
    )  # fmt: skip
    kinds: dict[str, Named] = {
        "Model": (), "SequenceClassification": summary, "TokenClassification": scored, "QuestionAnsweringSimple": scored,
        "QuestionAnswering": (("spans", Plain(spans)),), "MultipleChoice": (*summary, ("classifier", classifier(labels, 1))),
    }  # fmt: skip
    head: Named = (("head", Head(c.integer("vocab_size"), hidden, tied=tied, bias=True, upcast=False)),)
    return under(c, part, Heads(head, tied, kinds))


def fnet(c: Config) -> Architecture:
    """A Fourier transform mixes the tokens, which has no weights; every class keeps the pooler."""
    hidden, norm, tied = c.integer("hidden_size"), layer_norm(c), c.flag("tie_word_embeddings")
    layer = Layer(
        (("fourier", Fourier(hidden)), ("fourier_norm", norm), ("mlp", bert_mlp(c)), ("mlp_norm", norm)), normalises_sum=True
    )
    entry = (*embedded(c), ("embedding_projection", Projection(hidden, hidden, bias=True)))
    heads = usual(c, masked_lm(c, tied=tied), tied=tied)
    return under(c, Part("encoder", entry, (Stack.uniform(layer, c.layers()),)), pooled_always(heads, hidden, *POOLED))


def squeezebert(c: Config) -> Architecture:
    """BERT whose linear layers are grouped convolutions over one token."""
    hidden, inner, norm = c.integer("hidden_size"), c.integer("intermediate_size"), layer_norm(c)
    if c.integer("embedding_size", hidden) != hidden:
        raise c.error("embedding_size", f"must be hidden_size ({hidden})")

    def groups(key: str, inputs: int, outputs: int) -> int:
        found = c.integer(f"{key}_groups")
        if inputs % found or outputs % found:
            raise c.error(f"{key}_groups", f"({found}) divides not both {inputs} and {outputs}")
        return found

    made = Groups(*(groups(key, hidden, hidden) for key in ("q", "k", "v", "post_attention")))
    attention = GroupedAttention(**facts_of(self_attention(c)), groups=made)
    feed_forward = GroupedMLP(
        hidden, inner, groups("intermediate", hidden, inner), groups("output", inner, hidden), c.text("hidden_act"),
        c.number("hidden_dropout_prob"),
    )  # fmt: skip
    blocks: Named = (
        ("attention", attention),
        ("attention_norm", norm),
        ("mlp", feed_forward),
        ("mlp_norm", norm),
    )
    part = Part("encoder", embedded(c), (Stack.uniform(Layer(blocks, normalises_sum=True), c.layers()),))
    tied = c.flag("tie_word_embeddings")
    heads = usual(c, masked_lm(c, tied=tied), tied=tied)
    return under(c, part, pooled_always(heads, hidden, "SequenceClassification", "MultipleChoice"))


def convbert(c: Config) -> Architecture:
    """Half of the heads' work is a convolution whose kernel each token makes."""
    hidden, heads, window = c.integer("hidden_size"), c.integer("num_attention_heads"), c.integer("conv_kernel_size")
    kept = max(heads // c.integer("head_ratio"), 1)
    if c.flag("add_cross_attention", False):
        raise c.error("add_cross_attention", "must be false: convolutions over an encoder's tokens are not modelled")
    if hidden % kept:
        raise c.error("hidden_size", f"({hidden}) is not a multiple of the {kept} heads that head_ratio leaves")
    attention = revised(
        self_attention(c), shape=attention_of(hidden, kept, kept, hidden // kept // 2).shape, query_bias=True, output_bias=False
    )
    attention = DynamicConvolution(**facts_of(revised(attention, own="mask, kept to itself")), kernel=window)
    groups, inner = c.integer("num_groups"), c.integer("intermediate_size")
    feed_forward: Block = bert_mlp(c)
    if groups > 1:
        feed_forward = Plain((
            Weight("up", "mlp", (groups, hidden // groups, inner // groups)), Weight("up.bias", "mlp", (inner,)),
            Weight("down", "mlp", (groups, inner // groups, hidden // groups)), Weight("down.bias", "mlp", (hidden,)),
        ))  # fmt: skip
    part = body(
        c, attention=attention, feed_forward=feed_forward,
        entry=embedded(c, width=c.integer("embedding_size")),
    )  # fmt: skip
    tied = c.flag("tie_word_embeddings")
    masked = masked_lm(c, tied=tied, width=c.integer("embedding_size"), doubled=False, activation="gelu")
    return under(c, part, usual(c, masked, tied=tied, pooler=False).but(MultipleChoice=summarised(c)))


def mobilebert(c: Config) -> Architecture:
    """Narrow layers between bottlenecks, several feed-forwards in each; the embedding reads three tokens at once."""
    hidden, width, tied = c.integer("hidden_size"), c.integer("embedding_size"), c.flag("tie_word_embeddings")
    bottleneck = c.flag("use_bottleneck")
    inner = c.integer("intra_bottleneck_size") if bottleneck else hidden
    if c.integer("true_hidden_size", inner) != inner:
        raise c.error("true_hidden_size", f"must be {inner}")
    heads, norm, wide = c.integer("num_attention_heads"), Norm(inner, "layer"), Norm(hidden, "layer")
    if inner % heads:
        raise c.error("num_attention_heads", f"({heads}) does not divide the layers' width ({inner})")
    attention = attention_of(inner, heads, heads, inner // heads, query_bias=True, output_bias=True, causal=False, rotary=False)
    if (values := inner if c.flag("use_bottleneck_attention") else hidden) != inner:
        extra = Weight("values", "attention", (heads * (inner // heads), values - inner))  # that they read more than `inner`
        blocks: Named = (("attention", attention), ("wider_values", Plain((extra,))))
    else:
        blocks = (("attention", attention), *UNRECORDED)
    blocks += (("attention_norm", norm),)
    for i in range(c.layers("num_feedforward_networks")):
        feed_forward = MLP(inner, c.integer("intermediate_size"), gated=False, bias=True, activation=c.text("hidden_act"))
        blocks += ((f"mlp {i}", feed_forward), (f"mlp_norm {i}", norm))
    if bottleneck:
        shared = ("input", "attention") if c.flag("key_query_shared_bottleneck") else ("input",)
        for name in shared:
            blocks += (
                (f"bottleneck {name}", Plain(linear("weight", "mlp", hidden, inner, bias=True))),
                (f"norm of {name}", norm),
            )
        blocks += (("widened", Plain(linear("weight", "mlp", inner, hidden, bias=True))), ("widened_norm", wide))
    table = Embedding(c.integer("vocab_size"), width)
    positions = tables(
        ("positions", c.integer("max_position_embeddings"), hidden), ("segments", c.integer("type_vocab_size"), hidden)
    )
    into = Projection(width * (3 if c.flag("trigram_input") else 1), hidden, bias=True)
    entry: Named = (("embedding", table), ("embedding_projection", into), ("positions", positions), ("embedding_norm", wide))
    part = Part("encoder", entry, (Stack.uniform(Layer(blocks, normalises_sum=True), c.layers()),))
    vocabulary = c.integer("vocab_size")
    own: Named = ()
    if hidden > width:
        own = (("head_rest", Plain((Weight("weight", "head", (hidden - width, vocabulary)),))),)
    both: Named = () if tied else (("head_bias", Plain((Weight("bias", "head", (vocabulary,)),))),)
    transform, norm_of_head, _, *_ = masked_lm(c, tied=True)
    masked: Named = (
        transform,
        norm_of_head,
        *own,
        ("head", Head(vocabulary, width, tied=tied, bias=True, upcast=False)),
        *both,
    )
    heads_of = usual(c, masked, tied=tied)
    if not c.flag("classifier_activation"):  # the pooler is then the first token itself
        bare = {kind: tuple(block for block in blocks if block[0] != "pooler") for kind, blocks in heads_of.kinds.items()}
        heads_of = heads_of._replace(kinds=bare)
    return under(c, part, heads_of)


def funnel(c: Config) -> Architecture:
    """Blocks that halve the sequence one after the other, and a decoder that restores it."""
    hidden, heads, width, norm = c.integer("hidden_size"), c.integer("num_attention_heads"), c.integer("d_head"), layer_norm(c)
    attention = attention_of(
        hidden, heads, heads, width, query_bias=False, key_bias=True, value_bias=True, output_bias=True, causal=False,
        rotary=False, dropout=c.number("attention_dropout"), output_dropout=c.number("hidden_dropout"),
    )  # fmt: skip
    positions = (
        *(Weight(name, "attention", (heads, width)) for name in ("r_w_bias", "r_r_bias", "r_s_bias")),
        Weight("r_kernel", "attention", (hidden, heads, width)), Weight("seg_embed", "attention", (2, heads, width)),
    )  # fmt: skip
    feed_forward = MLP(
        hidden,
        c.integer("d_inner"),
        gated=False,
        bias=True,
        activation=c.text("hidden_act"),
        dropout=c.number("hidden_dropout"),
    )
    blocks: Named = (("attention", attention), ("attention_norm", norm), ("mlp", feed_forward), ("mlp_norm", norm))
    layer = Layer((*blocks, ("positions", Plain(positions))), normalises_sum=True)
    sizes = c.entries("block_sizes", of=int)
    if not all(isinstance(size, int) and 0 < size <= 10_000 for size in sizes):
        raise c.error("block_sizes", "must be whole numbers above 0")
    table = Embedding(c.integer("vocab_size"), hidden)
    encoder = Part("encoder", (("embedding", table), ("embedding_norm", norm)), (Stack.uniform(layer, sum(sizes)),))
    kind, tied, labels = task(c), c.flag("tie_word_embeddings"), label_count(c)
    base = c.entries("architectures", [""], of=str)[0].endswith("BaseModel") or kind in (
        "SequenceClassification",
        "MultipleChoice",
    )
    decoder = Part("decoder", stacks=(Stack.uniform(layer, c.layers("num_decoder_layers")),))
    scored: Named = (("classifier", classifier(hidden, labels)),)
    replaced: Named = (("pooler", Pooler(hidden, hidden, "gelu")), ("classifier", classifier(hidden, 1)))
    kinds: dict[str, Named] = {
        "Model": (), "SequenceClassification": (("pooler", Pooler(hidden, hidden)), *scored), "TokenClassification": scored,
        "QuestionAnswering": scored, "PreTraining": replaced,
        "MultipleChoice": (("pooler", Pooler(hidden, hidden)), ("classifier", classifier(hidden, 1))),
    }  # fmt: skip
    head: Named = (("head", Head(c.integer("vocab_size"), hidden, tied=tied, bias=True, upcast=False)),)
    model = under(c, encoder if base else decoder, Heads(head, tied, kinds))
    return model if base else replace(architecture(c, (encoder, *model.parts), tied=model.tied), warnings=model.warnings)


_XLM = {
    "vocab_size": 30145, "hidden_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 16, "dropout": 0.1,
    "attention_dropout": 0.1, "gelu_activation": True, "n_langs": 1, "use_lang_emb": True, "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}  # fmt: skip
_XLM_NAMES = {"emb_dim": "hidden_size", "n_words": "vocab_size"}

FAMILIES = {
    "xlm": Family(xlm, _XLM, _XLM_NAMES),
    "flaubert": Family(xlm, _XLM, _XLM_NAMES),
    "fnet": Family(fnet, bert_but(vocab_size=32000, hidden_act="gelu_new", type_vocab_size=4)),
    "squeezebert": Family(
        squeezebert,
        bert_but(
            embedding_size=768, q_groups=4, k_groups=4, v_groups=4, post_attention_groups=1, intermediate_groups=4,
            output_groups=4,
        ),
    ),
    "convbert": Family(convbert, bert_but(embedding_size=768, head_ratio=2, conv_kernel_size=9, num_groups=1)),
    "mobilebert": Family(
        mobilebert,
        bert_but(
            hidden_size=512, num_hidden_layers=24, num_attention_heads=4, intermediate_size=512, hidden_act="relu",
            hidden_dropout_prob=0.0, embedding_size=128, trigram_input=True, use_bottleneck=True, intra_bottleneck_size=128,
            use_bottleneck_attention=False, key_query_shared_bottleneck=True, num_feedforward_networks=4,
            classifier_activation=True,
        ),
    ),
    "funnel": Family(
        funnel,
        {
            "vocab_size": 30522, "block_sizes": [4, 4, 4], "num_decoder_layers": 2, "d_model": 768, "n_head": 12, "d_head": 64,
            "d_inner": 3072, "hidden_act": "gelu_new", "hidden_dropout": 0.1, "attention_dropout": 0.1,
            "tie_word_embeddings": True,
        },
    ),
}  # fmt: skip
