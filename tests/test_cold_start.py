"""A command imports what it needs and no more: cold start is what shell loops and CI feel."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

TRAIN = ("train", "MODEL", "--gpus", "8", "--zero", "3", "--gpu", "h100")
INFER = ("infer", "MODEL", "--context", "32k", "--gpu", "h100")

# command, modules that it must not import (with all below them), why
CASES = (
    (
        ("--version",),
        ("pydantic", "rich", "tomllib", "memcalc.estimates", "memcalc.specs", "memcalc.report"),
        "prints a name",
    ),
    (
        ("--help",),
        ("pydantic", "rich", "tomllib", "memcalc.estimates", "memcalc.specs", "memcalc.report"),
        "prints a table",
    ),
    ((*TRAIN, "--format", "json"), ("rich", "difflib"), "JSON needs no layout"),
    ((*INFER, "--format", "json"), ("rich", "difflib"), "JSON needs no layout"),
    (
        ("budget", "MODEL", "--tokens", "1T", "--gpu", "h100", "--format", "json"),
        ("rich", "difflib", "memcalc.estimates.training.estimate"),
        "a budget is arithmetic on one model",
    ),
    ((*TRAIN, "--get", "per_gpu.peak"), ("rich", "difflib"), "one number needs no layout"),
    (("train", "7B", "--format", "json"), ("rich", "difflib", "memcalc.report.table"), "JSON needs no layout"),
    (("gpus", "--format", "json"), ("rich",), "JSON needs no layout"),
    (("optimizers", "--format", "csv"), ("rich", "memcalc.estimates"), "a listing estimates nothing"),
    (TRAIN, (), "the table"),
    (("train", "MODEL", "--help"), ("pydantic", "rich", "tomllib", "memcalc.estimates"), "help of one command"),
)
NEVER = (
    "importlib.metadata",
    "torch", "numpy", "transformers", "huggingface_hub", "httpx", "requests", "urllib.request", "http.client", "asyncio",
    "memcalc.readers.hub",
)  # fmt: skip


def imported(*words: str) -> set[str]:
    """The modules that `python -m memcalc …` imports, as `-X importtime` lists them on stderr."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "memcalc", *words],
        capture_output=True, encoding="utf-8", timeout=60, check=False, env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize(("words", "unwanted", "why"), CASES, ids=[" ".join(words) for words, _, _ in CASES])
def test_imports(words: tuple[str, ...], unwanted: tuple[str, ...], why: str, folder: Callable[..., str]) -> None:
    found = imported(*(folder() if word == "MODEL" else word for word in words))
    assert "memcalc.cli" in found  # the list is one of imports
    wrong = sorted(n for n in found for u in (*unwanted, *NEVER) if n == u or n.startswith(f"{u}."))
    assert not wrong, f"{why}, but memcalc {' '.join(words)} imports {', '.join(wrong)}"


# What a decoder of plain attention and plain feed-forwards is made of; every other block belongs to models that have one.
PLAIN = {
    "architecture", "attention", "attention.core", "attention.kernels", "attention.positions", "attention.projections",
    "attention.rotary", "attention.softmax", "block", "embedding", "fused_adapters", "head", "ledger", "mlp", "norm",
    "task_head", "tiles", "values",
}  # fmt: skip
# question, what else it needs
QUESTIONS = (
    (TRAIN, {"recording", "forwards", "counting", "executed"}),
    (INFER, {"recording", "forwards", "counting", "linears", "stored", "mixers", "mixers.state"}),
    (("budget", "MODEL", "--tokens", "1T", "--gpu", "h100"), {"counting"}),
)


@pytest.mark.parametrize(("words", "also"), QUESTIONS, ids=[words[0] for words, _ in QUESTIONS])
def test_a_plain_decoder_imports_no_other_blocks(words: tuple[str, ...], also: set[str], folder: Callable[..., str]) -> None:
    """Neither experts nor mixers, convolutions, latent or biased attention: readers import the blocks of their models."""
    found = imported(*(folder() if word == "MODEL" else word for word in words))
    blocks = {name.removeprefix("memcalc.blocks.") for name in found if name.startswith("memcalc.blocks.")}
    assert {"mlp", "attention.softmax"} <= blocks
    assert blocks <= PLAIN | also, f"also {', '.join(sorted(blocks - PLAIN - also))}"


def test_the_table_needs_rich(folder: Callable[..., str]) -> None:
    """The opposite, so that the test above cannot pass by seeing nothing."""
    assert {"rich.table", "memcalc.estimates.training.estimate"} <= imported("train", folder())


@pytest.mark.parametrize("command", ["train", "infer", "budget", "chinchilla"])
def test_help_needs_no_specs(command: str) -> None:
    """Options stand in a module of plain rows, so that help waits for no model to be built."""
    found = imported(command, "--help")
    assert not {"pydantic", "rich", "memcalc.specs.spec"} & found
