"""Decoders that run layers more than once: Dory and HRM. Each run keeps keys and values of its own."""

from typing import Any

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.ledger import Weight
from memcalc.blocks.plain import Plain
from memcalc.blocks.reused import Reused
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import (
    biased_attention,
    decoder,
    every_nth_full,
    layer_windows,
    mlp,
    pre_norm,
    rms,
    sandwich,
    windowed,
)
from memcalc.readers.hf.config import Config, Family


def _again(layer: Layer, *, cached: bool = True) -> Layer:
    """The layer once more, with the weights of its first run; `cached`: it keeps keys and values of its own."""
    blocks = dict(layer.blocks)
    if not cached:
        blocks["attention"] = revised(blocks["attention"], shares_cache=True)
    return Layer(tuple((name, Reused(block)) for name, block in blocks.items()))


def hrm_text(c: Config) -> Architecture:
    """Two stacks: the low one runs `L_cycles` times before each run of the high one, and both that `H_cycles` times."""
    high, low = c.integer("H_cycles"), c.integer("L_cycles")
    # saved configs hold the layers that have a cache of their own beside those of a stack
    depth = c.layers("num_layers_per_stack") if c.has("num_layers_per_stack") else c.layers()
    norm, heads = rms(c, affine=False), c.integer("num_attention_heads")
    bias = c.flag("attention_bias", False)
    gate = (Weight("gate.bias", "attention", (heads * c.integer("head_dim"),)),) if bias else ()
    mixer = biased_attention(c, kv_heads=heads, gate=heads * c.integer("head_dim"), extras=gate)
    layer = pre_norm(norm, mixer, mlp(c, bias=c.flag("mlp_bias", False)))
    again = _again(layer)
    runs = [[layer if cycle == 0 else again] * depth for cycle in range(high * (low + 1))]
    runs[low] = [layer] * depth  # the high stack's first
    start = Plain((Weight("start", "other", (c.integer("hidden_size"),), frozen=True),))
    return decoder(
        c,
        [made for run in runs for made in run],
        norm,
        embedding=Embedding(c.integer("vocab_size"), c.integer("hidden_size"), scaled=True),
        after_embedding=(("low_start", start),),
    )


def dory(c: Config) -> Architecture:
    """Norms without scales everywhere; learned are rates of the residual, and scales of queries, gates and widths."""
    c = _halved(c)
    norm, hidden, depth = rms(c, affine=False), c.integer("hidden_size"), c.layers()
    size = c.integer("num_attention_heads") * c.integer("head_dim")
    scales = tuple(Weight(name, "attention", (size,)) for name in ("query_scale", "gate_scale"))
    widths = tuple(Weight(name, "mlp", (c.integer("intermediate_size"),)) for name in ("gate_scale", "up_scale"))
    feed_forward = mlp(c, bias=c.flag("mlp_bias", False), extras=widths)
    rates = Plain(tuple(Weight(name, "other", (hidden,)) for name in ("attention_rate", "mlp_rate")))

    def layer(window: int | None) -> Layer:
        made = sandwich(norm, biased_attention(c, window=window, gate=size, extras=scales), feed_forward)
        return Layer((*made.blocks, ("residual", rates)))

    layers = windowed(layer_windows(c, default=every_nth_full(c, 4)), layer)
    first, last = c.integer("n_input_layers", low=0), depth - c.integer("n_output_layers", low=0)
    middle = c.integer("n_recurrent_layers", low=0) if c.has("n_recurrent_layers") else last - first
    if not 0 <= first <= last or first + middle != last:
        raise c.error("n_recurrent_layers", f"and n_input_layers and n_output_layers must add up to the {depth} layers")
    mode = c.text("recurrent_kv_cache_mode")
    if mode not in ("per_loop", "last_loop"):
        raise c.error("recurrent_kv_cache_mode", f"must be per_loop or last_loop, not {mode!r:.60}")
    loop = windowed(layers[first:last], lambda made: _again(made, cached=mode == "per_loop"))
    loops = c.integer("n_recurrent_loops", high=1000)
    head_scale = Plain((Weight("logit_scale", "head", (c.integer("vocab_size"),)),))
    return decoder(c, [*layers[:last], *loop * (loops - 1), *layers[last:]], norm, before_head=(("head_scale", head_scale),))


def _halved(c: Config) -> Config:
    """Saved configs count a layer's two blocks one by one, those of feed-forwards under the name mlp."""
    kinds = c.entries("layer_types", of=str) if c.has("layer_types") else []
    if "mlp" not in kinds:
        return c
    keys = ("num_hidden_layers", "n_input_layers", "n_output_layers", "n_recurrent_layers")
    changes: dict[str, Any] = {key: c.integer(key, low=0) // 2 for key in keys if c.has(key)}
    return c.reread(layer_types=kinds[::2], **changes)


FAMILIES = {
    "hrm_text": Family(hrm_text, {"head_dim": 128, "H_cycles": 2, "L_cycles": 3, "max_position_embeddings": 2048}),
    "dory": Family(
        dory,
        {
            "num_key_value_heads": 4,
            "head_dim": 256,
            "sliding_window": 1024,
            "n_input_layers": 8,
            "n_output_layers": 8,
            "n_recurrent_loops": 2,
            "recurrent_kv_cache_mode": "per_loop",
            "max_position_embeddings": 8192,
        },
    ),
}
