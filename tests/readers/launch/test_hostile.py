"""Hostile files: one line with the place, within bounded time and memory, and nothing is executed."""

import os
import time
from pathlib import Path

import pytest

from memcalc.errors import MemcalcError
from memcalc.sizing.import_report import imported

ALIASES = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12))
MERGES = "\n".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], x{i}: 1}}" for i in range(1, 2000))
REFUSED = {
    "aliases.yaml": (f"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n{ALIASES}\nmodel: *a11\n", "values"),
    "merges.yaml": (f"a0: &a0 {{x0: 1}}\n{MERGES}\n", "values"),
    "cycle.yaml": ("a: &a\n  b: *a\n", "inside its own anchor"),
    "nobody.yaml": ("a: *b\n", "of no anchor|undefined alias"),
    "python.yaml": ('model: !!python/object/apply:os.system ["touch executed"]\n', "would build objects"),
    "include.yaml": ("base_model: !include other\nmicro_batch_size: 1\n", "not plain YAML"),
    "deep.yaml": ("[" * 100_000, "nest"),
    "deeper.yaml": ("a: " + "{a: " * 3000, "nested deeper"),
    "twice.yaml": ("base_model: a\nbase_model: b\n", "stands twice"),
    "template.yaml": ("{{- if .Values.x }}\nimage: {{ .Values.image }}\n{{- end }}\n", "render it first"),
    "large.yaml": ("a: b\n" * 300_000, "larger than 1 MiB"),
    "deep.json": ('{"a":' * 100_000, "nested too deeply"),
    "twice.json": ('{"zero_optimization": {"stage": 1, "stage": 2}}', "stands twice"),
    "list.json": ("[1, 2]", "of no kind that is known"),
    "deep.toml": (f"[model]\nname = {'[' * 100_000}", "nested too deeply"),
    "digits.toml": (f'[model]\nname = "x"\nflavor = "y"\n[training]\nseq_len = 1{"0" * 5000}', "too many digits"),
    "zero.sh": ("vllm serve x\0 --foo", "zero bytes"),
    "quote.sh": ('#!/bin/sh\nvllm serve "abc\n', "quote.sh:2: a quote that is not closed"),
    "bracket.sh": ("vllm serve $((((((((((\n", "a bracket that is not closed"),
    "ifs.sh": ("if a; then\n" * 50_000, "more than 60,000 words"),
    "nested.sh": ("if a; then\n" * 200, "nested deeper than 40 levels"),
    "nothing.sh": ("#!/bin/sh\necho hello\n", "starts no program that is known"),
    "empty.yaml": ("", "of no kind that is known"),
}
ANSWERED = {  # what is odd and yet says something, within bounds
    "grow.sh": "X=aaaaaaaaaaaaaaaaaaaa\n" + 'X="$X$X"\n' * 60 + "vllm serve m --max-model-len 5 --x $X\n",
    "array.sh": "A=(a b)\n" + 'A=("${A[@]}" "${A[@]}")\n' * 60 + 'vllm serve m --max-model-len 5 "${A[@]}"\n',
    "calls.sh": "f(){ f; f; }\nf\nvllm serve m --max-model-len 5\n",
    "power.sh": "X=$((9**9**9**9))\nvllm serve m --max-model-len 5 --tensor-parallel-size $X\n",
    "pattern.sh": f"X={'a' * 1900}\nY=${{X##*a*a*a*a*a*a*a*b}}\nvllm serve $Y --max-model-len 5\n",
    "itself.sh": "source itself.sh\nsource ./itself.sh\nvllm serve m --max-model-len 5\n",
    "itself.yaml": "model_name_or_path: m\nstage: sft\ndeepspeed: itself.yaml\naccelerate_config: itself.yaml\n",
    "lines.sh": "\n" * 900_000 + "vllm serve m --max-model-len 5",
    "run.sh": "vllm serve $(touch executed) --max-model-len `touch executed` -tp 2\n",
    "outside.sh": "source ../../../../etc/passwd\nsource /etc/passwd\nvllm serve m --max-model-len 5 --config /etc/passwd\n",
}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", REFUSED)
def test_one_line_with_the_place(name: str) -> None:
    text, why = REFUSED[name]
    Path(name).write_text(text, encoding="utf-8")
    began = time.monotonic()
    with pytest.raises(MemcalcError, match=why) as error:
        imported([name])
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(name), str(error.value)[:100]
    assert time.monotonic() - began < 10
    assert not os.path.exists("executed")


