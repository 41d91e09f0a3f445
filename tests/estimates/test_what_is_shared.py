"""What is worked out once for all batches and lengths: ranks that runs share, and the moments that can be the peak."""

from typing import Any

import pytest

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.training.estimate import estimate
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


@pytest.mark.parametrize("length", [1, 130, 1000, 5000, 100_000])
@pytest.mark.parametrize("preset", [*PRESETS, "llama-3.2-1b", "gpt2"])
def test_the_moments_that_are_kept_hold_the_peak(preset: str, length: int) -> None:
    """Moments that can never be the highest are left out before batch and length are known."""
    evaluated = estimate(architecture(preset), Training(seq_len=length, micro_batch=2)).evaluated
    assert max(moment.bytes for moment in evaluated.candidates) == max(moment.bytes for moment in evaluated.moments())
