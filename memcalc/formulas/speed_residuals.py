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
    SpeedRange("tpot", "", "", 0, -0.25, 0.25),
    SpeedRange("ttft", "", "", 0, -0.2, 1.0),
    SpeedRange("ttft_load", "", "", 0, -0.2, 4.0),
    SpeedRange("requests_per_second", "", "", 0, -0.3, 0.3),
)


def speed_range(quantity: str, engine: str, kind: str) -> SpeedRange:
    """The range for an engine and a kind of model, from the engine's rows where these two have too few, else from all.

    The prediction itself is never outside.
    """
    wanted = ((engine, kind), (engine, ""), ("", kind), ("", ""))
    rows = {(row.engine, row.kind): row for row in RANGES if row.quantity == quantity}
    row = next(rows[key] for key in wanted if key in rows)
    return row._replace(low=max(-0.95, min(row.low, 0.0)), high=max(row.high, 0.0))
