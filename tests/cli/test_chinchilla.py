"""`memcalc chinchilla`: its JSON contract, its pictures, and every way to ask it wrongly."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memcalc.formulas.scaling_laws import LAWS
from memcalc.report.output import render
from memcalc.report.scaling import report
from memcalc.specs.scaling import ScalingQuestion
from memcalc.specs.spec import SpecError

Run = Callable[..., Any]


@pytest.fixture
def ask(memcalc: Run) -> Run:
    def run(words: str, **_: Any) -> dict[str, Any]:
        result = memcalc(f"chinchilla {words} --format json")
        assert (result.code, result.err) == (0, ""), result.err
        document: dict[str, Any] = result.document
        return document

    return run


# --- the contract --------------------------------------------------------------------------------------------------------


def test_all_laws_side_by_side(ask: Run) -> None:
    found = ask("--flops 5.76e23")
    assert found["schema"] == "memcalc/1"
    assert [entry["law"] for entry in found["laws"]] == list(LAWS)
    assert found["optimal"]["law"] == "besiroglu"
    for entry in [found["optimal"], *found["laws"]]:
        for key in ("parameters", "tokens", "flops"):
            assert isinstance(entry[key], int), (entry["law"], key)
            assert entry[key] > 0
        assert entry["flops"] == 576 * 10**21
        assert entry["loss"] is None or 1 < entry["loss"] < 3
    assert found["optimal"]["parameters"] == pytest.approx(72.25e9, rel=1e-3)  # Besiroglu et al. 2024
    assert found["optimal"]["tokens"] == pytest.approx(1.3287e12, rel=1e-3)
    assert found["optimal"]["loss"] == pytest.approx(1.974441108397412)
    assert {entry["source"].split(":")[0] for entry in found["laws"]} <= found["sources"].keys()
    assert found["assumptions"]


def test_the_law_asked_for_answers(ask: Run) -> None:
    found = ask("--flops 5.76e23 --law hoffmann-3 --law besiroglu --law hoffmann-3")
    assert found["optimal"]["law"] == "hoffmann-3"
    assert [entry["law"] for entry in found["laws"]] == ["hoffmann-3", "besiroglu"]
    assert found["optimal"]["parameters"] == 32189859151


def test_bare_fields_for_scripts(memcalc: Run) -> None:
    result = memcalc("chinchilla --params 70B --law rule-of-thumb --get optimal.tokens")
    assert (result.code, result.out) == (0, "1400000000000\n")
    result = memcalc("optimal --params 70B --law rule-of-thumb --get laws[0].flops")
    assert (result.code, result.out) == (0, f"{6 * 70 * 1400 * 10**18}\n")


@pytest.mark.parametrize(
    ("words", "flops"),
    [
        ("--flops 3640PF-days", 3640 * 864 * 10**17),
        ("--pf-days 3640", 3640 * 864 * 10**17),
        ("--pf-days 0.5", 432 * 10**17),
        ("--params 175B --tokens 300B", 315 * 10**21),
        ("--gpu-hours 1M --gpu a100-sxm-80gb --mfu 0.5", 10**6 * 3600 * 156 * 10**12),  # 312 TFLOP/s dense, half of it
        ("--gpu-hours 1000 --gpu v100-sxm2-32gb --mfu 0.2", 1000 * 3600 * 25 * 10**12),  # fp16, 125 TFLOP/s
    ],
)
def test_budgets(ask: Run, words: str, flops: int) -> None:
    found = ask(words)
    assert found["optimal"]["flops"] == flops


def test_utilisation_has_a_stated_default(ask: Run) -> None:
    found = ask("--gpu-hours 1000 --gpu h100")
    assert any("0.4 of it used, assumed" in line for line in found["assumptions"])
    assert found["optimal"]["flops"] < ask("--gpu-hours 1000 --gpu h100 --mfu 0.5")["optimal"]["flops"]


def test_tokens_ask_for_parameters(ask: Run) -> None:
    found = ask("--tokens 1.4T")
    assert {entry["tokens"] for entry in found["laws"]} == {1_400_000_000_000}
    assert found["optimal"]["parameters"] == pytest.approx(76.3e9, rel=1e-3)


# --- how far a model is from optimal: tokens it should have seen under Besiroglu's law, by the reference ------------------

JUDGED = [
    ("GPT-3", "175B", "300B", 3081366603311.965, 2.0085437237837795, True),
    ("Chinchilla", "70B", "1.4T", 1289391737701.0933, 1.9738818631585637, False),
    ("Llama 3 8B", "8.03B", "15T", None, 2.0218374823699463, False),
    ("Llama 3.1 405B", "405B", "15.6T", None, 1.892585082797465, False),
]


@pytest.mark.parametrize(("name", "parameters", "tokens", "optimal", "loss", "under"), JUDGED)
def test_a_model_is_judged(
    ask: Run, name: str, parameters: str, tokens: str, optimal: float | None, loss: float, under: bool
) -> None:
    found = ask(f"--params {parameters} --tokens {tokens}")
    model = found["model"]
    assert model["loss"] == pytest.approx(loss, abs=1e-12), name
    assert model["loss_left"] == pytest.approx(loss - found["optimal"]["loss"], abs=1e-9)
    assert model["loss_left"] >= 0
    assert 0 < model["equivalent_flops"] <= model["flops"]
    assert (model["over_training"] < 1) is under
    if optimal:
        assert model["optimal_tokens"] == round(optimal)
    assert "krajewski" not in [entry["law"] for entry in model["laws"]], "a dense model is no mixture of experts"


def test_chinchilla_is_optimal_and_gpt_3_is_not(ask: Run) -> None:
    chinchilla, gpt3, llama = (
        ask(f"--params {size} --tokens {data}")["model"] for size, data in (("70B", "1.4T"), ("175B", "300B"), ("8.03B", "15T"))
    )
    assert 1 <= chinchilla["over_training"] < 1.1
    assert chinchilla["loss_left"] < 0.001
    assert gpt3["over_training"] == pytest.approx(0.0974, abs=1e-4)
    assert gpt3["loss_left"] > 0.01
    assert llama["over_training"] == pytest.approx(91.2, abs=0.1)


def test_a_model_by_its_name(ask: Run) -> None:
    found = ask("--model llama-3.1-8b --tokens 15T --law besiroglu")
    assert found["model"]["parameters"] == 8_030_261_248
    mixture = ask("--model mixtral-8x7b --law besiroglu")
    assert mixture["optimal"]["parameters"] == 12_879_925_248, "the parameters that a token passes through"


# --- serving and repeating -----------------------------------------------------------------------------------------------


def test_serving_asks_for_a_smaller_model(ask: Run) -> None:
    found = ask("--params 70B --inference-tokens 10T")
    inference = found["inference"]
    assert inference["parameters"] == pytest.approx(32765175612, rel=1e-4)  # Sardana et al. with Besiroglu's constants
    assert inference["saved"] == pytest.approx(0.2910846, abs=1e-6)
    assert inference["loss"] == pytest.approx(found["optimal"]["loss"])
    assert inference["lifetime_flops"] < inference["asked_lifetime_flops"]


def test_repeating(ask: Run) -> None:
    found = ask("--params 6.34B --tokens 242B --unique-tokens 25B")
    again = found["repetition"]
    assert again["epochs"] == pytest.approx(9.68)
    assert again["effective_tokens"] == 190849033775  # Muennighoff et al. 2023, appendix A
    assert again["optimal"]["epochs"] > 1
    law = next(entry for entry in found["model"]["laws"] if entry["law"] == "muennighoff")
    assert law["loss"] == pytest.approx(2.2256440889984477)
    assert any("9.68 epochs" in warning for warning in found["warnings"])


def test_data_that_is_used_up_is_said(ask: Run) -> None:
    found = ask("--flops 1e26 --unique-tokens 10B")
    assert any("at most 164B" in warning and "hardly helps" in warning for warning in found["warnings"])


def test_enough_data_needs_no_warning(ask: Run) -> None:
    found = ask("--flops 1e20 --law muennighoff --unique-tokens 10T")
    assert found["repetition"]["epochs"] < 1
    assert found["warnings"] == []


# --- beyond what a law was fitted on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        ("--flops 5.76e23 --law besiroglu", "besiroglu extrapolates: 72.2B parameters (fitted on 70M to 16B)"),
        ("--flops 1e17 --law hoffmann-1", "(fitted on 5B to 500B)"),
        ("--pf-days 3640 --law kaplan", "(fitted on 768 to 1.5B)"),
        ("--flops 1e24 --law deepseek", "1e24 FLOP (fitted on 1e17 to 3e20)"),
        ("--flops 1e24 --law llama3", "1e24 FLOP (fitted on 6e18 to 1e22)"),
        ("--flops 1e22 --law krajewski", "krajewski extrapolates"),
        ("--flops 1e24 --law muennighoff", "(fitted on up to 9B)"),
    ],
)
def test_extrapolation_is_said(ask: Run, words: str, warning: str) -> None:
    found = ask(words)
    assert any(warning in line for line in found["warnings"]), found["warnings"]
    assert found["laws"][0]["extrapolates"]


@pytest.mark.parametrize("law", ["besiroglu", "hoffmann-1", "hoffmann-3", "llama3", "rule-of-thumb"])
def test_no_warning_within(ask: Run, law: str) -> None:
    assert ask(f"--flops 1e21 --law {law}")["warnings"] == []


# --- bad input -------------------------------------------------------------------------------------------------------------

BAD = [
    ("--law besiroglu", "nothing to start from"),
    ("--flops 0", "--flops: 0 FLOP is out of range"),
    ("--flops -1", "--flops"),
    ("--flops 1e300", "--flops"),
    ("--flops 1e37", "between 1e9 FLOP and 1e36 FLOP"),
    ("--flops 12", "between 1e9 FLOP and 1e36 FLOP"),
    ("--flops nan", "--flops"),
    ("--flops 5EFLOP/s", "is a speed"),
    ("--pf-days 0", "--pf-days: must be between"),
    ("--pf-days nan", "--pf-days: must be between"),
    ("--pf-days -inf", "--pf-days: must be between"),
    ("--pf-days x", "'x' is not a number"),
    ("--gpu-hours 5", "--gpu-hours: hours of what?"),
    ("--gpu-hours 0 --gpu h100", "--gpu-hours: must be between"),
    ("--gpu-hours 5 --gpu nothing", "nothing"),
    ("--gpu-hours 5 --gpu h100 --mfu 0", "--mfu: must be between"),
    ("--gpu-hours 5 --gpu h100 --mfu 1.1", "--mfu: must be between"),
    ("--gpu h100 --flops 1e20", "--gpu: turns GPU-hours into FLOP"),
    ("--mfu 0.4 --params 7B", "--mfu: turns GPU-hours into FLOP"),
    ("--params 0", "--params: must be a whole number"),
    ("--params -7B", "--params"),
    ("--params 1e19", "--params: must be a whole number"),
    ("--tokens 0", "--tokens: must be a whole number"),
    ("--params 1000 --tokens 1000", "--params, --tokens: 6e6 FLOP is out of range"),
    ("--params 1e18 --tokens 1e21", "--params, --tokens: 6e39 FLOP is out of range"),
    ("--flops 1e20 --pf-days 1", "--flops, --pf-days: each is a budget"),
    ("--flops 1e20 --params 7B", "--flops, --params: a budget already fixes"),
    ("--pf-days 1 --params 7B --tokens 1T", "--pf-days, --params, --tokens: a budget already fixes"),
    ("--params 7B --model llama-3.1-8b", "--params, --model: both say"),
    ("--model no-such-model", "no-such-model"),
    ("--model 5 --tokens 1T", "--model: has 5 parameters"),
    ("--flops 1e20 --law besirogl", "did you mean besiroglu"),
    ("--flops 1e20 --law clark", "no constants are known"),
    ("--flops 1e20 --law ludziejewski", "no constants are known"),
    ("--flops 1e20 --inference-tokens 0", "--inference-tokens: must be a whole number"),
    ("--flops 1e20 --inference-tokens 1T --law llama3", "--inference-tokens, --law: llama3 predicts no loss"),
    ("--flops 1e20 --unique-tokens 0", "--unique-tokens: must be a whole number"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[words for words, _ in BAD])
def test_bad_input_is_one_line(memcalc: Run, words: str, said: str) -> None:
    result = memcalc(f"chinchilla {words}")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("memcalc: ")
    assert result.err.count("\n") == 1
    assert said in result.err


def test_the_python_side_refuses_the_same() -> None:
    with pytest.raises(SpecError) as refused:
        ScalingQuestion(flops=1e20, params=7_000_000_000)
    assert refused.value.fields == ("flops", "params")
    with pytest.raises(SpecError):
        ScalingQuestion(flops=math.nan)
    with pytest.raises(SpecError):
        ScalingQuestion(flops=True)


def leaves(value: Any) -> Any:
    if isinstance(value, dict):
        for child in value.values():
            yield from leaves(child)
    elif isinstance(value, list):
        for child in value:
            yield from leaves(child)
    else:
        yield value


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_is_asked_every_number_is_finite(data: st.DataObject) -> None:
    from memcalc.estimates.compute.scaling import estimate

    budget = st.integers(10**9, 10**36)
    sizes = st.integers(1000, 10**18)
    kind = data.draw(st.sampled_from(["flops", "params", "tokens", "both"]))
    asked: dict[str, Any] = {}
    if kind == "flops":
        asked["flops"] = data.draw(budget)
    if kind in ("params", "both"):
        asked["params"] = data.draw(sizes)
    if kind in ("tokens", "both"):
        asked["tokens"] = data.draw(st.integers(10**6, 10**17))
    if data.draw(st.booleans()):
        asked["unique_tokens"] = data.draw(st.integers(1000, 10**21))
    if data.draw(st.booleans()):
        asked["inference_tokens"] = data.draw(st.integers(1, 10**24))
    question = ScalingQuestion(**asked)
    found = report(question, estimate(question))
    text = render(found, "json")
    for leaf in leaves(json.loads(text)):
        assert not isinstance(leaf, float) or math.isfinite(leaf)
    for format_ in ("table", "csv", "markdown"):
        shown = render(found, format_)
        assert " nan" not in shown
        assert " inf" not in shown


# --- pictures --------------------------------------------------------------------------------------------------------------


def test_pictures_fit_80_columns_without_colour(memcalc: Run) -> None:
    out = memcalc("chinchilla --params 175B --tokens 300B --law besiroglu").out
    start = next(n for n, line in enumerate(out.splitlines()) if line.startswith("Loss against parameters"))
    drawing = out.splitlines()[start : start + 34]
    assert max(map(len, drawing)) <= 80
    assert "\x1b" not in out
    assert sum("O" in line and "┤" in line for line in drawing) == 1, "the optimum lies at the bottom of its curve"
    assert any("X" in line and "│" in line for line in drawing), "the model given lies on the curve, above the optimum"
    assert any("Loss of the optimum against FLOP" in line for line in drawing)


def test_pictures_in_plain_ascii(process: Run) -> None:
    result = process("chinchilla", "--flops", "1e21", "--law", "besiroglu", PYTHONIOENCODING="ascii")
    assert result.code == 0
    assert result.out.isascii()
    curve = [line for line in result.out.splitlines() if line.partition("|")[2].strip().startswith(".")]
    assert len(curve) > 5
    assert any("O" in line for line in curve + result.out.splitlines() if "|" in line)


def test_pictures_in_files(memcalc: Run) -> None:
    markdown = memcalc("chinchilla --flops 1e21 --law besiroglu --format markdown").out
    assert markdown.count("```text") == 2
    svg = memcalc("chinchilla --flops 1e21 --law besiroglu --format svg").out
    assert svg.startswith("<svg")
    assert svg.count("<polyline") == 2
    assert not any(0x2800 <= ord(char) <= 0x28FF for char in svg), "plots are vectors in a picture"


@pytest.mark.parametrize("law", LAWS)
def test_every_law_gets_a_picture(memcalc: Run, law: str) -> None:
    """A law without a loss surface shows the default's, and says so."""
    out = memcalc(f"chinchilla --flops 1e21 --law {law}").out
    expected = law if LAWS[law].has_surface else "besiroglu"
    assert f"Loss against parameters at 1e21 FLOP ({expected})" in out


def test_the_alias_is_the_same(memcalc: Run) -> None:
    assert memcalc("optimal --flops 1e21").out == memcalc("chinchilla --flops 1e21").out
