"""How far published measurements lie from memcalc's predictions, as quantiles: what `_low` and `_high` rest on.

Made from presets/measured by `memcalc validate --get quantiles`; a test holds that this table is what the command
computes now. Rows are measurements of grades A and B: of allocated
(or active) memory, and for `BEYOND` of reserved memory and of the whole device.
"""

from memcalc.frozen import NamedTuple

MIN_ROWS = 8  # fewer say little about a tenth


class Quantiles(NamedTuple):
    """10th and 90th percentile of measured / predicted − 1. Empty names: all engines and methods together."""

    engine: str
    method: str
    rows: int
    low: float
    high: float


QUANTILES: tuple[Quantiles, ...] = (
    Quantiles("", "", 141, -0.0159, 0.0206),
    Quantiles("accelerate", "full", 34, -0.0071, 0.0032),
    Quantiles("accelerate", "lora", 39, -0.0096, 0.0148),
    Quantiles("accelerate", "qlora", 15, 0.001, 0.008),
    Quantiles("litgpt", "lora", 12, -0.03, 0.0088),
    Quantiles("litgpt", "qlora", 16, -0.0165, 0.0744),
    Quantiles("megatron", "full", 16, -0.035, 0.0621),
)


FULL, ADAPTERS, UNREPLAYED = "full", "adapters", "not replayed"
# How far reserved memory and the whole device lie from the prediction, a replay of the caching allocator: readings of either
# kind; of both together where everything is trained and where adapters are; and, where the order of allocations is not known,
# from what would be held if nothing were lost to fragmentation.
BEYOND: dict[str, Quantiles] = {
    "reserved": Quantiles("", "", 43, -0.031, 0.0939),
    "device": Quantiles("", "", 75, -0.0187, 0.17),
    FULL: Quantiles("", FULL, 56, -0.0363, 0.1301),
    ADAPTERS: Quantiles("", ADAPTERS, 62, -0.0017, 0.106),
    UNREPLAYED: Quantiles("", UNREPLAYED, 118, 0.0641, 0.4263),
}


# Of serving: what an engine holds beside its cache, from start-up logs that give the cache in tokens. By engine.
SERVED: dict[str, Quantiles] = {"vllm": Quantiles("vllm", "", 30, -0.0043, 0.0064)}

# Where no log gives it: what was counted, and at most so much more. Without an engine nothing of its activations is counted,
# which take 5 to 10 %; llama.cpp's logs give its buffers one by one, and agree.
UNLOGGED = 0.10
UNLOGGED_OF = {"llama.cpp": 0.05}


class Range(NamedTuple):
    """Shares of the peak, and the rows that they rest on. The estimate itself is never outside."""

    low: float
    high: float
    rows: Quantiles

    @property
    def pooled(self) -> bool:
        return not self.rows.engine


def measured_range(engine: str, method: str) -> Range:
    """The range for an engine and a method, from all rows where these two have too few.

    >>> measured_range("accelerate", "lora").pooled, measured_range("torch", "qat").pooled
    (False, True)
    """
    own = next((row for row in QUANTILES if (row.engine, row.method) == (engine, method)), QUANTILES[0])
    return Range(min(own.low, 0.0), max(own.high, 0.0), own)


def beyond_range(*, adapts: bool, replayed: bool) -> Range:
    """The range of reserved memory and of the device, which holds the point.

    >>> beyond_range(adapts=False, replayed=True).rows.rows > MIN_ROWS
    True
    """
    rows = BEYOND[UNREPLAYED if not replayed else ADAPTERS if adapts else FULL]
    return Range(min(rows.low, 0.0), max(rows.high, 0.0), rows)


def bound_bytes(peak: int, share: float) -> int:
    """An end of the range [B]: peak × (1 + share), peak [B].

    >>> bound_bytes(1_000_000, -0.05)
    950000
    """
    return round(peak * (1 + share))


def served_range(engine: str = "") -> tuple[float, float]:
    """How far an engine's holdings beside its cache may lie from what was counted: shares of that, low and high.

    >>> served_range("vllm")[1] < served_range("llama.cpp")[1] < served_range()[1]
    True
    """
    row = SERVED.get(engine)
    return (row.low, row.high) if row else (0.0, UNLOGGED_OF.get(engine, UNLOGGED))
