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
    SpeedRange("tpot", "", "", 1637, -0.2215, 0.3061),
    SpeedRange("tpot", "", "dense", 651, -0.1422, 0.4005),
    SpeedRange("tpot", "", "experts", 986, -0.2569, 0.2343),
    SpeedRange("tpot", "autoawq", "", 22, 0.2796, 1.2724),
    SpeedRange("tpot", "autoawq", "dense", 15, 0.1765, 1.3276),
    SpeedRange("tpot", "exllamav2", "", 15, -0.032, 0.2722),
    SpeedRange("tpot", "exllamav2", "dense", 15, -0.032, 0.2722),
    SpeedRange("tpot", "llama.cpp", "", 171, -0.2014, 0.2578),
    SpeedRange("tpot", "llama.cpp", "dense", 128, -0.1498, 0.238),
    SpeedRange("tpot", "llama.cpp", "experts", 43, -0.253, 0.2679),
    SpeedRange("tpot", "mlc-llm", "", 12, 0.0559, 0.3897),
    SpeedRange("tpot", "mlc-llm", "dense", 12, 0.0559, 0.3897),
    SpeedRange("tpot", "sglang", "", 369, -0.2108, 0.2761),
    SpeedRange("tpot", "sglang", "dense", 85, -0.1233, 0.4787),
    SpeedRange("tpot", "sglang", "experts", 284, -0.2346, 0.253),
    SpeedRange("tpot", "tensorrt-llm", "", 604, -0.2765, 0.2957),
    SpeedRange("tpot", "tensorrt-llm", "dense", 284, -0.1206, 0.3365),
    SpeedRange("tpot", "tensorrt-llm", "experts", 320, -0.3841, 0.2568),
    SpeedRange("tpot", "transformers", "", 25, -0.2717, 0.7685),
    SpeedRange("tpot", "transformers", "dense", 24, -0.2773, 0.6662),
    SpeedRange("tpot", "vllm", "", 417, -0.2078, 0.2791),
    SpeedRange("tpot", "vllm", "dense", 86, -0.5089, 0.8693),
    SpeedRange("tpot", "vllm", "experts", 331, -0.1931, 0.1713),
    SpeedRange("ttft", "", "", 169, -0.2109, 1.4018),
    SpeedRange("ttft", "", "dense", 132, -0.1581, 1.3092),
    SpeedRange("ttft", "", "experts", 37, -0.3575, 2.8143),
    SpeedRange("ttft", "autoawq", "", 20, 0.1349, 8.1789),
    SpeedRange("ttft", "autoawq", "dense", 13, 0.6799, 9.4942),
    SpeedRange("ttft", "llama.cpp", "", 108, -0.2884, 0.3939),
    SpeedRange("ttft", "llama.cpp", "dense", 86, -0.186, 0.4482),
    SpeedRange("ttft", "llama.cpp", "experts", 22, -0.3694, 0.0767),
    SpeedRange("ttft", "tensorrt-llm", "", 24, -0.0133, 0.6981),
    SpeedRange("ttft", "tensorrt-llm", "dense", 22, -0.0183, 0.3447),
    SpeedRange("ttft", "vllm", "", 13, 0.0173, 3.7995),
    SpeedRange("ttft", "vllm", "dense", 11, 0.0177, 4.1967),
    SpeedRange("ttft_load", "", "", 1291, -0.4003, 1.6211),
    SpeedRange("ttft_load", "", "dense", 378, -0.4758, 2.0647),
    SpeedRange("ttft_load", "", "experts", 913, -0.3444, 1.4951),
    SpeedRange("ttft_load", "sglang", "", 345, -0.3007, 2.4485),
    SpeedRange("ttft_load", "sglang", "dense", 71, -0.4038, 2.4962),
    SpeedRange("ttft_load", "sglang", "experts", 274, -0.2608, 2.377),
    SpeedRange("ttft_load", "tensorrt-llm", "", 568, -0.4003, 1.7648),
    SpeedRange("ttft_load", "tensorrt-llm", "dense", 250, -0.4155, 2.3409),
    SpeedRange("ttft_load", "tensorrt-llm", "experts", 318, -0.3641, 1.5666),
    SpeedRange("ttft_load", "vllm", "", 378, -0.4823, 0.5122),
    SpeedRange("ttft_load", "vllm", "dense", 57, -0.8371, 0.0798),
    SpeedRange("ttft_load", "vllm", "experts", 321, -0.3965, 0.5463),
    SpeedRange("requests_per_second", "", "", 195, -0.2931, 0.273),
    SpeedRange("requests_per_second", "", "dense", 92, -0.0926, 0.2147),
    SpeedRange("requests_per_second", "", "experts", 103, -0.3323, 0.3059),
    SpeedRange("requests_per_second", "tensorrt-llm", "", 195, -0.2931, 0.273),
    SpeedRange("requests_per_second", "tensorrt-llm", "dense", 92, -0.0926, 0.2147),
    SpeedRange("requests_per_second", "tensorrt-llm", "experts", 103, -0.3323, 0.3059),
)


def speed_range(quantity: str, engine: str, kind: str) -> SpeedRange:
    """The range for an engine and a kind of model, from the engine's rows where these two have too few, else from all.

    The prediction itself is never outside.
    """
    wanted = ((engine, kind), (engine, ""), ("", kind), ("", ""))
    rows = {(row.engine, row.kind): row for row in RANGES if row.quantity == quantity}
    row = next(rows[key] for key in wanted if key in rows)
    return row._replace(low=max(-0.95, min(row.low, 0.0)), high=max(row.high, 0.0))
