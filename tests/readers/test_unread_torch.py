"""Sizes that no reader asks for change nothing in transformers: of every model type, each such key with another value."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from families import rows
from unread_keys import silently_wrong

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


def first_rows() -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for row in rows():
        if (kind := row["config"]["model_type"]) not in seen:
            seen.add(kind)
            yield row


@pytest.mark.parametrize("row", [*first_rows()], ids=lambda row: row["config"]["model_type"])
def test_what_is_not_read_counts_nothing(row: dict[str, Any]) -> None:
    assert not [*silently_wrong(row)]
