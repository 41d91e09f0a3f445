"""The documented JSON holds for what commands print: every kept answer, and those that begin with launch files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from memcalc.report.contract import Document

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "examples" / "launch" / "train.sh")
DOCUMENT = TypeAdapter(Document)


def test_kept_answers_are_as_documented() -> None:
    kept = 0
    for path in sorted((ROOT / "tests" / "golden" / "outputs").glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(document, dict) and document.get("schema") == "memcalc/1":
            DOCUMENT.validate_python(document)
            kept += 1
    assert kept > 100


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "train", "--from", SCRIPT, "--gpu", "h100"),  # nothing is missed
        ("plan", "train", "llama-3.1-405b", "--gpu", "4090", "--gpus", "1"),  # nothing fits
        ("compare", "train", "--from", SCRIPT, "--gpu", "h100", "--vary", "zero=1,2"),
        ("train", "--from", SCRIPT, "--gpu", "h100"),
        ("train", "gpt2", "--objective", "dpo", "--gpu", "l4"),
        ("import", SCRIPT),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_answers_are_as_documented(memcalc: Run, words: tuple[str, ...]) -> None:
    DOCUMENT.validate_python(memcalc(*words, "--format", "json").document)
