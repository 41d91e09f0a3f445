"""How often memcalc answers as people reported it: `python benchmarks/reports.py [--all]`.

tests/reference/reports_training.json and reports_serving.json hold runs from public threads: the command, what was reported
(bytes with a tolerance, a verdict, a refusal) and where. Printed are the share that holds, by kind of expectation, the share
of verdicts that are "tight", and what does not hold; the exit code is 1 where a bound is missed.
"""

import contextlib
import io
import json
import math
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[1] / "tests" / "reference"
FILES = ("reports_training.json", "reports_serving.json")
HOLDS, TIGHT = 0.7, 0.4  # at least, at most
WORD = {"oom": "no", "fits": "fits"}  # a reported end → the verdict that says so
TRACEBACK = 70  # the exit code of a fault of ours; 1 before that was one


class Ended(NamedTuple):
    """What one command came to."""

    code: int
    document: dict[str, Any]  # empty where it was refused


class Scored(NamedTuple):
    id: str
    kind: str  # of expectation: "verdict", "bytes" or "answer"
    holds: bool
    said: str
    verdict: str | None


def reports() -> list[dict[str, Any]]:
    """All reports, in the order of the files."""
    return [row for name in FILES for row in json.loads((FOLDER / name).read_text(encoding="utf-8"))]


def run(row: Mapping[str, Any]) -> Ended:
    """The report's command, in a folder with its files."""
    from memcalc.cli import main

    out, code = io.StringIO(), 0
    with tempfile.TemporaryDirectory() as folder, _inside(folder):
        for name, content in row.get("files", {}).items():
            Path(name).write_text(json.dumps(content), encoding="utf-8")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            try:
                main([*row["command"], "--format", "json"])
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except Exception:
                code = TRACEBACK
    return Ended(code, json.loads(out.getvalue()) if code == 0 else {})


@contextlib.contextmanager
def _inside(folder: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def value_at(document: Mapping[str, Any], path: str) -> Any:
    """What stands under a path, or None."""
    found: Any = document
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def verdict_of(ended: Ended) -> str | None:
    """ "no", "tight" or "fits" of a run that was asked about a GPU."""
    gpu = ended.document.get("gpu", {})
    return gpu.get("verdict", {True: "fits", False: "no"}.get(gpu.get("fits")))


def holds(expect: Mapping[str, Any], ended: Ended) -> bool:
    """Whether an answer is as reported."""
    if "any" in expect:
        return any(holds(one, ended) for one in expect["any"])
    match expect.get("verdict"):
        case "no-traceback":
            return ended.code in (0, 2)
        case "refused":
            return ended.code == 2
        case "not-refused":
            return ended.code == 0
        case "oom" | "fits":
            return verdict_of(ended) in {WORD.get(word, word) for word in (expect["verdict"], *expect["accept"])}
    value = value_at(ended.document, expect["path"])
    if "nonempty" in expect:
        return bool(value) == expect["nonempty"]
    if value is None or isinstance(value, bool):
        return value is expect.get("value")
    if isinstance(tolerance := expect.get("tolerance"), float):
        return abs(value / expect["value"] - 1) <= tolerance
    return expect.get("min", -math.inf) <= value <= expect.get("max", math.inf)


def scored(row: Mapping[str, Any]) -> Scored:
    expect, ended = row["expect"], run(row)
    path = expect.get("path", "")
    kind = "verdict" if path == "gpu.fits" else "bytes" if path else "answer"
    value = value_at(ended.document, path) if path else None
    said = f"exit code {ended.code}" if value is None else f"{value:,}" if type(value) is int else str(value)
    asked = kind == "verdict" and "accept" in expect
    return Scored(row["id"], kind, holds(expect, ended), said, verdict_of(ended) if asked else None)


def main() -> int:
    found = [scored(row) for row in reports()]
    share = sum(one.holds for one in found) / len(found)
    for kind, rows in Counter(one.kind for one in found).items():
        print(f"{kind:8} {sum(one.holds for one in found if one.kind == kind):3} of {rows:3} hold")
    print(f"{'all':8} {sum(one.holds for one in found):3} of {len(found):3} hold: {share:.0%}")
    asked = [one for one in found if one.verdict]
    tight = sum(one.verdict == "tight" for one in asked) / len(asked)
    print(f"tight    {sum(one.verdict == 'tight' for one in asked):3} of {len(asked):3} verdicts: {tight:.0%}")
    expected = {row["id"]: row["expect"] for row in reports()}
    for one in found:
        if not one.holds or "--all" in sys.argv:
            mark, said = "ok  " if one.holds else "MISS", one.verdict or one.said
            print(f"{mark} {one.id}: {said}, expected {json.dumps(expected[one.id])}")
    return int(share < HOLDS or tight > TIGHT)


if __name__ == "__main__":
    sys.exit(main())
