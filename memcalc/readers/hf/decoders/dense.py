"""Dense decoders of the llama line: gated MLP, rotary positions, grouped attention, RMSNorm before each block."""

from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.readers.hf.common import (
    WIDE,
    attention,
    biased_attention,
    decoder,
    every_nth_sliding,
    head_norms,
    layer_windows,
    mlp,
    pre_norm,
    rms,
    sliding_window,
    windowed,
)
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.tasks import task


def llama(c: Config) -> Architecture:
    norm = rms(c)
    return decoder(c, pre_norm(norm, biased_attention(c), mlp(c, bias=c.flag("mlp_bias", False))), norm)


def arcee(c: Config) -> Architecture:
    """A llama whose feed-forward has no gate."""
    norm = rms(c)
    feed_forward = mlp(c, gated=False, bias=c.flag("mlp_bias", False))
    return decoder(c, pre_norm(norm, biased_attention(c), feed_forward), norm)


def mistral(c: Config) -> Architecture:
    """Sliding windows in all layers, or where `layer_types` says so (Ministral)."""
    norm = rms(c)
    windows = layer_windows(c, default=[sliding_window(c)] * c.layers())
    return decoder(c, windowed(windows, lambda window: pre_norm(norm, attention(c, window=window), mlp(c))), norm)


def cwm(c: Config) -> Architecture:
    """Every fourth layer from the first on sees everything, the others a window."""
    norm, feed_forward = rms(c), mlp(c, bias=c.flag("mlp_bias", False))
    windows = layer_windows(c, default=every_nth_sliding(c, 4))
    return decoder(c, windowed(windows, lambda window: pre_norm(norm, attention(c, window=window), feed_forward)), norm)


def qwen2(c: Config) -> Architecture:
    norm = rms(c)
    layers = windowed(_qwen_windows(c), lambda window: pre_norm(norm, attention(c, query_bias=True, window=window), mlp(c)))
    return decoder(c, layers, norm)


def qwen3(c: Config) -> Architecture:
    norm = rms(c)
    layers = windowed(
        _qwen_windows(c), lambda window: pre_norm(norm, head_norms(c, biased_attention(c, window=window)), mlp(c))
    )
    return decoder(c, layers, norm)


def _qwen_windows(c: Config) -> list[int | None]:
    """Qwen 2 and 3: sliding windows only when switched on, from layer `max_window_layers` on."""
    depth, window = c.layers(), sliding_window(c)
    if not c.flag("use_sliding_window", False) or window is None:
        return [None] * depth
    first = c.integer("max_window_layers", 28, low=0)
    return layer_windows(c, default=[None if i < first else window for i in range(depth)])


def hunyuan(c: Config) -> Architecture:
    """A llama with query and key norms, after the rotation."""
    norm = rms(c)
    return decoder(c, pre_norm(norm, head_norms(c, biased_attention(c, norms_after_rotary=True)), mlp(c)), norm)


def apertus(c: Config) -> Architecture:
    """Query and key norms, and no gate; its activation (xIELU) learns two numbers a layer.

    `output_vocab_size`: fewer tokens are predicted than are embedded (Apertus 1.5).
    """
    norm, vocabulary, tied = rms(c), c.integer("vocab_size"), c.flag("tie_word_embeddings", False)
    head = Head(min(vocabulary, c.integer("output_vocab_size", vocabulary)), c.integer("hidden_size"), tied=tied)
    return decoder(c, pre_norm(norm, head_norms(c, biased_attention(c)), mlp(c, gated=False)), norm, head=head)


def gemma(c: Config) -> Architecture:
    norm, hidden, vocabulary = rms(c, kind="rms-zero-centred"), c.integer("hidden_size"), c.integer("vocab_size")
    layer = pre_norm(norm, biased_attention(c, causal=not c.flag("use_bidirectional_attention", False)), mlp(c))
    return decoder(c, layer, norm, embedding=Embedding(vocabulary, hidden, scaled=True))


def phi3(c: Config) -> Architecture:
    """Phi 3 and 4: fused query-key-value and gate-up matrices."""
    norm, dropout = rms(c), c.number("resid_pdrop", 0.0)
    layer = pre_norm(
        norm,
        attention(c, fused=True, window=sliding_window(c), output_dropout=dropout, rotary_joined=True),
        mlp(c, fused=True, dropout=dropout),
    )
    # embd_pdrop is in the configuration, but the library's model does not apply it
    return decoder(c, layer, norm)


def glm(c: Config) -> Architecture:
    """Biases on queries, keys and values; gate and up fused."""
    norm = rms(c)
    return decoder(
        c, pre_norm(norm, attention(c, query_bias=c.flag("attention_bias"), rotary_tables="copied"), mlp(c, fused=True)), norm
    )


def seed_oss(c: Config) -> Architecture:
    norm, dropout = rms(c), c.number("residual_dropout")
    layer = pre_norm(
        norm,
        attention(
            c,
            query_bias=c.flag("attention_bias"),
            output_bias=c.flag("attention_out_bias", False),
            output_dropout=dropout,
        ),
        mlp(c, bias=c.flag("mlp_bias", False), dropout=dropout),
    )
    return decoder(c, layer, norm)


# modeling_ernie4_5: "keeping it in full precision"
ERNIE_ROTARY: dict[str, Any] = {"rotary_wide": True, "rotary_tables": "copied fp32"}


def ernie4_5(c: Config) -> Architecture:
    """One flag for the biases of attention and feed-forward."""
    norm = rms(c)
    layer = pre_norm(norm, biased_attention(c, "use_bias", dropout=0.0, **ERNIE_ROTARY), mlp(c, bias=c.flag("use_bias", False)))
    return decoder(c, layer, norm)


