"""Mamba 2 mixed with attention: Bamba, Granite 4 and Falcon-H1."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.block import Block
from memcalc.blocks.mixers.state_space import Mamba2
from memcalc.readers.hf.common import biased_attention, decoder, mlp, pre_norm, rms, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.decoders.granite import scaled_decoder
from memcalc.readers.hf.hybrids.mamba import head_groups, or_auto
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import experts

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
    return scaled_decoder(c, _mixed(c, kinds, feed_forward, rotary=rotary))


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
    return scaled_decoder(c, layer)


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
}
