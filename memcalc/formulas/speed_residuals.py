"""How far measured serving speed lies from the time law, as quantiles: what `_low` and `_high` of speed.* rest on.

Made from presets/speed by `memcalc validate --kind serving-speed --get speed.quantiles`; a test holds that this table is what
the command computes now. Rows are measurements of grades A and B.
"""

from typing import NamedTuple


class SpeedRange(NamedTuple):
    """10th and 90th percentile of measured / predicted - 1 of a quantity. Empty names: all engines, all kinds of model."""

    quantity: str
    engine: str
    kind: str  # dense or experts
    rows: int
    low: float
    high: float


# The first row of a quantity holds all of its rows.
RANGES: tuple[SpeedRange, ...] = (
    SpeedRange("tpot", "", "", 1355, -0.2384, 0.2629),
    SpeedRange("tpot", "", "dense", 428, -0.1412, 0.3229),
    SpeedRange("tpot", "", "experts", 927, -0.2735, 0.2138),
    SpeedRange("tpot", "sglang", "", 349, -0.2031, 0.283),
    SpeedRange("tpot", "sglang", "dense", 71, -0.0669, 0.3112),
    SpeedRange("tpot", "sglang", "experts", 278, -0.2261, 0.2819),
    SpeedRange("tpot", "tensorrt-llm", "", 604, -0.2917, 0.2515),
    SpeedRange("tpot", "tensorrt-llm", "dense", 284, -0.1187, 0.3352),
    SpeedRange("tpot", "tensorrt-llm", "experts", 320, -0.3523, 0.1382),
    SpeedRange("tpot", "vllm", "", 397, -0.2056, 0.2487),
    SpeedRange("tpot", "vllm", "dense", 68, -0.5783, 0.3177),
    SpeedRange("tpot", "vllm", "experts", 329, -0.1803, 0.1997),
    SpeedRange("ttft", "", "", 28, -0.101, 4.686),
    SpeedRange("ttft", "", "dense", 20, -0.1319, 0.8448),
    SpeedRange("ttft", "", "experts", 8, 0.0195, 5.5901),
    SpeedRange("ttft", "tensorrt-llm", "", 19, -0.1383, 1.7002),
    SpeedRange("ttft", "tensorrt-llm", "dense", 17, -0.151, 0.3197),
    SpeedRange("ttft_load", "", "", 1291, -0.6732, 1.342),
    SpeedRange("ttft_load", "", "dense", 378, -0.6874, 1.1845),
    SpeedRange("ttft_load", "", "experts", 913, -0.6581, 1.4396),
    SpeedRange("ttft_load", "sglang", "", 345, -0.6377, 2.6195),
    SpeedRange("ttft_load", "sglang", "dense", 71, -0.7391, 0.5624),
    SpeedRange("ttft_load", "sglang", "experts", 274, -0.6001, 3.0468),
    SpeedRange("ttft_load", "tensorrt-llm", "", 568, -0.6189, 1.4958),
    SpeedRange("ttft_load", "tensorrt-llm", "dense", 250, -0.6333, 1.6983),
    SpeedRange("ttft_load", "tensorrt-llm", "experts", 318, -0.5673, 1.4706),
    SpeedRange("ttft_load", "vllm", "", 378, -0.7881, 0.3161),
    SpeedRange("ttft_load", "vllm", "dense", 57, -0.889, 0.0415),
    SpeedRange("ttft_load", "vllm", "experts", 321, -0.7747, 0.3853),
    SpeedRange("requests_per_second", "", "", 195, -0.2545, 0.9734),
    SpeedRange("requests_per_second", "", "dense", 92, -0.0805, 0.3068),
    SpeedRange("requests_per_second", "", "experts", 103, -0.2823, 1.7204),
    SpeedRange("requests_per_second", "tensorrt-llm", "", 195, -0.2545, 0.9734),
    SpeedRange("requests_per_second", "tensorrt-llm", "dense", 92, -0.0805, 0.3068),
    SpeedRange("requests_per_second", "tensorrt-llm", "experts", 103, -0.2823, 1.7204),
)


def speed_range(quantity: str, engine: str, kind: str) -> SpeedRange:
    """The range for an engine and a kind of model, from the engine's rows where these two have too few, else from all.

    The prediction itself is never outside.
    """
    wanted = ((engine, kind), (engine, ""), ("", kind), ("", ""))
    rows = {(row.engine, row.kind): row for row in RANGES if row.quantity == quantity}
    row = next(rows[key] for key in wanted if key in rows)
    return row._replace(low=max(-0.95, min(row.low, 0.0)), high=max(row.high, 0.0))
