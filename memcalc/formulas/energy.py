"""Energy, carbon and money of accelerator-hours, and the dated defaults behind them."""

from memcalc.formulas.formula import ASSUMED, EXACT, formula
from memcalc.frozen import NamedTuple


@formula("touvron-2023", "table 15: the thermal design power of the GPU", ASSUMED)
def accelerator_watts(tdp: float, power_share: float) -> float:
    """Power that one accelerator draws: a share of its thermal design power.

    Published figures take all of it, an upper bound for the GPU that leaves out processor, network and fans.

    tdp [W], power_share of it [count]. Returns [W].
    """
    return tdp * power_share


@formula("touvron-2023", "section 6: Wh = GPU-h × GPU power × PUE", EXACT)
def energy_kwh(accelerator_hours: float, watts: float, pue: float) -> float:
    """Energy of a run at the wall of the data centre.

    accelerator_hours × watts / 1000 × pue. hours [count], watts [W] of one accelerator. Returns [kWh].

    >>> round(energy_kwh(accelerator_hours=1_022_362, watts=400, pue=1.1))  # LLaMA-65B: 449 MWh
    449839
    """
    return accelerator_hours * watts / 1000 * pue


@formula("touvron-2023", "section 6: tCO2e = MWh × 0.385", EXACT)
def co2e_kg(energy_kwh: float, grid_intensity: float) -> float:
    """Carbon of that energy, operation only: no embodied emissions.

    energy_kwh [kWh], grid_intensity [kg/kWh]. Returns [kg].

    >>> round(co2e_kg(energy_kwh=449_839, grid_intensity=0.385) / 1000)  # LLaMA-65B: 173 t
    173
    """
    return energy_kwh * grid_intensity


@formula("memcalc", "hours times price", EXACT)
def cost_usd(accelerator_hours: float, price: float) -> float:
    """Money for accelerator-hours [count] at a price of one [USD]. Returns [USD].

    >>> cost_usd(accelerator_hours=2_788_000, price=2)  # DeepSeek-V3: 5.576 M
    5576000
    """
    return accelerator_hours * price


class Default(NamedTuple):
    """A stated constant with the range it stands for and where it was read."""

    low: float
    value: float
    high: float
    note: str


MFU = Default(0.30, 0.40, 0.50, "40 % of the dense peak: large runs report 30 to 50 % (PaLM 46 %, Llama 3 38 to 43 %)")
# By the format whose peak counts, and of mixtures of experts, whose products are small and whose messages are many: quarters
# and medians of the runs in presets/measured/step-times.json, attention over unmasked pairs.
LOW_MFU = {
    ("fp8", False): Default(0.18, 0.30, 0.37, "30 % of the dense fp8 peak: published runs have 36 % on H100, 25 % on GB200"),
    ("fp4", False): Default(0.05, 0.21, 0.27, "21 % of the dense fp4 peak: published runs, most of Blackwell in NVFP4"),
    ("16 bit", True): Default(
        0.18, 0.22, 0.28, "22 % of the dense peak: published runs of mixtures of experts have 18 to 28 %"
    ),
    ("fp8", True): Default(0.13, 0.16, 0.21, "16 % of the dense fp8 peak: published runs of mixtures of experts"),
    ("fp4", True): Default(0.05, 0.05, 0.23, "5 % of the dense fp4 peak: published runs of mixtures of experts"),
}


def default_mfu(peak_format: str, *, mixture: bool) -> Default:
    """The utilisation to assume, of the peak in that format.

    >>> default_mfu("bf16", mixture=False).value, default_mfu("fp8", mixture=True).value
    (0.4, 0.16)
    """
    bits = (
        "fp4" if peak_format in ("fp4", "fp6", "int4") else "fp8" if peak_format in ("fp8", "fp8_acc16", "int8") else "16 bit"
    )
    return LOW_MFU.get((bits, mixture), MFU)


PUE = Default(1.1, 1.2, 1.54, "PUE 1.2: hyperscale sites report 1.1, the world's average is 1.54 (Uptime Institute 2025)")
GRID = Default(
    0.056, 0.475, 0.713,
    "0.475 kg CO2e/kWh, the world's average (IEA 2019); USA 0.369, France 0.056, India 0.713 in 2023",
)  # fmt: skip


class Price(NamedTuple):
    """USD an accelerator-hour, on demand: lowest found, usual, highest."""

    low: float
    usual: float
    high: float
    as_of: str
    where: str


_2025 = "SkyPilot catalogue"
_2026 = "2026-05"

# By the accelerator's name in the catalogue. Spreads are wide and prices move: whatever is printed says its date.
PRICES: dict[str, Price] = {
    "a100-sxm4-80": Price(0.80, 1.30, 3.00, _2026, "mercatus-ai.com, cloud GPU pricing"),
    "a100-pcie-80": Price(0.80, 1.30, 3.00, _2026, "mercatus-ai.com, cloud GPU pricing"),
    "a100-sxm4-40": Price(1.29, 1.29, 2.00, "2025", f"{_2025} (Lambda); MosaicML assumed 2.00 in 2023"),
    "a100-pcie-40": Price(1.29, 1.29, 2.00, "2025", f"{_2025} (Lambda); MosaicML assumed 2.00 in 2023"),
    "h100-sxm-80": Price(1.99, 2.95, 6.88, _2026, "aimultiple.com GPU index, median of 37 providers; mercatus-ai.com; AWS"),
    "h100-pcie-80": Price(1.99, 2.95, 4.49, _2026, "aimultiple.com GPU index; RunPod in 2025"),
    "h800-sxm": Price(2.00, 2.00, 2.00, "2024-12", "DeepSeek-V3 technical report, assumed rent"),
    "h200-sxm": Price(2.25, 4.00, 7.00, "2026-06", "mercatus-ai.com; packet.ai"),
    "b200-sxm": Price(3.75, 5.25, 14.24, "2026-06", "lyceum.technology; spheron; packet.ai; inworld.ai"),
    "gb200": Price(4.54, 4.54, 4.54, "2026-03", "spheron, 9.08 a superchip of two GPUs"),
    "v100-sxm2-16": Price(0.55, 0.55, 0.55, "2025", f"{_2025} (Lambda)"),
    "rtx-a6000": Price(0.80, 0.80, 0.80, "2025", f"{_2025} (Lambda)"),
    "a40": Price(0.79, 0.79, 0.79, "2025", f"{_2025} (RunPod)"),
    "l4": Price(0.44, 0.44, 0.44, "2025", f"{_2025} (RunPod)"),
    "l40": Price(1.14, 1.14, 1.14, "2025", f"{_2025} (RunPod)"),
    "rtx-3090": Price(0.44, 0.44, 0.44, "2025", f"{_2025} (RunPod)"),
    "rtx-4090": Price(0.34, 0.47, 0.60, "2026-03", "deploybase.ai"),
    "rtx-5090": Price(0.69, 0.95, 1.22, "2026-03", "deploybase.ai"),
    "l40s": Price(0.79, 1.10, 1.40, "2026-03", "deploybase.ai"),
    "rtx-pro-6000-bw-server": Price(0.89, 1.23, 1.57, "2026-03", "deploybase.ai"),
}
