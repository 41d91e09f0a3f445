"""The GPT line: LayerNorm, biases, plain MLPs, learned or ALiBi positions, as many key-value heads as query heads."""

from dataclasses import replace
from typing import Any

from memcalc.autograd.tape import BYTE
from memcalc.blocks.architecture import Architecture, Named
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Buffer
from memcalc.blocks.mlp import MLP
from memcalc.blocks.projection import Projection
from memcalc.errors import Unsupported
from memcalc.readers.hf.common import (
    attention,
    decoder,
    even_head_dim,
    layer_norm,
    mlp,
    norm_of_sum,
    pre_norm,
    windowed,
)
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds


def gpt2(c: Config) -> Architecture:
    """Every matrix is stored [inputs, outputs]."""
    return _gpt2(c, transposed=True)


def gpt_bigcode(c: Config) -> Architecture:
    """StarCoder 1: a GPT-2 with one key-value head."""
    return _gpt2(c, kv_heads=1 if c.flag("multi_query") else 0, buffers=_mask(c))


def _gpt2(c: Config, *, kv_heads: int = 0, transposed: bool = False, buffers: tuple[Buffer, ...] = ()) -> Architecture:
    if c.flag("add_cross_attention", False):
        raise Unsupported(f"{c.place}: add_cross_attention (a decoder that reads an encoder) is not modelled for GPT-2")
    norm, dropout = layer_norm(c), c.number("resid_pdrop")
    block = full_attention(
        c,
        kv_heads=kv_heads,
        query_bias=True,
        output_bias=True,
        fused=True,
        transposed=transposed,
        rotary=False,
        scores="as computed" if transposed else "softmax in fp32",
        dropout=c.number("attn_pdrop"),
        output_dropout=dropout,
    )
    layer = pre_norm(norm, block, plain_mlp(c, transposed=transposed, dropout=dropout))
    embedding = replace(_learned_positions(c, dropout=c.number("embd_pdrop")), buffers=buffers)
    return decoder(c, layer, norm, embedding=embedding)


def _mask(c: Config) -> tuple[Buffer, ...]:
    """A causal mask of the whole context, kept as a buffer of booleans."""
    return (Buffer(c.integer("max_position_embeddings") ** 2, BYTE),)


def openai_gpt(c: Config) -> Architecture:
    """GPT 1: norms of the sums after both blocks, none at the end."""
    norm, dropout = layer_norm(c), c.number("resid_pdrop")
    block = full_attention(
        c,
        query_bias=True,
        output_bias=True,
        fused=True,
        transposed=True,
        rotary=False,
        scores="as computed",
        dropout=c.number("attn_pdrop"),
        output_dropout=dropout,
        buffers=(Buffer(c.integer("max_position_embeddings") ** 2),),
    )
    feed_forward = MLP(
        norm.size, 4 * norm.size, gated=False, bias=True, transposed=True, dropout=dropout, activation=c.text("hidden_act")
    )
    layer = norm_of_sum(norm, block, feed_forward)
    return decoder(c, layer, None, embedding=_learned_positions(c, dropout=c.number("embd_pdrop")))


def ctrl(c: Config) -> Architecture:
    """CTRL: scaled embeddings, sinusoidal positions, and a bias on the tied head."""
    norm, dropout, hidden = layer_norm(c), c.number("resid_pdrop"), c.integer("hidden_size")
    block = full_attention(c, query_bias=True, output_bias=True, rotary=False, scores="as computed", output_dropout=dropout)
    feed_forward = mlp(c, gated=False, bias=True, activation="relu", dropout=dropout)
    vocabulary, tied = c.integer("vocab_size"), c.flag("tie_word_embeddings")
    positions = Buffer(c.integer("max_position_embeddings") * hidden)
    embedding = Embedding(vocabulary, hidden, scaled=True, dropout=c.number("embd_pdrop"), buffers=(positions,))
    head = Head(vocabulary, hidden, tied=tied, bias=True)
    return decoder(c, pre_norm(norm, block, feed_forward), norm, tied=tied, embedding=embedding, head=head)


