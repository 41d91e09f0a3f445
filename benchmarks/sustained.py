"""Sustained factors of presets/timing, each from published runs that no score counts: `python benchmarks/sustained.py`.

A factor stretches the operators of an accelerator to what a long run makes of them. It is what puts the median of its groups
of presets/measured/step-times.json, each counting once, on the published speed, everything else as it is. Those rows are
`fitted` there, so that the scores of `memcalc validate --kind time` leave them out; a factor that stands in a file and is not
what this finds makes the exit code 1.
"""

import sys
from statistics import median

from memcalc.estimates.step_time.step import step_time
from memcalc.formulas.timing.law import TimeLaw
from memcalc.frozen import NamedTuple
from memcalc.readers.step_times import PublishedSpeed, published_speeds
from memcalc.readers.timing import time_law
from memcalc.sizing.training import training_run

NEAR = 0.02
HIGHEST, STEPS = 4.0, 24  # of the search by halves


class Factor(NamedTuple):
    """One factor, and the runs that it was set from: groups of one kind, on accelerators of one file."""

    name: str
    timing: str
    kind: str
    groups: tuple[str, ...]


DGX = ("dgxc/Llama 3.1 70B/h100-sxm-80", "dgxc/GPT-3 175B/h100-sxm-80")  # swept over 64 to 2048 GPUs
LIKE = {"h100": ("h100", "h100-500w")}  # files that share a factor
PYTORCH = ("mosaic/70b", "mosaic/30b", "torchtitan/llama-3.1-70b", "fmsfsdp/70b")

# One after the other: a factor rests on those before it.
FACTORS = (
    Factor("product", "h100", "dense", DGX),
    Factor("low", "h100", "fp8", DGX),
    Factor("native", "h100", "dense", PYTORCH),
    Factor("product", "gb200", "dense", ("dgxc/Nemotron-4 340B/gb200",)),
    Factor("low", "gb200", "fp8", ("mbridge/llama-3-70b/gb200",)),
    Factor("low", "gb300", "fp8", ("mbridge/llama-3-70b/gb300",)),
    Factor("low", "b200", "fp8", ("mbridge/llama-3-8b/b200-sxm",)),
    Factor("scan", "gb300", "mixture", ("mbridge/nemotron-3-nano-30b-a3b/gb300",)),
    Factor("scan", "gb200", "mixture", ("mbridge/nemotron-3-nano-30b-a3b/gb200",)),
)


def with_factor(law: TimeLaw, name: str, value: float) -> TimeLaw:
    return TimeLaw.of(
        law.name, law.hardware, law.constants._replace(sustained=law.sustained._replace(**{name: value}))
    )  # fmt: skip


def middle(rows: list[PublishedSpeed], name: str, value: float) -> float:
    """Median over groups of predicted over measured speed."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        law = with_factor(time_law(row.gpu, row.network), name, value)
        step = step_time(row.architecture, training_run(row.architecture, None, **row.settings), law)
        groups.setdefault(row.group, []).append(step.tokens_per_second_per_gpu / row.tokens_per_second_per_gpu)
    return median(median(group) for group in groups.values())


def found(rows: list[PublishedSpeed], name: str) -> float:
    low, high = 0.5, HIGHEST
    for _ in range(STEPS):
        value = (low + high) / 2
        low, high = (value, high) if middle(rows, name, value) > 1 else (low, value)
    return low


def main() -> None:
    rows, far = list(published_speeds()), False
    for factor in FACTORS:
        files = LIKE.get(factor.timing, (factor.timing,))
        own = [
            row for row in rows if row.kind == factor.kind and row.gpu.timing in files and row.group in factor.groups
        ]  # fmt: skip
        assert all(row.fitted for row in own), factor
        stated, value = getattr(time_law(own[0].gpu).sustained, factor.name), found(own, factor.name)
        far |= abs(value / stated - 1) > NEAR
        print(f"{factor.timing} {factor.name}: {value:.3f} from {len(own)} runs, {len(factor.groups)} groups; stated {stated}")
    sys.exit(far)


if __name__ == "__main__":
    main()
