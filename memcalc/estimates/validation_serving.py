"""Predictions of serving against engines' logs and published file sizes: the error of each, and their distribution."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.lines import WINDOWED
from memcalc.estimates.serving.capacity import Capacity, ServingEstimate
from memcalc.estimates.serving.estimate import estimate
from memcalc.estimates.validation import DIGITS, Skipped, Spread, percentile, spread
from memcalc.formulas.residuals import MIN_ROWS, Quantiles
from memcalc.frozen import NamedTuple
from memcalc.specs.served import Served


class ServingResidual(NamedTuple):
    """One measured number beside its prediction, in the quantity's unit. error = predicted / measured − 1."""

    id: str
    engine: str
    kind: str
    grade: str
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


class Predicted(NamedTuple):
    """One run, estimated: as asked, and with the cache's memory as the source says it is."""

    architecture: Architecture
    found: ServingEstimate
    whole: Capacity
    given: Capacity


def _cache(found: ServingEstimate, windowed: bool) -> int:
    lines = (entry for entry in found.lines if entry.component == "kv_cache" and entry.group == WINDOWED)
    in_windows = sum(entry.bytes for entry in lines)
    return in_windows if windowed else found.kv_cache - in_windows


# One function for each of specs.served.QUANTITIES.
PREDICTIONS: dict[str, Callable[[Predicted], float | None]] = {
    "weights": lambda p: p.found.weights,
    "weights_file": lambda p: p.found.weights,
    "parameters": lambda p: p.architecture.parameters,
    "activations": lambda p: p.found.activations,
    "kv_cache": lambda p: _cache(p.found, windowed=False),
    "kv_cache_window": lambda p: _cache(p.found, windowed=True),
    "compute_buffer": lambda p: p.found.activations,
    "kv_tokens_of_memory": lambda p: p.given.kv_tokens,
    "kv_tokens": lambda p: p.whole.kv_tokens,
    "max_concurrency": lambda p: p.given.max_concurrency,
}


class ServingValidation(NamedTuple):
    residuals: tuple[ServingResidual, ...]
    skipped: tuple[Skipped, ...]  # rows, and quantities of rows, that cannot be predicted
    beside: tuple[ServingResidual, ...] = ()  # what an engine holds beside its cache, where the log gives the cache in tokens


def validate_serving(cases: Iterable[tuple[Served, Architecture | None]]) -> ServingValidation:
    """Predict every quantity that can be predicted."""
    residuals: list[ServingResidual] = []
    skipped: list[Skipped] = []
    beside: list[ServingResidual] = []
    for row, architecture in cases:
        skipped += [Skipped(f"{row.id}: {name}", row.grade, why) for name, why in row.unpredicted.items()]
        if row.serving is None or architecture is None:
            skipped.append(Skipped(row.id, row.grade, row.unpredictable))
            continue
        predicted = _predict(row, architecture)
        for name, value in row.measured.items():
            expected = PREDICTIONS[name](predicted)
            if expected is None:
                skipped.append(Skipped(f"{row.id}: {name}", row.grade, "nothing limits it"))
            else:
                residuals.append(ServingResidual(row.id, row.serving.engine or "none", name, row.grade, value, expected))
        if (logged := row.measured.get("kv_tokens")) and predicted.whole.kv_tokens:
            found, room = predicted.found, predicted.whole.memory
            measured = found.fixed + room * (1 - logged / predicted.whole.kv_tokens)
            beside.append(ServingResidual(row.id, row.serving.engine or "none", "fixed", row.grade, measured, found.fixed))
    return ServingValidation(tuple(residuals), tuple(skipped), tuple(beside))


def stored_served(beside: Iterable[ServingResidual]) -> dict[str, Quantiles]:
    """What memcalc.formulas.residuals stores of serving: by engine with enough rows, measured / predicted − 1."""
    groups: dict[str, list[float]] = defaultdict(list)
    for row in beside:
        groups[row.engine].append(row.measured / row.predicted - 1)
    return {
        engine: Quantiles(engine, "", len(ratios), *(round(percentile(ratios, percent), DIGITS) for percent in (10, 90)))
        for engine, ratios in sorted(groups.items())
        if len(ratios) >= MIN_ROWS
    }


def _predict(row: Served, architecture: Architecture) -> Predicted:
    assert row.serving  # the caller asks only for rows that have one
    memory = row.usable or 0
    found = estimate(architecture, row.serving, row.generation, memory)
    whole = given = found.capacity(memory)
    if row.cache and row.serving.engine_row.pooled:
        asked = row.serving.replace(kv_cache_memory=row.cache)
        given = estimate(architecture, asked, row.generation, memory).capacity(memory)
    return Predicted(architecture, found, whole, given)


def serving_distribution(residuals: Iterable[ServingResidual]) -> list[Spread]:
    """The spread of every engine and quantity, grade A and B apart."""
    groups: dict[tuple[str, str, str], list[ServingResidual]] = defaultdict(list)
    for residual in residuals:
        groups[residual.engine, f"grade {residual.grade}", residual.kind].append(residual)
    return [spread(group, *key) for key, group in sorted(groups.items())]
