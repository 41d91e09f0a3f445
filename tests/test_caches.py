"""What is kept is bounded, and can be forgotten."""

import ast
import gc
import weakref
from pathlib import Path

import pytest

import memcalc
from memcalc.estimates.serving import estimate as serving
from memcalc.estimates.training import estimate as training
from memcalc.readers.models import read_model
from memcalc.specs.serving import Serving
from memcalc.specs.training import Training

PACKAGE = Path(memcalc.__file__).parent


def test_clearing_lets_go_of_every_model() -> None:
    kept = []
    for name in ("gpt2", "qwen3-0.6b", "mamba-130m", "t5-small"):
        architecture = read_model(name).architecture
        assert architecture
        training.estimate(architecture, Training(seq_len=256))
        serving.estimate(architecture, Serving(context=256))
        kept.append(weakref.ref(architecture))
    del architecture
    memcalc.clear_caches()
    gc.collect()
    assert [found() for found in kept] == [None] * 4


def test_answers_are_the_same_afterwards() -> None:
    before = memcalc.size_training("gpt2").peak
    memcalc.clear_caches()
    assert memcalc.size_training("gpt2").peak == before


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_cache_is_bounded_and_known(path: Path) -> None:
    """functools.cache and lru_cache stand in memcalc.caches alone."""
    if path.name == "caches.py":
        return
    names = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "functools"
        for alias in node.names
    }
    assert not names & {"cache", "lru_cache"}, "use memcalc.caches.cached"