@pytest.mark.parametrize("name", ANSWERED)
def test_within_bounds(name: str) -> None:
    Path(name).write_text(ANSWERED[name], encoding="utf-8")
    began = time.monotonic()
    document = imported([name]).document
    assert document["jobs"][0]["command"]
    assert time.monotonic() - began < 10
    assert not os.path.exists("executed")
    assert "root:" not in str(document), "a file outside the folder was read"


def test_bytes_that_are_no_text() -> None:
    Path("binary").write_bytes(bytes(range(256)))
    with pytest.raises(MemcalcError, match="binary: not UTF-8 text"):
        imported(["binary"])


def test_controls_are_neutralised() -> None:
    """In the sizing file, whatever a launch file holds."""
    Path("controls.yaml").write_text(
        'base_model: "a\\e[31m\\u202e\\n[x]"\nmicro_batch_size: 1\n"x\\e[2J": 1\n', encoding="utf-8"
    )
    text = imported(["controls.yaml"]).document["sizing"]
    assert all(line.isprintable() for line in text.split("\n")), repr(text)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON, TOML and shell need nothing; YAML names the extra."""
    import sys

    monkeypatch.setitem(sys.modules, "yaml", None)
    Path("ds.json").write_text('{"zero_optimization": {"stage": 2}}', encoding="utf-8")
    assert imported(["ds.json"]).document["jobs"][0]["facts"]["strategy"] == "zero-2"
    Path("f.yaml").write_text("base_model: x\nmicro_batch_size: 1\n", encoding="utf-8")
    with pytest.raises(MemcalcError, match=r"f\.yaml: YAML needs the extra memcalc\[yaml\]"):
        imported(["f.yaml"])


PIECES = (
    "$(", "${", "`", "'", '"', "\\\n", "<<EOF\n", "&*a", "*a", "!!python/object:os.system", "---\n", "{{", "]", "}", ": ", "- ",
    "\x00", "\x1b[31m", "\u202e", "1e999", "9" * 40, "auto", "case x in", "esac", "for i in $(seq 1 100000000); do", "done",
    "function f() { f; }; f", "source $0", "$((9**9**9))", "${x:0:999999999}", "a: &a [*a]\n", "<<: *x\n", '"""', "[a]\na=1\n",
    "defaults: x.yaml\n", "enabled: false\n", "${mul:${a},${a}}", "${..x}", "--no-", "+", "~",
)  # fmt: skip
EXAMPLES = sorted((Path(__file__).parents[2] / "reference" / "launch_examples").glob("*"))


@pytest.mark.parametrize("seed", range(6))
def test_examples_torn_apart(seed: int, tmp_path: Path) -> None:
    """Files with pieces cut out, repeated, shuffled and hostile ones put in: facts, or one line; never anything else."""
    import random
    import time

    draw = random.Random(seed)
    texts = [path.read_text(encoding="utf-8") for path in EXAMPLES if path.name != "expected.json"]
    for number in range(25):
        text = draw.choice(texts)
        for _ in range(draw.randint(1, 6)):
            at = draw.randrange(len(text) + 1)
            end = min(len(text), at + draw.randint(0, 60))
            other = draw.choice(texts)
            text = draw.choice((
                text[:at] + draw.choice(PIECES) + text[at:], text[:at] + text[end:], text[:at] + text[at:end] * 20 + text[end:],
                text[:at] + other[: draw.randint(1, 400)] + text[at:],
            ))  # fmt: skip
        path = tmp_path / f"torn{number}{draw.choice(('', '.yaml', '.json', '.toml', '.sh'))}"
        path.write_text(text, encoding="utf-8", errors="replace")
        began, said = time.process_time(), ""
        try:
            imported([str(path)])
        except MemcalcError as error:
            said = str(error)
        assert "\n" not in said
        assert time.process_time() - began < 5
