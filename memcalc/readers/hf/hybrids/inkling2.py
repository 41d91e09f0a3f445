"""Inkling 2 and its looped variant: convolved keys and values, attention over blocks of earlier layers as residual."""

from collections.abc import Mapping
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named
from memcalc.blocks.attention.convolved import CausalConvolution, ConvolvedAttention
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight, linear
from memcalc.blocks.mixers.state import convolution_state, depthwise
from memcalc.blocks.plain import Plain
from memcalc.blocks.reused import Reused
from memcalc.readers.hf.common import decoder, optional_number, rms, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.hybrids.convolved import FULL, SLIDING
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import experts


def inkling2_text(c: Config) -> Architecture:
    return _decoder(c, _layers(c, looped=range(0)))


def inkling2_loop_text(c: Config) -> Architecture:
    """Layers from `loop_layer_index_start` on run again, each pass with keys, values and convolutions of its own."""
    nested = c.sub("loop_config", {})  # as the published file has it
    start, end, passes = (
        nested.integer(name, c.integer(key), high=10_000)
        for name, key in (
            ("core_start", "loop_layer_index_start"),
            ("core_end", "loop_layer_index_end"),
            ("num_passes", "loop_num_passes"),
        )
    )
    depth, block = c.layers(), c.integer("n_layers_per_attn_res_block")
    if not start < end <= depth or start % block or end % block:
        raise c.error("loop_layer_index_end", f"({end}) must lie between the start ({start}) and the {depth} layers, in blocks")
    layers = _layers(c, looped=range(start, end), rank=nested.integer("gate_rank", c.integer("loop_gate_rank")))
    again = windowed(layers[start:end], lambda layer: Layer(tuple((name, Reused(block)) for name, block in layer.blocks)))
    # a query for each layer of the loop, of four messages each
    messages = Plain((Weight("messages", "other", (end - start, 4, c.integer("hidden_size"))),))
    return _decoder(c, [*layers[:end], *again * (passes - 1), *layers[end:]], messages)


def _decoder(c: Config, layers: list[Layer], *more: Plain) -> Architecture:
    """Fewer tokens are predicted than are embedded, whose table is padded."""
    norm, hidden = rms(c), c.integer("hidden_size")
    last = Plain((Weight("query", "other", (hidden,)),))
    head = Head(
        c.integer("unpadded_vocab_size"), hidden, input_scaled=True, softcap=optional_number(c, "final_logit_softcapping")
    )
    start: Named = (("embedding_norm", norm), ("final_input", last), *(("message_input", extra) for extra in more))
    return decoder(c, layers, norm, tied=False, after_embedding=start, head=head)


def _layers(c: Config, *, looped: range, rank: int = 0) -> list[Layer]:
    default = [SLIDING if (i + 1) % 6 else FULL for i in range(c.layers())]
    kinds = layer_kinds(c, default, (FULL, SLIDING))
    traits = [(kind, i == 0, i in looped) for i, kind in enumerate(kinds)]
    return windowed(traits, lambda trait: _layer(c, *trait, rank))


def _layer(c: Config, kind: str, first: bool, loops: bool, rank: int) -> Layer:
    """Before either block a query attends to the blocks so far: one for queries, keys and values each where all are seen."""
    hidden, norm = c.integer("hidden_size"), rms(c)
    convolution = CausalConvolution(hidden, c.integer("conv_kernel_size"))
    queries = 3 if kind == FULL else 1
    read: Named = () if first else (("attention_input", Plain((Weight("query", "other", (queries, hidden)),))),)
    gates: Named = (("message_gates", Plain(_gates(hidden, rank))),) if loops else ()
    norms: Named = tuple((f"input_norm_{name}", norm) for name in "qkv") if kind == FULL else (("input_norm", norm),)
    return Layer(
        (
            *read,
            *gates,
            *norms,
            ("attention", _attention(c, kind)),
            ("attention_convolution", convolution),
            ("mlp_input", Plain((Weight("query", "other", (hidden,)),))),
            ("post_attention_norm", norm),
            ("mlp", experts(c, routing="inkling2")),
            ("mlp_convolution", convolution),
        )
    )


def _gates(hidden: int, rank: int) -> tuple[Weight, ...]:
    """Of messages to queries, keys, values and feed-forward: what is forgotten and what is taken, from a bottleneck."""
    return tuple(
        weight
        for name in ("q", "k", "v", "mlp")
        for weight in (
            *linear(f"{name}_down", "other", 2 * hidden, rank),
            *linear(f"{name}_forget", "other", rank, hidden),
            *linear(f"{name}_message", "other", rank, hidden),
        )
    )


def _attention(c: Config, kind: str) -> ConvolvedAttention:
    """Gated, with sinks that each token sets; full layers weigh their convolutions by the token too."""
    prefix, window = ("swa_", c.integer("sliding_window_size")) if kind == SLIDING else ("", None)
    heads, kv_heads = c.integer(f"{prefix}num_attention_heads"), c.integer(f"{prefix}num_key_value_heads")
    if heads % kv_heads:
        raise c.error(f"{prefix}num_key_value_heads", f"({kv_heads}) does not divide the heads ({heads})")
    hidden, rank, kernel = c.integer("hidden_size"), c.integer("d_rel"), c.integer("conv_kernel_size")
    size = c.integer(f"{prefix}head_dim")
    learned = (
        Weight("q_scale", "norm", (heads, size)),
        *linear("sink", "attention", hidden, heads),
        *linear("distance", "attention", hidden, heads * rank),
        Weight("distance_scale", "norm", (heads, rank)),
        Weight("distance_logits", "attention", (rank, window or c.integer("rel_extent"))),
    )
    block = attention_of(
        hidden, heads, kv_heads, size, window=window, rotary=False, gate=heads * size, extras=learned,
        dropout=c.number("attention_dropout", 0.0),
    )  # fmt: skip
    keys = ((kv_heads, size),)
    keys_state = convolution_state(kernel, keys)._replace(dtype="float32")
    convolutions = [w for name in ("k", "v") for w in depthwise(name, "attention", kernel, keys, bias=False)]
    if kind == FULL:
        convolutions += [w for name in ("k", "v") for w in linear(f"{name}_weights", "attention", hidden, kv_heads * kernel)]
    states = (keys_state, keys_state._replace(path="convolution of values"))
    return ConvolvedAttention(block, tuple(convolutions), states)


_INKLING2: Mapping[str, Any] = {
    "unpadded_vocab_size": 200058,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "swa_num_attention_heads": 48,
    "swa_num_key_value_heads": 8,
    "swa_head_dim": 128,
    "sliding_window_size": 1024,
    "d_rel": 16,
    "rel_extent": 1024,
    "conv_kernel_size": 4,
    "num_experts_per_tok": 8,
    "n_layers_per_attn_res_block": 6,
    "final_logit_softcapping": 30.0,
    "max_position_embeddings": 1048576,
}
_NAMES = {"sconv_kernel_size": "conv_kernel_size", "model_max_length": "max_position_embeddings"}

FAMILIES = {
    "inkling2_text": Family(inkling2_text, _INKLING2, _NAMES),
    "inkling2_loop_text": Family(
        inkling2_loop_text,
        {
            **_INKLING2,
            "swa_num_attention_heads": 24,
            "loop_layer_index_start": 6,
            "loop_layer_index_end": 18,
            "loop_num_passes": 3,
            "loop_gate_rank": 64,
        },
        _NAMES,
    ),
}
