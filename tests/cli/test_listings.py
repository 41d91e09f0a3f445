"""`memcalc bytes`, `inspect`, `models`, `gpus`, `formats`, `optimizers`."""

from collections.abc import Callable
from typing import Any

import pytest

from memcalc.dtypes import FORMATS
from memcalc.formulas.optimizer_table import OPTIMIZERS
from memcalc.formulas.precision import PRECISION_NAMES
from memcalc.readers.catalogue import preset_names

Run = Callable[..., Any]
Folder = Callable[..., str]


# --- bytes ------------------------------------------------------------------------------------------------------------

# precision, optimizer, field, value, source
RULES_OF_THUMB = (
    ("fp32", "adamw", "store", 4, "DeepLearning.AI 2023: 4 bytes to store"),
    ("fp32", "adamw", "extra", 20, "and 20 more to train"),
    ("fp32", "adamw", "optimizer_states", 8, "two fp32 Adam states"),
    ("fp32", "adamw", "activations", 8, "high estimate"),
    ("bf16-mixed", "adamw", "master_weights", 4, "Rajbhandari et al. 2020, section 3.1"),
    ("bf16-mixed", "adamw", "optimizer_states", 8, "Rajbhandari et al. 2020, section 3.1"),
    ("bf16-mixed", "adamw-8bit", "optimizer_states", 2.03125, "Dettmers et al. 2022: 2 × (1 + 4/256)"),
    ("bf16", "sgd", "optimizer_states", 0, "no state"),
)


@pytest.mark.parametrize(("precision", "optimizer", "name", "expected", "source"), RULES_OF_THUMB)
def test_bytes(memcalc: Run, precision: str, optimizer: str, name: str, expected: float, source: str) -> None:
    (row,) = memcalc(f"bytes --precision {precision} --optimizer {optimizer} --format json").document["rows"]
    assert row[name] == expected, f"{name}: {row[name]}, expected {expected}: {source}"


@pytest.mark.parametrize(("name", "size"), [("fp32", 4 * 10**9), ("fp16", 2 * 10**9), ("int8", 10**9)])
def test_bytes_to_store_a_billion(memcalc: Run, name: str, size: int) -> None:
    assert memcalc("bytes", "--get", f"store.{name}").out == f"{size}\n"


def test_bytes_scales_with_the_parameters(memcalc: Run) -> None:
    found = memcalc("bytes --params 7B --precision fp32 --optimizer adamw --format json").document
    assert (found["parameters"], found["rows"][0]["bytes_to_train"]) == (7 * 10**9, 24 * 7 * 10**9)


def test_bytes_shows_every_precision(memcalc: Run) -> None:
    found = memcalc("bytes --format json").document
    assert {row["precision"] for row in found["rows"]} == set(PRECISION_NAMES)


def test_bytes_is_eight_rows_unless_all_are_wanted(memcalc: Run) -> None:
    short, whole = memcalc("bytes").out, memcalc("bytes --all").out
    assert short.count("adamw-8bit") == 2
    assert "--all" in short
    assert whole.count("adamw-8bit") == len(PRECISION_NAMES)


@pytest.mark.parametrize(("name", "size"), [("int8", "1.00 GB"), ("INT8", "1.00 GB"), ("q4_0", "0.56 GB")])
def test_bytes_of_a_format_to_store(memcalc: Run, name: str, size: str) -> None:
    """q4_0 is 18 bytes for 32 values (ggml-common.h, block_q4_0)."""
    out = memcalc("bytes", "--precision", name).out
    assert f"{name.lower()} " in out
    assert size in out
    assert "for storing" in out


# --- inspect ----------------------------------------------------------------------------------------------------------


def test_inspect_counts_roles_and_layers(memcalc: Run, folder: Folder) -> None:
    found = memcalc("inspect", folder(), "--format", "json").document
    assert found["roles"]["language"] == {
        "embedding": 525_336_576, "attention": 1_342_177_280, "mlp": 5_637_144_576, "norm": 266_240,
        "head": 525_336_576,
    }  # fmt: skip
    assert sum(found["roles"]["language"].values()) == found["model"]["parameters"] == 8_030_261_248
    assert found["layers"] == {"language/layers": [{"parameters": 218_112_000, "count": 32}]}
    assert found["formats"]["fp32"] == 4 * 8_030_261_248
    assert found["source"].endswith("config.json")


def test_inspect_by_part(memcalc: Run, folder: Folder) -> None:
    found = memcalc("inspect", folder("Qwen/Qwen3-VL-8B-Instruct"), "--format", "json").document
    assert len(found["roles"]) > 1
    assert sum(sum(part.values()) for part in found["roles"].values()) == found["model"]["parameters"]


