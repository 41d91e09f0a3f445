"""Mamba, Mamba 2 and Falcon Mamba, which have no attention at all, and Jamba, which mixes it with Mamba."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.block import Block
from memcalc.blocks.mixers.state_space import Mamba, Mamba2
from memcalc.blocks.norm import Norm
from memcalc.readers.hf.common import attention, decoder, mlp, pre_norm, rms, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.mixtures.experts import experts


def mamba(c: Config, norms: str = "") -> Architecture:
    hidden = c.integer("hidden_size")
    mixer = Mamba(
        hidden,
        c.integer("intermediate_size", c.integer("expand") * hidden),
        c.integer("state_size"),
        c.integer("conv_kernel"),
        or_auto(c, "time_step_rank", -(-hidden // 16)),
        bias=c.flag("use_bias"),
        conv_bias=c.flag("use_conv_bias"),
        norms=norms,
        activation=c.text("hidden_act"),
    )
    return _mixers_only(c, mixer)


def falcon_mamba(c: Config) -> Architecture:
    return mamba(c, norms="fixed")


def mamba2(c: Config) -> Architecture:
    hidden, heads, width = c.integer("hidden_size"), c.integer("num_heads"), c.integer("head_dim")
    expand = c.integer("expand")
    if heads * width != expand * hidden:
        raise c.error("num_heads", f"({heads}) times head_dim ({width}) must equal expand × hidden_size ({expand * hidden})")
    mixer = Mamba2(
        hidden,
        heads,
        width,
        c.integer("state_size"),
        head_groups(c, "n_groups", heads),
        c.integer("conv_kernel"),
        bias=c.flag("use_bias"),
        conv_bias=c.flag("use_conv_bias"),
        activation=c.text("hidden_act"),
        chunk=c.integer("chunk_size"),
    )
    return _mixers_only(c, mixer)


def _mixers_only(c: Config, mixer: Block) -> Architecture:
    """Layers of a norm and a mixer, without feed-forward."""
    norm = epsilon_norm(c)
    found = decoder(c, Layer((("norm", norm), ("state_space", mixer))), norm)
    return replace(found, wide_stream=c.flag("residual_in_fp32", True))


def jamba(c: Config) -> Architecture:
    depth = c.layers()
    attends = _periodic(c, depth, "attn_layer_period", "attn_layer_offset")
    routes = _periodic(c, depth, "expert_layer_period", "expert_layer_offset")
    routed = c.integer("num_experts") > 1
    norm = rms(c)

    def layer(kind: tuple[bool, bool]) -> Layer:
        attending, routing = kind
        feed_forward: Block = experts(c, "intermediate_size", normalised=False) if routing and routed else mlp(c)
        if attending:
            return pre_norm(norm, attention(c, rotary=False), feed_forward)
        return pre_norm(norm, _jamba_mixer(c), feed_forward, name="state_space")

    return decoder(c, windowed(list(zip(attends, routes, strict=True)), layer), norm)


def _jamba_mixer(c: Config) -> Mamba:
    hidden = c.integer("hidden_size")
    return Mamba(
        hidden,
        c.integer("mamba_expand") * hidden,
        c.integer("mamba_d_state"),
        c.integer("mamba_d_conv"),
        or_auto(c, "mamba_dt_rank", -(-hidden // 16)),
        bias=c.flag("mamba_proj_bias"),
        conv_bias=c.flag("mamba_conv_bias"),
        norms="learned",
        activation=c.text("hidden_act"),
    )


def _periodic(c: Config, depth: int, period_key: str, offset_key: str) -> list[bool]:
    period, offset = c.integer(period_key), c.integer(offset_key, low=0)
    if offset >= period:
        raise c.error(offset_key, f"({offset}) must be smaller than {period_key} ({period})")
    return [i % period == offset for i in range(depth)]


def epsilon_norm(c: Config) -> Norm:
    return Norm(c.integer("hidden_size"), epsilon=c.number("layer_norm_epsilon"))


def head_groups(c: Config, key: str, heads: int) -> int:
    """Groups of Mamba 2 heads that share B and C; they must divide the heads."""
    groups = c.integer(key)
    if heads % groups:
        raise c.error(key, f"({groups}) does not divide the number of state-space heads ({heads})")
    return groups


def or_auto(c: Config, key: str, automatic: int) -> int:
    """A size that may be left to the library, by its absence or the word auto."""
    return automatic if c.raw(key, "auto") == "auto" else c.integer(key)


_MAMBA: Mapping[str, Any] = {
    "expand": 2,
    "conv_kernel": 4,
    "use_bias": False,
    "use_conv_bias": True,
    "hidden_act": "silu",
    "layer_norm_epsilon": 1e-5,
}
_MAMBA1: Mapping[str, Any] = {**_MAMBA, "state_size": 16, "tie_word_embeddings": True}

FAMILIES = {
    "mamba": Family(mamba, _MAMBA1),
    "falcon_mamba": Family(falcon_mamba, _MAMBA1),
    "mamba2": Family(mamba2, {**_MAMBA, "state_size": 128, "head_dim": 64, "n_groups": 8, "chunk_size": 256}),
    "jamba": Family(
        jamba,
        {
            "num_key_value_heads": 8,
            "hidden_act": "silu",
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "attn_layer_period": 8,
            "attn_layer_offset": 4,
            "mamba_d_state": 16,
            "mamba_d_conv": 4,
            "mamba_expand": 2,
            "mamba_conv_bias": True,
            "mamba_proj_bias": False,
        },
    ),
}
