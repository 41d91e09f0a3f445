"""`memcalc budget` and `memcalc runs`: the JSON contract, every way to give a budget, bad input."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Run = Callable[..., Any]
Folder = Callable[..., str]

CONTRACT = (
    "schema", "model.name", "model.parameters", "model.active_parameters", "model.embedding_parameters",
    "compute.flops", "compute.pf_days", "compute.gpu_hours", "compute.days", "compute.cost_usd", "compute.energy_kwh",
    "compute.co2e_kg", "compute.mfu", "compute.hfu", "flops.by", "flops.levels.0.training",
    "flops.architecture.forward_per_token", "flops.architecture.blocks.0.certainty", "equivalents.0.for_a_day_at_peak",
    "lines.0.formula", "assumptions", "warnings", "sources",
)  # fmt: skip


def field(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def test_the_contract(memcalc: Run) -> None:
    found = memcalc("budget llama-3.1-8b --tokens 15T --gpu h100 --gpus 1024 --format json").document
    for path in CONTRACT:
        assert field(found, path) is not None, path
    assert found["compute"]["flops"] == pytest.approx(6 * 8_030_261_248 * 15e12)
    assert found["compute"]["pf_days"] == pytest.approx(8364.86, rel=1e-5)
    assert found["model"]["parameters"] == 8_030_261_248
    levels = {level["name"]: level for level in found["flops"]["levels"]}
    assert {"6ND", "8ND", "architecture", "architecture-causal", "palm", "narayanan", "hoffmann"} <= levels.keys()
    assert levels["narayanan"]["training"] is None
    assert levels["narayanan"]["counts"]


def test_gpt3(memcalc: Run) -> None:
    """Brown et al. 2020, table D.1: 3640 petaFLOP/s-days, 3.14e23 FLOP."""
    pf_days = memcalc("budget --params 174.6B --tokens 300B --get compute.pf_days").out
    assert float(pf_days) == pytest.approx(3640, rel=0.01)
    like = memcalc("budget --like gpt-3 --format json").document
    assert like["compute"]["flops"] == pytest.approx(3.14e23, rel=0.01)
    assert like["run"]["difference"]["flops"] == pytest.approx(0.0009, abs=0.0002)
    assert like["run"]["difference"]["co2e_kg"] == pytest.approx(0, abs=0.01)


def test_like_takes_other_hardware(memcalc: Run) -> None:
    found = memcalc("budget --like gpt-3 --gpu h100 --gpus 1024 --format json").document["compute"]
    assert found["gpus"] == 1024
    assert found["mfu"] == 0.4
    assert found["gpu_hours"] == pytest.approx(3.1428e23 / (3600 * 989.4e12 * 0.4))
    shorter = memcalc("budget --like llama-2-7b --tokens 1T --format json").document["compute"]
    assert shorter["flops"] == pytest.approx(6 * 6_738_417_664 * 1e12)
    other = memcalc("budget --like gpt-3 --flops 1e23 --gpu a100 --format json").document["compute"]
    assert other["tokens"] == pytest.approx(1e23 / (6 * 174.6e9), rel=1e-9)


SAME = [
    "budget 7B --tokens 1T --gpu a100 --gpus 512 --mfu 50%",
    "budget --params 7B --tokens 1T --gpu a100 --gpus 512 --mfu 0.5",
    "budget --params 7B --flops 4.2e22 --gpu a100 --gpus 512 --mfu 0.5",
    "budget --params 7B --pf-days 486.1111111 --gpu a100 --gpus 512 --mfu 0.5",
    "budget --params 7B --gpu a100 --gpus 512 --mfu 0.5 --gpu-hours 74786.32",
    "budget --params 7B --gpu a100 --gpus 512 --mfu 0.5 --days 6.0861268",
    "budget --params 7B --gpu a100 --gpus 512 --mfu 0.5 --days 146.06704h",
]


@pytest.mark.parametrize("words", SAME)
def test_the_same_run_in_other_words(memcalc: Run, words: str) -> None:
    found = memcalc(words + " --format json").document["compute"]
    assert found["flops"] == pytest.approx(4.2e22, rel=1e-6)
    assert found["tokens"] == pytest.approx(1e12, rel=1e-6)
    assert found["gpu_hours"] == pytest.approx(74_786.32, rel=1e-6)
    assert found["days"] == pytest.approx(6.08613, rel=1e-5)


def test_units_of_the_factors(memcalc: Run) -> None:
    grams = memcalc("budget --flops 1e22 --gpu a100 --grid-intensity 385g --get compute.co2e_kg").out
    assert grams == memcalc("budget --flops 1e22 --gpu a100 --grid-intensity 0.385 --get compute.co2e_kg").out
    assert memcalc("budget --flops 1e22 --gpu a100 --price 2 --get compute.cost_low_usd").out == "null\n"
    assert float(memcalc("budget --flops 1e22 --gpu h800 --precision fp8 --mfu 0.2 --get gpu.peak").out) == 1.979e15


REFUSED = [  # words, what the line says
    ("--flops 0", "--flops"),
    ("--flops=-1", "--flops"),
    ("--pf-days 0", "--pf-days"),
    ("--pf-days=-3640", "--pf-days"),
    ("--params 0 --tokens 1T", "--params"),
    ("--params 7B --tokens 0", "--tokens"),
    ("--params 7B --tokens=-5", "--tokens"),
    ("--flops 1e22 --gpu a100 --gpus 0", "--gpus"),
    ("--flops 1e22 --gpu a100 --days 0", "--days"),
    ("--flops 1e22 --gpu a100 --days=-3", "--days"),
    ("--params 7B --gpu a100 --gpu-hours 0", "--gpu-hours"),
    ("--params 7B --gpu a100 --cost 0", "--cost"),
    ("--params 7B --gpu a100 --cost=-1", "--cost"),
    ("--params 7B --gpu a100 --cost 100 --price 0", "--price"),
    ("--flops 1e22 --mfu 0", "--mfu"),
    ("--flops 1e22 --mfu 40", "write 0.4 or 40%"),
    ("--flops 1e22 --mfu 1.1", "--mfu"),
    ("--flops 1e22 --mfu nan", "--mfu"),
    ("--flops inf", "--flops"),
    ("--pf-days nan", "--pf-days"),
    ("--pf-days inf", "--pf-days"),
    ("--flops 1e22 --gpu a100 --pue 0.9", "--pue"),
    ("--flops 1e22 --gpu a100 --grid-intensity=-1", "--grid-intensity"),
    ("--flops 1e22 --gpu a100 --grid-intensity 385", "385g"),
    ("--flops 1e22 --gpu a100 --watts 0", "--watts"),
    ("--flops 1e22 --gpu a1000", "did you mean"),
    ("--flops 1e22 --recompute some", "--recompute"),
    ("--flops 1e22 --gpu t4 --precision fp4", "fp4"),
    ("--params 7B --tokens 1T --flops 1e20", "--flops, --params, --tokens: contradict"),
    ("--flops 1e22 --pf-days 1", "--flops, --pf-days: contradict"),
    ("llama-3.1-8b --params 7B --tokens 1T", "--params"),
    ("llama-3.1-8b --tokens 1T --flops 1e20", "MODEL, --tokens: contradict"),
    ("7B --params 8B --tokens 1T", "--params"),
    ("--params 7B --tokens 1T --gpu a100 --gpu-hours 10", "more than the dense peak"),
    ("--gpu a100 --gpu-hours 1000 --price 2 --cost 100", "more than the ceiling"),
    ("--params 7B", "not enough to go on"),
    ("--gpu-hours 240", "--gpu for these hours"),
    ("--params 1B --cost 1000", "--price"),
    ("--flops 1e22 --flops-by palm", "give a MODEL"),
    ("mamba-2.8b --tokens 1T --flops-by palm", "does not apply"),
    ("--params 1e18 --flops 1", "less than one token"),
    ("--like gpt-4", "training run"),
    ("--like gpt-3 --params 7B", "--like"),
    ("llama-3.1-8b --like gpt-3", "--like"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_bad_input(memcalc: Run, words: str, said: str) -> None:
    result = memcalc(f"budget {words}")
    assert result.code == 2
    assert result.out == ""
    assert said in result.err
    assert result.err.count("\n") == 1


def test_every_format(memcalc: Run, folder: Folder) -> None:
    place = folder()
    for words in (
        f"budget {place} --tokens 1T --gpu h100 --cost 1M",
        "budget --like bloomberggpt",
        "runs --filter llama",
        "runs palm",
    ):
        for kind in ("table", "csv", "markdown", "svg"):
            result = memcalc(*words.split(), "--format", kind)
            assert result.code == 0, result.err
            assert result.out
            assert not {"nan", "inf"} & set(result.out.lower().replace(",", " ").split())


def test_runs(memcalc: Run, tmp_path: Any) -> None:
    found = memcalc("runs --format json").document["runs"]
    assert len(found) == 30
    assert all(run["sources"] and isinstance(run["source_seen"], bool) for run in found)
    own = tmp_path / "runs"
    own.mkdir()
    text = 'name = "Ours"\nparameters = 1_000_000_000\ntokens = 20_000_000_000\nsource_seen = true\nsources = ["our log"]\n'
    (own / "ours.toml").write_text(text + 'gpu = "h100-sxm-80"\ngpu_hours = 120.0\n')
    mine = memcalc("runs", "ours", "--presets", str(tmp_path), "--format", "json").document["run"]
    assert mine["computed"]["mfu"] == pytest.approx(1.2e20 / (120 * 3600 * 989.4e12))
    (own / "ours.toml").write_text(text + "gpu_hours = 0\n")
    assert "gpu_hours" in memcalc("runs", "ours", "--presets", str(tmp_path)).err
    (own / "ours.toml").write_text(text + "speed = 1\n")
    assert "speed" in memcalc("runs", "ours", "--presets", str(tmp_path)).err


NUMBERS = ("0", "1", "-1", "8", "0.5", "50%", "1e3", "7B", "1T", "1e40", "1e-40", "nan", "inf", "3640", "2 weeks", "385g", "")
OPTIONS = (
    "params", "tokens", "flops", "pf-days", "gpus", "days", "gpu-hours", "mfu", "hfu", "cost", "price", "watts", "pue",
    "power-share", "grid-intensity", "seq-len", "gpu", "recompute", "flops-by", "precision", "like",
)  # fmt: skip
WORDS = ("h100", "v100", "full", "selective", "palm", "architecture", "hoffmann", "fp8", "gpt-3", "deepseek-v3")
words = st.lists(st.tuples(st.sampled_from(OPTIONS), st.sampled_from(NUMBERS + WORDS)), max_size=7)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(model=st.sampled_from(["", "7B", "MODEL"]), options=words)
def test_anything(memcalc: Run, folder: Folder, model: str, options: list[tuple[str, str]]) -> None:
    """One document of finite numbers, or one line."""
    given_model = [folder()] if model == "MODEL" else [model] if model else []
    result = memcalc("budget", *given_model, *(f"--{name}={value}" for name, value in options), "--format", "json")
    if result.code == 0:
        json.dumps(result.document, allow_nan=False)
        assert result.document["compute"]["flops"] > 0
    else:
        assert result.code == 2
        assert result.err.count("\n") == 1, result.err
