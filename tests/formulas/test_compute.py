"""FLOPs, utilisation, hours, energy and carbon against the tables of the papers that define them."""

import pytest

from memcalc.formulas import compute, energy

D1 = "Brown et al. 2020, table D.1: params [M], tokens [B], FLOPs per parameter and token, total FLOPs, PF-days"
GPT3 = [
    ("T5-Small", 60, 1000, 3, 1.80e20, 2.08),
    ("T5-Base", 220, 1000, 3, 6.60e20, 7.64),
    ("T5-Large", 770, 1000, 3, 2.31e21, 26.7),
    ("T5-3B", 3000, 1000, 3, 9.00e21, 104),
    ("T5-11B", 11000, 1000, 3, 3.30e22, 382),
    ("BERT-Base", 109, 250, 6, 1.64e20, 1.89),
    ("BERT-Large", 355, 250, 6, 5.33e20, 6.16),
    ("RoBERTa-Base", 125, 2000, 6, 1.50e21, 17.4),
    ("RoBERTa-Large", 355, 2000, 6, 4.26e21, 49.3),
    ("GPT-3 Small", 125, 300, 6, 2.25e20, 2.60),
    ("GPT-3 Medium", 356, 300, 6, 6.41e20, 7.42),
    ("GPT-3 Large", 760, 300, 6, 1.37e21, 15.8),
    ("GPT-3 XL", 1320, 300, 6, 2.38e21, 27.5),
    ("GPT-3 2.7B", 2650, 300, 6, 4.77e21, 55.2),
    ("GPT-3 6.7B", 6660, 300, 6, 1.20e22, 139),
    ("GPT-3 13B", 12850, 300, 6, 2.31e22, 268),
    ("GPT-3 175B", 174600, 300, 6, 3.14e23, 3640),
]


@pytest.mark.parametrize(("name", "params", "tokens", "per_token", "flops", "pf_days"), GPT3, ids=lambda v: str(v))
def test_gpt3_table_d1(name: str, params: int, tokens: int, per_token: int, flops: float, pf_days: float) -> None:
    rule = compute.encoder_decoder_training_flops if per_token == 3 else compute.dense_training_flops
    found = rule(params * 10**6, tokens * 10**9)
    assert found == pytest.approx(flops, rel=0.01), D1
    assert compute.petaflop_days(found) == pytest.approx(pf_days, rel=0.01), D1


def test_a_petaflop_day_is_a_quadrillion_a_second() -> None:
    """1e15 × 86 400; 8 V100 at their dense 125 TFLOP/s make one a day."""
    assert compute.petaflop_days(8 * 125e12 * 86_400) == 1


# Narayanan et al. 2021, table 1 (s = 2048, V = 51 200): billions of parameters, hidden, layers, GPUs, batch, TFLOP/s of a
# GPU (hardware), percent of the A100's 312, aggregate petaFLOP/s.
NARAYANAN = [
    (1.7, 2304, 24, 32, 512, 137, 44, 4.4),
    (3.6, 3072, 30, 64, 512, 138, 44, 8.8),
    (7.5, 4096, 36, 128, 512, 142, 46, 18.2),
    (18.4, 6144, 40, 256, 1024, 135, 43, 34.6),
    (39.1, 8192, 48, 512, 1536, 138, 44, 70.8),
    (76.1, 10240, 60, 1024, 1792, 140, 45, 143.8),
    (145.6, 12288, 80, 1536, 2304, 148, 47, 227.1),
    (310.1, 16384, 96, 1920, 2160, 155, 50, 297.4),
    (529.6, 20480, 105, 2520, 2520, 163, 52, 410.2),
    (1008.0, 25600, 128, 3072, 3072, 163, 52, 502.0),
]


