"""How far measured serving speed lies from the time law, as quantiles: what `_low` and `_high` of speed.* rest on.

Made from presets/speed by `memcalc validate --kind serving-speed --get speed.quantiles`; a test holds that this table is what
the command computes now. Rows are measurements of grades A and B.
"""

from memcalc.frozen import NamedTuple


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
    SpeedRange("tpot", "", "", 1637, -0.1888, 0.32),
    SpeedRange("tpot", "", "dense", 651, -0.1367, 0.4005),
    SpeedRange("tpot", "", "experts", 986, -0.2378, 0.2826),
    SpeedRange("tpot", "autoawq", "", 22, 0.1984, 1.2724),
    SpeedRange("tpot", "autoawq", "dense", 15, 0.1765, 1.3276),
    SpeedRange("tpot", "exllamav2", "", 15, -0.032, 0.2722),
    SpeedRange("tpot", "exllamav2", "dense", 15, -0.032, 0.2722),
    SpeedRange("tpot", "llama.cpp", "", 171, -0.1486, 0.1965),
    SpeedRange("tpot", "llama.cpp", "dense", 128, -0.1361, 0.1912),
    SpeedRange("tpot", "llama.cpp", "experts", 43, -0.1949, 0.2366),
    SpeedRange("tpot", "mlc-llm", "", 12, 0.0559, 0.3897),
    SpeedRange("tpot", "mlc-llm", "dense", 12, 0.0559, 0.3897),
    SpeedRange("tpot", "sglang", "", 369, -0.1666, 0.3235),
    SpeedRange("tpot", "sglang", "dense", 85, -0.1265, 0.4805),
    SpeedRange("tpot", "sglang", "experts", 284, -0.1813, 0.3078),
    SpeedRange("tpot", "tensorrt-llm", "", 604, -0.2516, 0.3044),
    SpeedRange("tpot", "tensorrt-llm", "dense", 284, -0.1178, 0.3382),
    SpeedRange("tpot", "tensorrt-llm", "experts", 320, -0.3648, 0.2892),
    SpeedRange("tpot", "transformers", "", 25, -0.2348, 0.7685),
    SpeedRange("tpot", "transformers", "dense", 24, -0.2356, 0.6662),
    SpeedRange("tpot", "vllm", "", 417, -0.1668, 0.308),
    SpeedRange("tpot", "vllm", "dense", 86, -0.5056, 0.8698),
    SpeedRange("tpot", "vllm", "experts", 331, -0.1478, 0.2492),
    SpeedRange("ttft", "", "", 173, -0.135, 1.3434),
    SpeedRange("ttft", "", "dense", 132, -0.1625, 1.3092),
    SpeedRange("ttft", "", "experts", 41, -0.0106, 1.6463),
    SpeedRange("ttft", "autoawq", "", 20, 0.1349, 8.1789),
    SpeedRange("ttft", "autoawq", "dense", 13, 0.6799, 9.4942),
    SpeedRange("ttft", "llama.cpp", "", 108, -0.1666, 0.3328),
    SpeedRange("ttft", "llama.cpp", "dense", 86, -0.1854, 0.4124),
    SpeedRange("ttft", "llama.cpp", "experts", 22, -0.0095, 0.2086),
    SpeedRange("ttft", "tensorrt-llm", "", 24, 0.0137, 0.6981),
    SpeedRange("ttft", "tensorrt-llm", "dense", 22, 0.0074, 0.3447),
    SpeedRange("ttft", "vllm", "", 17, 0.0747, 3.3961),
    SpeedRange("ttft", "vllm", "dense", 11, 0.0851, 5.1745),
    SpeedRange("ttft_load", "", "", 1291, -0.2334, 1.5814),
    SpeedRange("ttft_load", "", "dense", 378, -0.1616, 2.6283),
    SpeedRange("ttft_load", "", "experts", 913, -0.2489, 1.3192),
    SpeedRange("ttft_load", "sglang", "", 345, -0.2689, 3.6601),
    SpeedRange("ttft_load", "sglang", "dense", 71, -0.0404, 4.2279),
    SpeedRange("ttft_load", "sglang", "experts", 274, -0.2863, 1.7244),
    SpeedRange("ttft_load", "tensorrt-llm", "", 568, -0.2405, 1.545),
    SpeedRange("ttft_load", "tensorrt-llm", "dense", 250, -0.1115, 1.6948),
    SpeedRange("ttft_load", "tensorrt-llm", "experts", 318, -0.3086, 1.45),
    SpeedRange("ttft_load", "vllm", "", 378, -0.112, 0.7005),
    SpeedRange("ttft_load", "vllm", "dense", 57, -0.6632, 0.5326),
    SpeedRange("ttft_load", "vllm", "experts", 321, -0.0681, 0.7405),
    SpeedRange("requests_per_second", "", "", 195, -0.2799, 0.1731),
    SpeedRange("requests_per_second", "", "dense", 92, -0.1368, 0.1711),
    SpeedRange("requests_per_second", "", "experts", 103, -0.3065, 0.2025),
    SpeedRange("requests_per_second", "tensorrt-llm", "", 195, -0.2799, 0.1731),
    SpeedRange("requests_per_second", "tensorrt-llm", "dense", 92, -0.1368, 0.1711),
    SpeedRange("requests_per_second", "tensorrt-llm", "experts", 103, -0.3065, 0.2025),
)


def speed_range(quantity: str, engine: str, kind: str) -> SpeedRange:
    """The range for an engine and a kind of model, from the engine's rows where these two have too few, else from all.

    The prediction itself is never outside.
    """
    wanted = ((engine, kind), (engine, ""), ("", kind), ("", ""))
    rows = {(row.engine, row.kind): row for row in RANGES if row.quantity == quantity}
    row = next(rows[key] for key in wanted if key in rows)
    return row._replace(low=max(-0.95, min(row.low, 0.0)), high=max(row.high, 0.0))
