"""BERT, RoBERTa and their kin: which tables they add, where their norms stand, what their classes put on them."""

from dataclasses import replace

from memcalc.blocks.added_tables import AddedTables
from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.own_scores import DistanceBias, Sines
from memcalc.blocks.ledger import Weight
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.reused import Reused
from memcalc.blocks.task_head import Pooler
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import layer_norm, mlp
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.heads import bert_heads, dense_weights, masked_lm, pooled_always, tied_of, under, usual
from memcalc.readers.hf.encoders.layers import (
    BERT_SIZES,
    UNRECORDED,
    bert_but,
    bert_mlp,
    body,
    embedded,
    encoder_layer,
    self_attention,
    tables,
    unread,
)
from memcalc.readers.hf.tasks import classifier, label_count


def bert(c: Config) -> Architecture:
    """BERT and RoBERTa: they differ in the names of their head classes only."""
    return under(c, body(c), bert_heads(c))


def megatron(c: Config) -> Architecture:
    """Norms before each block and one at the end, none on the embeddings (Megatron-BERT, XLM-RoBERTa-XL)."""
    return under(c, body(c, pre=True, entry=embedded(c, norm=False)), bert_heads(c))


def roberta_prelayernorm(c: Config) -> Architecture:
    return under(c, body(c, pre=True), bert_heads(c))


def distilbert(c: Config) -> Architecture:
    c = c.reread(hidden_dropout_prob=c.number("dropout"), attention_probs_dropout_prob=c.number("attention_dropout"))
    attention = self_attention(c)
    part = body(
        c,
        attention=replace(attention, output_dropout=0.0),
        feed_forward=mlp(c, gated=False, bias=True, intermediate=c.integer("hidden_dim"), dropout=c.number("dropout")),
        entry=embedded(c, segments=0),
    )
    return under(c, part, usual(c, masked_lm(c, tied=tied_of(c), doubled=False), tied=tied_of(c), pooler=False))


def ernie(c: Config) -> Architecture:
    kinds = ("tasks", c.integer("task_type_vocab_size"), c.integer("hidden_size"))
    beside: Named = (("task", tables(kinds)),) if c.flag("use_task_id") else ()
    return under(c, body(c, beside=beside), bert_heads(c))


def layoutlm(c: Config) -> Architecture:
    """Tables of the four sides of a token's box; every class keeps the pooler."""
    hidden, rows = c.integer("hidden_size"), c.integer("max_2d_position_embeddings")
    boxes = AddedTables(tuple((side, rows) for side in ("x", "y", "height", "width")), hidden, twice=("x", "y"))
    tokens, *normed = embedded(c)
    entry: Named = (tokens, ("boxes", boxes), *normed)
    attention = revised(self_attention(c), scores="softmax in fp32", by_key=True)
    return under(c, body(c, attention=attention, entry=entry), pooled_always(bert_heads(c), hidden, "SequenceClassification"))


def tapas(c: Config) -> Architecture:
    hidden, sizes = c.integer("hidden_size"), c.entries("type_vocab_sizes", of=int)
    segments = tables(*((f"segments {i}", rows, hidden) for i, rows in enumerate(sizes)))
    cells: list[Weight] = [Weight(name, "head", (hidden,)) for name in ("output_weights", "column_output_weights")]
    cells += [Weight(name, "head", ()) for name in ("output_bias", "column_output_bias")]
    answers: Named = (("pooler", Pooler(hidden, hidden)), ("cells", Plain(tuple(cells))))
    if labels := c.integer("num_aggregation_labels", low=0):
        answers += (("aggregation", classifier(hidden, labels)),)
    part = body(c, entry=embedded(c, segments=0), beside=(("segments", segments),))
    return under(c, part, bert_heads(c).but(QuestionAnswering=answers))


