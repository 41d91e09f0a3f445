"""Every key of `budget`: what was given, what relation each other number was solved from, and FLOPs block by block."""

from collections.abc import Callable, Iterable

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.compute.budget import BudgetEstimate
from memcalc.estimates.compute.flops import (
    BlockFlops,
    CountedBlock,
    by_block,
    decode_by_block,
    prefill_by_block,
    step_by_block,
)
from memcalc.estimates.compute.levels import Level
from memcalc.estimates.compute.relations import Relation
from memcalc.estimates.explanation import Explanation, follows, given, of_figure, of_formula, summed
from memcalc.formulas import compute, energy
from memcalc.formulas.energy import GRID, MFU, PUE
from memcalc.formulas.formula import ASSUMED
from memcalc.sizing.budget import SizedBudget
from memcalc.sizing.explaining.keys import Key, Make, Table, stated
from memcalc.sizing.explaining.shared import ALWAYS, GPU, gpu_fact, model_key, option, origin
from memcalc.sizing.settings import settled
from memcalc.specs.budget import Budget
from memcalc.specs.hardware import Accelerator
from memcalc.specs.runs import TrainingRun

# Names of relations, by key of the document and back.
KEYS = {
    "flops": "flops", "pf_days": "pf_days", "parameters": "params", "tokens": "tokens", "gpu_hours": "gpu_hours",
    "gpus": "gpus", "days": "days", "mfu": "mfu", "hfu": "hfu", "price_per_gpu_hour": "price",
}  # fmt: skip
PATHS = {name: f"compute.{key}" for key, name in KEYS.items()}
UNITS = {
    "flops": "FLOP", "pf_days": "petaFLOP/s-days", "params": "parameters", "tokens": "tokens", "gpu_hours": "h",
    "gpus": "GPUs", "days": "days", "mfu": "share", "hfu": "share", "price": "USD/h", "peak": "FLOP/s",
    "per_token": "FLOP", "overhead": "", "trained_share": "share",
}  # fmt: skip

# --- what was solved --------------------------------------------------------------------------------------------------


def solved(a: SizedBudget, name: str, path: str = "") -> Explanation:
    """A quantity of the relations: given, solved from the others, or a default."""
    path, value, unit = path or PATHS.get(name, name), a.values[name], UNITS[name]
    if value.by is not None:
        return _by_relation(a, name, path, value.by, value.number)
    if name == "peak" and a.gpu:
        return gpu_fact(a.gpu, path, value.number, f"peak.{a.peak_format}", unit)
    if name == "params" and a.architecture is not None and a.model:
        return given(path, value.number, f"active parameters of {origin(a.model)}", unit)
    if name == "price" and a.price and value.assumed:
        return given(path, value.number, f"on demand, {a.price.as_of}: {a.price.where}", unit, ASSUMED)
    if name == "gpu_hours" and a.budget.cost is not None and "gpu_hours" not in a.budget.given:
        cost = given("given.cost", a.budget.cost, who(a, "cost"), "USD")
        return follows(path, value.number, unit, "given.cost / compute.price_per_gpu_hour", cost, solved(a, "price"))
    if name == "mfu" and value.assumed:
        return given(path, value.number, a.mfu_note, unit, ASSUMED)
    if name == "trained_share":
        return given(
            path, value.number, f"of three passes of each product, {a.budget.method} leaves out the weight's gradient", unit
        )
    if name == "per_token":
        return per_token(a, a.level, path)
    if name == "overhead":
        return given(path, value.number, overhead_source(a), unit, ASSUMED if value.assumed else "exact")
    return given(path, value.number, who(a, name), unit)


def _by_relation(a: SizedBudget, name: str, path: str, by: Relation, value: float) -> Explanation:
    """left = constant × right, solved for one of them."""
    others = [other for other in by.names if other != name]
    parts = [solved(a, other) for other in others]
    right = [PATHS.get(other, other) for other in by.right if other != name]
    product = " * ".join([*(() if by.constant == 1 else (f"{by.constant:g}",)), *right]) or "1"
    formula = product if name == by.left else f"{PATHS.get(by.left, by.left)} / ({product})"
    return follows(path, value, UNITS[name], formula, *parts, source=by.text)


def who(a: SizedBudget, name: str) -> str:
    """Who gave a setting: an option, or the published run that the budget is like."""
    said = settled(*a.asked, Budget)
    if name in said or a.like is None:
        return f"given by {option(name)}"
    return published(a.like.run)


