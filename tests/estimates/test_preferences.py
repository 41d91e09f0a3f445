"""Objectives of preferences: pairs, the copy of the model beside it, passes without a gradient; what they come to in bytes."""

from typing import Any

import pytest

import memcalc
from memcalc.errors import MemcalcError
from memcalc.formulas.objectives import OBJECTIVES

QWEN, WORDS = "qwen2.5-7b", 152_064  # parameters 7,615,616,512
P = 7_615_616_512
RUN: dict[str, Any] = {"seq_len": 2048, "recompute": "full", "attention": "flash", "precision": "bf16-mixed"}


def sized(**settings: Any) -> Any:
    return memcalc.size_training(QWEN, None, **{**RUN, **settings})


def reference_bytes(found: Any) -> int:
    return sum(line.bytes for line in found.rank.lines if line.name.endswith("/reference"))


# trl/models/utils.py: prepare_deepspeed shards a reference under ZeRO 3 alone, prepare_fsdp does; without either it is whole.
COPIES = (
    ({"gpus": 1}, 2 * P), ({"gpus": 4, "zero": 1}, 2 * P), ({"gpus": 4, "zero": 2}, 2 * P), ({"gpus": 4, "ddp": True}, 2 * P),
    ({"gpus": 4, "zero": 3}, 2 * P // 4), ({"gpus": 4, "fsdp": "full"}, 2 * P // 4),
    ({"gpus": 1, "precision": "bf16-amp"}, 4 * P),  # as the model is: fp32 under autocast
    ({"gpus": 1, "reference": "precomputed"}, 0), ({"gpus": 1, "method": "lora"}, 0),
    ({"gpus": 1, "method": "lora", "reference": "frozen"}, 2 * P), ({"gpus": 4, "tp": 4, "engine": "megatron"}, 2 * P // 4),
)  # fmt: skip


@pytest.mark.parametrize(("layout", "expected"), COPIES)
def test_the_reference_is_divided_as_parameters_are(layout: dict[str, Any], expected: int) -> None:
    assert reference_bytes(sized(objective="dpo", **layout)) == pytest.approx(expected, rel=0.002)


@pytest.mark.parametrize("name", ["orpo", "cpo", "simpo"])
def test_objectives_without_a_reference_have_no_copy(name: str) -> None:
    assert reference_bytes(sized(objective=name)) == 0
    with pytest.raises(MemcalcError, match="reference"):
        sized(objective=name, reference="frozen")


@pytest.mark.parametrize(("name", "rows"), [("dpo", 6), ("orpo", 6), ("simpo", 6), ("cpo", 6), ("kto", 3), ("reward", 6)])
def test_a_pair_is_two_sequences(name: str, rows: int) -> None:
    assert sized(objective=name, micro_batch=3).run.rows == rows


# Bytes a token and word of the vocabulary beside what layers keep (tests/trace/test_preferences.py holds them to PyTorch)
HEADS = (
    ("dpo", "bf16-mixed", {"zero": 3, "gpus": 4}, 6 + 4 / 2), ("dpo", "bf16-amp", {"method": "lora"}, 16),
    ("simpo", "bf16-mixed", {"zero": 3, "gpus": 4}, 4), ("orpo", "bf16-mixed", {"zero": 3, "gpus": 4}, 6),
)  # fmt: skip


@pytest.mark.parametrize(("name", "precision", "more", "each"), HEADS)
def test_what_the_head_keeps(name: str, precision: str, more: dict[str, Any], each: float) -> None:
    """Of one pair: a row is half of its tokens."""
    found = sized(objective=name, precision=precision, **more)
    kept = 28 * 2 * 2048 * 3584 * 2  # inputs of recomputed layers
    highest = max(moment.activations for moment in found.shown if "loss" in moment.name) - kept
    assert highest / (2 * 2048 * WORDS) == pytest.approx(each, rel=0.05)


def test_passes_without_a_gradient_take_their_time() -> None:
    """DPO's reference is one more forward, KTO has three: its answers of other prompts, and the reference's of both."""

    def seconds(**more: Any) -> tuple[float, float]:
        step = memcalc.size_training(QWEN, "h100", **{**RUN, "gpus": 8, "fsdp": "full", **more}).time
        return step.parts[0], step.seconds

    plain, whole = seconds(objective="simpo")
    with_reference, longer = seconds(objective="dpo")
    assert with_reference == pytest.approx(2 * plain, rel=0.01)
    assert longer > whole
    assert seconds(objective="dpo", reference="precomputed")[0] == pytest.approx(plain, rel=0.01)
    single, _ = seconds(objective="kto", reference="precomputed")
    assert seconds(objective="kto")[0] == pytest.approx(2 * single, rel=0.01)


WRONG = (
    ({"objective": "dpo", "loss": "full"}, "takes log-probabilities"), ({"loss": "log-probs"}, "is of preferences"),
    ({"reference": "frozen"}, "add objective"), ({"objective": "dpo", "reference": "same"}, "needs adapters"),
    ({"objective": "dpo", "reference": "none"}, "has one"),
    ({"objective": "dpo", "tp": 2, "gpus": 2, "engine": "torchtitan"}, "divided vocabulary"),
)  # fmt: skip


@pytest.mark.parametrize(("settings", "said"), WRONG)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(MemcalcError, match=said):
        sized(**settings)


@pytest.mark.parametrize("model", ["bert-base-uncased", "modernbert-base", "vit-base-patch16-224"])
def test_models_that_write_nothing_have_no_preferences(model: str) -> None:
    with pytest.raises(MemcalcError, match="writes none"):
        memcalc.size_training(model, None, objective="dpo")


@pytest.mark.parametrize("model", ["t5-base", "mamba-130m", "qwen2.5-vl-7b", "gemma-3-4b", "jamba-1.5-mini", "whisper-tiny"])
def test_models_that_write_have_them(model: str) -> None:
    assert memcalc.size_training(model, None, objective="orpo").run.rows == 2


def test_every_objective_is_a_row() -> None:
    assert all(row.source or row.head for row in OBJECTIVES.values())
