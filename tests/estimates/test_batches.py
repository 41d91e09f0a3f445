"""What a batch's layout and what is kept of a pass do to memory."""

from typing import Any

import pytest

from memcalc import size_training
from memcalc.specs.spec import SpecError

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