def published(run: TrainingRun) -> str:
    return f"published of {run.name}: presets/runs/{run.id}.toml ({run.sources[0]})"


def overhead_source(a: SizedBudget) -> str:
    """Hardware FLOPs over model FLOPs."""
    if a.budget.recompute == "none":
        return "no recomputation: hardware FLOPs are model FLOPs"
    if a.budget.flops_by == "6ND" and a.budget.recompute == "full":
        return "8·N·D over 6·N·D: the forward pass runs twice"
    return f"FLOPs with --recompute {a.budget.recompute} over those without, block by block"


def whole(a: SizedBudget, key: Key) -> Explanation:
    """A key of compute.* that a relation solves; the document rounds counts to whole ones."""
    found = solved(a, KEYS[key.last], key.path)
    if found.value == key.value:
        return found
    exact = found.named("exact")
    formula = "ceil(exact)" if key.last == "gpus" else "round(exact)"
    return follows(key.path, key.value, found.unit, formula, exact)


# --- time, energy, money ----------------------------------------------------------------------------------------------


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


# --- FLOPs ------------------------------------------------------------------------------------------------------------


def per_token(a: SizedBudget, level: Level, path: str) -> Explanation:
    """FLOPs a token by one way of counting."""
    value = level.per_token or 0.0
    if level.formula is not None:
        inputs = dict(level.inputs)
        made = level.figure(1)
        assert made
        parts = [model_parameters(a)] if "parameters" in inputs else []
        return of_figure(made, path, *(part for part in parts if part.value == inputs["parameters"]))
    assert a.architecture
    passes = PASSES_OF[level.name]
    parts = [step_pass(a, name, f"flops.architecture.{name}") for name in passes]
    if level.name == "architecture-hardware" and a.budget.recompute == "selective":
        rest = value - sum(part.value for part in parts)
        parts.append(given("selective recomputation", rest, "attention of every layer once more", "FLOP"))
    elif level.name == "architecture-hardware":
        parts.append(step_pass(a, "full_recomputation_per_token", "flops.architecture.full_recomputation_per_token"))
    return summed(path, parts, "FLOP", why=level.counts)


PASSES_OF = {
    "architecture": ("forward_per_token", "backward_per_token"),
    "architecture-causal": ("forward_causal_per_token", "backward_causal_per_token"),
    "architecture-hardware": ("forward_per_token", "backward_per_token"),
}


def model_parameters(a: SizedBudget) -> Explanation:
    return solved(a, "params", "parameters")


Blocks = Iterable[tuple[CountedBlock, float]]


def _forward(a: Architecture, n: int, *, causal: bool = False, layered: bool = False) -> Blocks:
    return ((e, ahead) for e, ahead, _ in step_by_block(a, n, causal=causal) if e.layered or not layered)


def _backward(a: Architecture, n: int, *, causal: bool = False, attention: str = "eager") -> Blocks:
    return ((e, back) for e, _, back in step_by_block(a, n, causal=causal, attention=attention))


# Keys of flops.architecture: FLOPs of a sequence of so many tokens by block, and what each is divided by (None: nothing).
STEP: dict[str, Callable[[Architecture, int], Blocks]] = {
    "forward_per_token": _forward,
    "forward_causal_per_token": lambda a, n: _forward(a, n, causal=True),
    "backward_per_token": _backward,
    "backward_flash_per_token": lambda a, n: _backward(a, n, attention="flash"),
    "backward_causal_per_token": lambda a, n: _backward(a, n, causal=True),
    "full_recomputation_per_token": lambda a, n: _forward(a, n, layered=True),
    "prefill_per_token": lambda a, n: prefill_by_block(a, n, causal=True),
}


def step_pass(a: SizedBudget, name: str, path: str) -> Explanation:
    """FLOPs a token of one pass, block by block."""
    assert a.architecture
    source = "every matrix product, 2 FLOP a multiply-add, as PyTorch's FlopCounterMode"
    if name == "decode_per_token":
        parts = by_path(decode_by_block(a.architecture, a.seq_len))
        return summed(path, parts, "FLOP", why=f"{source}; one token after {a.seq_len:,}")
    sequence = summed("sequence", by_path(STEP[name](a.architecture, a.seq_len)), "FLOP")
    return follows(path, sequence.value / a.seq_len, "FLOP", "sequence / tokens", sequence, source=source,
                   inputs={"tokens": a.seq_len})  # fmt: skip


