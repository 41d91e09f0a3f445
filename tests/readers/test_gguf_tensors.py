"""GGUF → architecture, and names → roles, on the tensors of real models.

tests/reference/weights.json: model classes of transformers 5.18 on the meta device, a few layers deep; `checkpoint` holds
their own tensors, `gguf` those that llama.cpp's converter makes of them (names by gguf-py 0.19 get_tensor_name_map, shapes
by conversion/*.py), `metadata` what it writes. Tensors with layers: [name with {}, shape, [layers]].
"""

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from memcalc.blocks.architecture import Architecture
from memcalc.readers.hf import read_config
from memcalc.readers.models import read_model
from memcalc.readers.weights import read_weights
from memcalc.readers.weights.gguf_family import memory_of
from memcalc.readers.weights.gguf_layers import architecture_of

Row = dict[str, Any]
ROWS: list[Row] = json.loads((Path(__file__).parents[1] / "reference" / "weights.json").read_text(encoding="utf-8"))
each_row = pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])

# Fields that a GGUF file cannot say: epsilons are fp32 in it, and converters write no such key; or that llama.cpp does not
# go by (Phi's windows)
LOST = {
    **dict.fromkeys(
        ("mistral-7b-v0.1", "starcoder2-3b", "phi-3-mini", "phi-4-mini", "phi-3.5-moe", "exaone-4.0-32b"), "window"
    ),
    "qwen3-30b-a3b": "normalised",
}
NO_WINDOW = {name: {"sliding_window": None} for name, field in LOST.items() if field == "window"}
CUT_SHORT = {"exaone-4.0-32b": {"sliding_window": None}}  # llama.cpp goes by it in the whole model, of 64 layers
CORRECTED = "ernie4_5-moe"  # where the router's correction is a parameter


def tensors(row: Row, which: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, shape, *layers in row[which]:
        names = [name.replace("{}", str(layer)) for layer in layers[0]] if layers else [name]
        yield from ((each, tuple(shape)) for each in names)


def kind(name: str, shape: tuple[int, ...]) -> int:
    """As llama-quantize chooses: vectors, norms and routers in fp32, rows that no super-block divides in plain blocks."""
    if len(shape) < 2 or "norm" in name or "ffn_gate_inp" in name:
        return 0
    return 12 if shape[-1] % 256 == 0 else 8 if shape[-1] % 32 == 0 else 1


def written(row: Row, which: str, folder: Path, weight_files: Any) -> str:
    named = dict(tensors(row, which))
    if which == "checkpoint":
        return str(weight_files.safetensors(folder / "m.safetensors", {name: ("BF16", shape) for name, shape in named.items()}))
    name = row["architecture"]
    metadata = {"general.architecture": name, **{f"{name}.{key}": value for key, value in row["metadata"].items()}}
    held = {each: (kind(each, shape), shape) for each, shape in named.items()}
    return str(weight_files.gguf(folder / "m.gguf", metadata, held))


@each_row
def test_the_architecture_is_that_of_the_config(row: Row, tmp_path: Path, weight_files: Any) -> None:
    found = read_model(written(row, "gguf", tmp_path, weight_files))
    expected = read_config({**row["config"], **CUT_SHORT.get(row["name"], {})}, row["name"])
    assert found.architecture
    assert found.parameters == expected.parameters == row["parameters"], "as transformers counts"
    assert found.architecture.warnings == expected.warnings, "tensors and architecture agree"
    assert found.architecture.tied == expected.tied
    lost = {"epsilon", LOST.get(row["name"], "")}
    assert traits(found.architecture, lost) == traits(expected, lost)


@each_row
def test_its_tensors_alone_say_the_same(row: Row, tmp_path: Path, weight_files: Any) -> None:
    """Read without the family's row: as many parameters, as many of them active, the same caches and states."""
    config = {**row["config"], **CUT_SHORT.get(row["name"], {}), **NO_WINDOW.get(row["name"], {})}
    expected = read_config(config, row["name"])
    made = architecture_of(read_weights(written(row, "gguf", tmp_path, weight_files)), row["name"])
    corrections = row["architecture"] == CORRECTED and sum(
        shape[0] for name, shape in tensors(row, "gguf") if "exp_probs_b" in name
    )
    assert made.parameters + corrections == expected.parameters
    assert made.active_parameters + corrections == expected.active_parameters
    assert (made.hidden, made.vocabulary, made.predicted) == (expected.hidden, expected.vocabulary, expected.predicted)
    assert memory_of(made) == memory_of(expected)


def traits(architecture: Architecture, lost: set[str]) -> list[Any]:
    """Every block of every distinct layer and how they follow each other."""
    stacks = [stack for part in architecture.parts for stack in part.stacks]
    layers = [[(path, plain(block, lost)) for path, block in layer.blocks] for stack in stacks for layer in stack.layers]
    return [[stack.runs for stack in stacks], layers]


def plain(value: Any, lost: set[str]) -> Any:
    """A block, or one of its small values, without what a GGUF file does not tell."""
    names = [f.name for f in fields(value)] if is_dataclass(value) else getattr(value, "_fields", ())
    facts = {name: None if name in lost else plain(getattr(value, name), lost) for name in names}
    return (type(value), facts) if facts else value


@each_row
@pytest.mark.parametrize("which", ["checkpoint", "gguf"])
def test_roles_are_those_of_the_ledger(row: Row, which: str, tmp_path: Path, weight_files: Any) -> None:
    """Both spellings of every tensor come to the roles that the blocks give their weights."""
    expected = read_config(row["config"], row["name"]).by_role()
    if which == "gguf" and row["architecture"] == CORRECTED:
        expected["router"] -= sum(shape[0] for name, shape in tensors(row, which) if "exp_probs_b" in name)
    found: dict[str, int] = {}
    for tensor in read_weights(written(row, which, tmp_path, weight_files)).tensors:
        assert tensor.parameters is not None, tensor.name
        found[tensor.role] = found.get(tensor.role, 0) + tensor.parameters
    assert {role: count for role, count in found.items() if count} == expected
