"""Whether layers shared otherwise over GPUs would keep more experts on them: --tensor-split beside --n-cpu-moe auto.

llama.cpp shares layers by the memory of each GPU, and the layers whose experts are in host memory are the first: the first GPU
has room that the others lack (src/llama-model.cpp, load_tensors; common/common.h, llm_ffn_exps_block_regex).
"""

from collections.abc import Callable
from typing import Any

from memcalc.formulas.bisection import largest
from memcalc.sizing.largest import Choices, solve
from memcalc.specs.serving import Serving

Parts = tuple[float, ...]
Sized = Any  # a SizedServing, whose module imports this


def with_fewest(choices: Choices, sized: Callable[..., Sized], sure: bool) -> Sized:
    """The fewest layers with experts in host memory, and what another split would need. `choices`: layers that keep them."""
    depth = choices.high
    most, solved = solve("n_cpu_moe", choices, lambda kept: sized(n_cpu_moe=depth - kept), sure=sure)
    found = sized(solved._replace(value=None if solved.value is None else depth - most), n_cpu_moe=depth - most)

    def divided(layers: int, parts: Parts) -> Sized:
        return sized(n_cpu_moe=layers, tensor_split=parts)

    found.remark = remark(found.run, depth, None if solved.value is None else depth - most, divided, sure)
    return found


def remark(run: Serving, depth: int, fewest: int | None, sized: Callable[[int, Parts], Sized], sure: bool) -> str:
    """What to say of the split where `fewest` layers of `depth` have their experts in host memory (None: they do not
    fit even so); empty where no other keeps more, or where it was given. `sized`: with so many layers, and parts."""
    if run.pp == 1 or run.tensor_split or run.split_mode != "layer" or run.gpu_layers is not None:
        return ""
    low = 0 if fewest is None else depth - fewest + 1
    kept = largest(low, depth, 1, lambda layers: split(depth, run.pp, depth - layers, sized, sure) is not None)
    if kept is None or (parts := split(depth, run.pp, depth - kept, sized, sure)) is None:
        return ""
    words, layers = ",".join(f"{part:.0f}" for part in parts), depth - kept
    now = "they do not fit" if fewest is None else f"the experts of {fewest:,} must stand in host memory"
    return (
        f"where layers are shared by the memory of each GPU {now}: --tensor-split {words} --n-cpu-moe {layers} needs "
        f"those of {layers:,} there"
    )


def split(depth: int, gpus: int, moved: int, sized: Callable[[int, Parts], Sized], sure: bool) -> Parts | None:
    """Layers for each GPU with which all fit, the last one's with the head; None where there are none. Each GPU in turn takes
    as many as it can hold, which leaves the fewest to the rest."""

    def holds(number: int, shares: Parts) -> bool:
        fit = sized(moved, shares).on_gpus[number][2]
        return fit is not None and (fit.verdict == "fits" if sure else fit.verdict != "no")

    def most(before: tuple[int, ...]) -> int | None:
        """Layers of the GPU behind these."""
        left, behind = depth - sum(before), (0,) * (gpus - len(before) - 2)
        return largest(
            0, left, 1, lambda count: holds(len(before), tuple(map(float, (*before, count, *behind, left - count + 1))))
        )

    counts: tuple[int, ...] = ()
    while len(counts) < gpus - 1:
        if (count := most(counts)) is None:
            return None
        counts = (*counts, count)
    shares = tuple(map(float, (*counts, depth - sum(counts) + 1)))
    return shares if holds(gpus - 1, shares) else None
