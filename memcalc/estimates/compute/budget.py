"""A compute budget: from any sufficient part of model, data, hardware, time and money, all the rest."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.errors import InputError
from memcalc.estimates.compute.flops import estimated_blocks, step_flops
from memcalc.estimates.compute.levels import SEQ_LEN, Level, levels
from memcalc.estimates.compute.relations import TOLERANCE, Relation, Value, solve
from memcalc.estimates.lines import Figure, figure
from memcalc.formulas import compute, energy
from memcalc.formulas.energy import GRID, MFU, PRICES, PUE, Price, default_mfu
from memcalc.formulas.methods import METHODS
from memcalc.frozen import dataclass
from memcalc.specs.budget import Budget
from memcalc.specs.hardware import Accelerator
from memcalc.specs.spec import SpecError
from memcalc.units import PF_DAY

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


def estimate(
    budget: Budget,
    *,
    architecture: Architecture | None = None,
    gpu: Accelerator | None = None,
    references: Sequence[Accelerator] = (),
    predicted: "PredictedSpeed | None" = None,
) -> BudgetEstimate:
    """Solve a budget. `predicted`: the speed of its layout, where that is known. Raises SpecError where the givens contradict
    each other, and InputError where they are too few."""
    if architecture is not None:
        _check_parameters(architecture, budget)
    elif budget.flops_by != "6ND":
        raise SpecError(f"{budget.flops_by} counts the blocks of a model; give a MODEL, or 6ND", "flops_by")
    seq_len = budget.seq_len or min(SEQ_LEN, architecture.context or SEQ_LEN if architecture else SEQ_LEN)
    known = {name: Value(number, (name,)) for name, number in budget.given.items()}
    if architecture is not None:
        known["params"] = Value(architecture.active_parameters, ("params",) if budget.params else ("MODEL",))
    if gpu is not None:
        known["peak"] = Value(dense_peak(gpu, budget.precision), ("gpu",))
    counted = levels(architecture, known["params"].number if "params" in known else 0, seq_len, budget.recompute)
    rule = _rule(counted, budget, known, architecture)
    _overhead(known, budget, architecture, seq_len)
    relations = (*rule, *RELATIONS)
    if METHODS[budget.method].adapters:
        known["trained_share"] = Value(_trained_share(architecture, seq_len, budget.flops_by), ("method",))
        relations = (*rule, ADAPTED, *RELATIONS[1:])
    note, share = _utilisation(known, budget, gpu, architecture, predicted)
    values, price = _solved(budget, known, relations, gpu, share)
    if "flops" not in values and not {"gpu_hours", "gpus", "days"} <= values.keys():
        raise InputError(_missing(values, gpu))
    values.setdefault("overhead", Value(1.0, (), True))
    _check_shares(values)
    if architecture is None and "params" in values:
        counted = levels(None, values["params"].number, seq_len, budget.recompute)
    found = BudgetEstimate(budget, architecture, gpu, seq_len, values, counted, tuple(references), price, note)
    _check_ceiling(found)
    _check_whole(found)
    return found


class PredictedSpeed(NamedTuple):
    """The speed of a model in one layout, and where it comes from."""

    tokens_per_second_per_gpu: float
    note: str


def _utilisation(
    known: dict[str, Value], budget: Budget, gpu: Accelerator | None, architecture: Architecture | None,
    predicted: PredictedSpeed | None,
) -> tuple[str, float]:  # fmt: skip
    """The utilisation to assume, and why: that of the layout, counted as this budget counts FLOPs, else a default."""
    if predicted and "per_token" in known and "peak" in known:
        share = known["trained_share"].number if "trained_share" in known else 1.0
        return predicted.note, known["per_token"].number * share * predicted.tokens_per_second_per_gpu / known["peak"].number
    mixture = architecture is not None and architecture.active_parameters < 0.9 * architecture.parameters
    found = default_mfu(peak_format(gpu, budget.precision) if gpu else "bf16", mixture=mixture)
    return found.note, found.value


def _trained_share(architecture: Architecture | None, seq_len: int, flops_by: str) -> float:
    """FLOPs with frozen matrices over those without: of three passes of each product one is the gradient of its weight."""
    if architecture is None or flops_by == "6ND":
        return 2 / 3
    found = step_flops(architecture, 1, seq_len, recompute="selective", causal=flops_by.endswith("causal"))
    attention = found.recomputation
    return (2 * (found.forward - attention) + 3 * attention) / (3 * found.forward)


ADAPTED = Relation(
    "FLOPs = FLOPs a token × tokens × share of what is computed beside frozen matrices", "flops",
    ("per_token", "tokens", "trained_share"),
)  # fmt: skip
RELATIONS = (
    Relation("FLOPs = FLOPs a token × tokens", "flops", ("per_token", "tokens")),
    Relation("FLOPs = PF-days × 8.64e19", "flops", ("pf_days",), float(PF_DAY)),
    Relation("GPU-hours = GPUs × days × 24", "gpu_hours", ("gpus", "days"), 24.0),
    Relation("FLOPs = GPU-hours × 3600 × peak × MFU", "flops", ("gpu_hours", "peak", "mfu"), 3600.0),
    Relation("HFU = MFU × hardware FLOPs / model FLOPs", "hfu", ("mfu", "overhead")),
)


def peak_format(gpu: Accelerator, precision: str | None = None) -> str:
    """The number format whose peak counts: the one asked for, else the widest used for training that the device has."""
    if precision is not None:
        return precision
    return next((name for name in ANY_FORMAT if name in gpu.peak), "bf16")


def dense_peak(gpu: Accelerator, precision: str | None = None) -> float:
    return gpu.dense_peak(peak_format(gpu, precision))


def _rule(
    counted: Sequence[Level], budget: Budget, known: dict[str, Value], architecture: Architecture | None
) -> tuple[Relation, ...]:
    """What FLOPs a token are: a multiple of the parameters, or a number where the model itself was counted."""
    if architecture is None:
        return (Relation("FLOPs a token = 6 × parameters", "per_token", ("params",), 6.0),)
    level = next((level for level in counted if level.name == budget.flops_by), None)
    if level is None or level.per_token is None:
        why = level.counts if level else "it has no softmax attention"
        raise SpecError(f"{budget.flops_by} does not apply to this model: {why}", "flops_by")
    known["per_token"] = Value(level.per_token, known["params"].givens)
    return ()


def _overhead(known: dict[str, Value], budget: Budget, architecture: Architecture | None, seq_len: int) -> None:
    """Hardware FLOPs over model FLOPs: known where recomputation is asked for, else 1 unless both utilisations are given."""
    if budget.recompute == "none":
        if not (budget.mfu and budget.hfu):
            known["overhead"] = Value(1.0, (), True)
        return
    if budget.flops_by == "6ND" and budget.recompute == "full":
        known["overhead"] = Value(8 / 6, ("recompute",))
        return
    if architecture is None:
        raise SpecError("how much attention is recomputed takes a MODEL; or recompute full", "recompute")
    counted = step_flops(architecture, 1, seq_len, recompute=budget.recompute, causal=budget.flops_by.endswith("causal"))
    known["overhead"] = Value(counted.hardware / counted.model, ("recompute",))


def _solved(
    budget: Budget, known: dict[str, Value], relations: Sequence[Relation], gpu: Accelerator | None, mfu: float
) -> tuple[dict[str, Value], Price | None]:
    """What is given decides first; a default utilisation comes in where it must, and a cost ceiling buys hours last."""
    values = solve(relations, known)
    price = None
    if "price" not in values and gpu is not None and (price := PRICES.get(gpu.id)):
        values["price"] = Value(price.usual, (), True)
    if "gpu_hours" not in values and "flops" in values and "peak" in values and "mfu" not in values:
        values = solve(relations, values | {"mfu": Value(mfu, (), True)})
    if "gpu_hours" not in values and budget.cost is not None:
        values = solve(relations, values | {"gpu_hours": _bought(budget.cost, values)})
    if "flops" not in values and "gpu_hours" in values and "peak" in values:
        values = solve(relations, values | {"mfu": Value(mfu, (), True)})
    return values, price


def _bought(cost: float, values: dict[str, Value]) -> Value:
    """The hours that a cost ceiling buys."""
    if "price" not in values:
        raise InputError("says nothing without a price an hour; add --price, or a --gpu with a default", place="--cost")
    price = values["price"]
    return Value(cost / price.number, ("cost", *price.givens), price.assumed)


def _check_parameters(architecture: Architecture, budget: Budget) -> None:
    if budget.params is None:
        return
    known = (architecture.parameters, architecture.active_parameters)
    if all(abs(budget.params / number - 1) > 0.01 for number in known):
        raise SpecError(f"says {budget.params:,}, but MODEL has {known[1]:,} active parameters; leave it out", "params")


def _check_shares(values: dict[str, Value]) -> None:
    """More than the peak is a contradiction between what is given, not a utilisation."""
    for name in ("mfu", "hfu"):
        value = values.get(name)
        if value is not None and value.number > 1 + 1e-9:
            raise SpecError(
                f"contradict each other: they would take {name.upper()} {value.number:.4g}, more than the dense peak",
                *value.givens,
            )


def _check_ceiling(found: BudgetEstimate) -> None:
    """A ceiling below what the givens alone cost contradicts them; below an assumption's cost it is a warning."""
    hours, price = found.values.get("gpu_hours"), found.values.get("price")
    if found.over_ceiling and hours and price and not (hours.assumed or price.assumed):
        givens = dict.fromkeys((*hours.givens, *price.givens))
        raise SpecError(f"contradict each other: they cost {found.cost_usd:,.2f} USD, more than the ceiling", "cost", *givens)


