"""Adapters other than LoRA's: what they learn, beside PEFT's own count; what a step with them keeps, beside traces."""

from collections.abc import Callable
from typing import Any

import pytest

from memcalc.autograd.adapter_shapes import shapes
from memcalc.estimates.training.estimate import TrainingEstimate, estimate
from memcalc.readers.hf import read_config
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 6, "num_attention_heads": 16,
    "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 1024, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}  # fmt: skip
LLAMA_8B = {**LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256}  # fmt: skip
QWEN = {**LLAMA, "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True}  # fmt: skip


def sized(values: dict[str, Any], method: str, **settings: Any) -> TrainingEstimate:
    base = {"precision": "bf16", "engine": "accelerate", "micro_batch": 2, "seq_len": 512}
    return estimate(read_config(values), Training(method=method, **{**base, **settings}))


# PEFT 0.21.2, get_peft_model on the meta device: trained parameters at rank 16 on all linear layers of the decoder layers; IA3
# on k_proj, v_proj and down_proj; OFT in blocks of 32
COUNTS = (
    (LLAMA_8B, {"lora": 41_943_040, "vera": 1_379_840, "loha": 83_886_080, "lokr": 1_605_632, "ia3": 524_288,
                "oft": 19_300_352}),
    (QWEN, {"lora": 8_798_208, "vera": 306_816, "loha": 17_596_416, "lokr": 375_552, "oft": 3_809_280}),
    (LLAMA, {"vera": 71_328, "loha": 4_227_072, "lokr": 101_376, "ia3": 27_648, "oft": 952_320}),
)  # fmt: skip


@pytest.mark.parametrize(
    ("values", "method", "trained"), [(values, method, n) for values, found in COUNTS for method, n in found.items()]
)
def test_what_is_learned(values: dict[str, Any], method: str, trained: int) -> None:
    found = sized(values, method)
    assert found.trainable == trained
    adapters = next(entry for entry in found.lines if entry.name == "dense/adapters")
    assert adapters.bytes == 4 * trained  # autocast_adapter_dtype


def test_shared_projections() -> None:
    """VeRA's A [16, widest input] and B [widest output, 16], once for the model, in fp32 (peft/tuners/vera/model.py)."""
    found = next(entry for entry in sized(LLAMA_8B, "vera").lines if entry.name == "shared projections")
    assert found.bytes == 4 * 16 * (14336 + 14336)


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs", "rank", "expected"),
    [
        ("lokr", 4864, 896, 16, {"lokr_w1": (28, 64), "lokr_w2_a": (32, 16), "lokr_w2_b": (16, 76)}),
        ("lokr", 1024, 1024, 16, {"lokr_w1": (32, 32), "lokr_w2": (32, 32)}),  # 16 is not below 32 / 2
        ("oft", 100, 10, 1, {"oft_R": (4, 300)}),  # the divisor nearest to 32 is 25
        ("ia3", 8, 4, 1, {"ia3_l": (4, 1)}),
    ],
)
def test_shapes(kind: str, inputs: int, outputs: int, rank: int, expected: dict[str, tuple[int, ...]]) -> None:
    assert dict(shapes(kind, inputs, outputs, rank)) == expected


# A step of LLAMA with PEFT 0.21.2, transformers 5.24 and PyTorch 2.13 under fake tensors: method, precision, recomputation,
# bytes above the steady state after the forward and at the peak of forward and backward
TRACED = (
    ("vera", "bf16", "none", 529734656, 569523712),
    ("vera", "bf16", "full", 21128192, 148466176),
    ("vera", "bf16-amp", "none", 387783680, 429538816),
    ("vera", "bf16-amp", "full", 21128192, 126790144),
    ("loha", "bf16", "none", 847867904, 902709248),
    ("loha", "bf16", "full", 21128192, 221210112),
    ("loha", "bf16-amp", "none", 492400640, 545144832),
    ("loha", "bf16-amp", "full", 21128192, 159344128),
    ("lokr", "bf16", "none", 847993856, 881536000),
    ("lokr", "bf16", "full", 21128192, 196327424),
    ("lokr", "bf16-amp", "none", 542839808, 588967936),
    ("lokr", "bf16-amp", "full", 21128192, 153332736),
    ("ia3", "bf16", "none", 344638464, 388682752),
    ("ia3", "bf16", "full", 21128192, 121872384),
    ("ia3", "bf16-amp", "none", 344638464, 388682752),
    ("ia3", "bf16-amp", "full", 21128192, 121872384),
    ("oft", "bf16", "none", 520297472, 562231296),
    ("oft", "bf16", "full", 21128192, 147019776),
    ("oft", "bf16-amp", "none", 390732800, 449968128),
    ("oft", "bf16-amp", "full", 21128192, 142694400),
    ("prompt-tuning", "bf16", "full", 24_051_712, 84_041_216),
    ("prompt-tuning", "bf16-amp", "none", 251_222_528, 270_820_864),
    ("prompt-tuning", "bf16-amp", "full", 24_051_712, 84_041_216),
)
OFT = 0.025  # einsum's own layouts, of which not every copy is followed


