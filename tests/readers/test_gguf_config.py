"""GGUF metadata read as a config: each architecture's parameters are the elements of its tensors."""

from math import prod
from pathlib import Path
from typing import Any

import pytest

from memcalc.errors import InputError, Unsupported
from memcalc.readers.models import read_contents, read_model

LAYERS, H, F, V, HEADS, KV, D, E, X = 2, 64, 128, 96, 4, 2, 16, 4, 32  # X: an expert's width
Q, K = HEADS * D, KV * D
SHAPES: dict[str, tuple[int, ...]] = {
    "attn_q": (Q, H), "attn_k": (K, H), "attn_v": (K, H), "attn_output": (H, Q), "attn_qkv": (Q + 2 * K, H),
    "ffn_gate": (F, H), "ffn_up": (F, H), "ffn_down": (H, F), "ffn_gate_inp": (E, H),
    "ffn_gate_exps": (E, X, H), "ffn_up_exps": (E, X, H), "ffn_down_exps": (E, H, X),
    "ffn_gate_shexp": (X, H), "ffn_up_shexp": (X, H), "ffn_down_shexp": (H, X), "ffn_gate_inp_shexp": (H,),
    "attn_q_norm": (D,), "attn_k_norm": (D,), "attn_sinks": (HEADS,), "exp_probs_b": (E,),
    "attn_q_a": (24, H), "attn_q_b": (HEADS * 24, 24), "attn_q_a_norm": (24,), "attn_kv_a_mqa": (40, H),
    "attn_kv_a_norm": (32,),
    "attn_k_b": (HEADS, 32, 16), "attn_v_b": (HEADS, 16, 32), "attn_kv_b": (HEADS * 32, 32),
}  # fmt: skip
KEYS = {
    "block_count": LAYERS, "context_length": 512, "embedding_length": H, "feed_forward_length": F,
    "attention.head_count": HEADS,
    "attention.head_count_kv": KV,
}  # fmt: skip
EXPERTS = {"expert_count": E, "expert_used_count": 2}
LATENT = {"attention.head_count_kv": 1, "attention.q_lora_rank": 24, "attention.kv_lora_rank": 32, "rope.dimension_count": 8}

ATTENTION = "attn_norm attn_q attn_k attn_v attn_output ffn_norm"
BIASED = "attn_q.bias attn_k.bias attn_v.bias"
GATED, PLAIN = "ffn_gate ffn_up ffn_down", "ffn_up ffn_down"
ROUTED = "ffn_gate_inp ffn_gate_exps ffn_up_exps ffn_down_exps"
SHARED = "ffn_gate_shexp ffn_up_shexp ffn_down_shexp"
FUSED = "attn_norm attn_qkv attn_qkv.bias attn_output ffn_norm"
ALL_BIASES = "attn_norm.bias attn_output.bias ffn_norm.bias ffn_up.bias ffn_down.bias"
SANDWICH = "attn_q attn_k attn_v attn_output post_attention_norm post_ffw_norm"
LATENT_QUERY = "attn_norm attn_q_a attn_q_a_norm attn_q_b attn_kv_a_mqa attn_kv_a_norm attn_output ffn_norm"
WHOLE_NORMS = {"attn_q_norm": (Q,), "attn_k_norm": (K,)}
MULTI_QUERY, AS_MANY = {"attention.head_count_kv": 1}, {"attention.head_count_kv": HEADS}

