"""Parameter counts of the table of families: `python benchmarks/families.py`.

tests/reference/families.json: configs as transformers 5.24 writes them, with the parameters of the class
on the meta device. Each is exact, refused, exact or wrong with a warning, or silently wrong; the last makes the exit code 1.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from memcalc.errors import MemcalcError
from memcalc.readers.hf import read_config

TABLE = Path(__file__).parents[1] / "tests" / "reference" / "families.json"

# Rows whose figure is not what transformers builds from the config that stands beside it.
CONTESTED = {"Glm4MoeModel": "built before head_dim (128) was written into the config; with it there are 3,205,779,456"}


def rows() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return [row for row in found if row["class"] not in CONTESTED]


def outcome(row: dict[str, Any]) -> str:
    """exact, refused, warned (exact or not), wrong."""
    try:
        found = read_config({**row["config"], "architectures": [row["class"]]})
    except MemcalcError:
        return "refused"
    if found.parameters == row["total_params"]:
        return "exact, with a warning" if found.warnings else "exact"
    return "wrong, with a warning" if found.warnings else "silently wrong"


def main() -> None:
    told: dict[str, list[str]] = defaultdict(list)
    for row in rows():
        told[outcome(row)].append(f"{row['config']['model_type']} {row['class']}")
    for kind, names in sorted(told.items()):
        print(f"{kind}: {len(names)}")
        if kind != "exact":
            print("".join(f"  {name}\n" for name in names), end="")
    sys.exit("silently wrong" in told)


if __name__ == "__main__":
    main()
