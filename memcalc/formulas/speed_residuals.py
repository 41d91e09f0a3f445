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
    SpeedRange("tpot", "", "", 1637, -0.2235, 0.3322),
    SpeedRange("tpot", "", "dense", 651, -0.1352, 0.4186),
    SpeedRange("tpot", "", "experts", 986, -0.2527, 0.2666),
    SpeedRange("tpot", "autoawq", "", 22, 0.2796, 1.2723),
    SpeedRange("tpot", "autoawq", "dense", 15, 0.1765, 1.3275),
    SpeedRange("tpot", "exllamav2", "", 15, -0.032, 0.2722),
    SpeedRange("tpot", "exllamav2", "dense", 15, -0.032, 0.2722),
    SpeedRange("tpot", "llama.cpp", "", 171, -0.2283, 0.2299),
    SpeedRange("tpot", "llama.cpp", "dense", 128, -0.16, 0.2383),
    SpeedRange("tpot", "llama.cpp", "experts", 43, -0.3416, 0.1874),
    SpeedRange("tpot", "mlc-llm", "", 12, 0.0559, 0.3897),
    SpeedRange("tpot", "mlc-llm", "dense", 12, 0.0559, 0.3897),
    SpeedRange("tpot", "sglang", "", 369, -0.2031, 0.3209),
    SpeedRange("tpot", "sglang", "dense", 85, -0.0686, 0.4437),
    SpeedRange("tpot", "sglang", "experts", 284, -0.2275, 0.2832),
    SpeedRange("tpot", "tensorrt-llm", "", 604, -0.2816, 0.2978),
    SpeedRange("tpot", "tensorrt-llm", "dense", 284, -0.1213, 0.3347),
    SpeedRange("tpot", "tensorrt-llm", "experts", 320, -0.384, 0.2321),
    SpeedRange("tpot", "transformers", "", 25, -0.2717, 1.4571),
    SpeedRange("tpot", "transformers", "dense", 24, -0.2773, 1.2462),
    SpeedRange("tpot", "vllm", "", 417, -0.203, 0.3186),
    SpeedRange("tpot", "vllm", "dense", 86, -0.5611, 0.8691),
    SpeedRange("tpot", "vllm", "experts", 331, -0.1786, 0.2017),
    SpeedRange("ttft", "", "", 169, -0.2256, 1.3671),
    SpeedRange("ttft", "", "dense", 132, -0.1667, 1.2793),
    SpeedRange("ttft", "", "experts", 37, -0.3605, 2.8142),
    SpeedRange("ttft", "autoawq", "", 20, 0.1346, 8.1789),
    SpeedRange("ttft", "autoawq", "dense", 13, 0.6799, 9.4942),
    SpeedRange("ttft", "llama.cpp", "", 108, -0.2884, 0.3393),
    SpeedRange("ttft", "llama.cpp", "dense", 86, -0.2085, 0.3771),
    SpeedRange("ttft", "llama.cpp", "experts", 22, -0.3724, 0.0723),
    SpeedRange("ttft", "tensorrt-llm", "", 24, -0.0182, 0.6943),
    SpeedRange("ttft", "tensorrt-llm", "dense", 22, -0.0247, 0.3447),
    SpeedRange("ttft", "vllm", "", 13, 0.0108, 3.7966),
    SpeedRange("ttft", "vllm", "dense", 11, 0.0111, 4.1967),
    SpeedRange("ttft_load", "", "", 1291, -0.6653, 1.3915),
    SpeedRange("ttft_load", "", "dense", 378, -0.6749, 1.1716),
    SpeedRange("ttft_load", "", "experts", 913, -0.6564, 1.4596),
    SpeedRange("ttft_load", "sglang", "", 345, -0.648, 2.6195),
    SpeedRange("ttft_load", "sglang", "dense", 71, -0.7391, 0.5624),
    SpeedRange("ttft_load", "sglang", "experts", 274, -0.6092, 3.0468),
    SpeedRange("ttft_load", "tensorrt-llm", "", 568, -0.5836, 1.6137),
    SpeedRange("ttft_load", "tensorrt-llm", "dense", 250, -0.5899, 1.6559),
    SpeedRange("ttft_load", "tensorrt-llm", "experts", 318, -0.5637, 1.5974),
    SpeedRange("ttft_load", "vllm", "", 378, -0.7881, 0.3405),
    SpeedRange("ttft_load", "vllm", "dense", 57, -0.889, 0.0454),
    SpeedRange("ttft_load", "vllm", "experts", 321, -0.7747, 0.4139),
    SpeedRange("requests_per_second", "", "", 195, -0.2948, 0.2584),
    SpeedRange("requests_per_second", "", "dense", 92, -0.0941, 0.2184),
    SpeedRange("requests_per_second", "", "experts", 103, -0.3404, 0.2878),
    SpeedRange("requests_per_second", "tensorrt-llm", "", 195, -0.2948, 0.2584),
    SpeedRange("requests_per_second", "tensorrt-llm", "dense", 92, -0.0941, 0.2184),
    SpeedRange("requests_per_second", "tensorrt-llm", "experts", 103, -0.3404, 0.2878),
)


def speed_range(quantity: str, engine: str, kind: str) -> SpeedRange:
    """The range for an engine and a kind of model, from the engine's rows where these two have too few, else from all.

    The prediction itself is never outside.
    """
    wanted = ((engine, kind), (engine, ""), ("", kind), ("", ""))
    rows = {(row.engine, row.kind): row for row in RANGES if row.quantity == quantity}
    row = next(rows[key] for key in wanted if key in rows)
    return row._replace(low=max(-0.95, min(row.low, 0.0)), high=max(row.high, 0.0))
