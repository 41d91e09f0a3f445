"""The largest whole number for which something holds."""

from collections.abc import Callable

from memcalc.frozen import NamedTuple


class Solved(NamedTuple):
    """What was asked for. `value` is None where not even the smallest fits; then the estimate is of that."""

    key: str
    value: int | None
    limited_by: str  # "memory", or what bounds the setting: "positions", "max_sequences", "width", "bound"


def largest(low: int, high: int, step: int, holds: Callable[[int], bool]) -> int | None:
    """The largest of low, low + step … up to `high` for which `holds`, which holds up to some number and not beyond.

    None where it does not hold at `low`. Steps double first, so that the cost is twice the logarithm of the answer, and what is
    far beyond it is never asked.

    >>> largest(1, 10**9, 1, lambda number: number * number <= 10**6), largest(4, 99, 4, lambda number: number < 20)
    (1000, 16)
    >>> largest(1, 50, 1, lambda number: True), largest(1, 50, 1, lambda number: False)
    (50, None)
    """
    if not holds(low):
        return None
    best, worst = 0, (high - low) // step + 1  # steps beyond low: one that holds, one that does not or is out of range
    stride = 1
    while best + stride < worst and holds(low + (best + stride) * step):
        best, stride = best + stride, stride * 2
    worst = min(worst, best + stride)
    while worst - best > 1:
        middle = (best + worst) // 2
        best, worst = (middle, worst) if holds(low + middle * step) else (best, middle)
    return low + best * step
