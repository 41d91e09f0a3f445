"""What a budget solved: who gave a quantity or which relation made it, and FLOPs a token down to blocks."""

from collections.abc import Callable, Iterable

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.compute.flops import CountedBlock, decode_by_block, prefill_by_block, step_by_block
from memcalc.estimates.compute.levels import Level
from memcalc.estimates.compute.relations import Relation
from memcalc.estimates.explanation import Explanation, follows, given, of_figure, summed
from memcalc.formulas.formula import ASSUMED
from memcalc.sizing.budget import SizedBudget
from memcalc.sizing.explaining.keys import Key
from memcalc.sizing.explaining.shared import gpu_fact, option, origin
from memcalc.sizing.settings import settled
from memcalc.specs.budget import Budget
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
