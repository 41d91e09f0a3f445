"""Kimi Linear and Ling 3: Kimi delta attention with latent attention among it, and experts."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.block import Block
from memcalc.blocks.experts.mixture import Experts
from memcalc.blocks.mixers.kimi_delta import KimiDeltaAttention
from memcalc.readers.hf.common import decoder, mlp, pre_norm, rms, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import corrected_experts, sparse_after_dense, with_notes
from memcalc.readers.hf.mixtures.latent import latent_attention


def kimi_linear(c: Config) -> Architecture:
    kinds = _attention_kinds(c)
    norm = rms(c)

    def layer(kind: tuple[str, bool]) -> Layer:
        mixer, sparse = kind
        feed_forward: Block = _experts(c) if sparse else mlp(c)
        if mixer == "full_attention":
            return pre_norm(norm, latent_attention(c, rotary=False), feed_forward)
        return pre_norm(norm, _delta_attention(c), feed_forward, name="linear_attention")

    layers = windowed(list(zip(kinds, sparse_after_dense(c, dense=1), strict=True)), layer)
    model = with_notes(decoder(c, layers, norm, tied=False), c)  # the model class ties nothing, whatever the config says
    context = c.integer("model_max_length") if c.has("model_max_length") else model.context
    return replace(model, context=context)


def bailing_hybrid(c: Config) -> Architecture:
    """Ling 3: delta attention with gates of their own, and latent attention with rotary positions and a gate for each head."""
    depth, heads, norm = c.layers(), c.integer("num_attention_heads"), rms(c)
    group = c.integer("layer_group_size")
    default = ["linear_attention" if (i + 1) % group else "full_attention" for i in range(depth)]
    kinds = layer_kinds(c, default, ("linear_attention", "full_attention"))
    delta = KimiDeltaAttention(
        c.integer("hidden_size"),
        c.integer("linear_num_heads", heads),
        c.integer("linear_head_dim", c.integer("head_dim")),
        c.integer("linear_conv_kernel_dim", c.integer("short_conv_kernel_size")),
        direct=True,
        bounded=c.flag("kda_safe_gate", True),
        narrow_decay=True,
        wide_convolution=True,
        activation=c.text("hidden_act", "silu"),
    )

    def layer(kind: tuple[str, bool]) -> Layer:
        mixer, sparse = kind
        feed_forward: Block = _experts(c) if sparse else mlp(c)
        if mixer == "full_attention":
            return pre_norm(norm, latent_attention(c, gate=heads, gate_wide=True), feed_forward)
        return pre_norm(norm, delta, feed_forward, name="linear_attention")

    layers = windowed(list(zip(kinds, sparse_after_dense(c, dense=2), strict=True)), layer)
    model = with_notes(decoder(c, layers, norm, tied=False), c)  # the model class ties nothing, whatever the config says
    context = c.integer("model_max_length") if c.has("model_max_length") else model.context
    return replace(model, context=context)


def _attention_kinds(c: Config) -> list[str]:
    """The kind of each layer: listed, or by the layer numbers (from 1) in `linear_attn_config`, or each fourth full."""
    depth = c.layers()
    default = ["full_attention" if i and i % 4 == 0 else "linear_attention" for i in range(depth)]
    linear = c.sub("linear_attn_config", {})
    if not c.has("layer_types") and linear.has("full_attn_layers") and linear.has("kda_layers"):
        full, delta = (set(linear.entries(key, of=int)) for key in ("full_attn_layers", "kda_layers"))
        if full & delta or full | delta != set(range(1, depth + 1)):
            raise linear.error("kda_layers", f"and full_attn_layers must together name each of layers 1 to {depth} once")
        default = ["full_attention" if i + 1 in full else "linear_attention" for i in range(depth)]
    return layer_kinds(c, default, ("linear_attention", "full_attention"))


def _delta_attention(c: Config) -> KimiDeltaAttention:
    linear = c.sub("linear_attn_config", {})
    return KimiDeltaAttention(
        c.integer("hidden_size"),
        linear.integer("num_heads", c.integer("linear_num_heads", 32)),
        linear.integer("head_dim", c.integer("linear_head_dim", 128)),
        linear.integer("short_conv_kernel_size", c.integer("linear_conv_kernel_dim", 4)),
        activation=c.text("hidden_act", "silu"),
    )


def _experts(c: Config) -> Experts:
    shared_key = "num_shared_experts" if c.has("num_shared_experts") else "n_shared_experts"
    shared = mlp(c, intermediate=c.integer(shared_key, 1) * c.integer("moe_intermediate_size"))
    normalised = c.flag("moe_renormalize", c.flag("norm_topk_prob", True))
    return corrected_experts(c, shared=shared, normalised=normalised, routing="sigmoid-fp32-router")


FAMILIES = {
    "kimi_linear": Family(
        kimi_linear,
        {
            "kv_lora_rank": 512,
            "qk_rope_head_dim": 64,
            "qk_nope_head_dim": 128,
            "v_head_dim": 128,
            "rms_norm_eps": 1e-5,
        },
    ),
    "bailing_hybrid": Family(
        bailing_hybrid,
        {
            "kv_lora_rank": 512,
            "qk_rope_head_dim": 64,
            "qk_nope_head_dim": 128,
            "v_head_dim": 128,
            "head_dim": 128,
            "num_experts_per_tok": 8,
            "num_shared_experts": 1,
            "short_conv_kernel_size": 4,
            "layer_group_size": 6,
            "model_max_length": 262144,
        },
    ),
}