def luke(c: Config) -> Architecture:
    """Words and entities in one sequence, each with tables of its own; three more query projections a layer. Text without
    entities passes what these read by."""
    hidden, width, entities = c.integer("hidden_size"), c.integer("entity_emb_size"), c.integer("entity_vocab_size")
    beside: Named = (
        ("entities", tables(("entities", entities, width), ("positions", c.integer("max_position_embeddings"), hidden),
                            ("segments", c.integer("type_vocab_size", low=0), hidden))),
        ("entity_norm", layer_norm(c)),
    )  # fmt: skip
    if width != hidden:
        beside += (("entity_projection", Projection(width, hidden)),)
    queries = [dense_weights(hidden, hidden, "attention") for _ in range(3)] if c.flag("use_entity_aware_attention") else []
    within = tuple(zip(("word_to_entity", "entity_to_word", "entity_to_entity"), queries, strict=False))
    tied = tied_of(c)
    entity_head: Named = (
        ("unread_pooler", dense_weights(hidden, hidden)),
        ("entity_transform", Projection(hidden, width, bias=True, activation=c.text("hidden_act"), role="head")),
        ("entity_norm", layer_norm(c, size=width)),
        ("entity_head", Plain((
            *(() if tied else (Weight("weight", "head", (entities, width)),)), Weight("bias", "head", (entities,)),
        ))),
    )  # fmt: skip
    # the words' own head is never tied, but for its two biases
    heads = usual(c, masked_lm(c, tied=False, doubled=not tied) + unread(entity_head), tied=False)
    labels, pooled = label_count(c), heads.kinds["Model"]
    pairs: Named = (*pooled, ("classifier", replace(classifier(2 * hidden, labels), bias=False)))
    heads = heads.but(
        EntityClassification=(*pooled, ("classifier", classifier(hidden, labels))),
        EntityPairClassification=pairs,
        EntitySpanClassification=(*pooled, ("classifier", classifier(3 * hidden, labels))),
    )
    attention = revised(self_attention(c), own="mask, kept to itself")
    return under(c, body(c, attention=attention, beside=unread(beside), within=unread(within)), heads)


def roc_bert(c: Config) -> Architecture:
    """Chinese characters with their sound and shape."""
    hidden = width = c.integer("hidden_size")
    kinds = ("pronunciation", "shape")
    named = ((kind, c.integer(f"{kind}_vocab_size"), c.integer(f"{kind}_embed_dim")) for kind in kinds)
    for kind in kinds:  # one that is switched off keeps its table
        if c.flag(f"enable_{kind}"):
            width += c.integer(f"{kind}_embed_dim")
    mapped: Named = (("map_inputs", Projection(width, hidden, bias=True)),) if c.flag("concat_input") else ()
    beside: Named = (("characters", tables(*named)), *mapped)
    heads = bert_heads(c)
    return under(c, body(c, beside=beside), heads.but(PreTraining=heads.masked + heads.kinds["Model"]))


def roformer(c: Config) -> Architecture:
    """Rotary positions, whose sines stand in a parameter that is not trained; no pooler."""
    hidden, width = c.integer("hidden_size"), _width(c)
    attention = revised(self_attention(c, rotary=True), own="mask", rotary_tables="copied")
    shape = (c.integer("max_position_embeddings"), attention.head_dim)
    part = body(
        c,
        attention=attention,
        entry=embedded(c, width=width, position=0),
        beside=(("sines", Sines(shape)),),
    )
    heads = usual(c, masked_lm(c, tied=tied_of(c), width=width), tied=tied_of(c), pooler=False)
    spans: Named = (("classifier", classifier(hidden, 2)),)
    return under(c, part, heads.but(MultipleChoice=summarised(c), QuestionAnswering=spans))


def summarised(c: Config, *, projected: bool = False) -> Named:
    """One score of a summary, which is `projected` where the config does not say (transformers …SequenceSummary)."""
    hidden = c.integer("hidden_size")
    summary: Named = (("pooler", Pooler(hidden, hidden)),) if c.flag("summary_use_proj", projected) else ()
    return (*summary, ("classifier", classifier(hidden, 1)))


