"""Linear layers that multiply copies in few bits: what they keep, and what is said of words that are none."""

from typing import Any

import pytest

from memcalc import size_training
from memcalc.specs.spec import SpecError

MODEL, LAYERS, HIDDEN, INNER, KEYS = "llama-3.1-8b", 32, 4096, 14336, 1024
MATRICES = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * KEYS + 3 * HIDDEN * INNER
TOKENS = 4096


def step(precision: str, **settings: Any) -> Any:
    return size_training(MODEL, precision=precision, seq_len=TOKENS, **settings)


def test_int8_keeps_what_bf16_keeps_and_casts_both_operands() -> None:
    """torchao/prototype/quantized_training/int8_mixed_precision.py: ctx.save_for_backward(input, weight)."""
    plain, low = step("bf16", recompute="full", loss="fused"), step("int8-mixed", recompute="full", loss="fused")
    assert low.after_forward == plain.after_forward
    assert low.steady == plain.steady
    layer = [next(m for m in found.moments if m.name == "backward of the first layer") for found in (plain, low)]
    assert 0 <= layer[1].bytes - layer[0].bytes <= TOKENS * (HIDDEN + INNER)


def test_nvfp4_keeps_inputs_by_columns_and_weights_twice() -> None:
    """transformer_engine/pytorch/module/linear.py: nine sixteenths of a byte a value; weights again under FSDP2."""
    each = 9 / 16
    whole = step("nvfp4-mixed", engine="megatron").after_forward - step("bf16-mixed", engine="megatron").after_forward
    sharded = (
        step("nvfp4-mixed", gpus=8, fsdp="full", kernels="te").after_forward
        - step("bf16-mixed", gpus=8, fsdp="full", kernels="te").after_forward
    )
    assert whole - sharded == pytest.approx(LAYERS * MATRICES * 2 * each, rel=0.001)
    assert sharded < 0  # every input is kept in few bits in place of 16


NAMED = (("int8", ("int8-mixed", "--method qat")), ("nvfp4", ("nvfp4-mixed",)), ("fp8", ("fp8-mixed",)))


@pytest.mark.parametrize(("word", "named"), NAMED)
def test_a_word_that_is_none_is_refused_with_what_there_is(word: str, named: tuple[str, ...]) -> None:
    with pytest.raises(SpecError) as refused:
        step(word)
    assert all(name in str(refused.value) for name in named)
