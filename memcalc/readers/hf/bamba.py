"""Mamba 2 mixed with attention: Bamba, Granite 4, Falcon-H1 and Zamba 2."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named
from memcalc.blocks.block import Block
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.mixers.state_space import Mamba2
from memcalc.blocks.projection import Projection
from memcalc.blocks.reused import Reused
from memcalc.readers.hf.common import attention, biased_attention, decoder, mlp, pre_norm, rms, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mamba import head_groups, or_auto
from memcalc.readers.hf.mixture import experts

MIXERS = ("linear_attention", "full_attention")  # transformers calls every recurrent mixer linear attention


def bamba(c: Config) -> Architecture:
    attending = set(c.entries("attn_layer_indices", [], of=int))
    kinds = ["full_attention" if i in attending else "linear_attention" for i in range(c.layers())]
    feed_forward = mlp(c, bias=c.flag("mlp_bias", False))
    return decoder(c, _mixed(c, kinds, feed_forward, rotary=True), rms(c))


def granitemoehybrid(c: Config) -> Architecture:
    key = "layers_block_type" if c.has("layers_block_type") else "layer_types"
    kinds = layer_kinds(c, ["linear_attention"] * c.layers(), MIXERS, key)
    shared = mlp(c, intermediate=c.integer("shared_intermediate_size"), fused=True)
    feed_forward: Block = shared
    if c.integer("num_experts", low=0):
        feed_forward = experts(c, "intermediate_size", shared=shared, routing="softmax-chosen")
    rotary = c.text("position_embedding_type", "") == "rope"
    return _scaled_decoder(c, _mixed(c, kinds, feed_forward, rotary=rotary))


def _scaled_decoder(c: Config, layers: Layer | list[Layer]) -> Architecture:
    """A decoder that multiplies embeddings and logits by constants."""
    hidden, vocabulary = c.integer("hidden_size"), c.integer("vocab_size")
    tied = c.flag("tie_word_embeddings", False)
    return decoder(
        c,
        layers,
        rms(c),
        tied=tied,
        embedding=Embedding(vocabulary, hidden, scaled=True),
        head=Head(vocabulary, hidden, tied=tied, scaled=True),
    )


def _mixed(c: Config, kinds: list[str], feed_forward: Block, *, rotary: bool) -> list[Layer]:
    """Layers of Mamba 2 or attention, each followed by the same feed-forward."""
    norm = rms(c)

    def layer(kind: str) -> Layer:
        if kind == "full_attention":
            return pre_norm(norm, biased_attention(c, rotary=rotary), feed_forward)
        return pre_norm(norm, _bamba_mixer(c), feed_forward, name="state_space")

    return windowed(kinds, layer)


def falcon_h1(c: Config) -> Architecture:
    """Every layer has both: Mamba 2 and attention read the same normalised input, their outputs are added."""
    norm = rms(c)
    mixer = replace(
        _bamba_mixer(c, inner=c.integer("mamba_d_ssm") if c.has("mamba_d_ssm") else 0),
        output_bias=c.flag("projectors_bias"),
        norm=c.flag("mamba_rms_norm"),
    )
    mixer = replace(mixer, norm_groups=mixer.groups, multiplied=True)
    layer = Layer(
        (
            ("input_norm", norm),
            ("state_space", mixer),
            ("attention", biased_attention(c)),
            ("post_attention_norm", norm),
            ("mlp", mlp(c, bias=c.flag("mlp_bias", False))),
        )
    )
    return _scaled_decoder(c, layer)


def zamba2(c: Config) -> Architecture:
    """Mamba 2 throughout; before some layers stands one of `num_mem_blocks` transformer blocks, taken in turn.

    Each of these blocks is stored once. What lets its uses differ are low-rank adapters, one set a use.
    """
    kinds = _zamba2_kinds(c)
    norm, mixer = rms(c), _zamba2_mixer(c)
    plain = Layer((("norm", norm), ("state_space", mixer)))
    first, again = (Layer((*_zamba2_shared(c, reuse), *plain.blocks)) for reuse in (False, True))
    unused = c.integer("num_mem_blocks")
    layers = []
    for kind in kinds:
        if kind == "hybrid":
            layers.append(first if unused > 0 else again)
            unused -= 1
        else:
            layers.append(plain)
    return decoder(c, layers, norm)


def _zamba2_kinds(c: Config) -> list[str]:
    """The default is the order of Zamba2-2.7B, which fits no other depth."""
    pattern = "M" + "MMMMMH" * 7 + "MMMMH" + "MMMH" + "MM"
    default = ["hybrid" if letter == "H" else "linear_attention" for letter in pattern]
    if not c.has("layers_block_type") and c.layers() != len(default):
        raise c.error("layers_block_type", "is missing")
    return layer_kinds(c, default[: c.layers()], ("linear_attention", "hybrid"), "layers_block_type")


def _zamba2_shared(c: Config, reuse: bool) -> Named:
    """The transformer block over the layer's input and the embeddings side by side, and its way into the layer."""
    hidden = c.integer("hidden_size")
    double = c.integer("attention_hidden_size", 2 * hidden)
    heads = c.integer("num_attention_heads")
    if 2 * hidden % heads:
        raise c.error("num_attention_heads", f"({heads}) does not divide twice the hidden size ({2 * hidden})")
    mixer = attention(
        c,
        head_dim=c.integer("attention_head_dim", 2 * hidden // heads),
        inputs=double,
        rotary=c.flag("use_mem_rope", False),
    )
    feed_forward = mlp(
        c,
        intermediate=c.integer("intermediate_size", 4 * hidden),
        fused=True,
        bias=c.flag("add_bias_linear", False),
    )
    shared: Named = (
        ("shared_input_norm", rms(c, size=double)),
        ("shared_attention", mixer),
        ("shared_mlp_norm", rms(c)),
        ("shared_mlp", feed_forward),
    )
    if reuse:
        shared = tuple((name, Reused(block)) for name, block in shared)
    rank = c.integer("adapter_rank")
    adapters = {"mlp": (hidden, 2 * feed_forward.intermediate)}
    if c.flag("use_shared_attention_adapter", False):
        adapters |= {f"attention_{part}": (double, double) for part in ("q", "k", "v")}
    low_rank = tuple(
        (f"{name}_adapter_{step}", Projection(inputs, outputs, role=name.partition("_")[0], cut=cut))
        for name, (width, end) in adapters.items()
        for step, inputs, outputs, cut in (("down", width, rank, ""), ("up", rank, end, "outputs"))
    )
    return (*shared, *low_rank, ("shared_output", Projection(hidden, hidden, role="other")))


def _zamba2_mixer(c: Config) -> Mamba2:
    hidden, heads = c.integer("hidden_size"), c.integer("n_mamba_heads")
    inner = c.integer("mamba_expand") * hidden
    if inner % heads:
        raise c.error("n_mamba_heads", f"({heads}) does not divide mamba_expand × hidden_size ({inner})")
    groups = head_groups(c, "mamba_ngroups", heads)
    return Mamba2(
        hidden,
        heads,
        inner // heads,
        c.integer("mamba_d_state"),
        groups,
        c.integer("mamba_d_conv"),
        bias=c.flag("add_bias_linear", False),
        norm_groups=groups,
        chunk=c.integer("chunk_size"),
    )


def _bamba_mixer(c: Config, inner: int = 0) -> Mamba2:
    """Mamba 2 from the keys that these families share; `inner`: its width where not by `mamba_expand`."""
    hidden, heads = c.integer("hidden_size"), c.integer("mamba_n_heads")
    inner = inner or c.integer("mamba_expand") * hidden
    width = or_auto(c, "mamba_d_head", inner // heads)
    if heads * width != inner:
        raise c.error("mamba_n_heads", f"({heads}) times the head size ({width}) must equal the mixer's width ({inner})")
    return Mamba2(
        hidden,
        heads,
        width,
        c.integer("mamba_d_state"),
        head_groups(c, "mamba_n_groups", heads),
        c.integer("mamba_d_conv"),
        bias=c.flag("mamba_proj_bias"),
        conv_bias=c.flag("mamba_conv_bias"),
        activation=c.text("hidden_act", "silu"),
        chunk=c.integer("mamba_chunk_size"),
    )


_BAMBA: Mapping[str, Any] = {
    "mamba_n_heads": 128,
    "mamba_n_groups": 1,
    "mamba_d_state": 256,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 256,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "rms_norm_eps": 1e-5,
}

FAMILIES = {
    "bamba": Family(bamba, {**_BAMBA, "num_key_value_heads": 8, "partial_rotary_factor": 0.5}),
    "granitemoehybrid": Family(granitemoehybrid, {**_BAMBA, "rms_norm_eps": 1e-6, "shared_intermediate_size": 1024}),
    "falcon_h1": Family(
        falcon_h1,
        {
            **_BAMBA,
            "num_key_value_heads": 8,
            "mamba_d_ssm": 1024,
            "projectors_bias": False,
            "mamba_rms_norm": False,
        },
    ),
    "zamba2": Family(
        zamba2,
        {
            "mamba_d_state": 64,
            "mamba_d_conv": 4,
            "mamba_expand": 2,
            "mamba_ngroups": 1,
            "n_mamba_heads": 8,
            "chunk_size": 256,
            "hidden_act": "gelu",
            "num_mem_blocks": 1,
            "adapter_rank": 128,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
        },
    ),
}