@pytest.mark.parametrize(("billions", "hidden", "layers", "gpus", "batch", "achieved", "percent", "aggregate"), NARAYANAN)
def test_megatron_table_1(
    billions: float, hidden: int, layers: int, gpus: int, batch: int, achieved: float, percent: int, aggregate: float
) -> None:
    """Parameters by equation 2; utilisation of the time that equation 3's FLOPs take at the printed speed."""
    parameters = compute.gpt_parameters(layers, hidden, 51200, 2048)
    assert parameters / 1e9 == pytest.approx(billions, abs=0.06)
    flops = compute.narayanan_flops(batch, 2048, layers, hidden, 51200)
    seconds = flops / (gpus * achieved * 1e12)
    hfu = compute.model_flops_utilisation(flops / (batch * 2048), batch * 2048 / seconds, gpus, 312e12)
    assert 100 * hfu == pytest.approx(percent, abs=0.6)  # printed without decimals
    assert gpus * achieved / 1000 == pytest.approx(aggregate, rel=0.01)


# Table 2: parameters by equation 2's shapes, GPUs, TFLOP/s of a GPU, days for 300 B tokens as printed.
GPT3_SHAPE, NLG_SHAPE = (96, 12288), (105, 20480)
DAYS = [
    (GPT3_SHAPE, 384, 144, 90), (GPT3_SHAPE, 768, 88, 74), (GPT3_SHAPE, 1536, 44, 74),
    (NLG_SHAPE, 640, 138, 169), (NLG_SHAPE, 1120, 98, 137), (NLG_SHAPE, 2240, 48, 140),
    (GPT3_SHAPE, 384, 153, 84), (GPT3_SHAPE, 768, 149, 43), (GPT3_SHAPE, 1536, 141, 23),
    (NLG_SHAPE, 560, 171, 156), (NLG_SHAPE, 1120, 167, 80), (NLG_SHAPE, 2240, 159, 42),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "gpus", "achieved", "days"), DAYS)
def test_megatron_table_2(shape: tuple[int, int], gpus: int, achieved: float, days: int) -> None:
    """Equation 3 over the achieved FLOP/s; days are printed whole, speeds to three digits."""
    layers, hidden = shape
    flops = compute.narayanan_flops(300e9 / 2048, 2048, layers, hidden, 51200)
    assert flops / (gpus * achieved * 1e12) / 86_400 == pytest.approx(days, rel=0.01, abs=0.55)


@pytest.mark.parametrize(
    ("parameters", "tokens", "gpus", "achieved", "days"),
    [(175e9, 300e9, 1024, 140e12, 34), (1008e9, 450e9, 3072, 163e12, 84)],
)
def test_megatron_examples(parameters: float, tokens: float, gpus: int, achieved: float, days: int) -> None:
    """Section 5.1, equation 4: 34 days for GPT-3, 84 for a trillion parameters."""
    assert compute.narayanan_training_days(parameters, tokens, gpus, achieved) == pytest.approx(days, rel=0.01)


# Chowdhery et al. 2022, table 3: layers, heads, head size, parameters, tokens/s, chips, peak, MFU without and with attention.
PALM = [
    ("PaLM", 118, 48, 256, 540e9, 238_300, 6144, 275e12, 0.457, 0.462),
    ("MT-NLG", 105, 128, 160, 530e9, 1920 * 2048 / 60.1, 2240, 312e12, 0.297, 0.302),
]


@pytest.mark.parametrize(("name", "layers", "heads", "size", "n", "speed", "chips", "peak", "without", "with_"), PALM)
def test_palm_table_3(
    name: str, layers: int, heads: int, size: int, n: float, speed: float, chips: int, peak: float, without: float, with_: float
) -> None:
    assert compute.model_flops_utilisation(6 * n, speed, chips, peak) == pytest.approx(without, rel=0.01), name
    per_token = compute.palm_training_flops(n, 1, layers, heads, size, 2048)
    assert compute.model_flops_utilisation(per_token, speed, chips, peak) == pytest.approx(with_, rel=0.01), name


