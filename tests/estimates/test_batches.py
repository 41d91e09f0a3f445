"""What a batch's layout and what is kept of a pass do to memory."""

from typing import Any

import pytest

from memcalc import size_training
from memcalc.estimates.training.estimate import estimate
from memcalc.readers.hf import read_config
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

MODEL = "llama-3.2-1b"  # 128,256 words, 16 layers of 8 key heads of 64
BASE: dict[str, Any] = {"precision": "bf16", "recompute": "full", "attention": "flash", "seq_len": 2048}
LOGITS = 2048 * 128256 * 2  # bytes of a sequence's, in 16 bit


def step(**settings: Any) -> Any:
    return size_training(MODEL, **(BASE | settings))


def test_a_packed_row_is_one_sequence_of_all_its_tokens_under_flash_attention() -> None:
    assert step(tokens_per_batch=8192).peak == step(micro_batch=1, seq_len=8192).peak
    assert step(tokens_per_batch=8192, attention="sdpa").peak > step(tokens_per_batch=8192).peak  # a mask over the row


def test_the_longest_sequence_is_what_memory_must_hold() -> None:
    varied = step(seq_len_max=4096)
    assert varied.peak == step(seq_len=4096).peak
    assert varied.reserved >= varied.peak


# PyTorch 2.13 and transformers 5.24 under fake tensors, a batch whose attention_mask is not all ones (4 layers, 512 wide,
# 8 heads of 64 on 2 key heads, 1,024 words, bf16): rows, tokens, recomputation, bytes above the steady state after the
# forward and at the peak
PADDED = (
    (2, 512, "none", 96797696, 105178112), (4, 256, "none", 94635008, 103015424),
    (2, 512, "full", 13272064, 44504064), (4, 256, "full", 12942336, 43650048),
)  # fmt: skip
TINY: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 1024, "max_position_embeddings": 4096, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize(("rows", "tokens", "recompute", "forward", "peak"), PADDED)
def test_padded_rows_need_a_mask(rows: int, tokens: int, recompute: str, forward: int, peak: int) -> None:
    """transformers masking_utils.py (a mask of each row unless it is all ones) and integrations/sdpa_attention.py
    (use_gqa_in_sdpa: beside a mask keys and values are repeated); one row alone has no padding."""
    settings = {"precision": "bf16", "recompute": recompute, "seq_len": tokens - 2}
    found = estimate(read_config(TINY), Training(micro_batch=rows, seq_len_max=tokens, **settings))
    assert found.after_forward - found.steady == pytest.approx(forward, rel=2e-3)
    assert found.peak_forward_backward - found.steady == pytest.approx(peak, rel=2e-3)
    alone = estimate(read_config(TINY), Training(seq_len_max=tokens, **settings))
    assert alone.peak == estimate(read_config(TINY), Training(**{**settings, "seq_len": tokens})).peak


def test_output_that_is_held() -> None:
    plain, held, cached = step(), step(keep_output=True), step(keep_output=True, use_cache=True)
    assert held.peak - plain.peak == LOGITS
    assert cached.after_forward - held.after_forward == 2048 * 16 * 2 * 8 * 64 * 2


def test_logits_of_an_evaluation() -> None:
    found = {passes: step(eval_batch=4, eval_accumulation=passes, gpus=2, ddp=True, use_cache=False) for passes in (1, 8)}
    joined = next(m for m in found[8].moments if m.name == "evaluation, logits joined")
    assert joined.activations == (7 + 1 + 8) * 2 * 4 * LOGITS  # of earlier passes, this one, all of them; two ranks
    assert found[8].peak > found[1].peak


@pytest.mark.parametrize(("zero", "factor"), [(0, 2), (1, 2), (2, 2), (3, 2)])
def test_gradients_accumulated_in_fp32(zero: int, factor: int) -> None:
    half, full = (
        step(precision="bf16-mixed", gpus=8, zero=zero, grad_accum=4, grad_accum_dtype=each) for each in (None, "fp32")
    )
    assert full.components["gradients"] == factor * half.components["gradients"]


def test_tiles_are_smaller_than_the_whole() -> None:
    long = {"seq_len": 32768, "loss": "fused"}
    assert step(tiled_mlp=True, **long).peak < step(**long).peak
    assert step(tiled_mlp=True, mlp_tiles=64, **long).peak <= step(tiled_mlp=True, **long).peak


def test_sequences_per_step() -> None:
    assert step(gpus=8, micro_batch=2, global_batch=64).run.grad_accum == 4
    with pytest.raises(SpecError, match="no whole number of passes"):
        step(gpus=8, micro_batch=3, global_batch=64)
