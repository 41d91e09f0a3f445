"""Nemotron-H and Nemotron 3: layers of one block each, in an order that a pattern spells."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.block import Block
from memcalc.blocks.experts.mixture import Experts
from memcalc.blocks.mixers.state_space import Mamba2
from memcalc.blocks.mlp import MLP
from memcalc.readers.hf.common import WIDE, attention, decoder, mlp, windowed
from memcalc.readers.hf.config import MAX_LAYERS, Config, Family
from memcalc.readers.hf.hybrids.mamba import epsilon_norm, head_groups
from memcalc.readers.hf.kinds import RENAMED, refuse_unknown
from memcalc.readers.hf.mixtures.experts import corrected_experts, with_notes

LETTERS = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}


def nemotron_h(c: Config) -> Architecture:
    """One block a layer (mixer, attention, MLP or experts) in the order that a pattern spells; its length counts."""
    key, kinds = _layer_kinds(c)
    norm = replace(epsilon_norm(c), kind=WIDE)
    layers = windowed(kinds, lambda kind: Layer((("norm", norm), _block(c, kind))))
    model = with_notes(decoder(c, layers, norm, tied=False), c)  # the model class ties nothing, whatever the config says
    if not c.has("num_hidden_layers") or c.layers() == len(kinds):
        return model
    announced = f"{c.spelling('num_hidden_layers')} is {c.layers()}"
    return replace(model, warnings=(*model.warnings, f"{announced}, but {key} describes {len(kinds)} layers: these count"))


def _block(c: Config, kind: str) -> tuple[str, Block]:
    if kind == "linear_attention":
        return "state_space", _mixer(c)
    if kind == "full_attention":
        return "attention", attention(c, rotary=False)
    return "mlp", _experts(c) if kind == "moe" else _plain_mlp(c, c.integer("intermediate_size"))


def _layer_kinds(c: Config) -> tuple[str, list[str]]:
    """The key that gives the layers' kinds, and these."""
    key = next((key for key in ("layers_block_type", "layer_types") if c.has(key)), "")
    if key:
        kinds = [RENAMED.get(kind, kind) for kind in c.entries(key, of=str)]
        refuse_unknown(c, key, kinds, tuple(LETTERS.values()))
    else:
        key = "hybrid_override_pattern"
        letters = c.text(key)[: MAX_LAYERS + 1]
        refuse_unknown(c, key, letters, tuple(LETTERS))
        kinds = [LETTERS[letter] for letter in letters]
    if not 1 <= len(kinds) <= MAX_LAYERS:
        raise c.error(key, f"must describe 1 to {MAX_LAYERS} layers")
    return key, kinds


def _mixer(c: Config) -> Mamba2:
    def renamed(old: str, new: str) -> str:
        return old if c.has(old) else new

    heads = c.integer("mamba_num_heads")
    groups = head_groups(c, renamed("mamba_n_groups", "n_groups"), heads)
    return Mamba2(
        c.integer("hidden_size"),
        heads,
        c.integer("mamba_head_dim"),
        c.integer("ssm_state_size"),
        groups,
        c.integer(renamed("mamba_d_conv", "conv_kernel")),
        bias=c.flag("use_bias"),
        conv_bias=c.flag(renamed("mamba_conv_bias", "use_conv_bias")),
        norm_groups=groups,
        activation=c.text("mamba_hidden_act"),
        state_dtype=c.text("mamba_ssm_cache_dtype"),
        chunk=c.integer(renamed("mamba_chunk_size", "chunk_size")),
    )


def _plain_mlp(c: Config, intermediate: int) -> MLP:
    return mlp(
        c,
        intermediate=intermediate,
        gated=False,
        bias=c.flag("mlp_bias"),
        activation=c.text("mlp_hidden_act"),
    )


def _experts(c: Config) -> Experts:
    """Plain experts, in a latent space where `moe_latent_size` is given, and one shared MLP beside them."""
    return corrected_experts(
        c,
        gated=False,
        activation=c.text("mlp_hidden_act"),
        shared=_plain_mlp(c, c.integer("moe_shared_expert_intermediate_size")),
        latent=c.integer("moe_latent_size") if c.has("moe_latent_size") else 0,
        latent_bias=c.flag("mlp_bias"),
    )


FAMILIES = {
    "nemotron_h": Family(
        nemotron_h,
        {
            "num_key_value_heads": 8,
            "head_dim": 128,
            "mlp_hidden_act": "relu2",
            "mlp_bias": False,
            "ssm_state_size": 128,
            "mamba_num_heads": 128,
            "mamba_head_dim": 64,
            "mamba_hidden_act": "silu",
            "n_groups": 8,
            "conv_kernel": 4,
            "use_bias": False,
            "use_conv_bias": True,
            "chunk_size": 128,
            "layer_norm_epsilon": 1e-5,
            "mamba_ssm_cache_dtype": "float32",
            "moe_shared_expert_intermediate_size": 7688,
        },
    ),
}