def _check_whole(found: BudgetEstimate) -> None:
    for name, what in (("params", "parameter"), ("tokens", "token")):
        value = found.values.get(name)
        if value is not None and value.number < 0.5:
            raise SpecError(f"buy less than one {what}", *value.givens)


def _missing(values: dict[str, Value], gpu: Accelerator | None) -> str:
    """What would make a budget sufficient, in one line."""
    has_hours = "gpu_hours" in values
    out = []
    if "params" in values:
        out.append("--tokens")
    elif "tokens" in values:
        out.append("a MODEL or --params")
    else:
        out.append("a MODEL or --params with --tokens")
    out.append("--flops or --pf-days")
    if has_hours:
        out.append("--gpu for these hours")
    else:
        rest = "--days" if "gpus" in values else "--gpus" if "days" in values else "--gpu-hours, --gpus with --days, or --cost"
        out.append(f"the hours ({rest})" + ("" if gpu else " of a --gpu"))
    known = ", ".join(_spelled(name) for name in dict.fromkeys(g for v in values.values() for g in v.givens))
    return f"not enough to go on{f' with {known}' if known else ''}: add {'; or '.join(out)}"


def _spelled(name: str) -> str:
    return name if name == "MODEL" else f"--{name.replace('_', '-')}"


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)
