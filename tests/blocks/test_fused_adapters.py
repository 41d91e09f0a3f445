"""What Unsloth's functions keep and write over (unsloth/kernels/fast_lora.py, rms_layernorm.py), counted by hand."""

from typing import Any

import pytest

from memcalc.autograd.profile import KERNELS, Adapters, MethodTraits, Profile
from memcalc.blocks.recording import Recorded, record
from memcalc.estimates.training.estimate import estimate
from memcalc.readers.hf import read_config
from memcalc.specs.training import Training

H, KV, FF, HEADS, RANK = 4096, 1024, 14336, 32, 32
LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": H, "intermediate_size": FF, "num_hidden_layers": 2, "num_attention_heads": HEADS,
    "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
}  # fmt: skip
ALL = ("down", "gate", "k", "output", "q", "up", "v")


def layer(kernels: str = "unsloth", **adapters: Any) -> Recorded:
    profile = Profile(
        kernels=KERNELS[kernels], attention="flash", method=MethodTraits(trained=False, quantised=True),
        adapters=Adapters(**{"layers": ALL, "rank": RANK, **adapters}),
    )  # fmt: skip
    return record(read_config(LLAMA).parts[0].stacks[0].layers[0], profile, H)


def test_what_a_layer_keeps() -> None:
    """Two residuals, two normalised inputs, query, key, value, result and its log-sum-exp, gate and up; two statistics."""
    assert layer().saved_bytes.token == 2 * (2 * H + 2 * H + H + 2 * KV + H + 2 * FF) + 4 * HEADS + 2 * 4


def test_its_backward_adds_one_product() -> None:
    """LoRA_MLP.backward: the product's gradient beside gate, up and x, and one expanded matrix; the gradient that arrives."""
    found = layer()
    highest = max(peak.token for peak in found.peaks)
    assert highest - found.saved_bytes.token == 2 * FF + 2 * H
    assert max(peak.fixed for peak in found.peaks) >= 2 * H * FF


@pytest.mark.parametrize("adapters", [{"dropout": 0.1}, {"layers": ("q", "v")}, {"magnitude": True}], ids=str)
def test_else_modules_run_as_written(adapters: dict[str, Any]) -> None:
    """Dropout, DoRA and matrices without adapters are left to PEFT (unsloth/models/llama.py, patch_peft_model)."""
    assert layer(**adapters).saved_bytes.token > layer().saved_bytes.token


def test_work_is_that_of_the_modules() -> None:
    """The same matrices are multiplied whoever does it."""
    sizes = {"precision": "bf16", "method": "qlora", "lora_rank": RANK, "attention": "flash", "seq_len": 4096}
    fused, eager = (estimate(read_config(LLAMA), Training(**sizes, kernels=name)) for name in ("unsloth", "eager"))
    assert fused.trainable == eager.trainable
    assert fused.peak < eager.peak
