"""Decoders that run layers more than once: Dory and HRM. Each run keeps keys and values of its own."""

from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.unit_sphere import UnitAttention
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.reused import Reused
from memcalc.blocks.unit_sphere import LoopPlace, Rates, UnitMLP
from memcalc.blocks.values import facts_of, revised
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
    """Norms without scales everywhere; learned are rates of the residual, and scales of queries, gates, widths and logits."""
    c = _halved(c)
    depth = c.layers()
    layers = windowed(layer_windows(c, default=every_nth_full(c, 4)), lambda window: _dory_layer(c, window))
    first, last = c.integer("n_input_layers", low=0), depth - c.integer("n_output_layers", low=0)
    middle = c.integer("n_recurrent_layers", low=0) if c.has("n_recurrent_layers") else last - first
    if not 0 <= first <= last or first + middle != last:
        raise c.error("n_recurrent_layers", f"and n_input_layers and n_output_layers must add up to the {depth} layers")
    mode = c.text("recurrent_kv_cache_mode")
    if mode not in ("per_loop", "last_loop"):
        raise c.error("recurrent_kv_cache_mode", f"must be per_loop or last_loop, not {mode!r:.60}")
    runs = c.integer("n_recurrent_loops", high=1000)
    places = [(layer, i == 0, run == 0, run == runs - 1) for run in range(runs) for i, layer in enumerate(layers[first:last])]
    looped = windowed(places, lambda place: _dory_run(c, *place, cached=mode == "per_loop"))
    head = Head(c.integer("vocab_size"), c.integer("hidden_size"), tied=c.flag("tie_word_embeddings", False), by_token=True)
    return decoder(c, [*layers[:first], *looped, *layers[last:]], _dory_norm(c), head=head)


def _dory_norm(c: Config) -> Norm:
    return rms(c, kind="rms-unit", affine=False)


def _dory_layer(c: Config, window: int | None) -> Layer:
    norm, size = _dory_norm(c), c.integer("num_attention_heads") * c.integer("head_dim")
    each = Norm(c.integer("head_dim"), "rms-unit", affine=False)
    mixer = biased_attention(c, window=window, gate=size, query_norm=each, key_norm=each)
    feed_forward = UnitMLP(**facts_of(mlp(c, bias=c.flag("mlp_bias", False))))
    made = sandwich(norm, UnitAttention(**facts_of(mixer)), feed_forward)
    return Layer((*made.blocks, ("residual", Rates(c.integer("hidden_size")))), wiring="on the unit sphere")


def _dory_run(c: Config, layer: Layer, entry: bool, first: bool, last: bool, *, cached: bool) -> Layer:
    """A run of a layer in a loop; the last stores its weights, for it is the first that makes their gradients. `cached`: each
    keeps keys and values of its own."""
    blocks = dict(layer.blocks)
    if not last:
        blocks["attention"] = revised(blocks["attention"], reads_later=not cached)
        blocks = {name: Reused(block, earlier=True) for name, block in blocks.items()}
    return replace(layer, blocks=(("loop", LoopPlace(c.integer("hidden_size"), entry, first, last)), *blocks.items()))


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
