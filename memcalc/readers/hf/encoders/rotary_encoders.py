"""Encoders with rotary positions: ModernBERT, Nomic BERT, GTE, Jina, EuroBERT and others."""

from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack, named_weights
from memcalc.blocks.attention.exclusive import ExclusiveAttention, Mix, ValueTable
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.blocks.reused import Reused
from memcalc.blocks.task_head import Pooler, TaskHead
from memcalc.blocks.unread import Unread
from memcalc.blocks.values import facts_of
from memcalc.readers.hf.common import attention as grouped
from memcalc.readers.hf.common import biased_attention, layer_norm, layer_windows, mlp, norm_of_sum, pre_norm, rms, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.heads import Heads, masked_lm, under, usual
from memcalc.readers.hf.encoders.layers import embedded
from memcalc.readers.hf.tasks import classifier, label_count


def modernbert(c: Config) -> Architecture:
    """Norms before each block but the first, whose input the embedding has normalised; windows in two layers of three."""
    hidden, norm, depth = c.integer("hidden_size"), layer_norm(c, bias=c.flag("norm_bias")), c.layers()
    period, local = c.integer("global_attn_every_n_layers", 3), 2 * (c.integer("local_attention") // 2) + 1
    kinds = layer_windows(c.reread(sliding_window=local), default=[local if i % period else None for i in range(depth)])
    feed_forward = mlp(
        c, bias=c.flag("mlp_bias"), fused=True, activation=c.text("hidden_activation"), inner_dropout=c.number("mlp_dropout")
    )

    def layer(index: int) -> Layer:
        mixer = biased_attention(
            c, kv_heads=c.integer("num_attention_heads"), causal=False, fused=True, window=kinds[index],
            output_dropout=c.number("attention_dropout"),
        )  # fmt: skip
        made = pre_norm(norm, mixer, feed_forward)
        return made if index else Layer(made.blocks[1:])

    embedding = Embedding(c.integer("vocab_size"), hidden, dropout=c.number("embedding_dropout"))
    part = Part(
        "encoder",
        entry=(("embedding", embedding), ("embedding_norm", norm)),
        stacks=(Stack.of([layer(index) for index in range(depth)]),),
        exit=(("final_norm", norm),),
    )
    tied = c.flag("tie_word_embeddings")
    dense = Projection(hidden, hidden, bias=c.flag("classifier_bias"), activation=c.text("classifier_activation"), role="head")
    before: Named = (("head_transform", dense), ("head_norm", norm))
    head = Head(c.integer("vocab_size"), hidden, tied=tied, bias=c.flag("decoder_bias"), upcast=False)
    scored: Named = (*before, ("classifier", TaskHead(hidden, label_count(c), dropout=c.number("classifier_dropout"))))
    kinds_of: dict[str, Named] = {
        **dict.fromkeys(("SequenceClassification", "TokenClassification", "QuestionAnswering"), scored),
        "MultipleChoice": (*before, ("classifier", classifier(hidden, 1))),
        "Model": (),
    }
    return under(c, part, Heads((*before, ("head", head)), tied, kinds_of))


def nomic_bert(c: Config) -> Architecture:
    """BERT with rotary positions and a gated feed-forward, without biases."""
    tied = c.flag("tie_word_embeddings")
    return under(c, _post_norm(c, mlp(c), bias=False), usual(c, masked_lm(c, tied=tied), tied=tied, pooler=False))


def gte(c: Config) -> Architecture:
    tied = c.flag("tie_word_embeddings")
    feed_forward = mlp(c, bias=False, down_bias=True, inner_dropout=c.number("hidden_dropout_prob"))
    heads = usual(c, masked_lm(c, tied=tied, doubled=False, activation="gelu"), tied=tied, pooler=False)
    return under(c, _post_norm(c, feed_forward, bias=True), heads)


def jina_embeddings_v3(c: Config) -> Architecture:
    tied = c.flag("tie_word_embeddings")
    heads = usual(c, masked_lm(c, tied=tied, activation="gelu"), tied=tied, dropped=True)
    return under(c, _post_norm(c, mlp(c, gated=False, bias=True), bias=True), heads)


def eurobert(c: Config) -> Architecture:
    """A llama that sees both ways."""
    hidden, tied, bias = c.integer("hidden_size"), c.flag("tie_word_embeddings"), c.flag("mlp_bias")
    head = Head(c.integer("vocab_size"), hidden, tied=tied, bias=bias, upcast=False)
    scored: Named = (("classifier", classifier(hidden, label_count(c))),)
    pooled: Named = (("pooler", Pooler(hidden, hidden, "gelu")), *scored)
    kinds: dict[str, Named] = {"Model": (), "SequenceClassification": pooled, "TokenClassification": scored}
    return under(c, _llama(c), Heads((("head", head),), tied, kinds))


def ultrabert(c: Config) -> Architecture:
    """Windows in two layers of three, and a narrow prediction head."""
    hidden, narrow, tied = c.integer("hidden_size"), c.integer("prediction_head_size"), c.flag("tie_word_embeddings")
    window = c.integer("sliding_window") + 1  # on either side, itself between
    default = [window if (i + 1) % 3 else None for i in range(c.layers())]
    masked: Named = (
        ("head_down", Projection(hidden, narrow, activation="gelu_pytorch_tanh", role="head")),
        ("head_up", Projection(narrow, hidden, role="head")),
        ("head", Head(c.integer("vocab_size"), hidden, tied=tied, upcast=False)),
    )
    scored: Named = (("classifier", TaskHead(hidden, label_count(c), dropout=c.number("classifier_dropout"))),)
    kinds: dict[str, Named] = {
        **dict.fromkeys(("SequenceClassification", "TokenClassification"), scored),
        "QuestionAnswering": (("classifier", classifier(hidden, 2)),),
        "Model": (),
    }
    part = _llama(c, layer_windows(c.reread(sliding_window=window), default=default))
    return under(c, part, Heads(masked, tied, kinds))


def esmc(c: Config) -> Architecture:
    """Proteins: norms over all heads of queries and keys at once; heads of RoBERTa's kind, never tied."""
    hidden, labels = c.integer("hidden_size"), label_count(c)
    norm = Norm(hidden, "layer", bias=False)
    mixer = _grouped(c, query_norm=norm, key_norm=norm)
    layer = pre_norm(layer_norm(c), mixer, mlp(c, bias=c.flag("mlp_bias")))
    embedding = Embedding(c.integer("vocab_size"), hidden)
    part = Part("encoder", (("embedding", embedding),), (Stack.uniform(layer, c.layers()),), (("final_norm", norm),))
    pooled: Named = (("pooler", Pooler(hidden, hidden, dropped=True)), ("classifier", classifier(hidden, labels)))
    scored: Named = (("classifier", TaskHead(hidden, labels, dropout=c.number("classifier_dropout"))),)
    kinds: dict[str, Named] = {"Model": (), "SequenceClassification": pooled, "TokenClassification": scored}
    return under(c, part, Heads(masked_lm(c, tied=False, doubled=False, activation="gelu"), False, kinds))


def neomme(c: Config) -> Architecture:
    """Text and pages in one encoder: a factored embedding, gated attention, norms without scales."""
    hidden, rank, vocabulary = c.integer("hidden_size"), c.integer("embedding_rank"), c.integer("vocab_size")
    heads, kv_size = c.integer("num_attention_heads"), c.integer("num_key_value_heads") * c.integer("head_dim")
    width, tied, patch = heads * c.integer("head_dim"), c.flag("tie_word_embeddings"), 3 * c.integer("patch_size") ** 2
    norm = Norm(hidden, "rms-fp32", affine=False)
    head_norm = Norm(c.integer("head_dim"), "rms-fp32", affine=False)
    feed_forward = mlp(c, gated=False, bias=c.flag("mlp_bias"), activation="relu2")
    windows, bias = _neomme_windows(c), c.flag("attention_bias")
    ends = [i for i, window in enumerate(windows) if window is None]
    ends = [ends[0], ends[-1]] if ends else []
    rotated = c.sub("rope_parameters", {})

    def layer(index: int) -> Layer:
        kind = "sliding_attention" if windows[index] else "full_attention"
        share = rotated.sub(kind, {}).number("partial_rotary_factor", 1.0)
        mixer = grouped(
            c, query_bias=bias, output_bias=bias, causal=False, window=windows[index], gate=width, query_norm=head_norm,
            key_norm=head_norm, rotary_dim=int(c.integer("head_dim") * share) if share < 1 else None, rotary_joined=True,
        )  # fmt: skip
        between = bool(ends) and index < ends[-1]
        attention = ExclusiveAttention(**facts_of(mixer), embedded=index in ends, between=between)
        blocks = (("mix", Mix(last=index == len(windows) - 1)), *pre_norm(norm, attention, feed_forward).blocks)
        return Layer(blocks, wiring="mixed with the first", narrow=True)

    pages: Named = (
        ("patch_norm", Norm(patch, "layer")),
        ("patches_up", Projection(patch, 2 * hidden, activation="gelu")),
        ("patches_down", Projection(2 * hidden, hidden, bias=True)),
    )
    entry: Named = (
        ("embedding", Embedding(vocabulary, rank)), ("embedding_projection", Projection(rank, hidden)),
        ("embedding_norm", norm), ("pages", Unread(tuple(named_weights(pages)), seen=True)),
        ("value_embedding", ValueTable(vocabulary, kv_size)),
    )  # fmt: skip
    stack = Stack.of([layer(index) for index in range(len(windows))])
    down: Block = Projection(hidden, rank, role="head")  # tied: the embedding's, the other way round
    down = Reused(down, earlier=True) if tied else down
    masked: Named = (("head_projection", down), ("head", Head(vocabulary, rank, tied=tied)))
    retrieval: Named = (("vectors", Projection(hidden, c.integer("embedding_dim"), role="head")),)
    part = Part("encoder", entry, (stack,), (("final_norm", norm),))
    return under(c, part, Heads(masked, tied, {"Model": (), "Retrieval": retrieval}))


def _neomme_windows(c: Config) -> list[int | None]:
    """Short and long windows by turns, all tokens in every sixth layer and the last; `per_layer_config` says otherwise."""
    depth, said = c.layers(), c.raw("per_layer_config", {})
    default = [None if (i + 1) % 6 == 0 or i == depth - 1 else 1 for i in range(depth)]
    kinds = layer_windows(c.reread(sliding_window=1), default=default)
    sliding = [i for i, kind in enumerate(kinds) if kind]
    windows: list[int | None] = [None] * depth
    for position, i in enumerate(sliding):
        own = said.get(f"{i:02}", {}) if isinstance(said, dict) else {}
        long = 1024 if position % 2 and not said else c.integer("sliding_window")
        found = own.get("sliding_window", long) if isinstance(own, dict) else long
        windows[i] = found + 1 if isinstance(found, int) and found > 0 else None
    return windows


def _post_norm(c: Config, feed_forward: Block, *, bias: bool) -> Part:
    """BERT's shape without learned positions; every projection has a bias or none has."""
    mixer = grouped(
        c, kv_heads=c.integer("num_attention_heads"), causal=False, query_bias=bias, output_bias=bias,
        dropout=c.number("attention_probs_dropout_prob"), output_dropout=c.number("hidden_dropout_prob"),
    )  # fmt: skip
    layer = norm_of_sum(layer_norm(c), mixer, feed_forward)
    return Part("encoder", embedded(c, position=0), (Stack.uniform(layer, c.layers()),))


def _llama(c: Config, windows: list[int | None] | None = None) -> Part:
    norm, feed_forward = rms(c), mlp(c, bias=c.flag("mlp_bias"))
    layers = windowed(windows or [None] * c.layers(), lambda window: pre_norm(norm, _grouped(c, window=window), feed_forward))
    embedding = Embedding(c.integer("vocab_size"), c.integer("hidden_size"))
    return Part("encoder", (("embedding", embedding),), (Stack.of(layers),), (("final_norm", norm),))


def _grouped(c: Config, **traits: Any) -> Attention:
    return biased_attention(c, causal=False, **traits)


_BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "tie_word_embeddings": True,
}
_POST = {**_BASE, "type_vocab_size": 2, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu"}
_LLAMA = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0}

