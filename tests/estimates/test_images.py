"""Images in a training step: how many tokens they are, what the tower keeps, when it keeps nothing."""

from typing import Any

import pytest

from memcalc import size_training
from memcalc.blocks.image_sizes import Bounded, Budgeted, Capped, Enlarged, OneSize, WholeSquares
from memcalc.blocks.image_tiles import ChosenCanvas, LeastLost, NearestGrid, TilesOfLongest, TilesWhenLarge
from memcalc.blocks.images import ImageRule, Seen
from memcalc.specs.spec import SpecError

NEXT = ChosenCanvas(336, ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)))
LFM2 = ImageRule((16, 16), TilesWhenLarge(NearestGrid(512, 2, 10), Bounded(65536, 262144)), 2, padded=1024)
QWEN2 = ImageRule((14, 14), Bounded(4 * 28 * 28, 16384 * 28 * 28), 2)
# What transformers' smart_resize and the processors make of them: (rule, height, width) → patches, tokens.
SIZES = (
    (QWEN2, 1080, 1920, Seen(10764, 2691)),
    (QWEN2, 28, 28, Seen(16, 4)),
    (QWEN2, 10000, 10000, Seen(64516, 16129)),
    (ImageRule((14, 14), OneSize((336, 336)), extra=1), 1080, 1920, Seen(577, 576)),
    (ImageRule((14, 14), OneSize((896, 896)), tokens=256), 0, 0, Seen(4096, 256)),
    # Mistral Small 3.1: 31 × 55 squares and a break after each row; Gemma 4: padded; SmolVLM and InternVL: tiles of their own
    (ImageRule((14, 14), Capped(1540), 2, row_ends=1, joined=True), 1080, 1920, Seen(6820, 1736)),
    (ImageRule((16, 16), Enlarged(280), 3, padded=2520), 1080, 1920, Seen(2520, 264)),
    (ImageRule((14, 14), Budgeted(14, 16384, 512), 2), 1080, 1920, Seen(10764, 2691)),
    # GLM 5: 39 × 69 squares of what is filled up, and an image that is reduced to 8,000 of them; PaddleOCR: a line of text
    (ImageRule((14, 14), WholeSquares(16, 8000), 2), 1080, 1920, Seen(10764, 2691)),
    (ImageRule((14, 14), WholeSquares(16, 8000), 2), 4000, 4000, Seen(31684, 7921)),
    (ImageRule((14, 14), Bounded(147456, 2359296, one_square=True), 2), 20, 600, Seen(912, 228)),
    (ImageRule((16, 16), TilesOfLongest(512, 2048), 4), 1080, 1920, Seen(13 * 1024, 13 * 64, 13 * 1024**2)),
    (ImageRule((14, 14), NearestGrid(448, 1, 12), 2, extra=1), 1080, 1920, Seen(9 * 1025, 9 * 256, 9 * 1025**2)),
    (ImageRule((14, 14), NearestGrid(448, 1, 12), 2, extra=1), 448, 448, Seen(1025, 256)),
    # Llama 4: 15 tiles and the whole; LLaVA-NeXT: four tiles, of whose 48 rows 28 are no padding, each with an end; LFM2-VL:
    # 4 × 2 tiles and the whole, and a small image alone, each padded to 1,024 patches
    (ImageRule((14, 14), LeastLost(336, 16), 2, extra=1), 1080, 1920, Seen(16 * 577, 16 * 144, 16 * 577**2)),
    (ImageRule((14, 14), NEXT, extra=1), 1080, 1920, Seen(5 * 577, 576 + 28 * 49, 5 * 577**2)),
    (LFM2, 1080, 1920, Seen(9 * 1024, 8 * 256 + 12 * 21, 9 * 1024**2)),
    (LFM2, 400, 300, Seen(1024, 12 * 9)),
)


def test_tokens_of_tiles_are_whole_tiles_for_the_tower() -> None:
    rule = ImageRule((14, 14), NearestGrid(448, 1, 12), 2, extra=1)
    assert rule.of_tokens(300) == Seen(2 * 1025, 300, 2 * 1025**2)


@pytest.mark.parametrize(("rule", "height", "width", "seen"), SIZES, ids=lambda value: str(value)[:40])
def test_tokens_of_an_image(rule: ImageRule, height: int, width: int, seen: Seen) -> None:
    assert rule.seen(height, width) == seen


@pytest.mark.parametrize("size", ["20001x100", "100x20001"])
def test_an_image_that_the_processor_refuses(size: str) -> None:
    """transformers models/qwen2_vl/image_processing_qwen2_vl.py, smart_resize: the aspect ratio must be below 200."""
    with pytest.raises(SpecError, match="more than 200 times"):
        step(images=1, image_size=size)
    assert step(images=1, image_size="20000x100").peak


