"""How far measured steps lie from predicted ones, as quantiles: what the range of a step's time rests on.

Made from presets/measured/step-times.json by `memcalc validate --kind time --get scores`; a test holds that this table is what
the command computes now. Rows of grades A and B whose group no factor was set from; each group counts once.
"""

from memcalc.frozen import NamedTuple


class TimeSpread(NamedTuple):
    """10th and 90th percentile of measured / predicted time − 1, over groups of runs."""

    kind: str
    groups: int
    low: float
    high: float


SPREADS = {
    "dense": TimeSpread("dense models in 16 bits", 31, -0.033, 0.212),
    "fp8": TimeSpread("dense models in 8 bits", 28, -0.099, 0.201),
    "mixture": TimeSpread("mixtures of experts", 30, -0.158, 0.315),
    "adapters": TimeSpread("LoRA and QLoRA", 23, -0.16, 0.164),
}


def spread_of(*, adapts: bool, mixture: bool, few_bits: bool) -> TimeSpread:
    """The range for a kind of run; it contains the point.

    >>> spread_of(adapts=True, mixture=True, few_bits=False).kind
    'LoRA and QLoRA'
    """
    found = SPREADS["adapters" if adapts else "mixture" if mixture else "fp8" if few_bits else "dense"]
    return found._replace(low=min(found.low, 0.0), high=max(found.high, 0.0))