def test_palm_hfu() -> None:
    """PaLM, section 4.1: 57.8 % of hardware FLOPs, 4.10 against 3.28 TFLOP a token."""
    assert compute.hardware_flops_utilisation(0.462, 4.10, 3.28) == pytest.approx(0.578, rel=0.01)


# mosaicml/llm-foundry, scripts/train/benchmarking/README.md: parameters, layers, hidden, sequence, tokens/s a GPU, peak,
# MFU and HFU in percent. Layers and hidden sizes are those of its MPT YAML files (not read in the README).
MPT = [
    (64_862_437_376, 80, 8192, 2048, 1007, 989.5e12, 41.25, 55.0, True),
    (29_975_214_080, 48, 7168, 2048, 2199, 989.5e12, 41.85, 55.8, True),
    (30_019_254_272, 48, 7168, 8192, 1384, 989.5e12, 29.92, 39.9, True),
    (13_011_240_960, 40, 5120, 32768, 1976, 989.5e12, 31.68, 42.24, True),
    (6_658_859_008, 32, 4096, 2048, 10643, 989.5e12, 46.44, 46.44, False),
    (2_651_837_440, 32, 2560, 2048, 23422, 989.5e12, 42.43, 42.43, False),
    (64_862_437_376, 80, 8192, 2048, 376, 312e12, 48.91, 65.21, True),
    (29_975_214_080, 48, 7168, 2048, 865, 312e12, 52.25, 69.66, True),
    (6_658_859_008, 32, 4096, 2048, 3623, 312e12, 50.14, 66.85, True),
    (1_315_950_592, 24, 2048, 2048, 19271, 312e12, 56.23, 56.23, False),
]


@pytest.mark.parametrize(("n", "layers", "hidden", "seq", "speed", "peak", "mfu", "hfu", "recomputed"), MPT)
def test_mosaic_utilisation(
    n: int, layers: int, hidden: int, seq: int, speed: float, peak: float, mfu: float, hfu: float, recomputed: bool
) -> None:
    per_token = compute.palm_training_flops(n, 1, layers, 1, hidden, seq)
    found = compute.model_flops_utilisation(per_token, speed, 1, peak)
    assert 100 * found == pytest.approx(mfu, rel=0.01)
    assert 100 * compute.hardware_flops_utilisation(found, 4 if recomputed else 3, 3) == pytest.approx(hfu, rel=0.01)


def test_llama3_table_4() -> None:
    """The Llama 3 Herd of Models, table 4: 430, 400 and 380 TFLOP/s of an H100 are 43, 41 and 38 % (400 is 40.4)."""
    for achieved, printed in ((430, 0.43), (400, 0.41), (380, 0.38)):
        assert compute.model_flops_utilisation(achieved, 1e12, 1, 989.5e12) == pytest.approx(printed, rel=0.015)


# Check values by hand: GPT-3 (96 × 12288, V 50 257), Chinchilla (80 × 8192, F 32 768, V 32 000), both at 2048 tokens.
SHAPES = [  # N, D, layers, hidden, heads, feed-forward, vocabulary
    (174.6e9, 300e9, 96, 12288, 96, 49152, 50257),
    (70e9, 1.4e12, 80, 8192, 64, 32768, 32000),
]
PUBLISHED = {
    "palm": (3.229773e23, 6.105486e23),
    "palm causal": (3.186287e23, 5.992743e23),
    "narayanan": (4.301788e23, 7.538213e23),
    "hoffmann": (3.240746e23, 5.682506e23),
    "8ND": (4.190400e23, 7.840000e23),
}


@pytest.mark.parametrize("model", [0, 1], ids=["GPT-3", "Chinchilla"])
def test_published_formulas(model: int) -> None:
    n, d, layers, hidden, heads, width, vocabulary = SHAPES[model]
    found = {
        "palm": compute.palm_training_flops(n, d, layers, heads, 128, 2048),
        "palm causal": compute.palm_causal_training_flops(n, d, layers, heads, 128, 2048),
        "narayanan": compute.narayanan_flops(d / 2048, 2048, layers, hidden, vocabulary),
        "hoffmann": compute.hoffmann_flops(d / 2048, 2048, layers, hidden, heads, 128, width, vocabulary),
        "8ND": compute.recomputed_training_flops(n, d),
    }
    assert found == pytest.approx({name: values[model] for name, values in PUBLISHED.items()}, rel=1e-4)