def by_path(blocks: Blocks) -> list[Explanation]:
    """FLOPs of equal blocks in all layers that have one."""
    sums: dict[str, list[float]] = {}
    for entry, flops in blocks:
        known = sums.setdefault(entry.path, [0.0, 0])
        known[0] += flops
        known[1] += entry.layers
    return [Explanation(path, flops, "FLOP", "", {"layers": layers}) for path, (flops, layers) in sums.items() if flops]


def level_key(a: SizedBudget, key: Key) -> Explanation:
    """flops.levels.*: FLOPs a token, and of all tokens."""
    level = a.levels[key.number()]
    if key.last == "per_token":
        return per_token(a, level, key.path)
    if level.formula is not None and a.tokens and (made := level.figure(a.tokens)):
        return of_figure(made, key.path)._replace(value=key.value)
    return follows(key.path, key.value, "FLOP", "per_token * compute.tokens", per_token(a, level, "per_token"),
                   whole(a, key.at("compute.tokens")))  # fmt: skip


def architecture_key(a: SizedBudget, key: Key) -> Explanation:
    if key.last == "context":
        return sequence_length(a, key)
    return step_pass(a, key.last, key.path)


def block_key(a: SizedBudget, key: Key) -> Explanation:
    """flops.architecture.blocks.*: FLOPs a token and a pair of tokens, times the layers that have the block."""
    assert a.architecture
    row: BlockFlops = by_block(a.architecture, a.seq_len)[key.number()]
    if key.last != "flops":
        return given(key.path, key.value, f"of {row.path}, counted operation by operation")
    share = row.flops / ((row.per_token * a.seq_len + row.per_pair * a.seq_len**2) * row.layers)
    tokens, pairs = a.seq_len * share, a.seq_len**2 * share  # in an encoder-decoder a token passes one of the two
    found = of_formula(key.path, "FLOP", compute.block_flops, per_token=row.per_token, tokens=tokens, per_pair=row.per_pair,
                       pairs=pairs, layers=row.layers)  # fmt: skip
    return found._replace(value=row.flops, certainty=row.certainty)


def sequence_length(a: SizedBudget, key: Key) -> Explanation:
    if a.budget.seq_len is not None:
        return given(key.path, key.value, who(a, "seq_len"), "tokens")
    return given(key.path, key.value, "default of --seq-len, at most the model's context", "tokens", ASSUMED)


def inference_key(a: SizedBudget, key: Key) -> Explanation:
    if key.last == "context":
        return given(key.path, key.value, "only a parameter count is known: no attention scores", "tokens")
    return follows(key.path, key.value, "FLOP", "2 * compute.parameters", whole(a, key.at("compute.parameters")))


# --- the rest ---------------------------------------------------------------------------------------------------------


def equivalent(a: SizedBudget, key: Key) -> Explanation:
    """The same compute on a device that people know, for a day."""
    gpu: Accelerator = a.references[key.number()]
    from memcalc.estimates.compute.budget import dense_peak, peak_format

    peak = gpu_fact(gpu, "peak", dense_peak(gpu), f"peak.{peak_format(gpu)}", "FLOP/s")
    if key.last == "for_a_day_at_peak":
        return follows(key.path, key.value, "GPUs", "compute.flops / (peak * 86400)", solved(a, "flops"), peak)
    used = solved(a, "mfu") if a.mfu is not None else given("compute.mfu", MFU.value, MFU.note, "share", ASSUMED)
    return follows(key.path, key.value, "GPUs", "compute.flops / (peak * 86400 * compute.mfu)", solved(a, "flops"), peak, used)


def figure_key(a: SizedBudget, key: Key) -> Explanation:
    """lines.*: formulas, with how their inputs came about."""
    made = a.figures[key.number()]
    parts = {
        "flops": lambda: solved(a, "flops", "flops"),
        "accelerator_hours": lambda: hours(a),
        "accelerators": lambda: solved(a, "gpus", "accelerators"),
        "price": lambda: solved(a, "price", "price"),
        "watts": lambda: watts(a, "watts"),
        "pue": lambda: pue(a, "pue"),
        "grid_intensity": lambda: grid(a, "grid_intensity"),
        "peak": lambda: solved(a, "peak", "peak"),
        "mfu": lambda: solved(a, "mfu", "mfu"),
        "utilisation": lambda: solved(a, "mfu", "utilisation"),
        "energy_kwh": lambda: energy_kwh(a, "energy_kwh"),
        "hardware_flops": lambda: hardware_flops(a, "hardware_flops"),
        "model_flops": lambda: solved(a, "flops", "model_flops"),
    }
    known = [parts[name]() for name in made.inputs if name in parts]
    found = of_figure(made, key.path, *(part for part in known if part.value == made.inputs[part.path]))
    if key.last == "value":
        return found
    part = next((part for part in found.parts if part.path == key.last), None)
    return part.named(key.path) if part else given(key.path, key.value, f"put into {made.path}: {found.formula}")