def biogpt(c: Config) -> Architecture:
    """Learned positions whose first two rows are never used."""
    norm, dropout = layer_norm(c), c.number("hidden_dropout_prob")
    block = full_attention(
        c,
        query_bias=True,
        output_bias=True,
        rotary=False,
        dropout=c.number("attention_probs_dropout_prob"),
        output_dropout=dropout,
    )
    feed_forward = mlp(c, gated=False, bias=True, inner_dropout=c.number("activation_dropout", 0.0), dropout=dropout)
    positions, scaled = c.integer("max_position_embeddings") + 2, c.flag("scale_embedding")
    embedding = Embedding(c.integer("vocab_size"), c.integer("hidden_size"), position=positions, dropout=dropout, scaled=scaled)
    return decoder(c, pre_norm(norm, block, feed_forward), norm, embedding=embedding)


def xglm(c: Config) -> Architecture:
    """Sinusoidal positions, kept as a buffer that is two rows longer than the context."""
    if c.flag("add_cross_attention", False):
        raise Unsupported(f"{c.place}: add_cross_attention (a decoder that reads an encoder) is not modelled for XGLM")
    norm, dropout, hidden = layer_norm(c), c.number("dropout"), c.integer("hidden_size")
    block = full_attention(c, query_bias=True, output_bias=True, rotary=False, output_dropout=dropout)
    feed_forward = mlp(c, gated=False, bias=True, inner_dropout=c.number("activation_dropout", 0.0), dropout=dropout)
    positions = Buffer((c.integer("max_position_embeddings") + 2) * hidden)
    embedding = Embedding(
        c.integer("vocab_size"), hidden, scaled=c.flag("scale_embedding"), dropout=dropout, buffers=(positions,)
    )
    return decoder(c, pre_norm(norm, block, feed_forward), norm, embedding=embedding)


def gpt_neo(c: Config) -> Architecture:
    """Full and windowed layers take turns."""
    norm, dropout = layer_norm(c), c.number("resid_dropout", 0.0)
    traits: dict[str, Any] = {"scores": "in fp32", "output_dropout": dropout, "buffers": _mask(c)}
    layers = windowed(
        _gpt_neo_windows(c),
        lambda window: pre_norm(
            norm,
            full_attention(c, output_bias=True, rotary=False, window=window, **traits),
            plain_mlp(c, dropout=dropout),
        ),
    )
    return decoder(c, layers, norm, embedding=_learned_positions(c, dropout=c.number("embed_dropout", 0.0)))


def _gpt_neo_windows(c: Config) -> list[int | None]:
    """`attention_layers`: the kind of each; else `attention_types`: [[kinds, how often these repeat], …], or in turn."""
    depth, window = c.layers(), c.integer("window_size")
    if c.has("attention_layers") and c.asks("attention_types"):
        kinds = layer_kinds(c, ["global"] * depth, ("global", "local"), "attention_layers")
        return [window if kind == "local" else None for kind in kinds]
    kinds = _gpt_neo_kinds(c, depth) if c.has("attention_types") else [("global", "local")[i % 2] for i in range(depth)]
    return [window if kind == "local" else None for kind in kinds]


def _gpt_neo_kinds(c: Config, depth: int) -> list[str]:
    key, pairs = "attention_types", c.entries("attention_types", of=list)
    if not all(len(pair) == 2 and isinstance(pair[0], list) and type(pair[1]) is int for pair in pairs):
        raise c.error(key, "must hold pairs: a list of kinds, and how often it repeats")
    # lengths first: a hostile repetition must not be expanded
    lengths = sum(len(names) * times for names, times in pairs if times > 0)
    kinds = [kind for names, times in pairs for kind in names * times] if lengths == depth else []
    if not kinds or any(kind not in ("global", "local") for kind in kinds):
        raise c.error(key, f"must say global or local for each of the {depth} layers")
    return kinds


def opt(c: Config) -> Architecture:
    """OPT. The 350M model normalises after each block and embeds in a smaller space, with projections around it."""
    bias, affine, dropout = c.flag("enable_bias"), c.flag("layer_norm_elementwise_affine"), c.number("dropout")
    norm, first = replace(layer_norm(c), affine=affine), c.flag("do_layer_norm_before")
    block = full_attention(c, query_bias=bias, output_bias=bias, rotary=False, output_dropout=dropout)
    layer = (pre_norm if first else norm_of_sum)(norm, block, mlp(c, gated=False, bias=bias, dropout=dropout))
    hidden, vocabulary = c.integer("hidden_size"), c.integer("vocab_size")
    size = c.integer("word_embed_proj_dim", hidden)
    out: Named = (("project_out", Projection(hidden, size)),)
    tied, positions = c.flag("tie_word_embeddings"), c.integer("max_position_embeddings")
    return decoder(
        c,
        layer,
        norm if first and not c.flag("_remove_final_layer_norm", False) else None,
        # the table's first two rows are never used
        embedding=Embedding(vocabulary, size, position=positions + 2, position_size=hidden),
        before_head=out if size != hidden else (),
        tied=tied,
        head=Head(vocabulary, size, tied=tied),
    )


