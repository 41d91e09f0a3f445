"""How many GPUs to look at: a number, a range, a list, or as few as do it."""

import re
from collections.abc import Iterator

from memcalc.errors import InputError
from memcalc.specs.parallelism import MAX_GPUS
from memcalc.specs.spec import SpecError
from memcalc.units import parse_count

MOST_COUNTS = 12  # of a range
FEWEST = 2**15  # GPUs at which a search for the fewest gives up


def gpu_counts(text: int | str, gpus_per_node: int) -> tuple[int, ...]:
    """What `--gpus` says: 64, 8-64 (whole nodes, or halves of one) or 8,16,24.

    >>> gpu_counts(64, 8), gpu_counts("4-32", 8), gpu_counts("8,24", 8)
    ((64,), (4, 8, 16, 24, 32), (8, 24))
    """
    if isinstance(text, int):
        return (_count(text),)
    if found := re.fullmatch(r"\s*([^-,]+)-([^-,]+)\s*", text):
        low, high = (_count(word) for word in found.groups())
        if low > high:
            raise SpecError(f"{text!r:.40} ends below its start; write {high}-{low}", "gpus")
        return _range(low, high, gpus_per_node)
    return tuple(sorted({_count(word) for word in text.split(",")}))


def _range(low: int, high: int, gpus_per_node: int) -> tuple[int, ...]:
    """Powers of two within a node and whole nodes beyond it, thinned to powers of two where there are many; both ends."""
    inside = {2**power for power in range(40) if low <= 2**power <= min(high, gpus_per_node)}
    first = -(-low // gpus_per_node)
    nodes = range(first, high // gpus_per_node + 1)
    if len(nodes) > MOST_COUNTS:
        nodes_kept = {2**power for power in range(40) if first <= 2**power <= high // gpus_per_node}
    else:
        nodes_kept = set(nodes)
    return tuple(sorted(inside | {count * gpus_per_node for count in nodes_kept if count} | {low, high}))


def growing() -> Iterator[int]:
    """1, 2, 4, …: until it fits."""
    count = 1
    while count <= FEWEST:
        yield count
        count *= 2


def _count(said: int | str) -> int:
    try:
        number = said if isinstance(said, int) else parse_count(said.strip())
    except InputError as error:
        raise SpecError(str(error), "gpus") from error
    if not 1 <= number <= MAX_GPUS:
        raise SpecError(f"{number:,} is out of range; between 1 and {MAX_GPUS:,} are accepted", "gpus")
    return number
