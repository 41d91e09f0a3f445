"""What is needed beside what there is: the verdict, the limit and what `max` found, as documents and in words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memcalc.formulas.bisection import Solved
from memcalc.formulas.verdict import Fit, Needed
from memcalc.units import format_bytes

if TYPE_CHECKING:
    from memcalc.specs.hardware import Accelerator


def needed_document(needed: Needed) -> dict[str, int]:
    return {"needed": needed.bytes, "needed_low": needed.low, "needed_high": needed.high}


def gpu_document(gpu: "Accelerator", fit: Fit) -> dict[str, Any]:
    """What the accelerator has, what a process can get of it, and the verdict."""
    return {
        "name": gpu.name, "memory": gpu.vendor_bytes, "usable": gpu.usable, "allocatable": gpu.allocatable, "limit": fit.limit,
        "limit_certainty": "assumed" if gpu.limit_assumed else "exact", "verdict": fit.verdict, "fits": fit.fits,
        "headroom": fit.headroom,
    }  # fmt: skip


def solved_document(solved: Sequence[Solved]) -> dict[str, Any]:
    """What was asked for with `max`, where something was."""
    return {"solved": [one._asdict() for one in solved]} if solved else {}


FEWEST = ("n_cpu_moe",)  # settings of which the smallest value is looked for


def solved_sentence(solved: Sequence[Solved]) -> str:
    """The same in words, after the verdict."""
    limits = {"memory": "memory binds", "positions": "the model's positions bind", "max_sequences": "the engine runs no more",
              "layers": "all layers", "width": "the model is no wider", "bound": "the option goes no further"}  # fmt: skip
    return "".join(
        f"; {one.key.replace('_', ' ')} {one.value:,} is the {'fewest' if one.key in FEWEST else 'largest'}: "
        f"{limits[one.limited_by]}"
        if one.value is not None
        else f"; not even the smallest {one.key.replace('_', ' ')} fits"
        for one in solved
    )


def limit_sentences(gpu: "Accelerator | None") -> tuple[str, ...]:
    """How the limit was come by, where it is assumed."""
    return (f"limit (assumed): {gpu.limit_assumed}",) if gpu and gpu.limit_assumed else ()


def verdict_of(needed: Needed, fit: Fit | None, hint: str = "") -> tuple[str, str]:
    """What is needed, its range and the limit in one sentence, and its tone."""
    need = f"{format_bytes(needed.bytes)} needed"
    if needed.high > needed.low:
        need += f" (range {format_bytes(needed.low)} to {format_bytes(needed.high)})"
    if fit is None:
        return f"{need} per GPU (name a --gpu to see whether it fits)", ""
    total = format_bytes(fit.limit)
    if fit.verdict == "fits":
        return f"FITS: {need} of {total}, {format_bytes(fit.headroom)} free", "good"
    if fit.verdict == "tight":
        return f"TIGHT: {need} of {total}; the range ends {format_bytes(needed.high - fit.limit)} above", "near"
    return f"DOES NOT FIT: {need} of {total}, over by {format_bytes(-fit.headroom)}{hint and f'; {hint}'}", "bad"
