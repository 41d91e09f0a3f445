"""LitGPT's loop: the logits that it holds keep a micro-batch's graph alive until the next forward is over.

litgpt/finetune/lora.py, fit: `logits = model(input_ids, lm_head_chunk_size=128)` is bound until the next call returns. Saved
tensors went with the backward; what functions hold as attributes stays: the inputs of bitsandbytes' 4-bit products (0.42.0,
bitsandbytes/autograd/_functions.py, MatMul4Bit: ctx.tensors = (A, B)), which LitGPT pins.
"""

from typing import Any

import pytest

from memcalc.estimates.training.estimate import TrainingEstimate, estimate
from memcalc.readers.models import read_model_preset
from memcalc.specs.training import Training

BEHIND, HEAD = "forward behind another micro-batch", 32_000 * 4096
RUN: dict[str, Any] = {
    "engine": "litgpt", "precision": "bf16", "micro_batch": 2, "seq_len": 512, "lora_targets": ["q", "v"], "lora_rank": 32,
}  # fmt: skip
NF4 = {**RUN, "method": "qlora", "base_format": "nf4"}
TOKENS = 2 * 512


def found(**settings: Any) -> TrainingEstimate:
    return estimate(read_model_preset("llama-2-7b").architecture, Training(**settings))


def behind(**settings: Any) -> int:
    """Bytes of the moment's lines that belong to the micro-batch before."""
    made = found(**settings)
    which = [moment.name for moment in made.moments].index(BEHIND)
    lines = made.evaluated.lines(which, parts=True)
    return sum(entry.bytes for entry in lines if entry.name.startswith("the micro-batch before"))


# fp32 logits; and of each layer the inputs of query-key-value, output, gate and up (one for both) and down; the head's input
LOGITS = TOKENS * 32_000 * 4
INPUTS = TOKENS * 2 * (32 * (3 * 4096 + 11_008) + 4096)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (NF4, LOGITS + INPUTS),
        ({**NF4, "recompute": "full"}, LOGITS + TOKENS * 2 * 4096),  # graphs of recomputed layers go with their backward
        ({**RUN, "method": "lora"}, LOGITS),  # torch's own functions save tensors, which their backward frees
        ({**NF4, "seq_len": 256, "seq_len_max": 512}, (LOGITS + INPUTS) // 2),  # the longest behind a usual one
    ],
    ids=["nf4", "recomputed", "lora", "lengths vary"],
)
def test_what_the_micro_batch_before_leaves(settings: dict[str, Any], expected: int) -> None:
    assert behind(**settings) == pytest.approx(expected, abs=64)


def test_no_other_loop_holds_it() -> None:
    assert BEHIND not in {moment.name for moment in found(**{**NF4, "engine": "torchtune"}).moments}


def test_the_head_is_quantised_too() -> None:
    """Lightning's plugin replaces every torch.nn.Linear while the model is made (ignore_modules is empty)."""
    of = {entry.name: entry.bytes for entry in found(**NF4).lines if entry.component == "parameters"}
    matrices = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11_008) + HEAD
    assert of["dense/nf4"] == pytest.approx(matrices * (0.5 + 4 / 64), rel=0.001)  # fp32 absmax of 64


def test_matrices_expand_to_fp16_and_are_cast() -> None:
    """Lightning quantises from torch.half (plugins/precision/bitsandbytes.py), to which dequantize_4bit expands; `.to(bf16)`
    makes a second copy."""
    once = estimate(read_model_preset("llama-2-7b").architecture, Training(**{**NF4, "engine": "torchtune", "seq_len": 1}))
    twice = found(**{**NF4, "seq_len": 1})
    assert twice.peak_forward_backward - twice.steady > 2 * 2 * HEAD > once.peak_forward_backward - once.steady


def test_the_head_is_its_own_where_the_config_ties_it() -> None:
    """litgpt/model.py has wte and lm_head; scripts/convert_hf_checkpoint.py fills the one with the other where a checkpoint has
    one of them. Llama 3.2 3B with LoRA took 9.67 GB (config_hub/finetune/README.md), 0.8 of them the second matrix."""
    architecture = read_model_preset("llama-3.2-3b").architecture
    run = {**RUN, "method": "lora", "micro_batch": 1, "lora_dropout": 0.05, "grad_accum": 4}
    own = estimate(architecture, Training(**run))
    shared = estimate(architecture, Training(**{**run, "engine": "torchtune"}))
    assert own.steady - shared.steady == 2 * 128_256 * 3072
    assert own.peak == pytest.approx(9.67e9, rel=0.01)