def electra(c: Config) -> Architecture:
    """A narrow embedding; the discriminator scores each token as real or replaced."""
    hidden, width = c.integer("hidden_size"), _width(c)
    heads = usual(
        c, masked_lm(c, tied=tied_of(c), width=width, doubled=False, activation="gelu"), tied=tied_of(c), pooler=False
    )
    found: Named = (
        ("head_transform", Projection(hidden, hidden, bias=True, activation=c.text("hidden_act"), role="head")),
        ("classifier", classifier(hidden, 1)),
    )
    heads = heads.but(PreTraining=found, MultipleChoice=summarised(c, projected=True))
    return under(c, body(c, entry=embedded(c, width=width)), heads)


def albert(c: Config) -> Architecture:
    """Groups of layers whose weights the depth is shared over, behind a narrow embedding. The last layer of a group stores
    them: it is the first that makes their gradients."""
    hidden, depth, groups = c.integer("hidden_size"), c.layers(), c.layers("num_hidden_groups")
    if groups > depth:
        raise c.error("num_hidden_groups", f"({groups}) is more than num_hidden_layers ({depth})")
    layer = encoder_layer(c, self_attention(c), bert_mlp(c))
    again = replace(layer, blocks=tuple((name, Reused(block, earlier=True)) for name, block in layer.blocks))
    inner, sequence = c.layers("inner_group_num"), list[Layer]()
    for index in range(depth):
        last = index == depth - 1 or index * groups // depth != (index + 1) * groups // depth
        sequence += [layer if last else again] * inner
    sequence[0] = replace(sequence[0], narrow=True)
    part = Part("encoder", embedded(c, width=_width(c), projected=True), (Stack.of(sequence),))
    heads = usual(c, masked_lm(c, tied=tied_of(c), width=_width(c)), tied=tied_of(c))
    order: Named = (*heads.kinds["Model"], ("order", classifier(hidden, label_count(c))))
    return under(c, part, heads.but(PreTraining=heads.masked + order))


def rembert(c: Config) -> Architecture:
    """A narrow embedding and a wide head, which are never tied."""
    part = body(c, entry=embedded(c, width=c.integer("input_embedding_size"), projected=True))
    masked = masked_lm(c, tied=False, width=c.integer("output_embedding_size"), doubled=False)
    return under(c, part, usual(c, masked, tied=False))


def mpnet(c: Config) -> Architecture:
    """One learned bias by distance for all layers; no segments."""
    bias = DistanceBias(c.integer("relative_attention_num_buckets"), c.integer("num_attention_heads"))
    each, last = (revised(self_attention(c), own=own) for own in ("buckets", "buckets, last"))
    attention = [each] * (c.layers() - 1) + [last]
    part = body(c, attention=attention, entry=embedded(c, segments=0), beside=(("relative_bias", bias),))
    return under(c, part, bert_heads(c))


def xmod(c: Config) -> Architecture:
    """An adapter for each language in each layer."""
    hidden = c.integer("hidden_size")
    narrow = hidden // c.integer("adapter_reduction_factor")
    within: Named = (("adapter_norm", layer_norm(c)),) if c.flag("adapter_layer_norm") else ()
    for language in c.entries("languages", of=str):
        both = (*dense_weights(hidden, narrow, "other").tensors, *dense_weights(narrow, hidden, "other").tensors)
        within += ((f"adapter {language}", Plain(both)),)
    return under(c, body(c, pre=c.flag("pre_norm"), within=within or UNRECORDED), bert_heads(c))


