"""Every number of every answer can say how it came about, and what it says adds up."""

import re
from collections.abc import Iterator
from math import ceil, exp, isclose, log, prod
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import memcalc
from memcalc.cli import options
from memcalc.errors import InputError
from memcalc.estimates.explanation import MOST_PARTS, Explanation, summed
from memcalc.formulas.formula import CERTAINTY_ORDER, ceil_div
from memcalc.report.explanation import flat, with_explanations
from memcalc.sizing.explaining.explain import TABLES, WORD, explain
from memcalc.sizing.explaining.keys import leaves
from memcalc.sizing.inspecting import inspected
from tests.golden.outputs import Command, _run, commands

NAMES: dict[str, Any] = {
    "ceil_div": ceil_div, "min": min, "max": max, "round": round, "int": int, "exp": exp, "log": log, "prod": prod,
    "ceil": ceil,
    "__builtins__": {},
}  # fmt: skip
CLOSE = 1e-6  # shares and seconds are printed in full, but added in another order
EXPLAINING = ("train", "infer", "budget", "chinchilla", "optimal", "bytes", "inspect")
EVERY = [command for command in commands() if not command.refused and command.arguments[0] in EXPLAINING]


def answered(command: Command) -> Any:
    """What the command is about to print."""
    found: list[Any] = []
    with mock.patch.object(options, "_explained", lambda answer, explain: found.append(answer) or answer.report()):
        _run(command.arguments)
    return found[0]


def numbers(document: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for path, value in leaves(document):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield path, value


@pytest.mark.parametrize("command", EVERY, ids=lambda command: command.name)
def test_every_number_is_explained(command: Command) -> None:
    every_number_is_explained(answered(command))


def every_number_is_explained(answer: Any) -> None:
    document = answer.to_dict()
    paths = dict(numbers(document))
    assert paths
    for (path, value), tree in zip(paths.items(), explain(answer, *paths, document=document), strict=True):
        assert tree.source != WORD, f"{path} = {value}: no row of memcalc/sizing/explaining/{{{', '.join(TABLES.values())}}}"
        assert isclose(tree.value, value, rel_tol=1e-9, abs_tol=1), f"{path}: the document has {value}, its tree {tree.value}"
        for depth, node in tree.walk():
            adds_up(path, node)
            assert depth < 20, f"{path} is {depth} deep"


@pytest.mark.parametrize("name", ["clip-vit-base-patch32", "whisper-large-v3", "jamba-v0.1", "gemma-3n-e4b", "t5-small"])
def test_models_of_every_shape(name: str) -> None:
    every_number_is_explained(memcalc.size_training(name, "h100", gpus=8, fsdp="full"))
    every_number_is_explained(memcalc.size_serving(name, "h100") if name[0] != "c" else inspected(name))


def test_weight_files(tmp_path: Path, weight_files: Any) -> None:
    """Tensors as files hold them: two equal layers count together."""
    layer = {"input_layernorm": (64,), "self_attn.q_proj": (64, 64), "mlp.up_proj": (128, 64)}
    tensors = {f"model.layers.{i}.{name}.weight": ("BF16", shape) for i in (0, 1) for name, shape in layer.items()}
    answer = inspected(weight_files.safetensors(tmp_path / "tiny.safetensors", tensors))
    every_number_is_explained(answer)
    (tree,) = explain(answer, "stored.bytes")
    named = {part.path: part.inputs["tensors"] for part in tree.parts}
    assert named["model.layers.*.self_attn.q_proj.weight"] == 2, named


def adds_up(path: str, node: Explanation) -> None:
    """A node follows from its formula, its terms add up to it, and its other parts are its inputs."""
    assert node.certainty in CERTAINTY_ORDER
    assert node.formula or node.source or "tensors" in node.inputs or node.certainty, f"{path}: {node.path} says nothing"
    assert len(node.parts) <= MOST_PARTS
    if node.terms:
        total = sum(part.value for part in node.terms)
        assert isclose(total, node.value, rel_tol=1e-9, abs_tol=len(node.terms) + 1), f"{path}: {node.path}: {total}"
    for part in node.parts:
        if part.path in node.inputs:
            inside = node.inputs[part.path]
            assert part.value == inside or isclose(part.value, inside, rel_tol=1e-12), f"{path}: {part.path} of {node.path}"
    made = evaluated(node)
    if made is not None and not isinstance(node.value, str):
        assert isclose(made, node.value, rel_tol=CLOSE, abs_tol=1), f"{path}: {node.path} = {node.formula} = {made}"


def evaluated(node: Explanation) -> Any:
    """The formula with its numbers; None where it is a sentence."""
    numbers = {part.path: part.value for part in node.parts} | dict(node.inputs)
    formula, values = node.formula, {}
    for number, name in enumerate(sorted(numbers, key=len, reverse=True)):
        formula = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w.])", f"V{number}_", formula)
        values[f"V{number}_"] = numbers[name]
    try:
        return eval(formula, {**NAMES, **values})
    except (SyntaxError, NameError):
        return None


