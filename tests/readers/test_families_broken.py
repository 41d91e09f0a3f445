"""Every class of the table of families with values that cannot be meant: each is read or refused in a line, never more.

Seeded, so that a run is repeatable; `python -m pytest` with another SEED draws others.
"""

import json
import os
import random
from typing import Any

import pytest

from memcalc.errors import MemcalcError
from memcalc.readers.hf import read_config
from tests.readers.test_families import ROWS

SEED, CHANGES = int(os.environ.get("SEED", "7")), 3  # changed configs of a class
JUNK: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 7, 10**9, 2**31, 2**63, 10**30, -2.5, float("nan"), float("inf"), 1e308, "", "x", "gelu",
    "1", [], [1], ["a", None], [[1, 2], [3]], {}, {"a": 1}, [0] * 50, [-1, 2], {"0": {"head_dim": -1}}, [10**12],
)  # fmt: skip
CLASSES = {row["class"]: row for row in ROWS}
TYPES = {row["config"]["model_type"]: row for row in ROWS}


@pytest.mark.parametrize("name", CLASSES)
def test_broken_values_are_read_or_refused(name: str) -> None:
    rng, row = random.Random(f"{SEED} {name}"), CLASSES[name]
    text, paths = json.dumps(row["config"]), list(places(row["config"]))
    for _ in range(CHANGES):
        values = json.loads(text)
        for path in rng.sample(paths, min(len(paths), rng.choice((1, 1, 2)))):
            break_at(values, path, rng)
        refusal = ""
        try:
            found = read_config({**values, "architectures": [name]})
        except MemcalcError as error:
            refusal = str(error)
        else:
            assert 0 <= found.active_parameters <= found.parameters
        assert "\n" not in refusal
        assert len(refusal) < 1000


@pytest.mark.parametrize("kind", TYPES)
def test_a_size_that_a_family_does_not_have_is_told(kind: str) -> None:
    """Whatever the family: a count without a warning means that no such key was there."""
    values = {**TYPES[kind]["config"], "architectures": [TYPES[kind]["class"]], "bridge_hidden_size": 640}
    try:
        found = read_config(values)
    except MemcalcError:
        return
    assert any("bridge_hidden_size" in warning for warning in found.warnings)


def places(values: dict[str, Any], before: tuple[str, ...] = ()) -> Any:
    """The path of every key, also of nested configs."""
    for key, value in values.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from places(value, (*before, key))


def break_at(values: Any, path: tuple[str, ...], rng: random.Random) -> None:
    """Junk in place of a value, or the key left out."""
    for key in path[:-1]:
        values = values.get(key) if isinstance(values, dict) else None
    if isinstance(values, dict):
        if rng.random() < 0.15:
            values.pop(path[-1], None)
        else:
            values[path[-1]] = rng.choice(JUNK)
