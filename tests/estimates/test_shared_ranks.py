"""Runs of one architecture that differ in batch and length alone share what they played, and must not notice it."""

from typing import Any

import pytest

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.training import estimate
from memcalc.readers.models import read_model
from memcalc.specs.training import Training

PRESETS = [
    "minimax-text-01",  # the first and last block of a sequence keep less
    "mamba2-2.7b",  # padded chunks
    "qwen3-next-80b-a3b",
    "whisper-small",  # 1500 frames for every length of the decoder
    "t5-base",  # biases for pairs of positions, whatever the batch
    "gemma-3-4b",  # masks beyond the window
    "bloom-560m",
    "mixtral-8x7b",
]
SIZES = [(256, 1), (300, 1), (1024, 2), (2000, 3), (256, 4)]


def architecture(preset: str) -> Architecture:
    found = read_model(preset).architecture
    assert found
    return found


SETTINGS: list[dict[str, Any]] = [{}, {"recompute": "full"}, {"attention": "eager"}]
CASES = [(preset, setting) for preset in PRESETS for setting in SETTINGS]
CASES.append(("mixtral-8x7b", {"capacity_factor": 1.25}))  # rounded up over all tokens


@pytest.mark.parametrize(("preset", "setting"), CASES, ids=str)
def test_the_order_of_estimates_changes_none(preset: str, setting: dict[str, Any]) -> None:
    runs = [Training(precision="bf16", seq_len=length, micro_batch=batch, **setting) for length, batch in SIZES]
    shared = architecture(preset)
    assert [estimate(shared, run).peak for run in runs] == [estimate(architecture(preset), run).peak for run in runs]
