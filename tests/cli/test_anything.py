"""Whatever is typed: an answer or one line, exit 0, 1 or 2, and never a traceback."""

import contextlib
import io
import json
from collections.abc import Callable
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memcalc.cli import cli, main

NAMES = (
    "full", "grad-op", "none", "selective", "eager", "lora", "qlora", "adamw", "adamw-8bit", "muon", "bf16", "fp32",
    "json", "optimizer", "optimizer,parameters", "nvme", "gpipe", "h100", "rtx-4090", "int4-g128", "q8_0", "fp8-e4m3",
)  # fmt: skip
NUMBERS = ("0", "1", "2", "3", "4", "8", "64", "-1", "1e3", "4k", "1e40", "0.5", "nan", "inf", "10_000_000", "1" * 30)
ODD = ("", " ", "é", "\x00", "\n", "--", "a" * 200, "../..", "%s", "{}", "`", "𝟙", "٣", "\ud800")

values = st.one_of(st.sampled_from(NAMES), st.sampled_from(NUMBERS), st.sampled_from(ODD), st.text(max_size=20))
plausible = st.one_of(st.sampled_from(NAMES), st.sampled_from(NUMBERS))

WRITES = {"--output"}


def options_of(name: str) -> tuple[list[str], list[str]]:
    """The command's own options, those with a value and those without: new ones are tried as soon as they exist."""
    command = cli.get_command(click.Context(cli, **cli.context_settings), name)
    assert command
    found = [(param.opts[0], getattr(param, "is_flag", False)) for param in command.params if param.opts[0].startswith("--")]
    names = [(option, flag) for option, flag in found if option not in WRITES]
    return [option for option, flag in names if not flag], [option for option, flag in names if flag]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, config: Callable[..., Any]) -> dict[str, str]:
    found = {}
    for name in ("meta-llama/Meta-Llama-3.1-8B", "mistralai/Mixtral-8x22B-v0.1", "google/gemma-2-2b"):
        place = tmp_path_factory.mktemp("model")
        (place / "config.json").write_text(json.dumps(config(name)))
        found[name] = str(place)
    return found


def check(words: list[str]) -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(words)
    code, said = ended.value.code, err.getvalue()
    assert code in (0, 1, 2), f"{words}: exit {code}"
    if code == 2 and not out.getvalue().startswith("Usage"):
        assert out.getvalue() == "", words
        assert said.startswith("memcalc: "), f"{words}: {said}"
        assert said.count("\n") == 1, f"{words}: {said}"
        assert len(said) < 2000, f"{words}: {len(said)} characters"
    else:
        assert said == "", f"{words}: {said}"


def typed(name: str, value: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    valued, flags = options_of(name)
    one = st.tuples(st.sampled_from(valued), value).map("=".join)
    return st.lists(st.one_of(one, st.sampled_from(flags)) if flags else one, max_size=5)


models = st.one_of(st.sampled_from(["LLAMA", "MIXTRAL", "GEMMA", "7B", "1", "0.1", "1e30"]), values)


def model(places: dict[str, str], name: str) -> str:
    return next((place for key, place in places.items() if name.lower() in key.lower() and len(name) > 4), name)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(name=models, words=typed("train", plausible))
def test_train(places: dict[str, str], name: str, words: list[str]) -> None:
    check(["train", model(places, name), *words])


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(name=models, words=typed("infer", plausible))
def test_infer(places: dict[str, str], name: str, words: list[str]) -> None:
    check(["infer", model(places, name), *words])


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(name=models, command=st.sampled_from(["train", "infer"]), data=st.data())
def test_nonsense(places: dict[str, str], name: str, command: str, data: st.DataObject) -> None:
    check([command, model(places, name), *data.draw(typed(command, values))])


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_chinchilla(data: st.DataObject) -> None:
    start = data.draw(st.sampled_from(["--flops=1e21", "--params=7B", "--tokens=1T", "--pf-days=1", "--law=kaplan"]))
    check(["chinchilla", start, *data.draw(typed("chinchilla", data.draw(st.sampled_from([plausible, values]))))])


LISTINGS = ("bytes", "inspect", "models", "gpus", "formats", "optimizers")


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(command=st.sampled_from(LISTINGS), name=values, data=st.data())
def test_listings(command: str, name: str, data: st.DataObject) -> None:
    if not (command == "models" and not name.strip()):  # all models, read one by one: shown elsewhere
        check([command, name, *data.draw(typed(command, values))])


@settings(max_examples=100)
@given(words=st.lists(values, max_size=3))
def test_commands(words: list[str]) -> None:
    check(words)
