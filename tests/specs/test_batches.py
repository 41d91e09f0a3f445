"""Batches: which settings exclude each other, and what a micro-batch comes to."""

from typing import Any

import pytest

from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"seq_len_max": 1024}, "the usual length is 4,096"),
    ({"tokens_per_batch": 8192, "micro_batch": 2}, "a packed row"),
    ({"tokens_per_batch": 8192, "seq_len_max": 8192}, "a packed row"),
    ({"tokens_per_batch": 1024}, "holds no sequence of 4,096"),
    ({"mlp_tiles": 4}, "add tiled_mlp"),
    ({"eval_accumulation": 4}, "add eval_batch"),
    ({"global_batch": 7, "micro_batch": 2}, "= 2"),
    ({"grad_accum_dtype": "fp32"}, "is DeepSpeed's"),
    ({"seq_len": 4096, "seq_len_max": 4098, "parallelism": {"gpus": 4, "cp": 4}}, "must divide the sequence of 4098"),
)


@pytest.mark.parametrize(("settings", "words"), REFUSED, ids=lambda value: str(value))
def test_what_contradicts_itself_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Training(**settings)


@pytest.mark.parametrize(("settings", "rows", "length"), [
    ({"micro_batch": 4, "seq_len": 512}, 4, 512),
    ({"micro_batch": 4, "seq_len": 512, "seq_len_max": 2048}, 4, 2048),
    ({"seq_len": 512, "tokens_per_batch": 8192}, 1, 8192),
])  # fmt: skip
def test_what_memory_must_hold(settings: dict[str, Any], rows: int, length: int) -> None:
    run = Training(**settings)
    assert (run.rows, run.row_length, run.tokens) == (rows, length, rows * length)