BASE: dict[str, Any] = {"precision": "bf16", "recompute": "full", "seq_len": 4096}


def step(model: str = "qwen2.5-vl-3b", **settings: Any) -> Any:
    return size_training(model, **(BASE | settings))


def test_a_tower_that_is_trained_keeps_what_its_layers_need() -> None:
    plain, seeing = step(recompute="none"), step(recompute="none", images=4, image_tokens=512)
    kept = seeing.after_forward - plain.after_forward
    # 32 layers; of each patch 8 + 8 + 4 + 6 + 4 bytes of 1280 (norms, queries and keys, values, results), 8 of 3420
    assert kept == pytest.approx(32 * 4 * 2048 * (30 * 1280 + 8 * 3420), rel=0.03)
    assert step(images=8, image_tokens=512).after_forward > step(images=4, image_tokens=512).after_forward


def test_a_frozen_tower_keeps_nothing_and_its_projector_little() -> None:
    settings: dict[str, Any] = {"recompute": "none", "images": 4, "image_tokens": 512}
    trained, frozen = step(**settings), step(**settings, freeze=("vision",))
    nothing = step(**settings, freeze=("vision", "projector"))
    text = step(recompute="none", freeze=("vision", "projector"))
    assert trained.after_forward - frozen.after_forward > 5e9
    assert frozen.after_forward > nothing.after_forward > text.after_forward
    assert nothing.after_forward - text.after_forward < 100e6  # the batch's pixels and what the language model is handed


def test_tower_moments_come_after_the_layers() -> None:
    names = [moment.name for moment in step(images=1, image_tokens=1024).shown]
    assert "backward of the vision tower" in names
    assert names.index("backward of the vision tower") > names.index("backward of the first layer")


def test_what_is_said_of_images() -> None:
    assert any("images are left out" in line for line in step().assumptions)
    assert not any("images" in line for line in step(images=0).assumptions)
    assert any("2,691 tokens" in line for line in step(images=1, image_size="1920x1080").assumptions)


REFUSED: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("llama-3.2-1b", {"images": 1}, "no vision tower"),
    ("qwen2.5-vl-3b", {"images": 1}, "images of any size"),
    ("qwen2.5-vl-3b", {"images": 9, "image_tokens": 512}, "4,608 of 4,096 tokens"),
    ("qwen2.5-vl-3b", {"image_tokens": 512}, "add images N"),
    ("gemma-3-4b", {"images": 1, "image_tokens": 100}, "every image is 256 tokens"),
    ("llama-3.2-11b-vision", {"images": 1}, "is not modelled"),
)


@pytest.mark.parametrize(("model", "settings", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_refused(model: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        step(model, **settings)


FROZEN_ENTRY: tuple[dict[str, Any], ...] = ({"method": "lora"}, {"method": "vera"}, {"train_layers": 2})


@pytest.mark.parametrize("said", FROZEN_ENTRY, ids=str)
def test_a_batch_of_images_stays_where_nothing_before_the_layers_is_trained(said: dict[str, Any]) -> None:
    """196 patches and a class token of 16 · 16 · 3 values in fp32 each: held by the training loop, not by autograd."""
    sized = step("vit-base-patch16-224", seq_len=197, micro_batch=64, recompute="none", **said)
    held = [line for line in sized.lines if "pixels" in line.name]
    assert [line.bytes for line in held] == [64 * 197 * 768 * 4], [(line.name, line.bytes) for line in sized.lines]


MODELS = (
    "mistral-small-3.1-24b",
    "gemma-4-31b",
    "glm-4.1v-9b",
    "kimi-k2.5",
    "lightonocr-1b",
    "llama-4-scout",
    "lfm2.5-vl-1.6b",
)


@pytest.mark.parametrize("model", MODELS)
def test_families_that_read_images_of_any_size(model: str) -> None:
    settings: dict[str, Any] = {"method": "lora", "recompute": "full", "seq_len": 8192, "precision": "bf16"}
    text, seeing = size_training(model, **settings), size_training(model, **settings, images=1, image_size="1024x768")
    assert seeing.peak > text.peak
    assert any(line.startswith("images: 1 in each sequence") for line in seeing.assumptions)


def test_images_of_one_sequence_share_a_mask_that_grows_with_the_micro_batch() -> None:
    def kept(micro_batch: int, attention: str) -> int:
        settings: dict[str, Any] = {"images": 2, "image_size": "1540x1540", "micro_batch": micro_batch, "seq_len": 8192}
        found: Any = step("mistral-small-3.1-24b", method="lora", attention=attention, **settings)
        return int(found.after_forward)

    patches = 2 * (1540 // 14) ** 2
    one, two = (kept(batch, "sdpa") - kept(batch, "flash") for batch in (1, 2))
    assert one == pytest.approx(2 * patches**2, rel=0.02)
    assert two == pytest.approx(4 * one, rel=0.02)
