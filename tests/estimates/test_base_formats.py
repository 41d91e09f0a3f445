"""Frozen matrices behind adapters in each base format: what they weigh, and what their products make and keep."""

from typing import Any

import pytest

from memcalc.estimates.training.estimate import TrainingEstimate, estimate
from memcalc.formulas.methods import BASES
from memcalc.readers.hf import read_config
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

H, KV, FF, LAYERS, TOKENS = 4096, 1024, 14336, 4, 2048
MISTRAL: dict[str, Any] = {
    "model_type": "mistral", "hidden_size": H, "intermediate_size": FF, "num_hidden_layers": LAYERS, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 32000, "sliding_window": None, "max_position_embeddings": 32768,
}  # fmt: skip
MATRICES = LAYERS * (2 * H * H + 2 * H * KV + 3 * H * FF)
BITS = {
    "nf4": 4.5,
    "fp4": 4.5,
    "int8": 8,
    "gptq": 4.15625,
    "awq": 4.15625,
    "hqq": 4.5,
    "fp8": 8 + 32 / 128**2,
}  # a value, scales and zero points included


def sized(**settings: Any) -> TrainingEstimate:
    base = {"method": "qlora", "precision": "bf16-amp", "attention": "flash", "seq_len": TOKENS, "lora_targets": ("q", "v")}
    return estimate(read_config(MISTRAL), Training(**{**base, **settings}))


@pytest.mark.parametrize(("name", "bits"), BITS.items())
def test_frozen_matrices_weigh_what_they_are_stored_in(name: str, bits: float) -> None:
    """bitsandbytes: an fp32 absmax for 64 values; GPTQ and AWQ: an fp16 scale and a 4-bit zero point for 128; HQQ: a 16-bit
    scale and zero point for 64."""
    found = next(entry for entry in sized(base_format=name).lines if entry.name in ("dense/nf4", "dense/quantised"))
    assert found.bytes == MATRICES * bits / 8


def test_int8_products_hold_their_input() -> None:
    """bitsandbytes MatMul8bitLt: ctx.tensors = (CAt, subA, A). Of each layer: the inputs of the output, gate (and up), and down
    projections; those of query, key and value are one tensor."""
    kept = {name: sized(base_format=name).after_forward - sized(base_format=name).steady for name in ("int8", "nf4")}
    assert kept["int8"] - kept["nf4"] >= 0.9 * LAYERS * TOKENS * 2 * (2 * H + FF) * 0.5


def test_gptq_expands_inside_its_kernel() -> None:
    """auto-gptq's transposed Triton kernel makes no 16-bit matrix; bitsandbytes does for the input's gradient."""
    backward = {name: sized(base_format=name, recompute="full", seq_len=64) for name in ("gptq", "nf4")}
    made = {name: found.peak_forward_backward - found.steady for name, found in backward.items()}
    assert made["gptq"] < made["nf4"]


def test_fp8_dequantises_for_the_gradient_alone() -> None:
    """transformers 5.24 integrations/finegrained_fp8.py: FP8LinearFunction saves the weight, not the input; its backward makes
    one 16-bit matrix."""
    found = {
        name: sized(base_format=name, recompute="full", seq_len=64, kbit_prepare="none") for name in ("fp8", "nf4", "gptq")
    }
    made = {name: one.peak_forward_backward - one.steady for name, one in found.items()}
    assert made["fp8"] == pytest.approx(made["nf4"], rel=0.02)
    assert made["fp8"] > made["gptq"]


def test_8_bit_products_compute_in_the_type_they_are_given() -> None:
    """bitsandbytes 0.50 MatMul8bitLt: ctx.tensors holds A as it came, fp32 after k-bit preparation; CB.to(ctx.dtype_A)."""
    wide, narrow = (sized(base_format="int8", engine="accelerate", kbit_prepare=which) for which in ("all", "none"))
    kept = [found.after_forward - found.steady for found in (wide, narrow)]
    assert kept[0] > 1.8 * kept[1]


@pytest.mark.parametrize(
    ("word", "said"), [("mxfp4", "trains no MXFP4"), ("gguf", "trains no GGUF"), ("nf5", "did you mean nf4")]
)
def test_what_cannot_be_trained_says_why(word: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Training(method="qlora", base_format=word)


@pytest.mark.parametrize("name", ["int8", "awq", "hqq", "fp8"])
def test_what_cannot_be_sharded_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match="cannot be sharded"):
        Training(method="qlora", base_format=name, parallelism={"gpus": 2, "fsdp": "full"})


def test_every_base_has_a_source() -> None:
    assert all(row.source for row in BASES.values())


def test_quantised_experts_are_whole_until_their_backward() -> None:
    """Stacked experts are parametrised (bitsandbytes nn/parametrize.py, replace_parameter_4bit, which axolotl's
    quantize_moe_experts calls): the grouped product keeps the dequantised stack for its input's gradient. Traced with PyTorch
    2.13: Qwen3MoeExperts of 8 experts, 64 wide and 32 inside, saves bf16 [8, 64, 64] and [8, 32, 64]."""
    values = {
        "model_type": "qwen3_moe", "hidden_size": 512, "intermediate_size": 1024, "moe_intermediate_size": 256,
        "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 512, "num_experts": 64,
        "num_experts_per_tok": 2,
    }  # fmt: skip
    base = {"precision": "bf16", "kbit_prepare": "none", "lora_targets": ("q", "v"), "seq_len": 64}
    kept = {}
    for method in ("qlora", "lora"):
        settings = {name: value for name, value in base.items() if method == "qlora" or name != "kbit_prepare"}
        for recompute in ("none", "full"):
            found = estimate(read_config(values), Training(method=method, recompute=recompute, **settings))
            kept[method, recompute] = found.after_forward - found.steady
    experts = 64 * 3 * 256 * 512 * 2
    assert kept["qlora", "none"] - kept["lora", "none"] == pytest.approx(4 * experts, rel=1e-3)
    assert kept["qlora", "full"] - kept["lora", "full"] < experts / 4
    found = estimate(read_config(values), Training(method="qlora", **base))
    assert any(sentence.startswith("routed experts are quantised too") for sentence in found.assumptions)