def run_key(a: SizedBudget, key: Key) -> Explanation:
    """run.*: a published run, and what memcalc makes of it."""
    assert a.like
    like = a.like
    if key.steps[1] not in ("computed", "difference"):
        return given(key.path, key.value, published(like.run))
    if key.last == "flops_with_attention":
        run = like.run
        return of_formula(key.path, "FLOP", compute.palm_training_flops, parameters=run.used_parameters, tokens=run.tokens,
                          layers=run.layers, heads=run.heads, head_dim=run.head_dim, seq_len=run.seq_len)  # fmt: skip
    if key.steps[1] == "difference":
        row = like.comparison(key.last)
        computed = _computed(a, like.found, key.last, "computed", row.computed, row.basis)
        return follows(key.path, key.value, "share", "computed / published - 1", computed,
                       given("published", row.published, published(like.run)))  # fmt: skip
    basis = next((row.basis for row in like.comparisons if row.quantity == key.last), "6·N·D")
    return _computed(a, like.found, key.last, key.path, key.value, basis)


def _computed(a: SizedBudget, found: BudgetEstimate, name: str, path: str, value: float | None, basis: str) -> Explanation:
    """A figure of the run's own budget, under the name that it has here."""
    run = a.like.run if a.like else None
    if name == "gpu_hours" and run and found.peak:
        return of_formula(path, "h", compute.accelerator_hours, flops=found.flops, peak=found.peak, utilisation=run.mfu)
    if name == "flops":
        return of_formula(path, "FLOP", compute.dense_training_flops, parameters=found.parameters, tokens=found.tokens)
    makes = {"pf_days": compute.petaflop_days, "energy_kwh": energy.energy_kwh, "co2e_kg": energy.co2e_kg}
    made = next((figure for figure in found.figures if figure.formula is makes.get(name)), None)
    return of_figure(made, path) if made else given(path, value, basis)


def given_key(a: SizedBudget, key: Key) -> Explanation:
    return given(key.path, key.value, who(a, key.last), UNITS.get(key.last, "USD" if key.last == "cost" else ""))


def known_model(a: SizedBudget, key: Key) -> Explanation:
    """model.*: as counted, or nothing but the parameters."""
    if a.model is not None:
        return model_key(a.model, key)
    return whole(a, key.at("compute.parameters")).named(key.path)


ROWS: Table = {
    "model.*": known_model,
    "given.*": given_key,
    "compute.hardware_flops": lambda a, key: hardware_flops(a, key.path),
    "compute.cost_usd": lambda a, key: cost(a, key.path),
    "compute.cost_low_usd": cost_bound("low"),
    "compute.cost_high_usd": cost_bound("high"),
    "compute.watts": lambda a, key: watts(a, key.path),
    "compute.pue": lambda a, key: pue(a, key.path),
    "compute.grid_intensity": lambda a, key: grid(a, key.path),
    "compute.energy_kwh": lambda a, key: energy_kwh(a, key.path),
    "compute.co2e_kg": lambda a, key: carbon(a, key.path),
    "compute.*": whole,
    "gpu.peak": lambda a, key: solved(a, "peak", key.path),
    **GPU,
    "flops.sequence_length": sequence_length,
    "flops.by": stated("given by --flops-by, or its default"),
    "flops.levels.*.per_token": level_key,
    "flops.levels.*.training": level_key,
    "flops.architecture.blocks.*.*": block_key,
    "flops.architecture.*": architecture_key,
    "flops.inference.*": inference_key,
    "equivalents.*.for_a_day_at_peak": equivalent,
    "equivalents.*.for_a_day_at_mfu": equivalent,
    "lines.*.value": figure_key,
    "lines.*.inputs.*": figure_key,
    "run.**": run_key,
    **ALWAYS,
}