# --- what the trees hold ----------------------------------------------------------------------------------------------


def test_the_peak_goes_down_to_named_tensors() -> None:
    (tree,) = explain(memcalc.size_training("llama-3.1-8b", gpus=8, zero=3), "peak")
    nodes = {node.path: node for _, node in tree.walk()}
    saved = [node for node in nodes.values() if {"shape", "format", "bytes", "layers"} <= node.inputs.keys()]
    assert any(node.inputs["shape"] == [4096, 14336] and node.inputs["format"] == "bf16" for node in saved), saved
    assert nodes["language/layers/mlp/gate"].inputs["shape"] == [14336, 4096]


@pytest.mark.parametrize(
    ("settings", "path", "source", "certainty"),
    [
        ({"seq_len": 2048}, "run.seq_len", "given by --seq-len", "exact"),
        ({}, "run.seq_len", "default of --seq-len", "assumed"),
        ({"parallelism": {"gpus": 4}}, "run.parallelism.gpus", "given by --gpus", "exact"),
        ({}, "model.hidden_size", "presets/models", "exact"),
        ({}, "gpu.memory", "presets/gpus/h100-sxm-80.toml", "exact"),
    ],
)
def test_inputs_say_who_gave_them(settings: dict[str, Any], path: str, source: str, certainty: str) -> None:
    (tree,) = explain(memcalc.size_training("gpt2", "h100", **settings), path)
    assert source in tree.source
    assert tree.certainty == certainty


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("per_gpu.paek", "did you mean per_gpu.peak"),
        ("headroom", "did you mean gpu.headroom?"),
        ("per_gpu", "it has per_gpu.parameters"),
        ("lines", "it is a list: lines.0 to lines."),
        ("lines.1000.bytes", "lines.1000.bytes"),
        ("", "it has schema"),
    ],
)
def test_a_key_that_is_none_is_refused_with_the_nearest(path: str, hint: str) -> None:
    with pytest.raises(InputError, match=re.escape(hint)):
        explain(memcalc.size_training("gpt2", "h100"), path)


def test_verdict_is_an_alias() -> None:
    answer = memcalc.size_training("gpt2", "h100")
    assert explain(answer, "verdict")[0].path in ("gpu.verdict", "gpu.fits")
    with pytest.raises(InputError):
        explain(memcalc.size_training("gpt2"), "verdict")  # there is no GPU to fit into


def test_a_node_of_very_many_parts_stays_readable() -> None:
    tree = summed("all", [Explanation(f"tensor {number}", number, "B") for number in range(100_000)])
    assert len(tree.parts) == MOST_PARTS
    assert sum(part.value for part in tree.parts) == tree.value == sum(range(100_000))


def test_documents_and_tables_hold_the_whole_tree() -> None:
    answer = memcalc.size_training("gpt2", "h100")
    report = with_explanations(answer.report(), explain(answer, "peak", "verdict"))
    assert [tree["path"] for tree in report.document["explain"]] == ["per_gpu.peak", report.document["explain"][1]["path"]]
    assert set(report.document["explain"][0]) >= {"path", "value", "unit", "formula", "inputs", "source", "certainty", "parts"}
    assert len(flat(report.trees).rows) == sum(1 for tree in report.trees for _ in tree.walk())
