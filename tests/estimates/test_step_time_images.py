"""The time of images: a vision tower's layers by their own tokens and pairs, beside the language model's."""

from typing import Any

import pytest

from memcalc import size_training
from memcalc.readers.models import read_model_preset

BASE: dict[str, Any] = {"gpu": "h100", "precision": "bf16", "seq_len": 4096}
FOUR: dict[str, Any] = {"images": 4, "image_tokens": 700}


def timed(model: str = "qwen2.5-vl-7b", **settings: Any) -> Any:
    return size_training(model, **(BASE | settings)).time


def test_a_tower_takes_time_and_a_frozen_one_less() -> None:
    text, frozen, trained = timed(), timed(**FOUR, freeze=("vision",)), timed(**FOUR)
    assert text.seconds < frozen.seconds < trained.seconds
    assert timed(images=8, image_tokens=350).seconds < timed(**FOUR).seconds  # half as many pairs of as many patches


def test_flops_are_six_of_each_weight_and_patch_and_attention() -> None:
    """2,800 patches of each image; 32 layers, of which 4 attend to all of it and 28 in windows of 64 (Qwen2.5-VL)."""
    tower = next(part for part in read_model_preset("qwen2.5-vl-7b").architecture.parts if part.name == "vision")  # type: ignore[union-attr]
    products = sum(
        w.parameters
        for stack in tower.stacks
        for kind, n in stack.runs
        for w in stack.layers[kind].weights * n
        if len(w.shape) > 1
    )
    patches, width = 4 * 2800, 1280
    attention = 3 * 4 * width * patches * (4 * 2800 + 28 * 64)
    found = timed(**FOUR).model_flops - timed().model_flops
    assert found == pytest.approx(
        6 * products * patches + attention, rel=0.06
    )  # beside them the patches' matrix and the merger


def test_what_is_recomputed_of_a_tower_counts_as_hardware_flops() -> None:
    again, text = timed(**FOUR, recompute="full"), timed(recompute="full")
    seen = again.model_flops - text.model_flops
    assert again.hardware_flops - text.hardware_flops == pytest.approx(4 / 3 * seen, rel=0.03)


@pytest.mark.parametrize("model", ["gemma-3-4b", "llava-1.5-7b", "lfm2.5-vl-1.6b", "mistral-small-3.1-24b", "llama-4-scout"])
def test_never_below_the_roofline(model: str) -> None:
    step = timed(model, images=1, seq_len=8192, image_size="1024x768", method="lora")
    assert step.seconds >= step.roofline > 0
    assert step.mfu < 1
