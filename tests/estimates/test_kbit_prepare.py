"""What stands in fp32 beside quantised matrices: PEFT's prepare_model_for_kbit_training, and who runs it."""

from collections.abc import Callable
from typing import Any

import pytest

from memcalc.estimates.training.estimate import TrainingEstimate, estimate
from memcalc.readers.hf import read_config
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

H, FF, LAYERS, VOCABULARY = 1024, 4096, 6, 1024
LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": H, "intermediate_size": FF, "num_hidden_layers": LAYERS, "num_attention_heads": 16,
    "num_key_value_heads": 4, "head_dim": 64, "vocab_size": VOCABULARY, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}  # fmt: skip
NORMS, TABLES = (2 * LAYERS + 1) * H, 2 * VOCABULARY * H


def sized(**settings: Any) -> TrainingEstimate:
    base = {"method": "qlora", "base_format": "nf4", "precision": "bf16-amp", "micro_batch": 2, "seq_len": 512}
    return estimate(read_config(LLAMA), Training(**{**base, "engine": "accelerate", **settings}))


@pytest.mark.parametrize(
    ("which", "wide", "narrow"), [("all", NORMS + TABLES, 0), ("norms", NORMS, TABLES), ("none", 0, NORMS + TABLES)]
)
def test_what_is_fp32(which: str, wide: int, narrow: int) -> None:
    """peft/utils/other.py: every 16-bit parameter but Params4bit; TRL 0.13 peft_module_casting_to_bf16: norms alone."""
    found = {line.name: line.bytes for line in sized(kbit_prepare=which).lines if line.component == "parameters"}
    assert found.get("dense/upcast", 0) == 4 * wide
    assert found.get("dense/frozen", 0) == 2 * narrow


# A step of LLAMA under PyTorch 2.13's autograd with fake tensors and transformers 5.24 (tests/trace/test_adapters.py): what is
# upcast, precision, recomputation, adapters' dropout; bytes above the steady state after the forward, and at the peak.
TRACED = (
    ("all", "bf16-amp", "none", 0.0, 509_549_568),
    ("all", "bf16-amp", "full", 0.1, 35_939_328),
    ("all", "bf16", "none", 0.1, 947_848_192),
    ("norms", "bf16-amp", "none", 0.1, 579_673_088),
    ("none", "bf16-amp", "none", 0.0, 318_577_664),
    ("none", "bf16", "none", 0.1, 551_754_752),
)


@pytest.mark.parametrize(("which", "precision", "recompute", "dropout", "kept"), TRACED)
def test_what_is_kept(which: str, precision: str, recompute: str, dropout: float, kept: int) -> None:
    found = sized(kbit_prepare=which, precision=precision, recompute=recompute, lora_dropout=dropout)
    assert found.after_forward - found.steady == pytest.approx(kept, rel=0.001)


def test_recomputed_forward_is_a_moment() -> None:
    """Under fp32 adapters without autocast a recomputed forward is higher than the backward: traced 142,235,648 bytes above the
    steady state (tests/trace/test_adapters.py)."""
    found = sized(kbit_prepare="none", precision="bf16", recompute="full", lora_dropout=0.1)
    assert found.peak_forward_backward - found.steady == pytest.approx(142_235_648, rel=0.001)


# fms-acceleration, a100_80gb_granite.csv, baseline-peft-bnb on one GPU (TRL's SFTTrainer): torch.cuda.max_memory_allocated
GRANITE = {
    "model_type": "granite", "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 40, "num_attention_heads": 36,
    "num_key_value_heads": 36, "vocab_size": 49152, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.mark.parametrize(("sequences", "measured"), [(4, 18_174_161_920), (8, 34_177_070_080)])
def test_measured(sequences: int, measured: int) -> None:
    run = Training(method="qlora", engine="accelerate", kbit_prepare="norms", precision="bf16-amp", attention="flash",
                   loss="shifted-upcast", optimizer_impl="foreach", lora_rank=16, lora_dropout=0.1, recompute="full",
                   lora_targets=("q", "k", "v", "output"), micro_batch=sequences, seq_len=4096)  # fmt: skip
    assert estimate(read_config(GRANITE), run).peak == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "upcast"),
    [
        ({"engine": "accelerate"}, "all"),
        ({"engine": "accelerate", "precision": "bf16-mixed"}, "all"),
        ({"engine": "accelerate", "base_format": "int8"}, "all"),
        ({"engine": "accelerate", "base_format": "awq", "kbit_prepare": "all"}, "all"),  # not among PEFT's exceptions
        ({"engine": "accelerate", "base_format": "awq"}, ""),  # TRL asks is_loaded_in_4bit and is_loaded_in_8bit
        ({"engine": "accelerate", "base_format": "fp8"}, ""),
        ({"engine": "accelerate", "base_format": "gptq"}, ""),  # is_gptq_quantized
        ({"engine": "accelerate", "base_format": "hqq"}, ""),
        ({"engine": "accelerate", "parallelism": {"gpus": 2, "fsdp": "full"}}, ""),  # TRL: is_sharded_qlora
        ({"engine": "accelerate", "kernels": "unsloth"}, ""),
        ({"engine": "accelerate", "kbit_prepare": "none"}, ""),
        ({"engine": "accelerate", "method": "lora"}, ""),
        ({"engine": "torch"}, ""), ({"engine": "torchtune"}, ""), ({"engine": "litgpt"}, ""),
    ],
)  # fmt: skip
def test_who_upcasts(settings: dict[str, Any], upcast: str) -> None:
    assert Training(**{"method": "qlora", "base_format": "nf4", **settings}).upcast == upcast


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"base_format": "gptq", "kbit_prepare": "all"}, "PEFT leaves what stands beside gptq matrices"),
        ({"kbit_prepare": "all", "parallelism": {"gpus": 2, "fsdp": "full"}}, "must have one type"),
        ({"kbit_prepare": "norms", "precision": "bf16"}, "modelled under bf16-mixed and bf16-amp"),
        ({"kbit_prepare": "all", "precision": "fp32"}, "modelled under bf16-mixed"),
        ({"kbit_prepare": "all", "kernels": "unsloth"}, "Unsloth upcasts nothing"),
    ],
)
def test_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Training(**{"method": "qlora", **settings})


def test_the_head_is_not_quantised() -> None:
    """transformers leaves the output embedding out (get_keys_to_not_convert): its product expands nothing. A short batch before
    a large vocabulary shows it."""
    wide = read_config({**LLAMA, "vocab_size": 262144})
    short = {"seq_len": 8, "micro_batch": 1, "kbit_prepare": "none", "recompute": "full"}
    run = Training(**{"method": "qlora", "base_format": "nf4", "precision": "bf16", "engine": "accelerate", **short})
    found = estimate(wide, run)
    assert found.peak - found.steady < 2 * H * 262144


def test_on_the_command_line(memcalc: Callable[..., Any]) -> None:
    words = "train llama-3.1-8b --method qlora --recompute full --attention flash"
    result = memcalc(f"{words} --engine accelerate --format json")
    assert result.document["run"]["kbit_prepare"] == "all"
    assert any("prepare_model_for_kbit_training" in said for said in result.document["assumptions"])
    assert memcalc(f"{words} --kbit-prepare peft --get run.kbit_prepare").out.strip() == "all"
    assert "add method qlora" in memcalc("train llama-3.1-8b --method lora --kbit-prepare all").err
