"""The shipped model presets: each names itself and its source, and its architecture adds up to the published count."""

from collections import Counter
from functools import cache
from typing import Any

import pytest

from memcalc.dtypes import number_format
from memcalc.readers.catalogue import SAFE_NAME, find_preset, preset_names, read_preset
from memcalc.readers.hf import MODULES
from memcalc.readers.models import Model, read_model_preset

NAMES = preset_names("models")
KEYS = {"name", "aliases", "source", "checked", "unverified", "null", "dtype", "context", "parameters", "architecture"}

# (what people type, preset): the hub's own spelling, a chat variant, another separator
SPELLINGS = [
    ("Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b"),
    ("Qwen2.5-Coder-32B", "qwen2.5-32b"),
    ("mixtral 8x7b", "mixtral-8x7b"),
    ("mistral-7b", "mistral-7b-v0.1"),
    ("gpt2-small", "gpt2"),
    ("DeepSeek-R1-0528", "deepseek-r1"),
]


@cache
def preset(name: str) -> dict[str, Any]:
    return read_preset("models", name)


@cache
def model(name: str) -> Model:
    return read_model_preset(name)


def aliases(name: str) -> list[str]:
    return preset(name).get("aliases", [])


def test_there_are_enough_of_them() -> None:
    assert len(NAMES) >= 350


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    values = preset(name)
    assert set(values) <= KEYS
    assert values["name"].strip()
    assert values["source"].strip()
    assert "://" not in values["source"]
    assert number_format(values["dtype"]).name == values["dtype"]
    assert type(values["context"]) is int
    assert values["context"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_its_family_has_a_reader(name: str) -> None:
    """Without one the preset would be read as a llama, silently as far as the count goes."""
    assert preset(name)["architecture"]["model_type"] in MODULES


@pytest.mark.parametrize("name", NAMES)
def test_adds_up_to_the_exact_count(name: str) -> None:
    found = model(name)
    assert found.architecture is not None
    assert found.architecture.parameters == preset(name)["parameters"]
    assert found.architecture.warnings == ()


@pytest.mark.parametrize("name", NAMES)
def test_hands_on_name_dtype_context_and_source(name: str) -> None:
    values, found = preset(name), model(name)
    assert found.architecture is not None
    assert found.name == values["name"]
    assert found.source.startswith(values["source"])
    assert found.source.endswith(values.get("checked", ""))
    assert ("unverified" in values) == any(note.startswith("not verified: ") for note in found.architecture.notes)
    assert (found.architecture.dtype, found.architecture.context) == (values["dtype"], values["context"])


def test_every_name_means_one_model() -> None:
    claims = Counter(spelling for name in NAMES for spelling in (name, *aliases(name)))
    assert [spelling for spelling, count in claims.items() if count > 1] == []
    assert [spelling for spelling in claims if not SAFE_NAME.fullmatch(spelling)] == []


def test_titles_are_distinct() -> None:
    titles = Counter(preset(name)["name"] for name in NAMES)
    assert [title for title, count in titles.items() if count > 1] == []


@pytest.mark.parametrize(("typed", "name"), SPELLINGS)
def test_finds_a_preset_by_alias(typed: str, name: str) -> None:
    assert find_preset("models", typed) == find_preset("models", name)
