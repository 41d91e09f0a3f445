"""Models trained under another head than their language model's."""

from typing import Any

import pytest

from memcalc import size_training
from memcalc.errors import MemcalcError
from memcalc.specs.spec import SpecError

MODEL, HIDDEN, VOCABULARY = "llama-3.1-8b", 4096, 128256
BASE: dict[str, Any] = {"precision": "bf16", "recompute": "full", "attention": "flash", "seq_len": 512, "micro_batch": 4}


def step(model: str = MODEL, **settings: Any) -> Any:
    return size_training(model, **(BASE | settings))


@pytest.mark.parametrize(("objective", "labels", "head"), [
    ("classify", 5, 5 * HIDDEN), ("reward", 2, HIDDEN), ("token-classify", 5, 5 * HIDDEN + 5), ("embed", 2, 0),
])  # fmt: skip
def test_the_head_is_another(objective: str, labels: int, head: int) -> None:
    """transformers' LlamaForSequenceClassification has no bias, LlamaForTokenClassification has one."""
    found = step(objective=objective, **({"labels": labels} if "classify" in objective else {}))
    assert found.trainable == step().trainable - HIDDEN * VOCABULARY + head
    assert found.peak < step().peak


def test_a_pair_is_two_sequences() -> None:
    assert step(objective="reward", micro_batch=2).peak == step(objective="classify", labels=1, micro_batch=4).peak


def test_queries_and_passages() -> None:
    inputs = 2 * HIDDEN * 32  # bytes a token that recomputed layers keep
    one = step(objective="embed", passage_len=1024)
    four = step(objective="embed", passages=4, passage_len=1024)
    per_token = (four.after_forward - one.after_forward) / (4 * 3 * 1024)
    assert inputs <= per_token < inputs + 30 * HIDDEN  # and what the last norm and the pooling keep


def test_cached_gradients_hold_a_part_of_the_batch_at_a_time() -> None:
    cached = [step(objective="embed", micro_batch=batch, cached_batch=8) for batch in (64, 1024)]
    vectors = 2 * 2 * (1024 - 64) * HIDDEN * 2  # queries and passages, and their gradients
    assert cached[1].after_forward - cached[0].after_forward == vectors
    assert cached[1].peak < step(objective="embed", micro_batch=64).peak


@pytest.mark.parametrize(("model", "settings", "words"), [
    (MODEL, {"passages": 2}, "add objective embed"),
    (MODEL, {"labels": 3}, "add objective classify or token-classify"),
    ("t5-small", {"objective": "classify"}, "depends on its class"),
    ("7B", {"objective": "embed"}, "no head to change"),
], ids=str)  # fmt: skip
def test_what_is_refused(model: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises((SpecError, MemcalcError), match=words):
        size_training(model, **settings)