@pytest.mark.parametrize(("method", "precision", "recompute", "kept", "peak"), TRACED)
def test_a_step(method: str, precision: str, recompute: str, kept: int, peak: int) -> None:
    found = sized(LLAMA, method, precision=precision, recompute=recompute)
    assert found.after_forward - found.steady == pytest.approx(kept, rel=0.004)
    assert found.peak_forward_backward == pytest.approx(found.steady + peak, rel=OFT if method == "oft" else 0.004)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "vera", "engine": "torchtune"}, "vera is PEFT's"),
        ({"method": "ia3", "kernels": "unsloth"}, "ia3 is PEFT's"),
        ({"method": "oft", "parallelism": {"gpus": 2, "tp": 2}}, "tensor-parallel ranks"),
    ],
)
def test_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Training(**settings)


def test_conv1d_has_other_orders() -> None:
    gpt2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 3, "n_head": 12, "vocab_size": 4096, "n_positions": 1024}
    with pytest.raises(SpecError, match="Conv1D"):
        sized(gpt2, "loha")
    assert sized(gpt2, "lora").trainable > 0


@pytest.mark.parametrize("method", ["vera", "loha", "lokr", "ia3", "oft"])
def test_on_the_command_line(memcalc: Callable[..., Any], method: str) -> None:
    result = memcalc(f"train llama-3.2-1b --method {method} --recompute full --gpu l4 --format json")
    assert (result.code, result.document["run"]["method"]) == (0, method)
    assert memcalc(f"train llama-3.2-1b --method {method} --explain peak").code == 0


# Activations in 16 bit with 32 virtual tokens: (attention, sequences, length) → after the forward, peak. PyTorch's count with
# DynamicCache made as PeftModel.get_prompt (PEFT 0.21.2) makes it, torch 2.13, transformers 5.24.
PREFIXED = (("sdpa", 2, 512, 264_707_072, 283_569_152), ("sdpa", 4, 1024, 1_080_564_736, 1_156_013_056),
            ("eager", 2, 512, 563_676_160, 582_538_240))  # fmt: skip
SMALL = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 6, "num_attention_heads": 16,
    "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 1024, "max_position_embeddings": 4096, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize(("attention", "micro_batch", "length", "kept", "peak"), PREFIXED)
def test_prefix_tuning(attention: str, micro_batch: int, length: int, kept: int, peak: int) -> None:
    run = Training(
        method="prefix-tuning", virtual_tokens=32, precision="bf16", attention=attention, micro_batch=micro_batch,
        seq_len=length, engine="accelerate",
    )  # fmt: skip
    found = estimate(read_config(SMALL), run)
    assert found.after_forward - found.steady == pytest.approx(kept, rel=0.005)
    assert found.peak_forward_backward - found.steady == pytest.approx(peak, rel=0.005)


def test_prefixes_are_keys_and_values_of_every_layer(memcalc: Callable[..., Any]) -> None:
    """peft/tuners/prefix_tuning/model.py: one fp32 table, num_virtual_tokens × num_layers * 2 * token_dim."""
    assert sized(LLAMA_8B, "prefix-tuning", virtual_tokens=20).trainable == 20 * 32 * 2 * 1024
    result = memcalc("train llama-3.2-1b --method prefix-tuning --virtual-tokens 8 --gpu l4 --format json")
    assert result.document["run"]["virtual_tokens"] == 8
    assert memcalc("train llama-3.2-1b --method prefix-tuning --explain peak").code == 0
    for refused, why in (
        ("llama-3.2-1b --recompute full", "does not work with recomputation"),
        ("deepseek-v3", "softmax attention"),
        ("gemma-3n-e2b", "softmax attention"),
        ("llama-3.2-1b --gpus 2 --tp 2", "tensor-parallel ranks"),
    ):
        assert why in memcalc(f"train {refused} --method prefix-tuning").err


