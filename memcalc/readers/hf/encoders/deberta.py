"""DeBERTa: content and positions attend to each other through projections of their own."""

from memcalc.blocks.architecture import Architecture, Named
from memcalc.blocks.ledger import Weight, linear
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import layer_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.heads import Heads, masked_lm, under, usual
from memcalc.readers.hf.encoders.layers import UNRECORDED, bert_but, body, embedded, self_attention


def deberta(c: Config) -> Architecture:
    """The first: no bias on the keys; talking heads."""
    hidden, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    attention = revised(self_attention(c), key_bias=False)
    within: Named = UNRECORDED
    if c.flag("talking_head", False):
        mixing = tuple(Weight(name, "attention", (heads, heads)) for name in ("logits", "weights"))
        within += (("talking_heads", Plain(mixing)),)
    within += _position_projections(c, key_bias=False)
    entry = _embedded(c)
    if c.flag("relative_attention"):
        entry += (("relative", Plain((Weight("positions", "position", (2 * _distances(c), hidden)),))),)
    return under(c, body(c, attention=attention, entry=entry, within=within), _heads(c))


def deberta_v2(c: Config) -> Architecture:
    """Versions 2 and 3: distances in buckets, projections shared with content, a convolution beside the first layer."""
    hidden, attention = c.integer("hidden_size"), self_attention(c)
    if c.has("attention_head_size") and c.integer("attention_head_size") != attention.head_dim:
        raise c.error("attention_head_size", f"must be hidden_size / num_attention_heads ({attention.head_dim})")
    within, entry = UNRECORDED, _embedded(c)
    if c.flag("relative_attention"):
        buckets = c.integer("position_buckets", -1, low=-1)
        rows = 2 * (buckets if buckets > 0 else _distances(c))
        entry += (("relative", Plain((Weight("positions", "position", (rows, hidden)),))),)
        if not c.flag("share_att_key", False):
            within += _position_projections(c, key_bias=True)
    if "layer_norm" in _words(c.text("norm_rel_ebd", "none")):
        entry += (("relative_norm", layer_norm(c)),)
    if kernel := c.integer("conv_kernel_size", 0, low=0):
        shape = (hidden, hidden // c.integer("conv_groups", 1), kernel)
        entry += (
            ("convolution", Plain((Weight("weight", "other", shape), Weight("bias", "other", (hidden,))))),
            ("convolution_norm", layer_norm(c)),
        )
    return under(c, body(c, attention=attention, entry=entry, within=within), _heads(c))


def _embedded(c: Config) -> Named:
    """A narrow table is projected without a bias, and the norm comes after it."""
    hidden = c.integer("hidden_size")
    width = c.integer("embedding_size", hidden)
    position = c.integer("max_position_embeddings") if c.flag("position_biased_input") else 0
    tables = embedded(c, width=width, position=position, norm=False, projected=False)
    into: Named = (("embedding_projection", Projection(width, hidden)),) if width != hidden else ()
    return (*tables, *into, ("embedding_norm", layer_norm(c)))


def _position_projections(c: Config, *, key_bias: bool) -> Named:
    """Of positions: as keys for content (c2p), as queries to it (p2c)."""
    if not c.flag("relative_attention"):
        return ()
    hidden, kinds = c.integer("hidden_size"), c.raw("pos_att_type", [])
    if isinstance(kinds, str):
        kinds = _words(kinds)
    elif not isinstance(kinds, list):
        raise c.error("pos_att_type", f"must be a list or a string of c2p and p2c, not {kinds!r:.60}")
    rows = {"c2p": ("position_key", key_bias), "p2c": ("position_query", True)}
    return tuple(
        (name, Plain(linear("weight", "attention", hidden, hidden, bias=bias)))
        for kind, (name, bias) in rows.items()
        if kind in kinds
    )


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
