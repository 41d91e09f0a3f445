"""A compute budget: from any sufficient part of model, data, hardware, time and money, all the rest."""

from collections.abc import Sequence

from memcalc.blocks.architecture import Architecture
from memcalc.errors import InputError
from memcalc.estimates.compute.budget_estimate import BudgetEstimate, dense_peak, peak_format
from memcalc.estimates.compute.flops import step_flops
from memcalc.estimates.compute.levels import SEQ_LEN, Level, levels
from memcalc.estimates.compute.relations import Relation, Value, solve
from memcalc.formulas.energy import PRICES, Price, default_mfu
from memcalc.formulas.methods import METHODS
from memcalc.frozen import NamedTuple
from memcalc.specs.budget import Budget
from memcalc.specs.hardware import Accelerator
from memcalc.specs.spec import SpecError
from memcalc.units import PF_DAY


class PredictedSpeed(NamedTuple):
    """The speed of a model in one layout, and where it comes from."""

    tokens_per_second_per_gpu: float
    note: str


def estimate(
    budget: Budget,
    *,
    architecture: Architecture | None = None,
    gpu: Accelerator | None = None,
    references: Sequence[Accelerator] = (),
    predicted: PredictedSpeed | None = None,
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
