"""Every fact of every example launch file comes out, every key is accounted for, and a sizing file comes of it that is read.

The examples and what must come out of them: tests/reference/launch_examples (expected.json), written for this project from the
tools' own sources and documentation, whose versions memcalc/readers/launch/kinds names.
"""

import importlib.util
import json
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from memcalc.sizing.import_report import imported
from memcalc.sizing.importing import launched

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "tests" / "reference" / "launch_examples"
TABLE: dict[str, Any] = json.loads((EXAMPLES / "expected.json").read_text(encoding="utf-8"))["files"]
ASKS = {"the shape behind the local path": None}  # what a person is asked for: MODEL stands for it


def _benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("launch_examples", ROOT / "benchmarks" / "launch_examples.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


benchmark = _benchmark()
each_example = pytest.mark.parametrize("name", TABLE)


@pytest.fixture(autouse=True)
def _beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)


@each_example
def test_all_facts(name: str) -> None:
    row = TABLE[name]
    scored = benchmark.score(name, row["kind"], row["expect"], Path(name))
    assert not scored.refused, scored.refused
    assert not scored.wrong, [f"{fact}: {expected!r} expected, {found!r} found" for fact, expected, found in scored.wrong]
    assert scored.right >= len(row["expect"])


@each_example
def test_the_kind_is_recognised_by_content(name: str, tmp_path: Path) -> None:
    """Whatever the file is called."""
    other = tmp_path / "anything"
    other.write_bytes((EXAMPLES / name).read_bytes())
    assert launched(str(other))[0].job.label == TABLE[name]["kind"]


@each_example
def test_what_the_file_cannot_tell_is_asked_for(name: str) -> None:
    asks = launched(name)[0].question.asks
    wanted = [ask for ask in TABLE[name].get("must_ask", ()) if ask not in ASKS]
    assert not set(wanted) - set(asks), f"asked for {asks}"


@each_example
def test_every_key_is_accounted_for(name: str) -> None:
    document = imported([name]).document
    for row in document["imported"]:
        assert sum(key in row for key in ("becomes", "ignored", "unknown")) == 1, row
        assert row["line"] >= 1, row
        line = Path(row["file"]).read_text(encoding="utf-8").splitlines()[row["line"] - 1] if Path(row["file"]).exists() else ""
        last = row["key"].rpartition(".")[2].partition("[")[0]
        value = row["value"][0] if isinstance(row["value"], list) else str(row["value"])  # of what stands alone: MODEL
        built = "$" in line  # a loop over names of roles writes its options
        assert not line or built or value in line or last.replace("-", "_") in line.replace("-", "_"), (
            f"{row['key']} does not stand on line {row['line']}"
        )
    assert not [row for row in document["imported"] if row.get("unknown", "").startswith("a key")], "an example has known keys"


@each_example
def test_the_sizing_file_reads(name: str) -> None:
    document = imported([name], "h100").document
    values = tomllib.loads(document["sizing"])
    scenarios = list(values.get("scenario", {"one": values}).values())
    assert len(scenarios) == len(document["jobs"])
    for scenario, job in zip(scenarios, document["jobs"], strict=True):
        table = scenario["training" if job["command"] == "train" else "serving"]
        flat = {**table, **table.get("parallelism", {}), **{key: scenario[key] for key in ("draft",) if key in scenario}}
        flat.pop("parallelism", None)
        assert flat == job["settings"]
        assert ("model" in scenario) == (job["model"] is not None)


def test_contradictions_are_told() -> None:
    """The trainer's file says micro-batch 1, its DeepSpeed file 2."""
    warnings = imported(["llamafactory_lora.yaml"]).document["warnings"]
    assert any("micro batch 1" in line and "ds_zero2_offload.json:3 says 2" in line for line in warnings), warnings


def test_files_of_one_run_are_joined() -> None:
    """A script without its DeepSpeed file beside it, and that file."""
    alone = launched("accelerate_fsdp2.yaml", "axolotl_qlora.yml")
    assert len(alone) == 1
    assert alone[0].question.settings["gpus"].value == 16
    assert alone[0].question.settings["fsdp"].value == "grad-op"
