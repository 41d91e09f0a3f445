"""DeBERTa: content and positions attend to each other through projections of their own."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.attention.disentangled import KEYS, QUERIES, Disentangled, DisentangledAttention, RelativeTable
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.ledger import Weight
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.sequence_convolution import SequenceConvolution
from memcalc.blocks.values import facts_of, revised
from memcalc.readers.hf.common import layer_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.heads import Heads, masked_lm, under, usual
from memcalc.readers.hf.encoders.layers import bert_but, body, embedded, self_attention


def deberta(c: Config) -> Architecture:
    """The first: no bias on the keys; talking heads; norms written out."""
    hidden, heads, norm = (
        c.integer("hidden_size"),
        c.integer("num_attention_heads"),
        replace(layer_norm(c), kind="layer-divided"),
    )
    usual_attention = revised(self_attention(c), key_bias=False, fused=True)
    relative = _relative(c, 2 * _distances(c))._replace(first=True, key_bias=False)
    within: Named = ()
    if c.flag("talking_head", False):
        mixing = tuple(Weight(name, "attention", (heads, heads)) for name in ("logits", "weights"))
        within += (("talking_heads", Plain(mixing)),)
    entry = _embedded(c, norm)
    if relative.rows:
        entry += (("relative", RelativeTable(relative.rows, hidden, dropped=relative.dropout > 0)),)
    return under(c, body(c, attention=_layers(c, usual_attention, relative), entry=entry, within=within, norm=norm), _heads(c))


def deberta_v2(c: Config) -> Architecture:
    """Versions 2 and 3: distances in buckets, projections shared with content, a convolution beside the first layer."""
    hidden, attention = c.integer("hidden_size"), self_attention(c)
    if c.has("attention_head_size") and c.integer("attention_head_size") != attention.head_dim:
        raise c.error("attention_head_size", f"must be hidden_size / num_attention_heads ({attention.head_dim})")
    buckets, entry = c.integer("position_buckets", -1, low=-1), _embedded(c, layer_norm(c))
    relative = _relative(c, 2 * (buckets if buckets > 0 else _distances(c)))
    normed = "layer_norm" in _words(c.text("norm_rel_ebd", "none"))
    relative = relative._replace(shared=c.flag("share_att_key", False), normed=normed and relative.rows > 0)
    if relative.rows:
        entry += (("relative", RelativeTable(relative.rows, hidden, normed, dropped=relative.dropout > 0)),)
    elif normed:
        entry += (("relative_norm", Plain(layer_norm(c).weights())),)
    part = body(c, attention=_layers(c, attention, relative), entry=entry)
    if kernel := c.integer("conv_kernel_size", 0, low=0):
        convolution = SequenceConvolution(
            hidden, hidden, kernel, c.integer("conv_groups", 1), c.text("conv_act", "tanh"), c.number("hidden_dropout_prob")
        )
        part = _convolved(part, (("convolution", convolution), ("convolution_norm", layer_norm(c))))
    return under(c, part, _heads(c))


def _relative(c: Config, rows: int) -> Disentangled:
    """What relative positions are to each layer."""
    kinds = c.raw("pos_att_type", [])
    if isinstance(kinds, str):
        kinds = _words(kinds)
    elif not isinstance(kinds, list):
        raise c.error("pos_att_type", f"must be a list or a string of c2p and p2c, not {kinds!r:.60}")
    if not c.flag("relative_attention"):
        return Disentangled()
    order = tuple(kind for kind in (KEYS, QUERIES) if kind in kinds)
    return Disentangled(rows, order, dropout=c.number("hidden_dropout_prob"))


def _layers(c: Config, attention: Attention, relative: Disentangled) -> list[DisentangledAttention]:
    """One attention a layer."""
    facts = facts_of(attention)
    each, last = (DisentangledAttention(**facts, relative=made) for made in (relative, relative._replace(last=c.layers())))
    return [each] * (c.layers() - 1) + [last]


def _convolved(part: Part, blocks: Named) -> Part:
    """The first layer with a convolution of its input beside it."""
    sequence = [stack.layers[kind] for stack in part.stacks for kind, count in stack.runs for _ in range(count)]
    first = replace(sequence[0], blocks=sequence[0].blocks + blocks, wiring="convolved beside")
    return replace(part, stacks=(Stack.of([first, *sequence[1:]]),))


def _embedded(c: Config, norm: Norm) -> Named:
    """A narrow table is projected without a bias, and the norm comes after it."""
    hidden = c.integer("hidden_size")
    width = c.integer("embedding_size", hidden)
    position = c.integer("max_position_embeddings") if c.flag("position_biased_input") else 0
    tables = embedded(c, width=width, position=position, norm=False, projected=False)
    into: Named = (("embedding_projection", Projection(width, hidden)),) if width != hidden else ()
    return (*tables, *into, ("embedding_norm", norm))


def _distances(c: Config) -> int:
    """On each side; a number below 1 means as many as there are positions."""
    found = c.integer("max_relative_positions", low=-1)
    return found if found >= 1 else c.integer("max_position_embeddings")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.lower().split("|")]


def _heads(c: Config) -> Heads:
    """The new head of masked language reads the embedding itself, so it is always tied."""
    tied = c.flag("tie_word_embeddings")
    if c.flag("legacy"):
        masked = masked_lm(c, tied=tied, width=c.integer("embedding_size", c.integer("hidden_size")))
    else:
        masked, tied = masked_lm(c, tied=True), True
    hidden = c.integer("hidden_size")
    if c.integer("pooler_hidden_size", hidden) != hidden:  # the library's pooler would not fit what it reads
        raise c.error("pooler_hidden_size", f"must be the hidden_size ({hidden})")
    return usual(c, masked, tied=tied, pooler=False, pooled=hidden)


_DEBERTA = bert_but(
    vocab_size=50265,
    type_vocab_size=0,
    relative_attention=False,
    max_relative_positions=-1,
    position_biased_input=True,
    legacy=True,
)

FAMILIES = {
    "deberta": Family(deberta, _DEBERTA),
    "deberta-v2": Family(
        deberta_v2,
        {
            **_DEBERTA,
            "vocab_size": 128100,
            "hidden_size": 1536,
            "num_hidden_layers": 24,
            "num_attention_heads": 24,
            "intermediate_size": 6144,
        },
    ),
}
