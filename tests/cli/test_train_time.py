"""`time` of `memcalc train`: the keys that scripts rely on, days and money, refusals in one line."""

from collections.abc import Callable
from typing import Any

import pytest

BASE = ["train", "llama-3.1-8b", "--gpus", "16", "--fsdp", "full", "--recompute", "full"]


Run = Callable[..., Any]


def document(memcalc: Run, *arguments: str) -> dict[str, Any]:
    found = memcalc(*arguments, "--format", "json")
    assert found.code == 0, found.err
    return found.document  # type: ignore[no-any-return]


def test_keys(memcalc: Run) -> None:
    time = document(memcalc, *BASE, "--gpu", "h100", "--tokens", "1T")["time"]
    assert time["step_seconds_low"] <= time["step_seconds"] <= time["step_seconds_high"]
    assert sum(time["parts"].values()) == pytest.approx(time["step_seconds"])
    assert set(time["parts"]) == {
        "forward", "backward", "recompute", "optimizer", "exposed_communication", "bubble", "launch"
    }  # fmt: skip
    assert time["tokens_per_second"] == pytest.approx(time["tokens_per_step"] / time["step_seconds"])
    assert time["tokens_per_second_per_gpu"] == pytest.approx(time["tokens_per_second"] / 16)
    assert 0 < time["mfu"] < time["hfu"] < 1
    assert time["days"] == pytest.approx(1e12 / time["tokens_per_second"] / 86_400)
    assert time["cost_usd"] == pytest.approx(time["gpu_hours"] * 2.95)  # PRICES, H100


def test_samples_and_epochs_are_tokens(memcalc: Run) -> None:
    samples = document(memcalc, *BASE, "--gpu", "h100", "--seq-len", "2048", "--dataset-samples", "1M", "--epochs", "3")["time"]
    assert samples["tokens"] == 1_000_000 * 2048 * 3


def test_a_price_of_ones_own(memcalc: Run) -> None:
    time = document(memcalc, *BASE, "--gpu", "l40s", "--tokens", "1B", "--price", "2")["time"]
    assert time["cost_usd"] == pytest.approx(2 * time["gpu_hours"])


def test_a_slower_network_is_slower(memcalc: Run) -> None:
    fast, slow = (
        document(memcalc, "train", "llama-3.1-8b", "--gpus", "64", "--zero", "3", "--gpu", "h100", "--network", rate)["time"]
        for rate in ("50GB/s", "1GB/s")
    )
    assert slow["step_seconds"] > 2 * fast["step_seconds"]


def test_without_a_gpu_there_is_no_time(memcalc: Run) -> None:
    assert "time" not in document(memcalc, *BASE)


def test_what_cannot_be_timed_says_why(memcalc: Run) -> None:
    found = document(memcalc, "train", "7B", "--gpu", "h100")
    assert "time" not in found
    assert any("no time of a step: a parameter count has no layers" in sentence for sentence in found["assumptions"])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("llama-3.2-1b", "--objective", "embed", "--passage-len", "128"), "passages of another length"),
    ],
)
def test_what_is_not_modelled_has_no_time(memcalc: Run, arguments: tuple[str, ...], why: str) -> None:
    found = document(memcalc, "train", *arguments, "--gpu", "h100")
    assert "time" not in found
    assert any(why in sentence for sentence in found["assumptions"])


def test_what_a_step_leaves_out_is_said(memcalc: Run) -> None:
    found = document(memcalc, "train", "llama-3.2-1b", "--optimizer", "soap", "--gpu", "h100")
    assert any("decompositions inside soap" in sentence for sentence in found["assumptions"])


def test_muon_multiplies_matrices(memcalc: Run) -> None:
    adamw, muon = (
        document(memcalc, "train", "llama-3.2-1b", "--optimizer", name, "--gpu", "h100")["time"]["parts"]["optimizer"]
        for name in ("adamw", "muon")
    )
    assert muon > 2 * adamw


def test_a_card_of_ones_own(memcalc: Run) -> None:
    said = ("train", "llama-3.2-1b", "--gpu-memory", "24GB")
    assert "time" not in document(memcalc, *said)
    assert document(memcalc, *said, "--gpu-bandwidth", "900GB/s", "--gpu-flops", "70TFLOP/s")["time"]["certainty"] == "assumed"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--tokens", "1T"), "--gpu"),
        (("--gpu", "h100", "--tokens", "1T", "--dataset-samples", "10"), "choose one"),
        (("--gpu", "h100", "--epochs", "3"), "--dataset-samples"),
        (("--gpu", "h100", "--price", "3"), "--tokens"),
        (("--gpu", "h100", "--network", "fast"), "--network"),
        (("--gpu", "h100", "--tokens", "-5"), "--tokens"),
    ],
)
def test_refusals_are_one_line(memcalc: Run, arguments: tuple[str, ...], part: str) -> None:
    found = memcalc(*BASE, *arguments)
    assert found.code == 2
    assert part in found.err
    assert len(found.err.strip().splitlines()) == 1


def test_the_line_beside_the_verdict(memcalc: Run) -> None:
    said = memcalc(*BASE, "--gpu", "h100").out
    assert "step ~" in said
    assert "tokens/s" in said
    assert "MFU" in said
    assert "where a step's time goes" in memcalc(*BASE, "--gpu", "h100", "--moments").out


def test_explained(memcalc: Run) -> None:
    said = memcalc(*BASE, "--gpu", "h100", "--tokens", "1T", "--explain", "time.step_seconds", "--explain", "time.cost_usd").out
    assert "exposed_communication" in said
    assert "aiconfigurator" in said