LLAMA = "Touvron et al. 2023, table 15: 400 W, PUE 1.1, 0.385 kg/kWh"
CARDS = "Llama model cards; PUE 1.1 and 0.385 kg/kWh inferred from their tonnes"
CARBON = [  # GPU-hours, W, PUE, kg/kWh, MWh, tCO2e, source
    ("OPT-175B", 809_472, 400, 1.1, 0.385, 356, 137, LLAMA),
    ("BLOOM-175B", 1_082_880, 400, 1.1, 0.385, 475, 183, LLAMA),
    ("LLaMA-7B", 82_432, 400, 1.1, 0.385, 36, 14, LLAMA),
    ("LLaMA-13B", 135_168, 400, 1.1, 0.385, 59, 23, LLAMA),
    ("LLaMA-33B", 530_432, 400, 1.1, 0.385, 233, 90, LLAMA),
    ("LLaMA-65B", 1_022_362, 400, 1.1, 0.385, 449, 173, LLAMA),
    ("Llama 2 7B", 184_320, 400, 1.1, 0.385, None, 31.22, CARDS),
    ("Llama 2 13B", 368_640, 400, 1.1, 0.385, None, 62.44, CARDS),
    ("Llama 2 70B", 1_720_320, 400, 1.1, 0.385, None, 291.42, CARDS),
    ("Llama 3 8B", 1_300_000, 700, 1.1, 0.385, None, 390, CARDS),
    ("Llama 3 70B", 6_400_000, 700, 1.1, 0.385, None, 1900, CARDS),
    ("BLOOM", 1_082_990, 400, 1.0, 0.057, 433.2, 24.69, "Luccioni et al. 2022: dynamic consumption, France"),
    ("BLOOM with PUE", 1_082_990, 400, 1.2, 0.057, None, 30, "Luccioni et al. 2022: PUE 1.2"),
    ("GPT-3", 10_000 * 14.8 * 24, 330, 1.1, 0.429, 1287, 552.1, "Patterson et al. 2021, table 4"),
    ("T5-11B", 512 * 20 * 24, 310, 1.12, 0.545, 85.7, 46.7, "Patterson et al. 2021, table 4 (net CO2e over MWh)"),
]


@pytest.mark.parametrize(
    ("name", "hours", "watts", "pue", "grid", "mwh", "tonnes", "source"), CARBON, ids=lambda v: str(v)[:20]
)
def test_carbon(
    name: str, hours: float, watts: float, pue: float, grid: float, mwh: float | None, tonnes: float, source: str
) -> None:
    used = energy.energy_kwh(hours, watts, pue)
    if mwh is not None:
        assert used / 1000 == pytest.approx(mwh, rel=0.03), source
    assert energy.co2e_kg(used, grid) / 1000 == pytest.approx(tonnes, rel=0.03), source


def test_deepseek_v3_cost() -> None:
    """DeepSeek-V3 technical report, table 1: 2664 K, 119 K and 5 K hours at 2 USD are 5.328, 0.238 and 0.01 M, 5.576 M."""
    for hours, dollars in ((2_664_000, 5.328e6), (119_000, 0.238e6), (5_000, 0.01e6), (2_788_000, 5.576e6)):
        assert energy.cost_usd(hours, 2) == pytest.approx(dollars, rel=1e-6)


def test_defaults_lie_in_their_ranges() -> None:
    for default in (energy.MFU, energy.PUE, energy.GRID):
        assert default.low < default.value < default.high
    for name, price in energy.PRICES.items():
        assert 0 < price.low <= price.usual <= price.high, name
        assert price.as_of[:4].isdigit(), name
        assert price.where, name