FAMILIES = {
    "modernbert": Family(
        modernbert,
        {
            **_BASE, "vocab_size": 50368, "intermediate_size": 1152, "num_hidden_layers": 22, "hidden_activation": "gelu",
            "max_position_embeddings": 8192, "norm_bias": False, "attention_bias": False, "attention_dropout": 0.0,
            "local_attention": 128, "embedding_dropout": 0.0, "mlp_bias": False, "mlp_dropout": 0.0, "decoder_bias": True,
            "classifier_dropout": 0.0, "classifier_bias": False, "classifier_activation": "gelu",
        },
    ),
    "nomic_bert": Family(
        nomic_bert,
        {
            **_POST, "vocab_size": 30528, "hidden_act": "silu", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
            "max_position_embeddings": 2048,
        },
    ),
    "gte": Family(
        gte,
        {
            **_POST, "vocab_size": 250048, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 8192,
            "type_vocab_size": 1,
        },
    ),
    "jina_embeddings_v3": Family(
        jina_embeddings_v3,
        {
            **_POST, "vocab_size": 250002, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
            "intermediate_size": 4096, "max_position_embeddings": 8194, "type_vocab_size": 1,
        },
    ),
    "eurobert": Family(
        eurobert,
        {
            **_BASE, **_LLAMA, "vocab_size": 128256, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
        },
    ),
    "ultrabert": Family(
        ultrabert,
        {
            **_LLAMA, "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "max_position_embeddings": 32768, "tie_word_embeddings": False, "sliding_window": 128,
            "prediction_head_size": 768, "classifier_dropout": 0.0,
        },
    ),
    "esmc": Family(
        esmc,
        {
            **_LLAMA, "vocab_size": 64, "hidden_size": 2560, "intermediate_size": 6912, "num_hidden_layers": 80,
            "num_attention_heads": 40, "max_position_embeddings": 2048, "tie_word_embeddings": False, "classifier_dropout": 0.1,
        },
    ),
    "neomme": Family(
        neomme,
        {
            "vocab_size": 131072, "embedding_rank": 256, "hidden_size": 1024, "intermediate_size": 3584, "mlp_bias": False,
            "num_hidden_layers": 17, "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 64,
            "max_position_embeddings": 16384, "attention_bias": False, "sliding_window": 256, "patch_size": 32,
            "embedding_dim": 128, "tie_word_embeddings": True,
        },
    ),
}  # fmt: skip