def moshi(c: Config) -> Architecture:
    """One token more is embedded than is predicted; the class for generation has codes and a depth decoder as well."""
    norm, width = rms(c), c.integer("intermediate_size")
    if width % 2:
        raise c.error("ffn_dim", f"({width}) must be even: it counts gate and up together")
    layer = pre_norm(norm, attention(c, window=sliding_window(c)), mlp(c, intermediate=width // 2, fused=True))
    model = decoder(c, layer, norm, tied=False, embedding=Embedding(c.integer("vocab_size") + 1, c.integer("hidden_size")))
    if task(c) != "ConditionalGeneration":
        return model
    from memcalc.readers.hf.multimodal.codecs import moshi_codes

    return moshi_codes(c, model.parts[0])


def helium(c: Config) -> Architecture:
    norm = rms(c, kind=WIDE)
    block = attention(c, query_bias=c.flag("attention_bias", False))
    if block.output_size != block.hidden:  # the library's output projection is hidden × hidden
        raise c.error("head_dim", f"({block.head_dim}) times the heads ({block.heads}) must be the hidden size")
    return decoder(c, pre_norm(norm, block, mlp(c, bias=c.flag("mlp_bias", False))), norm)


def smollm3(c: Config) -> Architecture:
    """A llama with every fourth layer without rotary positions."""
    norm = rms(c)
    layers = windowed(
        list(zip(_smollm3_windows(c), _smollm3_rotary(c), strict=True)),
        lambda traits: pre_norm(
            norm,
            biased_attention(c, window=traits[0], rotary=traits[1]),
            mlp(c, bias=c.flag("mlp_bias", False)),
        ),
    )
    return decoder(c, layers, norm)


def _smollm3_rotary(c: Config) -> list[bool]:
    """Layers with rotary positions: the key's name says the opposite of its ones."""
    depth, period = c.layers(), c.integer("no_rope_layer_interval", 4)
    if not c.has("no_rope_layers"):
        return [(i + 1) % period != 0 for i in range(depth)]
    rotary = c.entries("no_rope_layers", of=int)
    if len(rotary) < depth:
        raise c.error("no_rope_layers", f"must have an entry for each of the {depth} layers, not {len(rotary)}")
    return [bool(flag) for flag in rotary[:depth]]


def _smollm3_windows(c: Config) -> list[int | None]:
    depth, window = c.layers(), sliding_window(c)
    if not c.flag("use_sliding_window", False):
        return [None] * depth
    return layer_windows(c, default=[None if rotary else window for rotary in _smollm3_rotary(c)])


# transformers' defaults where they differ from "no bias, silu, own head, as many key-value heads as query heads".
# Sizes are left out on purpose: a top-level config.json that lacks them is truncated.
_MISTRAL = {"num_key_value_heads": 8, "sliding_window": 4096, "max_position_embeddings": 131072}
_QWEN = {"num_key_value_heads": 32, "sliding_window": 4096, "max_position_embeddings": 32768}

FAMILIES = {
    "llama": Family(llama, {"max_position_embeddings": 2048}),
    "arcee": Family(arcee, {"hidden_act": "relu2", "rms_norm_eps": 1e-5, "max_position_embeddings": 4096}),
    "mistral": Family(mistral, _MISTRAL),
    "ministral": Family(mistral, _MISTRAL),
    "cwm": Family(
        cwm,
        {
            "num_key_value_heads": 8,
            "head_dim": 128,
            "rms_norm_eps": 1e-5,
            "sliding_window": 8192,
            "max_position_embeddings": 131072,
        },
    ),
    "ministral3": Family(
        mistral,
        {"num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-5, "max_position_embeddings": 262144},
    ),
    "qwen2": Family(qwen2, _QWEN),
    "qwen3": Family(qwen3, {**_QWEN, "head_dim": 128}),
    "hunyuan_v1_dense": Family(hunyuan, {"rms_norm_eps": 1e-5, "max_position_embeddings": 2048}),
    "apertus": Family(apertus, {"hidden_act": "xielu", "rms_norm_eps": 1e-5, "max_position_embeddings": 65536}),
    "gemma": Family(
        gemma,
        {
            "num_key_value_heads": 16,
            "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh",
            "tie_word_embeddings": True,
            "max_position_embeddings": 8192,
        },
    ),
    "phi3": Family(phi3, {"rms_norm_eps": 1e-5, "max_position_embeddings": 4096}),
    "glm": Family(
        glm,
        {
            "num_key_value_heads": 2,
            "head_dim": 128,
            "attention_bias": True,
            "partial_rotary_factor": 0.5,
            "rms_norm_eps": 1.5625e-7,
            "max_position_embeddings": 131072,
        },
    ),
    "seed_oss": Family(
        seed_oss,
        {
            "num_key_value_heads": 8,
            "head_dim": 128,
            "attention_bias": True,
            "attention_dropout": 0.1,
            "residual_dropout": 0.1,
            "max_position_embeddings": 524288,
        },
    ),
    "ernie4_5": Family(
        ernie4_5,
        {
            "num_key_value_heads": 2,
            "head_dim": 128,
            "tie_word_embeddings": True,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 131072,
        },
    ),
    "moshi": Family(moshi, {"rms_norm_eps": 1e-8, "sliding_window": 3000, "max_position_embeddings": 3000}),
    "helium": Family(
        helium,
        {"num_key_value_heads": 20, "head_dim": 128, "rms_norm_eps": 1e-8, "max_position_embeddings": 4096},
    ),
    "smollm3": Family(smollm3, {"num_key_value_heads": 4, "tie_word_embeddings": True, "max_position_embeddings": 32768}),
}
