"""Keys of `budget` about time, energy and money: what follows from the hours."""

from memcalc.estimates.explanation import Explanation, follows, given, of_formula
from memcalc.formulas import energy
from memcalc.formulas.energy import GRID, PUE
from memcalc.formulas.formula import ASSUMED
from memcalc.sizing.budget import SizedBudget
from memcalc.sizing.explaining.budget_solved import solved, who
from memcalc.sizing.explaining.keys import Key, Make
from memcalc.sizing.explaining.shared import gpu_fact


def hardware_flops(a: SizedBudget, path: str) -> Explanation:
    return follows(path, a.hardware_flops, "FLOP", "compute.flops * overhead", solved(a, "flops"), solved(a, "overhead"))


def hours(a: SizedBudget) -> Explanation:
    return solved(a, "gpu_hours", "accelerator_hours")


def cost(a: SizedBudget, path: str) -> Explanation:
    assert a.gpu_hours is not None
    assert a.price_per_hour is not None
    return of_formula(path, "USD", energy.cost_usd, hours(a), solved(a, "price", "price"),
                      accelerator_hours=a.gpu_hours, price=a.price_per_hour)  # fmt: skip


def cost_bound(end: str) -> Make:
    def make(a: SizedBudget, key: Key) -> Explanation:
        assert a.price
        assert a.gpu_hours is not None
        price = getattr(a.price, end)
        source = given("price", price, f"{end}est found, on demand, {a.price.as_of}: {a.price.where}", "USD/h", ASSUMED)
        return of_formula(key.path, "USD", energy.cost_usd, hours(a), source, accelerator_hours=a.gpu_hours, price=price)

    return make


def watts(a: SizedBudget, path: str) -> Explanation:
    if a.budget.watts is not None:
        return given(path, a.budget.watts, who(a, "watts"), "W")
    assert a.gpu
    assert a.gpu.tdp is not None
    return of_formula(path, "W", energy.accelerator_watts, gpu_fact(a.gpu, "tdp", a.gpu.tdp, "tdp", "W"),
                      tdp=a.gpu.tdp, power_share=a.budget.power_share)  # fmt: skip


def pue(a: SizedBudget, path: str) -> Explanation:
    return _or_default(a, "pue", path, a.pue, PUE.note, "")


def grid(a: SizedBudget, path: str) -> Explanation:
    return _or_default(a, "grid_intensity", path, a.grid_intensity, GRID.note, "kg/kWh")


def _or_default(a: SizedBudget, name: str, path: str, value: float, note: str, unit: str) -> Explanation:
    if getattr(a.budget, name) is not None:
        return given(path, value, who(a, name), unit)
    return given(path, value, note, unit, ASSUMED)


def energy_kwh(a: SizedBudget, path: str) -> Explanation:
    assert a.gpu_hours is not None
    return of_formula(path, "kWh", energy.energy_kwh, hours(a), watts(a, "watts"), pue(a, "pue"),
                      accelerator_hours=a.gpu_hours, watts=a.watts, pue=a.pue)  # fmt: skip


def carbon(a: SizedBudget, path: str) -> Explanation:
    return of_formula(path, "kg", energy.co2e_kg, energy_kwh(a, "energy_kwh"), grid(a, "grid_intensity"),
                      energy_kwh=a.energy_kwh, grid_intensity=a.grid_intensity)  # fmt: skip