def esm(c: Config) -> Architecture:
    """Proteins: learned or rotary positions, norms before each block, and a head that predicts contacts."""
    kind = c.text("position_embedding_type")
    absolute = c.integer("max_position_embeddings") if kind == "absolute" else 0
    contacts = classifier(c.layers() * c.integer("num_attention_heads"), 1)
    part = body(
        c,
        pre=True,
        attention=self_attention(c, rotary=kind == "rotary"),
        entry=embedded(c, position=absolute, segments=0, norm=c.flag("emb_layer_norm_before")),
        beside=(("contacts", Plain(contacts.weights())),),
        feed_forward=mlp(c, gated=False, bias=True, activation="gelu", dropout=c.number("hidden_dropout_prob")),
    )
    tied = tied_of(c)
    return under(c, part, usual(c, masked_lm(c, tied=tied, doubled=False, activation="gelu"), tied=tied))


def _width(c: Config) -> int:
    """Of the embedding; a null means that of the layers."""
    return c.integer("embedding_size", c.integer("hidden_size")) if c.has("embedding_size") else c.integer("hidden_size")


_DISTILBERT = {
    "activation": "gelu",
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
_BERT = {key: value for key, value in BERT_SIZES.items() if not key.startswith(("vocab", "hidden_size", "num_", "interm"))}


FAMILIES = {
    "bert": Family(bert, _BERT),
    "roberta": Family(bert, _BERT),
    "xlm-roberta": Family(bert, _BERT),
    "distilbert": Family(distilbert, _DISTILBERT),
    "megatron-bert": Family(
        megatron,
        bert_but(vocab_size=29056, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096),
    ),
    "xlm-roberta-xl": Family(
        megatron,
        bert_but(
            vocab_size=250880, hidden_size=2560, num_hidden_layers=36, num_attention_heads=32, intermediate_size=10240,
            max_position_embeddings=514, type_vocab_size=1,
        ),
    ),
    "roberta-prelayernorm": Family(roberta_prelayernorm, bert_but(vocab_size=50265)),
    "ernie": Family(ernie, bert_but(task_type_vocab_size=3, use_task_id=False)),
    "layoutlm": Family(layoutlm, bert_but(max_2d_position_embeddings=1024)),
    "tapas": Family(
        tapas,
        bert_but(max_position_embeddings=1024, type_vocab_sizes=[3, 256, 256, 2, 256, 256, 10], num_aggregation_labels=0),
    ),
    "luke": Family(
        luke, bert_but(vocab_size=50267, entity_vocab_size=500000, entity_emb_size=256, use_entity_aware_attention=True)
    ),
    "roc_bert": Family(
        roc_bert,
        bert_but(
            enable_pronunciation=True, enable_shape=True, pronunciation_embed_dim=768, pronunciation_vocab_size=910,
            shape_embed_dim=512, shape_vocab_size=24858, concat_input=True,
        ),
    ),
    "roformer": Family(roformer, bert_but(vocab_size=50000, max_position_embeddings=1536)),
    "electra": Family(electra, bert_but(embedding_size=128, hidden_size=256, num_attention_heads=4, intermediate_size=1024)),
    "albert": Family(
        albert,
        bert_but(
            vocab_size=30000, embedding_size=128, hidden_size=4096, num_hidden_groups=1, num_attention_heads=64,
            intermediate_size=16384, inner_group_num=1, hidden_act="gelu_new", hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
    ),
    "rembert": Family(
        rembert,
        bert_but(
            vocab_size=250300, hidden_size=1152, num_hidden_layers=32, num_attention_heads=18, input_embedding_size=256,
            output_embedding_size=1664, intermediate_size=4608, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        ),
    ),
    "mpnet": Family(mpnet, bert_but(vocab_size=30527, relative_attention_num_buckets=32)),
    "xmod": Family(
        xmod, bert_but(pre_norm=False, adapter_reduction_factor=2, adapter_layer_norm=False, languages=["en_XX"])
    ),
    "esm": Family(
        esm, {
            **{key: value for key, value in BERT_SIZES.items() if key != "vocab_size"}, "max_position_embeddings": 1026,
            "position_embedding_type": "absolute", "emb_layer_norm_before": False,
        },
    ),
}  # fmt: skip
