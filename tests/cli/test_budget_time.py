"""`memcalc budget` and time: subsets that suffice, utilisation by format and of a layout, methods."""

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]


def compute(memcalc: Run, *arguments: str) -> dict[str, Any]:
    found = memcalc("budget", *arguments, "--format", "json")
    assert found.code == 0, found.err
    return found.document["compute"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("arguments", "key", "expected"),
    [
        (("--gpu-hours", "1M", "--gpus", "1024"), "days", 1e6 / 1024 / 24),
        (("--gpu-hours", "1M", "--days", "30"), "gpus", 1389),
        (("--gpus", "8", "--days", "10"), "gpu_hours", 8 * 240),
    ],
)
def test_hours_alone_suffice(memcalc: Run, arguments: tuple[str, ...], key: str, expected: float) -> None:
    found = compute(memcalc, *arguments)
    assert found[key] == pytest.approx(expected)
    assert found["flops"] is None


# Defaults by the peak that counts: memcalc.formulas.energy.LOW_MFU.
@pytest.mark.parametrize(
    ("model", "precision", "mfu"),
    [
        ("llama-3.1-8b", "bf16", 0.40),
        ("llama-3.1-8b", "fp8", 0.30),
        ("deepseek-v3", "bf16", 0.22),
        ("deepseek-v3", "fp8", 0.16),
    ],
)
def test_the_default_utilisation_is_of_the_format_and_the_kind(memcalc: Run, model: str, precision: str, mfu: float) -> None:
    assert compute(memcalc, model, "--tokens", "1T", "--gpu", "h100", "--precision", precision)["mfu"] == mfu


def test_a_layout_takes_as_long_as_train_says(memcalc: Run) -> None:
    layout = ("--gpus", "64", "--fsdp", "full", "--seq-len", "8192", "--recompute", "full")
    found = compute(memcalc, "llama-3.1-8b", "--tokens", "1T", "--gpu", "h100", *layout)
    timed = memcalc("train", "llama-3.1-8b", "--gpu", "h100", *layout, "--tokens", "1T", "--format", "json").document["time"]
    assert found["days"] == pytest.approx(timed["days"])


def test_adapters_cost_two_thirds(memcalc: Run) -> None:
    full, lora = (
        compute(memcalc, "llama-3.1-8b", "--tokens", "1B", "--method", method)["flops"]
        for method in ("full", "lora")
    )  # fmt: skip
    assert lora == pytest.approx(full * 2 / 3)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("llama-3.1-8b", "--tokens", "1T", "--tp", "8"), "--tp"),
        (("llama-3.1-8b", "--tokens", "1T", "--gpu", "h100", "--gpus", "8", "--tp", "3"), "tp"),
        (("--tokens", "1T", "--gpu", "h100", "--gpus", "8", "--zero", "3"), "--zero"),
        (("llama-3.1-8b", "--tokens", "1T", "--method", "loro"), "--method"),
    ],
)
def test_refusals_are_one_line(memcalc: Run, arguments: tuple[str, ...], part: str) -> None:
    found = memcalc("budget", *arguments)
    assert found.code == 2
    assert part in found.err
    assert len(found.err.strip().splitlines()) == 1
