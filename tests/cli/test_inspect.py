"""`memcalc inspect`: what weight files hold, in every format; and weight files as MODEL of other commands."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from memcalc.report.contract import Document
from memcalc.report.report import FORMATS

LAYER = {
    "attn_norm": (64,), "attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64), "ffn_norm": (64,),
    "ffn_gate": (128, 64), "ffn_up": (128, 64), "ffn_down": (64, 128),
}  # fmt: skip
PARAMETERS = 96 * 64 + 64 + 2 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64)


@pytest.fixture
def tiny(tmp_path: Path, weight_files: Any) -> str:
    """A llama of two layers: matrices in q8_0, norms in fp32."""
    metadata = {
        "general.architecture": "llama", "general.name": "Tiny", "llama.block_count": 2, "llama.context_length": 512,
        "llama.embedding_length": 64, "llama.feed_forward_length": 128, "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
    }  # fmt: skip
    shapes = {"token_embd": (96, 64), "output_norm": (64,), **{f"blk.{i}.{n}": s for i in (0, 1) for n, s in LAYER.items()}}
    tensors = {f"{name}.weight": (8 if len(shape) == 2 else 0, shape) for name, shape in shapes.items()}
    written: str = weight_files.gguf(tmp_path / "tiny.gguf", metadata, tensors)
    return written


def test_inspect_gives_exact_bytes(memcalc: Callable[..., Any], tiny: str) -> None:
    result = memcalc("inspect", tiny, "--format", "json")
    assert (result.code, result.err) == (0, "")
    document = result.document
    TypeAdapter(Document).validate_python(document)
    norms, matrices = 64 * 5, PARAMETERS - 64 * 5
    assert document["model"]["parameters"] == PARAMETERS
    assert document["warnings"] == []
    stored = document["stored"]
    assert stored["bytes_by_format"] == {"q8_0": matrices * 34 // 32, "fp32": norms * 4}
    assert stored["bytes"] == sum(role["bytes"] for role in stored["roles"].values())
    assert stored["roles"]["attention"] == {"tensors": 8, "parameters": 2 * 12288, "bytes": 2 * 12288 * 34 // 32}
    assert stored["parameters"] == sum(group["parameters"] for group in stored["groups"]) == PARAMETERS
    assert stored["bits_per_parameter"] == 8 * stored["bytes"] / PARAMETERS
    assert {group["name"]: group["count"] for group in stored["groups"]}["blk.*.attn_q.weight"] == 2
    assert "tokens" not in result.out


@pytest.mark.parametrize("format_", FORMATS)
def test_inspect_in_every_format(memcalc: Callable[..., Any], tiny: str, format_: str) -> None:
    result = memcalc("inspect", tiny, "--format", format_)
    assert (result.code, result.err) == (0, "")
    assert "q8_0" in result.out


def test_a_field_of_it(memcalc: Callable[..., Any], tiny: str) -> None:
    assert memcalc("inspect", tiny, "--get", "stored.bytes_by_format.fp32").out == "1280\n"


@pytest.mark.parametrize("command", ["train --seq-len 64", "infer --context 64", "budget --tokens 1B"])
def test_a_weight_file_is_a_model(memcalc: Callable[..., Any], tiny: str, command: str) -> None:
    name, *options = command.split()
    result = memcalc(name, tiny, *options, "--format", "json")
    assert (result.code, result.err) == (0, "")
    assert result.document["model"]["parameters"] == PARAMETERS


def test_an_unknown_architecture_is_listed_but_not_sized(
    memcalc: Callable[..., Any], tmp_path: Path, weight_files: Any
) -> None:
    path = weight_files.gguf(
        tmp_path / "x.gguf",
        {"general.architecture": "rwkv99"},
        {"blk.0.time_mix.weight": (0, (8, 4)), "\u00e9.weight": (0, (1,))},
    )
    shown = memcalc("inspect", path)
    assert shown.code == 0
    assert "blk.*.time_mix.weight" in shown.out
    assert "GGUF architecture rwkv99 is none of llama.cpp's text models" in " ".join(shown.out.split())
    for command in ("train", "infer"):
        refused = memcalc(command, path)
        assert (refused.code, refused.out) == (2, "")
        assert "GGUF architecture rwkv99 is none of llama.cpp's text models" in refused.err


def test_safetensors_alone(memcalc: Callable[..., Any], tmp_path: Path, weight_files: Any) -> None:
    path = weight_files.safetensors(tmp_path / "model.safetensors", {"model.norm.weight": ("BF16", (64,))})
    assert memcalc("inspect", path, "--get", "model.parameters").out == "64\n"
    assert memcalc("inspect", str(tmp_path), "--get", "stored.bytes").out == "128\n"
    refused = memcalc("infer", path)
    assert refused.code == 2
    assert "config.json is needed beside it" in refused.err


def test_an_index_alone(memcalc: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    path.write_text(json.dumps({"metadata": {"total_size": 16_060_522_496}, "weight_map": weight_map}))
    document = memcalc("inspect", str(path), "--format", "json").document
    TypeAdapter(Document).validate_python(document)
    assert (document["stored"]["bytes"], document["stored"]["parameters"]) == (16_060_522_496, None)
    assert "parameters" not in document["model"]
    assert any("only its totals" in warning for warning in document["warnings"])


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.PTH", "last.ckpt"])
def test_pickles_are_refused(memcalc: Callable[..., Any], tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    result = memcalc("inspect", str(tmp_path / name))
    assert result.code == 2
    assert "a pickle" in result.err


@pytest.mark.parametrize("given", ["nothing.gguf", "nothing.safetensors", "nothing.safetensors.index.json", "."])
def test_what_is_not_there(memcalc: Callable[..., Any], tmp_path: Path, given: str) -> None:
    result = memcalc("inspect", str(tmp_path / given))
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1


def test_a_bare_count_holds_nothing(memcalc: Callable[..., Any]) -> None:
    assert "nothing to inspect" in memcalc("inspect 7B").err


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen3.6-27b", "kimi-k2.5", "gemma-3n-e2b", "deepseek-v4-flash"])
def test_inspect_is_one_screen(memcalc: Callable[..., Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = memcalc("inspect", name).out.splitlines()
    assert len(lines) <= 38
    assert max(map(len, lines)) <= 100
    assert any("parameters" in line and "as stored" in line for line in lines[:5])


def test_inspect_says_what_is_not_verified(memcalc: Callable[..., Any]) -> None:
    found = memcalc("inspect", "mistral-small-4")
    assert "not verified: its vision tower is left out" in found.out
    assert "the total agrees with the 119B in its name" in " ".join(found.out.split())
