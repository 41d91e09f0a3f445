"""Text from files, folders and the command line reaches a terminal, a spreadsheet and a web page as text, and never more."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

Run = Callable[..., Any]
FORMATS = ("table", "json", "csv", "markdown", "svg")

HOSTILE = {
    "escape": "\x1b[31mred",
    "bell and null": "a\x07\x08",
    "c1 control": "a\x85b\x9bc",
    "direction": "a\u202eb\u2066c",
    "line separators": "a\u2028b\u2029c",
    "formula": "=cmd|' /C calc'!A0",
    "at": "@SUM(1)",
    "plus": "+1",
    "markup": "a|b<script>alert(1)</script>",
    "link": "[x](https://example.org)",
    "long": "x" * 5000,
}


def safe(text: str, format_: str) -> None:
    """What holds of every output."""
    control = [char for char in text if not char.isprintable() and char != "\n"]
    assert not control, [hex(ord(char)) for char in control]
    if format_ == "json":
        json.loads(text)
        return
    assert max(len(word) for word in text.split()) < 2500  # of SVG: a path or a style
    if format_ == "csv":
        for row in csv.reader(io.StringIO(text)):
            assert not [cell for cell in row if re.match(r"\s*[=+@]", cell)], row
            assert not [cell for cell in row if cell.startswith("-") and not re.fullmatch(r"-[\d.]+(e[+-]?\d+)?", cell)], row
    if format_ == "markdown":
        text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        assert "<script" not in text
        assert not re.search(r"(?<!\\)\]\(", text), "a link"
    if format_ == "svg":
        ElementTree.fromstring(text)


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE)
def hostile(request: pytest.FixtureRequest) -> str:
    text: str = request.param
    return text


def shown(memcalc: Run, format_: str, *words: str) -> None:
    result = memcalc(*words, "--format", format_)
    if result.code == 2:
        assert result.err.count("\n") == 1
        assert result.err[:-1].isprintable(), result.err
        assert len(result.err) < 2000
    else:
        assert result.code in (0, 1), result.err
        safe(result.out, format_)


@pytest.mark.parametrize(
    ("command", "format_"), [*(("inspect", name) for name in FORMATS), ("train", "markdown"), ("infer", "csv")]
)
def test_a_folder(memcalc: Run, tmp_path: Path, config: Run, hostile: str, command: str, format_: str) -> None:
    place = tmp_path / re.sub(r"[/\0]", "_", hostile)[:200]
    place.mkdir()
    (place / "config.json").write_text(json.dumps(config("meta-llama/Meta-Llama-3.1-8B")))
    shown(memcalc, format_, command, str(place))


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("key", ["torch_dtype", "model_type", "quantization_config"])
def test_a_value_of_a_config(memcalc: Run, folder: Run, hostile: str, key: str, format_: str) -> None:
    value = {"quant_method": hostile} if key == "quantization_config" else hostile
    place = folder(**{key: value})
    shown(memcalc, format_, "inspect", place)
    shown(memcalc, format_, "infer", place, "--gpu", "h100")


@pytest.mark.parametrize("format_", FORMATS)
def test_a_scenario(memcalc: Run, tmp_path: Path, hostile: str, format_: str) -> None:
    text = 'model = "gpt2"\ngpu = "t4"\ntraining = {{}}\n[scenario.{}]\nlimits = {{ device_memory = {} }}\n'
    for limit in ("1", '"1TiB"', '"much"'):
        (tmp_path / "memcalc.toml").write_text(text.format(json.dumps(hostile), limit), encoding="utf-8")
        shown(memcalc, format_, "check", str(tmp_path / "memcalc.toml"))


TYPED = (
    "train {}", "train 7B {}", "train 7B --optimizer {}", "train 7B --output /nope/{}", "train 7B --get {}", "infer {}", "{}",
    "train 7B --gpu {}", "train gpt2 --presets {}", "infer gpt2 --weights {}", "bytes --optimizer {}", "check {}", "gpus {}",
    "train gpt2 --lora-targets {} --method lora", "train 7B --{}", "chinchilla --law {}", "infer hf://{}", "runs {}",
)  # fmt: skip


@pytest.mark.parametrize("line", TYPED)
def test_what_was_typed(memcalc: Run, hostile: str, line: str) -> None:
    result = memcalc(*(word.format(hostile) for word in line.split()))
    assert result.err[:-1].isprintable() or not result.err, repr(result.err[:300])
    assert result.code == 2, result.out[:300]
    assert len(result.err) < 2000
    assert max(map(len, result.err.split())) < 250
