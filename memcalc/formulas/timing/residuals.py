"""How far measured steps lie from predicted ones, as quantiles: what the range of a step's time rests on."""

from typing import NamedTuple


class TimeSpread(NamedTuple):
    """10th and 90th percentile of measured / predicted − 1, over groups of runs."""

    kind: str
    groups: int
    low: float
    high: float


SPREADS = {
    "dense": TimeSpread("dense models", 0, -0.2, 0.2),
    "mixture": TimeSpread("mixtures of experts", 0, -0.4, 0.4),
    "adapters": TimeSpread("LoRA and QLoRA", 0, -0.2, 0.25),
}


def spread_of(engine: str, method: str, *, mixture: bool) -> TimeSpread:
    """The range for a kind of run."""
    if method != "full":
        return SPREADS["adapters"]
    return SPREADS["mixture" if mixture else "dense"]
