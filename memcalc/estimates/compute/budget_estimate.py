"""What follows from a budget: FLOPs, hours, money and energy, each number with its formula."""

from functools import cached_property

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.compute.flops import estimated_blocks
from memcalc.estimates.compute.levels import Level
from memcalc.estimates.compute.relations import TOLERANCE, Value
from memcalc.estimates.lines import Figure, figure
from memcalc.formulas import compute, energy
from memcalc.formulas.energy import GRID, MFU, PUE, Price
from memcalc.formulas.methods import METHODS
from memcalc.frozen import NamedTuple, dataclass
from memcalc.specs.budget import Budget
from memcalc.specs.hardware import Accelerator

ANY_FORMAT = ("bf16", "fp16", "tf32", "fp32_matrix", "fp32")  # whose peak counts where none is asked for


class Equivalent(NamedTuple):
    """The same compute on a device that people know, for one day."""

    gpu: str
    at_peak: float  # devices at their dense peak
    at_mfu: float  # devices at the utilisation of this budget


@dataclass(frozen=True, eq=False)
class BudgetEstimate:
    """All that follows from a budget; what cannot be known is None."""

    budget: Budget
    architecture: Architecture | None
    gpu: Accelerator | None
    seq_len: int
    values: dict[str, Value]
    levels: tuple[Level, ...]
    references: tuple[Accelerator, ...] = ()
    price: Price | None = None  # the default range, where none was given
    mfu_note: str = MFU.note  # where an utilisation that nobody gave comes from

    def _number(self, name: str) -> float | None:
        value = self.values.get(name)
        return None if value is None else value.number

    @property
    def parameters(self) -> int | None:
        """Parameters that a token passes through."""
        return _whole(self._number("params"))

    @property
    def tokens(self) -> int | None:
        return _whole(self._number("tokens"))

    @property
    def flops(self) -> float | None:
        """Model FLOPs, by the level that was asked for; None where hours, days and GPUs alone are known."""
        return self._number("flops")

    @property
    def hardware_flops(self) -> float | None:
        """With recomputation."""
        return None if self.flops is None else self.flops * self.values["overhead"].number

    @property
    def pf_days(self) -> float | None:
        return self._number("pf_days")

    @property
    def gpu_hours(self) -> float | None:
        return self._number("gpu_hours")

    @property
    def gpus(self) -> int | None:
        """Whole accelerators."""
        number = self._number("gpus")
        return None if number is None else max(1, int(-(-round(number, 6) // 1)))

    @property
    def days(self) -> float | None:
        return self._number("days")

    @property
    def mfu(self) -> float | None:
        return self._number("mfu")

    @property
    def hfu(self) -> float | None:
        return self._number("hfu")

    @property
    def peak(self) -> float | None:
        return self._number("peak")

    @property
    def price_per_hour(self) -> float | None:
        return self._number("price")

    @property
    def cost_usd(self) -> float | None:
        if self.gpu_hours is None or self.price_per_hour is None:
            return None
        return energy.cost_usd(self.gpu_hours, self.price_per_hour)

    @property
    def cost_range(self) -> tuple[float, float] | None:
        """USD at the lowest and the highest default price."""
        if self.gpu_hours is None or self.price is None:
            return None
        return energy.cost_usd(self.gpu_hours, self.price.low), energy.cost_usd(self.gpu_hours, self.price.high)

    @property
    def watts(self) -> float | None:
        """Of one accelerator."""
        if self.budget.watts is not None:
            return self.budget.watts
        if self.gpu is None or self.gpu.tdp is None:
            return None
        return energy.accelerator_watts(self.gpu.tdp, self.budget.power_share)

    @property
    def pue(self) -> float:
        return PUE.value if self.budget.pue is None else self.budget.pue

    @property
    def grid_intensity(self) -> float:
        return GRID.value if self.budget.grid_intensity is None else self.budget.grid_intensity

    @property
    def energy_kwh(self) -> float | None:
        if self.gpu_hours is None or self.watts is None:
            return None
        return energy.energy_kwh(self.gpu_hours, self.watts, self.pue)

    @property
    def co2e_kg(self) -> float | None:
        return None if self.energy_kwh is None else energy.co2e_kg(self.energy_kwh, self.grid_intensity)

    @property
    def level(self) -> Level:
        """The one that the FLOPs come from."""
        return next(level for level in self.levels if level.name == self.budget.flops_by)

    @property
    def over_ceiling(self) -> float:
        """USD above the ceiling; 0 when there is none, or it holds."""
        if self.budget.cost is None or self.cost_usd is None or self.cost_usd <= self.budget.cost * (1 + TOLERANCE):
            return 0.0
        return self.cost_usd - self.budget.cost

    @property
    def equivalents(self) -> tuple[Equivalent, ...]:
        used = MFU.value if self.mfu is None else self.mfu
        if self.flops is None:
            return ()
        return tuple(
            Equivalent(gpu.name, self.flops / (dense_peak(gpu) * 86_400), self.flops / (dense_peak(gpu) * 86_400 * used))
            for gpu in self.references
        )

    @cached_property
    def figures(self) -> tuple[Figure, ...]:
        """Every number with its formula, in the order of the report."""
        out = []
        if (
            self.tokens
            and self.parameters
            and not METHODS[self.budget.method].adapters
            and (made := self.level.figure(self.tokens))
        ):
            out.append(made)
        if self.flops is not None:
            out.append(figure("pf_days", "petaFLOP/s-day", compute.petaflop_days, flops=self.flops))
        if self.flops is not None and self.gpu_hours and self.peak and self.mfu:
            out.append(
                figure("gpu_hours", "h", compute.accelerator_hours, flops=self.flops, peak=self.peak, utilisation=self.mfu)
            )
            out.append(
                figure("hfu", "share", compute.hardware_flops_utilisation, mfu=self.mfu, hardware_flops=self.hardware_flops,
                       model_flops=self.flops)
            )  # fmt: skip
        if self.gpu_hours and self.gpus and self.days:
            accelerators = self.values["gpus"].number
            out.append(
                figure("days", "day", compute.wall_clock_days, accelerator_hours=self.gpu_hours, accelerators=accelerators)
            )
        if self.gpu_hours and self.price_per_hour:
            out.append(figure("cost_usd", "USD", energy.cost_usd, accelerator_hours=self.gpu_hours, price=self.price_per_hour))
        if self.gpu_hours and self.watts and self.energy_kwh is not None:
            if self.budget.watts is None and self.gpu and self.gpu.tdp:
                share = self.budget.power_share
                out.append(figure("watts", "W", energy.accelerator_watts, tdp=self.gpu.tdp, power_share=share))
            out.append(
                figure("energy_kwh", "kWh", energy.energy_kwh, accelerator_hours=self.gpu_hours, watts=self.watts, pue=self.pue)
            )
            out.append(figure("co2e_kg", "kg", energy.co2e_kg, energy_kwh=self.energy_kwh, grid_intensity=self.grid_intensity))
        return tuple(out)

    @cached_property
    def assumptions(self) -> tuple[str, ...]:
        """What was taken for granted, one sentence each."""
        level = self.level
        out = [f"FLOPs: {level.title}, {level.counts}"] if self.flops is not None else []
        if METHODS[self.budget.method].adapters:
            out.append(f"{self.budget.method}: frozen matrices have no gradients, which saves a third of their FLOPs")
        if self.budget.flops_by != "6ND":
            out.append(f"sequences of {self.seq_len} tokens")
        if self.architecture is not None and self.architecture.active_parameters != self.architecture.parameters:
            out.append("N is the active parameters: of the routed experts, those that a token passes")
        if self.values.get("mfu", Value(0)).assumed and "mfu" not in self.budget.given:
            out.append(f"MFU {self.mfu_note}")
        if self.gpu and self.peak:
            out.append(f"peak: {self.peak / 1e12:g} TFLOP/s, dense {self.peak_format} of {self.gpu.name}")
        if self.budget.recompute == "none" and self.values["overhead"].assumed:
            out.append("no recomputation, so HFU is MFU")
        if self.price and self.price_per_hour:
            p = self.price
            out.append(f"price: {p.usual:.2f} USD/h ({p.low:.2f} to {p.high:.2f}), on demand, {p.as_of}: {p.where}")
        if self.energy_kwh is not None:
            out += self._energy_assumptions()
        return tuple(out)

    def _energy_assumptions(self) -> list[str]:
        out = []
        if self.budget.watts is None and self.gpu:
            share = "all" if self.budget.power_share == 1 else f"{self.budget.power_share:.0%}"
            out.append(f"power: {share} of the thermal design power, {self.watts:g} W, as published figures take it")
        if self.budget.pue is None:
            out.append(PUE.note)
        if self.budget.grid_intensity is None:
            out.append(f"grid: {GRID.note}")
        return out

    @property
    def peak_format(self) -> str:
        return peak_format(self.gpu, self.budget.precision) if self.gpu else ""

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        out = list(self.architecture.warnings) if self.architecture else []
        if self.architecture:
            out += [f"estimated, not counted: {reason}" for reason in estimated_blocks(self.architecture)]
        if self.over_ceiling:
            out.append(
                f"{self.cost_usd:,.0f} USD is more than the ceiling of {self.budget.cost:,.0f} USD"
                + (f" at the assumed MFU of {self.mfu:.0%}" if self.mfu and self.values["gpu_hours"].assumed else "")
            )
        exact = self._number("gpus")
        if exact is not None and self.gpus and abs(self.gpus - exact) > 1e-6:
            out.append(f"{exact:.6g} accelerators are rounded up to {self.gpus:,}")
        if self.mfu is not None and self.mfu < 0.01:
            out.append(f"MFU {self.mfu:.2g} is far below any real run")
        return tuple(out)


def peak_format(gpu: Accelerator, precision: str | None = None) -> str:
    """The number format whose peak counts: the one asked for, else the widest used for training that the device has."""
    if precision is not None:
        return precision
    return next((name for name in ANY_FORMAT if name in gpu.peak), "bf16")


def dense_peak(gpu: Accelerator, precision: str | None = None) -> float:
    return gpu.dense_peak(peak_format(gpu, precision))


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)