def test_inspect_says_what_is_active(memcalc: Run, folder: Folder) -> None:
    result = memcalc("inspect", folder("Qwen/Qwen3-30B-A3B"))
    assert "active per token" in result.out
    assert "router" in result.out


def test_inspect_refuses_a_count(memcalc: Run) -> None:
    result = memcalc("inspect 7B")
    assert result.code == 2
    assert "parameter count" in result.err


# --- catalogues -------------------------------------------------------------------------------------------------------

# command, its list in the document, how an entry is called, all names there must be
CATALOGUES = (
    ("models", "models", "id", preset_names("models")),
    ("gpus", "gpus", "id", preset_names("gpus")),
    ("formats", "formats", "name", [row.name for row in FORMATS]),
    ("optimizers", "optimizers", "name", list(OPTIMIZERS)),
)
each_catalogue = pytest.mark.parametrize(("command", "key", "name", "known"), CATALOGUES, ids=[c[0] for c in CATALOGUES])


@each_catalogue
def test_a_listing_shows_all(memcalc: Run, command: str, key: str, name: str, known: list[str]) -> None:
    found = [entry[name] for entry in memcalc(f"{command} --format json").document[key]]
    assert sorted(found) == sorted(known)
    assert found, "an empty catalogue"


@each_catalogue
def test_a_listing_in_a_table(memcalc: Run, command: str, key: str, name: str, known: list[str]) -> None:
    result = memcalc(command)
    assert result.code == 0
    missing = [each for each in known if each not in result.out]
    assert not missing, f"cut or absent: {missing[:5]}"
    assert str(len(known)) in result.out.splitlines()[-1] + result.out.splitlines()[-2]


@each_catalogue
def test_one_by_name(memcalc: Run, command: str, key: str, name: str, known: list[str]) -> None:
    for each in (known[0], known[len(known) // 2], known[-1]):
        result = memcalc(command, each)
        assert result.code == 0, result.err
        assert "source: " in result.out, f"{each} does not say where it is from"


@each_catalogue
def test_a_filter(memcalc: Run, command: str, key: str, name: str, known: list[str]) -> None:
    text = known[-1].upper()
    found = memcalc(command, "--filter", text, "--format", "json").document[key]
    assert known[-1] in [entry[name] for entry in found]
    assert len(found) < len(known) or len(known) == 1
    nothing = memcalc(command, "--filter", "no such thing")
    assert nothing.code == 0
    assert "0 of " in nothing.out


# a misspelt name, what is suggested
MISSPELT = (
    ("models", "lama-3.1-8b", "llama-3.1-8b"),
    ("gpus", "h1000", "h100"),
    ("gpus", "rtx-4099", "rtx-4090"),
    ("formats", "bf61", "bf16"),
    ("formats", "q4k", "q4_k"),
    ("optimizers", "adamv", "adamw"),
    ("optimizers", "adafacter", "adafactor"),
)


@pytest.mark.parametrize(("command", "name", "suggested"), MISSPELT)
def test_a_misspelt_name(memcalc: Run, command: str, name: str, suggested: str) -> None:
    result = memcalc(command, name)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1, result.err
    assert repr(name) in result.err
    assert "did you mean" in result.err
    assert suggested in result.err, result.err


def test_what_beginners_look_for(memcalc: Run) -> None:
    """IEEE 754: fp32 is 4 bytes to about 3.4e38, fp16 2 bytes to 65504; int8 is 1 byte from -128 to 127."""
    out = memcalc("formats").out
    for name, bits, span in (("fp32", "32", "±3.4e38"), ("fp16", "16", "±65504"), ("int8", "8", "-128…127")):
        row = next(line for line in out.splitlines() if line.startswith(f"  {name} "))
        assert row.split()[1] == bits, row
        assert span in row


def test_own_gpus(memcalc: Run, tmp_path: Any) -> None:
    (tmp_path / "gpus").mkdir()
    (tmp_path / "gpus" / "mine.toml").write_text(
        'name = "Mine"\nvendor = "Me"\narchitecture = "x"\nvendor_bytes = 1000\nbandwidth = 1e9\nsources = ["here"]\n'
    )
    assert memcalc("gpus", "mine", "--presets", str(tmp_path), "--get", "gpu.usable").out == "1000\n"
    assert memcalc("train", "1k", "--gpu", "mine", "--presets", str(tmp_path), "--get", "gpu.fits").out == "false\n"