# architecture, read as, tensors of a layer, keys beside KEYS, other shapes, tensors outside layers
CASES: list[tuple[str, str, str, dict[str, Any], dict[str, tuple[int, ...]], str]] = [
    ("llama", "llama", f"{ATTENTION} {GATED}", {}, {}, "output rope_freqs"),
    ("llama", "mixtral", f"{ATTENTION} {ROUTED}", {**EXPERTS, "feed_forward_length": X}, {}, "output"),
    ("llama", "qwen2", f"{ATTENTION} {BIASED} {GATED}", {}, {}, "output"),
    ("qwen2", "qwen2", f"{ATTENTION} {BIASED} {GATED}", {}, {}, ""),
    ("qwen3", "qwen3", f"{ATTENTION} attn_q_norm attn_k_norm {GATED}", {"attention.key_length": D}, {}, "output"),
    (
        "qwen2moe", "qwen2_moe", f"{ATTENTION} {BIASED} {ROUTED} {SHARED} ffn_gate_inp_shexp",
        {**EXPERTS, "expert_feed_forward_length": X, "expert_shared_feed_forward_length": X}, {}, "output",
    ),
    (
        "qwen3moe", "qwen3_moe", f"{ATTENTION} attn_q_norm attn_k_norm {ROUTED}",
        {**EXPERTS, "expert_feed_forward_length": X, "attention.key_length": D}, {}, "output",
    ),
    ("gemma", "gemma", f"{ATTENTION} {GATED}", {"attention.key_length": D}, {}, ""),
    ("gemma2", "gemma2", f"{ATTENTION} post_attention_norm post_ffw_norm {GATED}", {"attention.sliding_window": 64}, {}, ""),
    (
        "gemma3", "gemma3_text", f"{ATTENTION} post_attention_norm post_ffw_norm attn_q_norm attn_k_norm {GATED}",
        {"attention.sliding_window": 64, "attention.key_length": D}, {}, "",
    ),
    ("phi3", "phi3", "attn_norm attn_qkv attn_output ffn_norm ffn_up ffn_down", {}, {"ffn_up": (2 * F, H)}, "output"),
    ("phi2", "phi",
     f"attn_norm attn_norm.bias attn_qkv attn_qkv.bias attn_output attn_output.bias {PLAIN} ffn_up.bias ffn_down.bias",
     AS_MANY, {"attn_qkv": (3 * Q, H)}, "output output.bias output_norm.bias"),
    (
        "deepseek2", "deepseek_v3", f"{LATENT_QUERY} attn_k_b attn_v_b {ROUTED} exp_probs_b.bias {SHARED}",
        {
            **LATENT, **EXPERTS, "expert_feed_forward_length": X, "expert_shared_count": 1, "attention.key_length": 40,
            "attention.value_length": 32, "attention.key_length_mla": 24, "attention.value_length_mla": 16,
        }, {}, "output",
    ),
    (
        "deepseek2", "deepseek_v2", f"{LATENT_QUERY} attn_kv_b {GATED}",
        {**LATENT, **EXPERTS, "attention.key_length": 24, "attention.value_length": 16,
        "leading_dense_block_count": 2}, {}, "output",
    ),
    ("falcon", "falcon", f"attn_norm attn_norm.bias attn_qkv attn_output {PLAIN}", MULTI_QUERY, {"attn_qkv": (Q + 2 * D, H)},
     "output_norm.bias"),
    ("falcon", "falcon", f"attn_norm attn_norm.bias attn_norm_2 attn_norm_2.bias attn_qkv attn_output {PLAIN}", {}, {},
     "output_norm.bias"),
    ("gpt2", "gpt2", f"{FUSED} {PLAIN} {ALL_BIASES}", AS_MANY,
     {"attn_qkv": (3 * Q, H)}, "position_embd output_norm.bias"),
    ("starcoder", "gpt_bigcode", f"{FUSED} {PLAIN} {ALL_BIASES}", MULTI_QUERY,
     {"attn_qkv": (Q + 2 * D, H)}, "position_embd output_norm.bias output"),
    ("starcoder2", "starcoder2", f"{ATTENTION} {BIASED} {PLAIN} {ALL_BIASES}", {}, {}, "output_norm.bias"),
    ("gptneox", "gpt_neox", f"{FUSED} {PLAIN} {ALL_BIASES}",
     AS_MANY, {"attn_qkv": (3 * Q, H)}, "output output_norm.bias"),
    ("bloom", "bloom", f"{FUSED} {PLAIN} {ALL_BIASES}",
     {**AS_MANY, "feed_forward_length": 4 * H},
     {"attn_qkv": (3 * Q, H), "ffn_up": (4 * H, H), "ffn_down": (H, 4 * H)},
     "token_embd_norm token_embd_norm.bias output_norm.bias"),
    (
        "gpt-oss", "gpt_oss",
        f"attn_norm attn_q attn_k attn_v attn_output post_attention_norm {BIASED} attn_output.bias attn_sinks "
        f"{ROUTED} ffn_gate_inp.bias ffn_gate_exps.bias ffn_up_exps.bias ffn_down_exps.bias",
        {**EXPERTS, "expert_feed_forward_length": X, "attention.key_length": D, "attention.sliding_window": 128}, {}, "output",
    ),
    (
        "llama4", "llama4_text", f"{ATTENTION} {ROUTED} {SHARED}",
        {**EXPERTS, "expert_feed_forward_length": X, "interleave_moe_layer_step": 1, "attention.key_length": D}, {}, "output",
    ),
    ("arcee", "arcee", f"{ATTENTION} {PLAIN}", {}, {}, "output"),
    ("mistral3", "ministral3", f"{ATTENTION} {GATED}", {"attention.key_length": D}, {}, "output"),
    ("qwen2vl", "qwen2", f"{ATTENTION} {BIASED} {GATED}", {}, {}, "output"),
    ("qwen3vl", "qwen3", f"{ATTENTION} attn_q_norm attn_k_norm {GATED}", {"attention.key_length": D}, {}, ""),
    ("olmo2", "olmo2", f"{SANDWICH} attn_q_norm attn_k_norm {GATED}", {}, WHOLE_NORMS, "output"),
    ("olmo2", "olmo3", f"{SANDWICH} attn_q_norm attn_k_norm {GATED}", {"attention.sliding_window": 64}, WHOLE_NORMS, "output"),
    ("olmoe", "olmoe", f"{ATTENTION} attn_q_norm attn_k_norm {ROUTED}", {**EXPERTS, "feed_forward_length": X},
     WHOLE_NORMS, "output"),
    ("granite", "granite", f"{ATTENTION} {GATED}", {}, {}, ""),
    (
        "granitemoe", "granitemoe", f"{ATTENTION} {ROUTED} {SHARED}",
        {**EXPERTS, "feed_forward_length": X, "expert_shared_feed_forward_length": X}, {}, "",
    ),
    ("command-r", "cohere", f"attn_norm attn_q attn_k attn_v attn_output {GATED}", {}, {}, ""),
    ("command-r", "cohere", f"attn_norm attn_q attn_k attn_v attn_output attn_q_norm attn_k_norm {GATED}", {},
     {"attn_q_norm": (HEADS, D), "attn_k_norm": (KV, D)}, ""),
    ("cohere2", "cohere2", f"attn_norm attn_q attn_k attn_v attn_output {GATED}", {"attention.sliding_window": 64}, {}, ""),
    ("stablelm", "stablelm", f"{ATTENTION} attn_norm.bias ffn_norm.bias {BIASED} {GATED}", {}, {}, "output output_norm.bias"),
    ("glm4", "glm4", f"{ATTENTION} {BIASED} post_attention_norm post_ffw_norm {PLAIN}", {}, {"ffn_up": (2 * F, H)}, "output"),
    ("chatglm", "glm", f"{FUSED} {PLAIN}", {}, {"ffn_up": (2 * F, H)}, "output"),
    (
        "glm4moe", "glm4_moe", f"{ATTENTION} {BIASED} attn_q_norm attn_k_norm {ROUTED} exp_probs_b.bias {SHARED}",
        {**EXPERTS, "expert_feed_forward_length": X, "expert_shared_count": 1, "leading_dense_block_count": 0,
         "attention.key_length": D}, {}, "output",
    ),
    ("exaone4", "exaone4", f"{SANDWICH} attn_q_norm attn_k_norm {GATED}", {}, {}, "output"),
    ("smollm3", "smollm3", f"{ATTENTION} {GATED}", {}, {}, ""),
    ("seed_oss", "seed_oss", f"{ATTENTION} {BIASED} {GATED}", {}, {}, "output"),
    ("ernie4_5", "ernie4_5", f"{ATTENTION} {GATED}", {}, {}, ""),
    ("nemotron", "nemotron", f"{ATTENTION} attn_norm.bias ffn_norm.bias {PLAIN}", {}, {}, "output output_norm.bias"),
    ("hunyuan-dense", "hunyuan_v1_dense", f"{ATTENTION} attn_q_norm attn_k_norm {GATED}", {}, {}, ""),
    (
        "dots1", "dots1", f"{ATTENTION} attn_q_norm attn_k_norm {ROUTED} exp_probs_b.bias {SHARED}",
        {**EXPERTS, "expert_feed_forward_length": X, "expert_shared_count": 1, "attention.key_length": D}, {}, "output",
    ),
    (
        "minicpm3", "minicpm3", f"{LATENT_QUERY} attn_kv_b {GATED}",
        {**LATENT, "attention.key_length": 24, "attention.value_length": 16}, {}, "",
    ),
]  # fmt: skip
OUTSIDE = {"output": (V, H), "output_norm": (H,), "token_embd": (V, H), "position_embd": (512, H), "token_embd_norm": (H,),
           "rope_freqs": (D // 2,)}  # fmt: skip


def tensors_of(layer: str, shapes: dict[str, tuple[int, ...]], outside: str) -> dict[str, tuple[int, tuple[int, ...]]]:
    """GGUF tensors in fp32; a bias is as long as its matrix has outputs."""
    known = {**OUTSIDE, **SHAPES, **shapes}

    def shape(name: str) -> tuple[int, ...]:
        stem, _, kind = name.partition(".")
        whole = known.get(stem, (H,))
        return whole[:-1] if kind == "bias" and len(whole) > 1 else whole

    names = [
        "token_embd",
        "output_norm",
        *outside.split(),
        *(f"blk.{i}.{name}" for i in range(LAYERS) for name in layer.split()),
    ]
    full = (name if name.endswith((".bias", "attn_sinks")) else f"{name}.weight" for name in names)
    return {name: (0, shape(name.split(".", 2)[2] if name.startswith("blk.") else name)) for name in full}


def metadata(architecture: str, **keys: Any) -> dict[str, Any]:
    return {"general.architecture": architecture, **{f"{architecture}.{key}": value for key, value in {**KEYS, **keys}.items()}}


@pytest.mark.parametrize(
    ("name", "model_type", "layer", "keys", "shapes", "outside"),
    CASES,
    ids=[f"{row[0]}-{row[1]}-{i}" for i, row in enumerate(CASES)],
)
def test_an_architecture_has_the_weights_of_its_file(
    tmp_path: Path, weight_files: Any, name: str, model_type: str, layer: str, keys: dict[str, Any],
    shapes: dict[str, tuple[int, ...]], outside: str,
) -> None:  # fmt: skip
    tensors = tensors_of(layer, shapes, outside)
    model = read_model(weight_files.gguf(tmp_path / "m.gguf", metadata(name, **keys), tensors))
    assert model.architecture
    assert model.architecture.model_type == model_type
    assert not model.architecture.warnings
    buffers = ("rope_freqs.weight", "exp_probs_b.bias")
    assert model.parameters == sum(prod(shape) for name, (_, shape) in tensors.items() if not name.endswith(buffers))
    assert model.stored
    held = {role: sum(t.parameters or 0 for t in found) for role, found in model.stored.by_role.items()}
    assert {role: count for role, count in held.items() if count} == model.architecture.by_role()


def llama(weight_files: Any, path: Path, keys: dict[str, Any], **more: Any) -> str:
    values = {key: value for key, value in {**metadata("llama"), **keys}.items() if value is not None}
    written: str = weight_files.gguf(path, values, {**tensors_of(f"{ATTENTION} {GATED}", {}, "output"), **more})
    return written


def test_what_a_gguf_model_says_of_itself(tmp_path: Path, weight_files: Any) -> None:
    path = llama(weight_files, tmp_path / "Tiny-F32.gguf", {})
    model = read_model(path)
    assert (model.name, model.origin, model.source) == ("Tiny-F32", "weights", path)
    assert model.architecture
    assert (model.architecture.context, model.architecture.dtype, model.architecture.tied) == (512, "fp32", False)
    assert (
        read_model(llama(weight_files, tmp_path / "m.gguf", {"general.name": "Tiny \x1b[0m llama"})).name
        == r"'Tiny \x1b[0m llama'"
    )


def test_prediction_layers_are_not_counted(tmp_path: Path, weight_files: Any) -> None:
    row = next(case for case in CASES if case[0] == "glm4moe")
    tensors = tensors_of(row[2], row[4], row[5])
    whole = read_model(weight_files.gguf(tmp_path / "a.gguf", metadata("glm4moe", **row[3]), tensors)).parameters
    ahead = {f"blk.{LAYERS}.attn_q.weight": (0, (Q, H)), f"blk.{LAYERS}.nextn.eh_proj.weight": (0, (H, 2 * H))}
    keys = {**row[3], "block_count": LAYERS + 1, "nextn_predict_layers": 1}
    model = read_model(weight_files.gguf(tmp_path / "b.gguf", metadata("glm4moe", **keys), {**tensors, **ahead}))
    assert model.parameters == whole
    assert model.architecture
    assert not model.architecture.warnings


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"general.architecture": None}, InputError, "general.architecture is missing"),
        ({"general.architecture": 3}, InputError, "general.architecture is missing"),
        ({"general.architecture": "lama"}, Unsupported, "lama is none of llama.cpp's text models; did you mean llama"),
        ({"llama.embedding_length": None}, InputError, r"llama\.embedding_length is missing"),
        ({"llama.block_count": "two"}, InputError, r"llama\.block_count must be a whole number between 1 and 512, not two"),
        ({"llama.block_count": 0}, InputError, r"llama\.block_count must be a whole number between 1 and 512, not 0"),
        ({"llama.block_count": 3}, InputError, r"llama\.block_count says 3 layers, its tensors end with blk\.1"),
        ({"llama.attention.head_count": 3}, InputError, r"key_length is 42, but blk\.0\.attn_k\.weight is 32 × 64"),
        ({"llama.attention.head_count_kv": [2, 1]}, InputError, r"key_length is 16, but blk\.1\.attn_k\.weight is 32 × 64"),
        ({"llama.attention.head_count_kv": [2]}, InputError, r"head_count_kv holds 1 values for 2 layers"),
        ({"llama.attention.head_count_kv": [2.0, 0.5]}, InputError, r"head_count_kv holds 2\.0, which is no size"),
        (
            {"llama.feed_forward_length": 256},
            InputError,
            r"feed_forward_length is 256, but blk\.0\.ffn_down\.weight is 64 × 128",
        ),
    ],
)
def test_metadata_that_describes_no_model(
    tmp_path: Path, weight_files: Any, keys: dict[str, Any], error: type[Exception], message: str
) -> None:
    path = llama(weight_files, tmp_path / "m.gguf", keys)
    with pytest.raises(error, match=message):
        read_model(path)
    contents = read_contents(path)  # its tensors are known all the same
    assert contents.architecture is None
    assert contents.stored
    assert len(contents.stored.tensors) == 3 + LAYERS * 9
    assert contents.problem


def test_an_array_that_is_the_same_in_all_layers(tmp_path: Path, weight_files: Any) -> None:
    assert read_model(llama(weight_files, tmp_path / "m.gguf", {"llama.attention.head_count_kv": [2, 2]})).parameters


def test_weights_that_the_family_has_not_are_counted(tmp_path: Path, weight_files: Any) -> None:
    plain = read_model(llama(weight_files, tmp_path / "a.gguf", {}))
    more = read_model(llama(weight_files, tmp_path / "b.gguf", {}, **{"extra.weight": (0, (7,))}))
    assert more.parameters == plain.parameters + 7
    assert more.architecture
    assert more.architecture.as_stored


def test_a_gguf_without_layers_is_no_model(tmp_path: Path, weight_files: Any) -> None:
    path = weight_files.gguf(tmp_path / "mmproj.gguf", metadata("llama"), {"v.blk.0.attn_q.weight": (0, (4, 4))})
    with pytest.raises(InputError, match=r"holds no layers"):
        read_model(path)
