"""Budgets: every sufficient subset gives the same answer, contradictions and gaps are named, real runs are reproduced."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcalc.errors import InputError, MemcalcError
from memcalc.estimates.compute.budget import estimate
from memcalc.estimates.compute.budget_estimate import BudgetEstimate
from memcalc.estimates.compute.relations import Relation, Value, solve
from memcalc.estimates.compute.runs import recompute
from memcalc.formulas.formula import ceil_div, expression, with_values
from memcalc.readers.catalogue import accelerator
from memcalc.readers.models import read_model_preset
from memcalc.readers.runs import training_run, training_runs
from memcalc.specs.budget import SOLVABLE, Budget
from memcalc.specs.spec import SpecError

NAMES: dict[str, Any] = {"ceil_div": ceil_div, "min": min, "max": max, "round": round, "__builtins__": {}}


def solved(gpu: str | None = None, model: str | None = None, **fields: Any) -> BudgetEstimate:
    architecture = read_model_preset(model).architecture if model else None
    return estimate(Budget(**fields), architecture=architecture, gpu=accelerator(gpu) if gpu else None)


def answered(gpu: str | None, **fields: Any) -> BudgetEstimate | None:
    """None where the givens are too few; any other refusal is raised."""
    try:
        return solved(gpu, **fields)
    except InputError as error:
        if "not enough to go on" in str(error):
            return None
        raise


# One run, told in many ways: 7 B parameters, 1 T tokens, 512 A100 at 50 % of 312 TFLOP/s.
WHOLE: dict[str, Any] = {
    "params": 7 * 10**9, "tokens": 10**12, "flops": 4.2e22, "pf_days": 4.2e22 / 8.64e19, "gpus": 512, "mfu": 0.5,
    "gpu_hours": 4.2e22 / (3600 * 312e12 * 0.5), "days": 4.2e22 / (3600 * 312e12 * 0.5) / (24 * 512),
}  # fmt: skip
SUFFICIENT = [
    ("params", "tokens", "gpus", "mfu"),
    ("params", "tokens", "days", "mfu"),
    ("params", "tokens", "gpus", "days"),
    ("params", "tokens", "gpus", "gpu_hours"),
    ("params", "flops", "gpus", "days"),
    ("tokens", "flops", "mfu", "days"),
    ("params", "pf_days", "mfu", "gpus"),
    ("tokens", "gpus", "days", "mfu"),
    ("params", "gpus", "days", "mfu"),
    ("params", "gpu_hours", "days", "mfu"),
    ("params", "gpu_hours", "gpus", "mfu"),
    ("params", "pf_days", "gpu_hours", "days"),
]


@pytest.mark.parametrize("names", SUFFICIENT, ids="-".join)
def test_any_sufficient_subset_solves_the_rest(names: tuple[str, ...]) -> None:
    found = solved("a100", **{name: WHOLE[name] for name in names})
    assert found.parameters == pytest.approx(WHOLE["params"], rel=1e-9)
    assert found.gpus == 512
    for name in ("tokens", "flops", "pf_days", "gpu_hours", "days", "mfu"):
        assert getattr(found, name) == pytest.approx(WHOLE[name], rel=1e-9), name


@given(st.sets(st.sampled_from(tuple(WHOLE))), st.booleans())
def test_subsets_agree_or_say_what_is_missing(names: set[str], with_gpu: bool) -> None:
    """Consistent givens never contradict; what is answered is finite and true."""
    found = answered("a100" if with_gpu else None, **{name: WHOLE[name] for name in names})
    if found is None:
        return
    for name in WHOLE.keys() & names:
        value = found.parameters if name == "params" else getattr(found, name)
        assert value == pytest.approx(WHOLE[name], rel=1e-6), name
    for value in found.values.values():
        assert math.isfinite(value.number)


magnitude = st.floats(-2, 40).map(lambda power: 10.0**power)


@given(st.dictionaries(st.sampled_from((*SOLVABLE, "cost")), magnitude, max_size=6), st.sampled_from([None, "h100", "t4"]))
def test_whatever_is_given(fields: dict[str, float], gpu: str | None) -> None:
    """An answer in finite numbers, or one of our errors."""
    whole = {name: int(value) if name in ("params", "tokens", "gpus") else value for name, value in fields.items()}
    try:
        found = solved(gpu, **whole)
    except MemcalcError:
        return
    numbers = (found.flops, found.pf_days, found.gpu_hours, found.days, found.cost_usd, found.energy_kwh, found.co2e_kg)
    assert all(number is None or (math.isfinite(number) and number >= 0) for number in numbers)
    assert found.mfu is None or 0 < found.mfu <= 1 + 1e-9


CONTRADICTIONS = [
    ({"params": 7 * 10**9, "tokens": 10**12, "flops": 1e22}, None, {"params", "tokens", "flops"}),
    ({"flops": 1e22, "pf_days": 1.0}, None, {"flops", "pf_days"}),
    ({"gpus": 8, "days": 10.0, "gpu_hours": 100.0}, "a100", {"gpus", "days", "gpu_hours"}),
    ({"flops": 1e22, "gpus": 8, "days": 1.0}, "a100", {"flops", "gpus", "days", "gpu"}),  # beyond the peak
    ({"flops": 1e22, "gpu_hours": 1e6, "mfu": 0.4}, "a100", {"flops", "gpu_hours", "mfu", "gpu"}),
    ({"mfu": 0.5, "hfu": 0.4, "flops": 1e22}, "a100", {"mfu", "hfu"}),
    ({"mfu": 0.5, "hfu": 0.6, "flops": 1e22, "recompute": "full"}, "a100", {"mfu", "hfu", "recompute"}),
    ({"gpu_hours": 1000.0, "price": 2.0, "cost": 100.0}, "a100", {"cost", "gpu_hours", "price"}),
    ({"mfu": 0.9, "flops": 1e22, "recompute": "full"}, "a100", {"mfu", "recompute"}),  # HFU beyond the peak
]


@pytest.mark.parametrize(("fields", "gpu", "names"), CONTRADICTIONS, ids=lambda v: "-".join(v) if isinstance(v, dict) else "")
def test_contradictions_name_the_givens(fields: dict[str, Any], gpu: str | None, names: set[str]) -> None:
    with pytest.raises(SpecError) as raised:
        solved(gpu, **fields)
    assert set(raised.value.fields) == names


# what is given beside 7 B parameters, 1 T tokens and A100s → is HFU said to be MFU
HFU_IS_MFU: list[tuple[dict[str, Any], bool]] = [
    ({"mfu": 0.4}, True),
    ({"mfu": 0.4, "hfu": 0.5}, False),  # a quarter more was computed: something is recomputed
    ({"mfu": 0.4, "recompute": "full"}, False),
]


@pytest.mark.parametrize(("fields", "said"), HFU_IS_MFU)
def test_hfu_is_mfu_only_where_nothing_is_recomputed(fields: dict[str, Any], said: bool) -> None:
    found = solved("a100", params=7 * 10**9, tokens=10**12, **fields)
    assert ("no recomputation, so HFU is MFU" in found.assumptions) == said


# parameters said of a model that has 8.030 B, or 46.7 B and 12.9 B active (arXiv:2401.04088, section 1) → refused
SAID: list[tuple[str, int, bool]] = [
    ("llama-3.1-8b", 8_030_261_248, False),
    ("llama-3.1-8b", 8 * 10**9, False),  # as people say it: within 1 %
    ("llama-3.1-8b", 7 * 10**9, True),
    ("llama-3.1-8b", 9 * 10**9, True),
    ("mixtral-8x7b-v0.1", 46_700_000_000, False),
    ("mixtral-8x7b-v0.1", 12_900_000_000, False),
    ("mixtral-8x7b-v0.1", 56_000_000_000, True),  # 8 × 7
]


@pytest.mark.parametrize(("model", "params", "refused"), SAID)
def test_parameters_that_are_not_the_models_are_refused(model: str, params: int, refused: bool) -> None:
    if not refused:
        assert solved("a100", model, params=params, tokens=10**9).flops > 0
        return
    with pytest.raises(SpecError, match="active parameters; leave it out"):
        solved("a100", model, params=params, tokens=10**9)


def test_rounded_givens_do_not_contradict() -> None:
    """GPT-3 as people say it: 175 B, 300 B tokens, 3640 PF-days (6·N·D gives 3646)."""
    found = solved(params=175 * 10**9, tokens=300 * 10**9, pf_days=3640)
    assert found.pf_days == 3640


INSUFFICIENT = [
    ({}, None, ("MODEL", "--tokens", "--flops")),
    ({"params": 7 * 10**9}, None, ("--tokens", "--flops")),
    ({"tokens": 10**12}, None, ("--params",)),
    ({"gpus": 8}, "a100", ("--days",)),
    ({"mfu": 0.4}, "a100", ("--gpu-hours",)),
]


@pytest.mark.parametrize(("fields", "gpu", "said"), INSUFFICIENT)
def test_insufficient_budgets_say_what_is_missing(fields: dict[str, Any], gpu: str | None, said: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="not enough to go on") as raised:
        solved(gpu, **fields)
    for words in said:
        assert words in str(raised.value)


def test_a_cost_ceiling_buys_hours() -> None:
    """100 000 USD at 2 USD are 50 000 hours; at 40 % of 312 TFLOP/s 2.2464e22 FLOP, 535 B tokens of 7 B parameters."""
    found = solved("a100", params=7 * 10**9, cost=100_000.0, price=2.0)
    assert found.gpu_hours == 50_000
    assert found.flops == pytest.approx(50_000 * 3600 * 312e12 * 0.4)
    assert found.tokens == pytest.approx(534_857_142_857, rel=1e-9)


def test_a_ceiling_that_an_assumption_breaks_is_a_warning() -> None:
    found = solved("a100", flops=1e23, cost=10.0)
    assert found.over_ceiling == pytest.approx(found.cost_usd - 10)
    assert "ceiling" in found.warnings[-1]


def test_recomputation_raises_hfu() -> None:
    """PaLM: 57.8 % of hardware FLOPs for 46.2 % of model FLOPs; 8·N·D for 6·N·D in the rule of thumb."""
    full = solved("a100", params=7 * 10**9, tokens=10**12, mfu=0.3, recompute="full")
    assert full.hfu == pytest.approx(0.4)
    assert full.hardware_flops == pytest.approx(8 * 7e9 * 1e12)
    known = solved("tpu-v4", flops=1e24, mfu=0.462, hfu=0.578)
    assert known.hardware_flops / known.flops == pytest.approx(0.578 / 0.462)
    selective = solved("a100", "gpt2", tokens=10**9, recompute="selective", flops_by="architecture")
    assert 1 < selective.hfu / selective.mfu < 1.05


def test_architecture_levels_take_the_model() -> None:
    rule, own = (
        solved("h100", "llama-3.1-8b", tokens=10**12, seq_len=8192, flops_by=by) for by in ("6ND", "architecture-causal")
    )
    assert rule.flops == 6 * 8_030_261_248 * 10**12
    assert own.flops == pytest.approx(5.147040e10 * 1e12, rel=1e-3)  # 6 (blocks + V d) + 6 L H Q s, by hand
    with pytest.raises(SpecError, match="give a MODEL"):
        solved(params=10**9, tokens=10**9, flops_by="palm")
    with pytest.raises(SpecError, match="does not apply"):
        solved(model="mamba-2.8b", tokens=10**9, flops_by="palm")


def test_experts_count_by_the_active_ones() -> None:
    found = solved("h800", "deepseek-v3", tokens=14_800 * 10**9)
    assert found.parameters == pytest.approx(37e9, rel=0.02)
    assert found.flops == pytest.approx(3.2856e24, rel=0.02)  # not the 5.96e25 of all 671 B


def test_encoder_decoders_use_half_of_their_parameters_a_token() -> None:
    """Brown et al. 2020, table D.1: T5-11B, 3·N·D = 3.30e22 on 1 T tokens."""
    assert solved(model="t5-11b", tokens=10**12).flops == pytest.approx(3.30e22, rel=0.04)


def test_whole_accelerators() -> None:
    found = solved("h100", flops=1e22, days=3.0)
    assert found.gpus == math.ceil(found.values["gpus"].number)
    assert "rounded up" in found.warnings[-1]


def test_what_cannot_be_known_is_none() -> None:
    found = solved(flops=1e22)
    assert (found.gpu_hours, found.days, found.cost_usd, found.energy_kwh, found.co2e_kg, found.mfu) == (None,) * 6
    assert solved("v100", flops=1e22).cost_usd is None  # no price is known for the 32 GB card
    assert solved("v100", flops=1e22, price=1.0).cost_usd


def test_energy_and_carbon_take_the_givens() -> None:
    """LLaMA-65B: 1 022 362 hours of 400 W, PUE 1.1, 0.385 kg/kWh: 449 MWh, 173 t (Touvron et al. 2023, table 15)."""
    found = solved("a100", params=65_200_000_000, tokens=14 * 10**11, gpu_hours=1_022_362.0, pue=1.1, grid_intensity=0.385)
    assert found.energy_kwh == pytest.approx(449_000, rel=0.03)
    assert found.co2e_kg == pytest.approx(173_000, rel=0.03)
    assert solved("a100", flops=1e22, grid_intensity=0.0).co2e_kg == 0
    half = solved("a100", flops=1e22, power_share=0.5)
    assert half.energy_kwh == pytest.approx(solved("a100", flops=1e22, watts=200.0).energy_kwh)


def test_every_figure_evaluates() -> None:
    for found in (
        solved("h100", "llama-3.1-8b", tokens=15 * 10**12, gpus=1024, flops_by="palm"),
        solved("v100", params=175 * 10**9, tokens=300 * 10**9, gpus=999, mfu=0.2, price=1.5),
        solved("a100", "gpt2", tokens=10**10, recompute="full", flops_by="hoffmann"),
        solved(model="t5-small", tokens=10**9),
    ):
        assert found.figures
        for figure in found.figures:
            value = eval(expression(figure.formula), {**NAMES, **figure.inputs})
            assert value == figure.value, figure.path
            assert eval(with_values(figure.formula, figure.inputs), NAMES) == figure.value, figure.path
        flops = [figure.value for figure in found.figures if figure.path.startswith("flops/")]
        assert flops == [pytest.approx(found.flops, rel=1e-12)]


def test_relations_solve_either_side() -> None:
    area = Relation("area = width × height", "area", ("width", "height"))
    assert solve([area], {"area": Value(6.0), "width": Value(2.0)})["height"].number == 3
    assert solve([area], {"height": Value(3.0), "width": Value(2.0)})["area"].number == 6
    with pytest.raises(SpecError, match=r"area = width × height makes it 7\.5, but it is 6"):
        solve([area], {"area": Value(6.0, ("area",)), "width": Value(2.5, ("width",)), "height": Value(3.0)})


# --- real runs ----------------------------------------------------------------------------------------------------------

LLAMA = "Touvron et al. 2023"
HOURS = [  # gpu, what the source gives, GPU-hours it reports, source
    ("a100", {"flops": 1e24, "gpus": 2048, "days": 21.0}, 1_022_362, f"{LLAMA}, table 15: LLaMA-65B, about 21 days"),
    ("a100", {"params": 65_200_000_000, "tokens": 14 * 10**11, "mfu": 6 * 65.2e9 * 380 / 312e12}, 1_022_362,
     f"{LLAMA}, section 2.4: 380 tokens/s of a GPU"),
    ("a100", {"flops": 1e23, "gpus": 992, "days": 34.0}, 809_472, f"{LLAMA}, section 6: OPT-175B, 34 days on 992 A100"),
    ("a100", {"flops": 1e23, "gpus": 384, "days": 118.24}, 1_082_990,
     "Luccioni et al. 2022, section 4: BLOOM, 118 days 5 h 41 min on 384 A100, 1 082 990 hours"),
    ("h800", {"flops": 1e24, "gpus": 2048, "days": 3.7 * 14.8}, 2_664_000,
     "DeepSeek-V3, section 1: a trillion tokens in 3.7 days on 2048 H800, 14.8 T tokens"),
    ("a100-40gb", {"flops": 1e22, "gpus": 440, "days": 9.5}, 100_320, "MosaicML, MPT-7B: 9.5 days on 440 A100"),
    ("a100-40gb", {"flops": 1e23, "gpus": 512, "days": 53.0}, 651_264, "BloombergGPT: 53 days on 512 A100"),
    ("v100", {"params": 174_600_000_000, "tokens": 3 * 10**11, "mfu": 24.6 / 125}, 10_000 * 14.8 * 24,
     "Patterson et al. 2021, table 4: GPT-3 at 24.6 TFLOP/s, 14.8 days on 10 000 V100"),
    ("a100", {"params": 174_600_000_000, "tokens": 3 * 10**11, "hfu": 140 / 312, "recompute": "full"}, 1024 * 34 * 24,
     "Narayanan et al. 2021, section 5.1: 34 days on 1024 A100 at 140 TFLOP/s"),
    ("tpu-v4", {"params": 540_350_000_000, "tokens": 78 * 10**10, "mfu": 6 * 540.35e9 * 238_300 / (6144 * 275e12)},
     780e9 / 238_300 / 3600 * 6144, "Chowdhery et al. 2022, table 3: 238.3 K tokens/s on 6144 chips"),
]  # fmt: skip


@pytest.mark.parametrize(("gpu", "fields", "hours", "source"), HOURS, ids=lambda v: v[:24] if isinstance(v, str) else "")
def test_gpu_hours_of_real_runs(gpu: str, fields: dict[str, Any], hours: float, source: str) -> None:
    assert solved(gpu, **fields).gpu_hours == pytest.approx(hours, rel=0.05), source


TONNES = [("llama2-7b", 31.22), ("llama2-13b", 62.44), ("llama2-70b", 291.42), ("llama1-13b", 23), ("llama1-33b", 90),
          ("llama3-8b", 390), ("opt-175b", 137), ("gpt3-175b", 552.1), ("llama32-1b", 107)]  # fmt: skip


@pytest.mark.parametrize(("name", "tonnes"), TONNES)
def test_carbon_of_real_runs(name: str, tonnes: float) -> None:
    """Model cards of Llama 2 and 3; Touvron et al. 2023, table 15; Patterson et al. 2021, table 4."""
    run = training_run(name)
    found = recompute(run, accelerator(run.gpu))
    assert found.comparison("co2e_kg").published == tonnes * 1000
    assert found.comparison("co2e_kg").computed == pytest.approx(tonnes * 1000, rel=0.03)


def test_the_shipped_runs() -> None:
    runs = list(training_runs())
    assert len(runs) == 30
    for run in runs:
        found = recompute(run, accelerator(run.gpu) if run.gpu else None)
        assert found.found.flops == pytest.approx(6 * run.used_parameters * run.tokens)
        flops = found.comparison("flops")
        if flops.published:  # BloombergGPT prints a hardware count, 8·N·D
            assert abs(flops.difference or 0) < 0.03 or run.id == "bloomberggpt-50b", run.id
        if (mfu := found.comparison("mfu").computed) is not None:
            assert 0.04 < mfu < 0.55, run.id
    assert training_run("gpt-3").id == "gpt3-175b"


def test_palm_flops_as_printed() -> None:
    """6 × 540 B × 780 B = 2527.2 zettaFLOP."""
    assert recompute(training_run("palm"), accelerator("tpu-v4")).comparison("flops").difference == pytest.approx(0, abs=0.001)
