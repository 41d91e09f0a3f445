"""From a step's time to days and money of a whole run."""

from memcalc.estimates.step_time.step import StepTime
from memcalc.formulas.energy import PRICES, Price
from memcalc.frozen import NamedTuple
from memcalc.units import SECONDS


class Whole(NamedTuple):
    """A run of so many tokens. Money is None where no price is known."""

    tokens: int
    days: float
    gpu_hours: float
    price: float | None  # USD a GPU-hour
    range: Price | None  # where none was given

    @property
    def cost_usd(self) -> float | None:
        return None if self.price is None else self.gpu_hours * self.price


class Timed(NamedTuple):
    """A step's time, or the reason why there is none; none of both where no accelerator was named."""

    step: StepTime | None = None
    run: Whole | None = None
    reason: str = ""
    source: str = ""  # of the law's constants
    left_out: str = ""  # what of the step is not in its time


def whole(step: StepTime, tokens: int, gpu: str, price: float | None) -> Whole:
    """`gpu`: the accelerator's name in the catalogue, whose dated range of prices stands in where none is given."""
    seconds = tokens / step.tokens_per_second
    dated = PRICES.get(gpu) if price is None else None
    return Whole(tokens, seconds / SECONDS["days"], seconds / SECONDS["h"] * step.gpus, dated.usual if dated else price, dated)
