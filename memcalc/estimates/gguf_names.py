"""The names that llama.cpp gives a model's tensors: what patterns of --override-tensor are matched with.

Source: src/llama-arch.cpp, LLM_TENSOR_NAMES. Weights without an entry have the name of their path.
"""

from memcalc.caches import cached
from memcalc.estimates.placement import Held

ROOT = {"embedding": "token_embd", "head": "output", "norm": "output_norm"}
NAMES: dict[str, tuple[str, ...]] = {
    "input_norm": ("attn_norm",), "post_attention_norm": ("ffn_norm",), "sinks": ("attn_sinks",),
    "q": ("attn_q",), "k": ("attn_k",), "v": ("attn_v",), "qkv": ("attn_qkv",), "attention/output": ("attn_output",),
    "q_down": ("attn_q_a",), "q_up": ("attn_q_b",), "kv_down": ("attn_kv_a_mqa",), "kv_up": ("attn_k_b", "attn_v_b"),
    "kv_norm": ("attn_kv_a_norm",), "attention/q_norm": ("attn_q_norm",), "attention/k_norm": ("attn_k_norm",),
    "linear_attention/output": ("ssm_out",), "linear_attention/z": ("attn_gate",), "linear_attention/b": ("ssm_beta",),
    "linear_attention/a": ("ssm_alpha",), "linear_attention/qkvz": ("ssm_in",), "linear_attention/ba": ("ssm_ba",),
    "linear_attention/norm": ("ssm_norm",), "conv": ("ssm_conv1d",), "dt_bias": ("ssm_dt",), "A_log": ("ssm_a",),
    "router": ("ffn_gate_inp",), "shared_gate": ("ffn_gate_inp_shexp",),
}  # fmt: skip
FEED_FORWARD = {"gate_up": ("ffn_gate", "ffn_up"), "gate": ("ffn_gate",), "up": ("ffn_up",), "down": ("ffn_down",)}


@cached(4096)
def tensor_names(held: Held) -> tuple[str, ...]:
    """Of equal tensors, without `blk.N.`: several where llama.cpp stores as two what is one here.

    >>> tensor_names(Held("language/layers/mlp/gate_up", "experts", (8, 64, 32), 4, True, True))
    ('ffn_gate_exps.weight', 'ffn_up_exps.weight')
    """
    path = held.path.removesuffix(".bias").removesuffix("/scale").removesuffix("/weight")
    end = "bias" if held.path.endswith(".bias") else "weight"
    if not held.layered:
        return (f"{ROOT.get(held.role, path.rpartition('/')[2])}.{end}",)
    parts = path.split("/")[2:]
    leaf, last = parts[-1], "/".join(parts[-2:])
    if held.role in ("mlp", "experts") and leaf in FEED_FORWARD:
        kind = "_exps" if held.routed else "_shexp" if "shared" in parts else ""
        return tuple(f"{name}{kind}.{end}" for name in FEED_FORWARD[leaf])
    return tuple(f"{name}.{end}" for name in NAMES.get(last) or NAMES.get(leaf) or ("_".join(parts),))
