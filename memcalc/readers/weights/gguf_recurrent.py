"""GGUF families with recurrent layers: what their config.json says, from the keys of a state space.

Which layers attend follows from the tensors: the files say it for each layer only by zeros among the key-value heads.
"""

from collections.abc import Mapping
from typing import Any

from memcalc.readers.weights.gguf_facts import Facts


def _ssm_head(facts: Facts) -> int:
    return facts.whole("ssm.inner_size") // facts.whole("ssm.time_step_rank")


def _ssm_expansion(facts: Facts) -> int:
    return facts.whole("ssm.inner_size") // facts.whole("embedding_length")


def mamba(facts: Facts) -> Mapping[str, Any]:
    return {
        "intermediate_size": facts.whole("ssm.inner_size"),
        "state_size": facts.whole("ssm.state_size"),
        "conv_kernel": facts.whole("ssm.conv_kernel"),
        "time_step_rank": facts.whole("ssm.time_step_rank"),
    }


def mamba2(facts: Facts) -> Mapping[str, Any]:
    return {
        "state_size": facts.whole("ssm.state_size"),
        "conv_kernel": facts.whole("ssm.conv_kernel"),
        "n_groups": facts.whole("ssm.group_count"),
        "num_heads": facts.whole("ssm.time_step_rank"),
        "head_dim": _ssm_head(facts),
        "expand": _ssm_expansion(facts),
    }


def delta_net(facts: Facts) -> Mapping[str, Any]:
    """Qwen's gated delta nets, by the keys of a state space."""
    ahead = facts.values.get("num_nextn_predict_layers", 0)
    kinds = facts.kinds("ssm_conv1d.weight", "linear_attention", "full_attention")
    kinds = kinds[: len(kinds) - ahead] if type(ahead) is int and 0 < ahead < len(kinds) else kinds
    return {
        "num_hidden_layers": len(kinds),
        "layer_types": kinds,
        "linear_conv_kernel_dim": facts.whole("ssm.conv_kernel"),
        "linear_key_head_dim": facts.whole("ssm.state_size"),
        "linear_num_key_heads": facts.whole("ssm.group_count"),
        "linear_num_value_heads": facts.whole("ssm.time_step_rank"),
        "linear_value_head_dim": _ssm_head(facts),
    }


def granite_hybrid(facts: Facts) -> Mapping[str, Any]:
    dense = facts.values.get("intermediate_size")
    return {
        "layer_types": facts.kinds("ssm_conv1d.weight", "linear_attention", "full_attention"),
        "num_experts": facts.values.get("num_experts", 0),
        "shared_intermediate_size": facts.values.get("shared_expert_intermediate_size", dense),
        "attention_bias": facts.biased,
        "position_embedding_type": "rope" if facts.keys.get("rope.scaling.finetuned") is True else "nope",
        "mamba_d_conv": facts.whole("ssm.conv_kernel"),
        "mamba_d_state": facts.whole("ssm.state_size"),
        "mamba_n_groups": facts.whole("ssm.group_count"),
        "mamba_n_heads": facts.whole("ssm.time_step_rank"),
        "mamba_d_head": _ssm_head(facts),
        "mamba_expand": _ssm_expansion(facts),
        "mamba_conv_bias": "ssm_conv1d.bias" in facts.layered,
    }


def lfm2(facts: Facts) -> Mapping[str, Any]:
    return {
        "layer_types": facts.kinds("shortconv.conv.weight", "conv", "full_attention"),
        "conv_L_cache": facts.whole("shortconv.l_cache"),
        "norm_eps": facts.values.get("rms_norm_eps"),
        "block_auto_adjust_ff_dim": False,
    }