def bloom(c: Config) -> Architecture:
    """ALiBi positions, and a norm right after the embedding."""
    norm, dropout = layer_norm(c), c.number("hidden_dropout", 0.0)
    block = full_attention(
        c, query_bias=True, output_bias=True, fused=True, rotary=False, alibi="bloom", output_dropout=dropout
    )
    feed_forward = MLP(norm.size, 4 * norm.size, gated=False, bias=True, activation="gelu_bloom", dropout=dropout)
    return decoder(c, pre_norm(norm, block, feed_forward), norm, after_embedding=(("embedding_norm", norm),))


def mpt(c: Config) -> Architecture:
    """ALiBi positions and no biases at all, not even in the norms: the library ignores no_bias and expansion_ratio."""
    norm, dropout = layer_norm(c, bias=False), c.sub("attn_config", {}).number("attn_pdrop", 0.0)
    block = full_attention(c, fused=True, rotary=False, alibi="mpt", dropout=dropout, output_dropout=dropout)
    feed_forward = MLP(norm.size, 4 * norm.size, gated=False, activation="gelu", dropout=dropout)
    return decoder(c, pre_norm(norm, block, feed_forward), norm)


def full_attention(c: Config, *, kv_heads: int = 0, **traits: Any) -> Attention:
    """Attention of families whose head size is always hidden / heads; `kv_heads`: 0 for as many as query heads."""
    return attention(c, head_dim=even_head_dim(c), kv_heads=kv_heads or c.integer("num_attention_heads"), **traits)


def plain_mlp(c: Config, *, bias: bool = True, **traits: Any) -> MLP:
    """A feed-forward without gate, four times as wide as the model where the config does not say."""
    width = c.integer("intermediate_size", 4 * c.integer("hidden_size"))
    return mlp(c, intermediate=width, gated=False, bias=bias, **traits)


def _learned_positions(c: Config, *, dropout: float) -> Embedding:
    positions = c.integer("max_position_embeddings")
    return Embedding(c.integer("vocab_size"), c.integer("hidden_size"), position=positions, dropout=dropout)


_GPT2 = {
    "n_positions": 1024,
    "attn_pdrop": 0.1,
    "resid_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "tie_word_embeddings": True,
}

FAMILIES = {
    "gpt2": Family(gpt2, {**_GPT2, "activation_function": "gelu_new"}),
    "gpt_bigcode": Family(gpt_bigcode, {**_GPT2, "activation_function": "gelu_pytorch_tanh", "multi_query": True}),
    "gpt_neo": Family(
        gpt_neo,
        {
            "max_position_embeddings": 2048,
            "window_size": 256,
            "activation_function": "gelu_new",
            "tie_word_embeddings": True,
        },
    ),
    "opt": Family(
        opt,
        {
            "max_position_embeddings": 2048,
            "do_layer_norm_before": True,
            "dropout": 0.1,
            "activation_function": "relu",
            "enable_bias": True,
            "layer_norm_elementwise_affine": True,
            "tie_word_embeddings": True,
        },
    ),
    "openai-gpt": Family(
        openai_gpt, {**_GPT2, "n_positions": 512, "activation_function": "gelu"}, {"afn": "activation_function"}
    ),
    "ctrl": Family(
        ctrl,
        {"n_positions": 256, "resid_pdrop": 0.1, "embd_pdrop": 0.1, "tie_word_embeddings": True},
        {"dff": "intermediate_size"},
    ),
    "biogpt": Family(
        biogpt,
        {
            "max_position_embeddings": 1024,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "scale_embedding": True,
            "tie_word_embeddings": True,
        },
    ),
    "xglm": Family(
        xglm,
        {
            "max_position_embeddings": 2048,
            "activation_function": "gelu",
            "dropout": 0.1,
            "attention_dropout": 0.1,
            "scale_embedding": True,
            "tie_word_embeddings": True,
        },
        {"attention_heads": "num_attention_heads"},
    ),
    "bloom": Family(bloom, {"tie_word_embeddings": True}),
    "mpt": Family(mpt, {"max_seq_len": 2048, "tie_word_embeddings": True}),
}
