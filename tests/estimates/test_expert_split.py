"""--tensor-split beside --n-cpu-moe auto: what the warning proposes fits, and no split of whole layers keeps more experts."""

import re
from typing import Any

import pytest

from memcalc import size_serving

# Models, GPUs and settings: none holds all layers with their experts
MACHINES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("qwen3-235b-a22b", "rtx-5090+rtx-3060-12", {"weights": "Q4_K_M", "context": 8192}),
    ("gpt-oss-120b", "rtx-3090", {"pp": 2, "context": 32768}),
)


@pytest.mark.parametrize(("model", "gpu", "settings"), MACHINES)
def test_the_split_that_is_proposed(model: str, gpu: str, settings: dict[str, Any]) -> None:
    settings = {"engine": "llama.cpp", **settings}
    found = size_serving(model, gpu, n_cpu_moe="auto", **settings)
    (text,) = [text for text in found.doubts.warnings if "--tensor-split" in text]
    words = re.search(r"--tensor-split ([0-9,]+) --n-cpu-moe ([0-9]+)", text)
    assert words
    parts, moved = tuple(map(float, words[1].split(","))), int(words[2])
    assert moved < (found.run.n_cpu_moe or 0)
    assert size_serving(model, gpu, n_cpu_moe=moved, tensor_split=parts, **settings).fits
    whole = int(sum(parts))  # of two GPUs: every split
    tried = (
        size_serving(model, gpu, n_cpu_moe=moved - 1, tensor_split=(float(first), float(whole - first)), **settings)
        for first in range(whole)
    )
    assert not any(each.fits for each in tried)


@pytest.mark.parametrize("settings", [{"tensor_split": (5.0, 1.0)}, {"n_cpu_moe": 90}])
def test_what_was_given_stays(settings: dict[str, Any]) -> None:
    said: dict[str, Any] = {"n_cpu_moe": "auto", **settings}
    found = size_serving("qwen3-235b-a22b", "rtx-5090+rtx-3060-12", engine="llama.cpp", weights="Q4_K_M", context=8192, **said)
    assert not any("--tensor-split" in text for text in found.doubts.warnings)
