"""Encoders of long texts: attention in windows and blocks, or approximated."""

from memcalc.autograd.tape import FP32
from memcalc.blocks.architecture import Architecture, Named
from memcalc.blocks.attention.block_sparse import BlockSparseAttention
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.plain import Plain
from memcalc.blocks.values import facts_of, revised
from memcalc.readers.hf.common import layer_norm, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.heads import bert_heads, dense_weights, pooled_always, under
from memcalc.readers.hf.encoders.layers import UNRECORDED, bert_but, body, embedded, self_attention
from memcalc.readers.hf.tasks import classifier


def longformer(c: Config) -> Architecture:
    """Attention in a window, and projections of their own for the tokens that see all."""
    hidden, depth, attention = c.integer("hidden_size"), c.layers(), self_attention(c)
    listed = isinstance(c.raw("attention_window"), list)
    windows = c.entries("attention_window", length=depth, of=int) if listed else [c.integer("attention_window")] * depth
    within = tuple((name, dense_weights(hidden, hidden, "attention")) for name in ("global_q", "global_k", "global_v"))
    mixers = windowed(windows, lambda window: revised(attention, window=window + 1))  # half of it on either side
    return under(c, body(c, attention=mixers, within=within), bert_heads(c))


def block_sparse(c: Config, attention: Attention, mask_itemsize: int = FP32) -> BlockSparseAttention:
    """The same over blocks."""
    block, random = c.integer("block_size"), c.integer("num_random_blocks", low=0)
    return BlockSparseAttention(**facts_of(attention), block=block, random=random, mask_itemsize=mask_itemsize)


def big_bird(c: Config) -> Architecture:
    """Block-sparse attention, unless the config asks for the original; every class but one keeps the pooler."""
    hidden = c.integer("hidden_size")
    full = c.text("attention_type") == "original_full"
    attention = self_attention(c, bias=c.flag("use_bias"))
    part = body(c, attention=attention if full else block_sparse(c, attention))
    heads = bert_heads(c)
    spans: Named = (
        (
            "mlp",
            MLP(hidden, c.integer("intermediate_size"), gated=False, bias=True, activation=c.text("hidden_act"), role="head"),
        ),
        ("mlp_norm", layer_norm(c)),
        ("classifier", classifier(hidden, 2)),
    )
    heads = pooled_always(heads.but(QuestionAnswering=spans), hidden, "QuestionAnswering", "MultipleChoice", "PreTraining",
                          "NextSentencePrediction")  # fmt: skip
    return under(c, part, heads)


def approximated(c: Config) -> Architecture:
    """Softmax approximated (MRA, YOSO, Nyströmformer): the positions are shifted by two, there is no pooler.

    They know neither decoders nor cross-attention, whatever the config says.
    """
    c = c.reread(is_decoder=False, add_cross_attention=False)
    heads, window = c.integer("num_attention_heads"), _window(c)
    part = body(
        c,
        entry=embedded(c, position=c.integer("max_position_embeddings") + 2),
        within=(("convolution", Plain((Weight("weight", "attention", (heads, 1, window, 1)),))),) if window else UNRECORDED,
    )
    made = bert_heads(c, pooler=False)
    return under(c, part, made.but(QuestionAnswering=(("classifier", classifier(c.integer("hidden_size"), 2)),)))


def _window(c: Config) -> int:
    """Of a convolution over the values; a null means none."""
    return c.integer("conv_kernel_size") if c.has("conv_kernel_size") else 0


FAMILIES = {
    "longformer": Family(longformer, bert_but(attention_window=512)),
    "big_bird": Family(
        big_bird,
        bert_but(
            vocab_size=50358,
            hidden_act="gelu_new",
            max_position_embeddings=4096,
            attention_type="block_sparse",
            use_bias=True,
            block_size=64,
            num_random_blocks=3,
        ),
    ),
    "mra": Family(approximated, bert_but(vocab_size=50265, type_vocab_size=1)),
    "yoso": Family(approximated, bert_but(vocab_size=50265, max_position_embeddings=4096, type_vocab_size=1)),
    "nystromformer": Family(
        approximated, bert_but(vocab_size=30000, hidden_act="gelu_new", max_position_embeddings=510, conv_kernel_size=65)
    ),
}
