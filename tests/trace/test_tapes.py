"""Tapes of families whose layers are wired in their own way, beside PyTorch's own count (tests/reference/tapes.json)."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from memcalc.estimates.training.estimate import estimate
from memcalc.readers.hf import read_config
from memcalc.specs.training import Training

ROOT = Path(__file__).parents[2]
TABLE: dict[str, Any] = json.loads((ROOT / "tests" / "reference" / "tapes.json").read_text("utf-8"))
ROWS: list[dict[str, Any]] = TABLE["rows"]
BOUND, SAVED, SMALL = 0.005, 0.002, 131_072  # of a moment; of what the forward leaves; bytes that rounding makes in all
# The decoder's mask has gone when the encoder's backward begins: here it stays
WIDER = {"blocks of queries, encoder": 0.017}
# Text passes some layers by: PyTorch makes no optimizer states for them, memcalc counts what training with images makes
IDLE = {
    "cross-attention to images", "hyper-connections", "mixed with the first layer", "blocks of keys", "residual gates",
    "learned frequencies",
}  # fmt: skip


def name(row: dict[str, Any]) -> str:
    changed = {key: value for key, value in row["settings"].items() if key not in ("micro_batch", "seq_len")}
    return "-".join((row["name"].replace(" ", "-"), *map(str, changed.values())))


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_a_tape(row: dict[str, Any]) -> None:
    """Every moment, and what the forward leaves, against the traced figures."""
    found, traced = estimate(read_config(row["config"]), Training(**row["settings"])), row["traced"]
    assert not found.rank.approximation
    bound = WIDER.get(row["name"], BOUND) if row["settings"].get("recompute") else BOUND
    moments = {moment: (getattr(found, moment), theirs) for moment, theirs in traced.items()}
    if row["name"].startswith(("images alone", "sound ")):
        del moments["peak_optimizer_step"]  # the traced loop still holds the batch's pixels or samples
    if row["name"] in IDLE:
        del moments["peak_optimizer_step"]
        moments = {moment: (ours - found.steady, theirs - traced["steady"]) for moment, (ours, theirs) in moments.items()}
        del moments["steady"]
    for moment, (ours, theirs) in moments.items():
        assert abs(ours / theirs - 1) <= bound, f"{moment}: {ours:,} here, {theirs:,} traced ({TABLE['source']})"
    kept, theirs = found.after_forward - found.steady, traced["after_forward"] - traced["steady"]
    assert abs(kept - theirs) <= max(SMALL, SAVED * theirs), f"saved: {kept:,} here, {theirs:,} traced ({TABLE['source']})"


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_the_traced_figures() -> None:
    """The table is what PyTorch says today."""
    spec = importlib.util.spec_from_file_location("tapes", ROOT / "benchmarks" / "tapes.py")
    assert spec
    assert spec.loader
    tapes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tapes)
    assert list(tapes.rows(list(tapes.SMALL))) == ROWS