def test_virtual_tokens(memcalc: Callable[..., Any]) -> None:
    """peft/tuners/prompt_tuning/model.py: one fp32 embedding a virtual token; the sequence is so much longer."""
    found = sized(LLAMA_8B, "prompt-tuning", virtual_tokens=20)
    assert found.trainable == 20 * 4096 == 81_920  # PEFT 0.21.2
    longer = sized(LLAMA_8B, "prompt-tuning", virtual_tokens=532)
    assert longer.run.tokens == 2 * (512 + 532)
    assert longer.after_forward > 1.9 * (found.after_forward - found.steady) + found.steady
    assert "add method prompt-tuning or prefix-tuning" in memcalc("train llama-3.2-1b --virtual-tokens 8").err
    assert "add method lora" in memcalc("train llama-3.2-1b --method prompt-tuning --lora-targets q").err
    result = memcalc("train llama-3.2-1b --method prompt-tuning --virtual-tokens 8 --gpu l4 --format json")
    assert result.document["run"]["virtual_tokens"] == 8
    assert memcalc("train llama-3.2-1b --method prompt-tuning --explain peak").code == 0


def test_options_without_effect_are_refused(memcalc: Callable[..., Any]) -> None:
    assert "the rank of adapters that have one" in memcalc("train llama-3.2-1b --method ia3 --lora-rank 8").err
    assert "drop their input" in memcalc("train llama-3.2-1b --method oft --lora-dropout 0.1").err


MIXTURE: dict[str, Any] = {
    "model_type": "qwen3_moe", "hidden_size": 1024, "intermediate_size": 4096, "moe_intermediate_size": 512,
    "num_hidden_layers": 4, "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 1024,
    "num_experts": 16, "num_experts_per_tok": 4, "tie_word_embeddings": False,
}  # fmt: skip


def beside_experts(which: str, **settings: Any) -> TrainingEstimate:
    base: dict[str, Any] = {"engine": "megatron", "precision": "bf16-mixed", "attention": "flash", "lora_rank": 8}
    return sized(MIXTURE, "lora", expert_adapters=which, **{**base, "parallelism": {"gpus": 4, "ep": 4}, **settings})


def test_adapters_of_routed_experts() -> None:
    """linear_fc1 and linear_fc2 of experts have pairs under Megatron: one for each expert (modelscope/mcore-bridge
    tuners/lora.py, TEGroupedLinear(num_gemms)) or one for all of a rank (Megatron-Bridge peft/lora.py, share_expert_adapters).
    Either keeps the rows that it read: the first product's as wide as the model, the second's as an expert, and its own."""
    pair = 8 * (1024 + 2 * 512) + 8 * (512 + 1024)
    none, shared, own = (beside_experts(which) for which in ("none", "shared", "own"))
    assert shared.trainable - none.trainable == 4 * pair
    assert own.trainable - none.trainable == 4 * pair * 16 // 4
    kept = [found.after_forward - found.steady - 4 * found.trainable for found in (none, shared, own)]  # main gradients stand
    assert kept[2] == kept[1]
    rows = 2 * 512 * 4
    assert kept[1] - kept[0] == 4 * rows * 2 * (1024 + 512 + 2 * 8)
    assert beside_experts("own", recompute="full").peak > beside_experts("none", recompute="full").peak
    assert (
        sized(MIXTURE, "lora", engine="megatron", lora_rank=8, parallelism={"gpus": 4, "ep": 4}).trainable == shared.trainable
    )


def test_which_experts_are_targeted() -> None:
    """transformers keeps experts as parameters, which all-linear leaves out (peft/tuners/tuners_utils.py)."""
    gate = beside_experts("own", lora_targets=("q", "gate"))
    alone = beside_experts("own", lora_targets=("q",))
    assert gate.trainable - alone.trainable == 4 * 4 * 8 * (1024 + 2 * 512)
    for settings, reason in (
        ({"engine": "accelerate"}, "grouped products"), ({"method": "full"}, "LoRA's matrices"), ({"method": "dora"}, "LoRA's"),
    ):  # fmt: skip
        with pytest.raises(SpecError, match=reason):
            sized(MIXTURE, **{"method": "lora", "engine": "megatron", "expert_adapters": "own", **settings})
    with pytest.raises(SpecError, match="has none"):
        sized(LLAMA, "lora", engine="megatron", expert_adapters="own", precision="bf16-mixed")
