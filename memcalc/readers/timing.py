"""Constants of the time law, one small TOML file an accelerator or a class of them: `presets/timing/`."""

import os
from collections.abc import Mapping
from math import isfinite
from typing import Any

from memcalc.caches import cached
from memcalc.errors import InputError
from memcalc.formulas.formula import ASSUMED, ESTIMATE
from memcalc.formulas.timing.constants import (
    AttentionConstants,
    CollectiveConstants,
    DecodeConstants,
    ExpertConstants,
    GgufConstants,
    ProductConstants,
)
from memcalc.formulas.timing.law import Constants, Hardware, Sustained, TimeLaw
from memcalc.readers.catalogue import read_toml, shipped_folder
from memcalc.specs.hardware import Accelerator

KINDS: dict[str, type] = {
    "product": ProductConstants, "attention": AttentionConstants, "latent": AttentionConstants, "decode": DecodeConstants,
    "latent_decode": DecodeConstants, "experts": ExpertConstants, "collective": CollectiveConstants,
    "engine_all_reduce": CollectiveConstants, "network": CollectiveConstants,
}  # fmt: skip
PCIE, NETWORK = 31.5e9, 25e9  # B/s one way where nobody says: PCIe 4 × 16, 200 Gb/s


@cached(64)
def time_law(gpu: Accelerator, network: float | None = None) -> TimeLaw:
    """The law of an accelerator. `network`: B/s one way between nodes, of each GPU; else what such machines usually have."""
    raw = _raw(gpu.timing)
    made = {kind: {key: _made(kind, key, values) for key, values in raw.get(kind, {}).items()} for kind in KINDS}
    engines = {
        engine: {kind: {key: _made(kind, key, values) for key, values in rows.items()} for kind, rows in own.items()}
        for engine, own in raw.get("engine", {}).items()
    }
    sustained = Sustained(**{key: float(value) for key, value in raw.get("sustained", {}).items()})
    pcie = gpu.pcie_bandwidth or PCIE
    hardware = Hardware(
        gpu.peak, gpu.bandwidth or 0.0, gpu.multiprocessors or 1, gpu.scale_up_bandwidth or pcie, pcie,
        network or raw.get("network_bandwidth", NETWORK), raw.get("domain", 8),
    )  # fmt: skip
    gguf = GgufConstants(**_scaled("ggml", "", raw.get("ggml", {})))
    certainty = ESTIMATE if gpu.id in raw.get("fitted_on", ()) else ASSUMED
    constants = Constants(raw["source"], certainty, **made, sustained=sustained, ggml=gguf, engines=engines)
    return TimeLaw.of(gpu.name, hardware, constants)


@cached(64)
def _raw(name: str) -> dict[str, Any]:
    """A file over the one that it is like."""
    path = os.path.join(shipped_folder("timing"), f"{name}.toml")
    if not name.replace("-", "").isalnum() or not os.path.isfile(path):
        raise InputError(f"no constants of the time law named {name[:60]!r}", place="timing")
    found = read_toml(path)
    if "like" not in found:
        return found
    below = _raw(found["like"])
    merged = {key: below.get(key, {}) | value if isinstance(value, dict) else value for key, value in found.items()}
    return {**below, **merged}


def _made(kind: str, key: str, values: Mapping[str, float]) -> Any:
    return KINDS[kind](**_scaled(kind, key, values))


def _scaled(kind: str, key: str, values: Mapping[str, float]) -> dict[str, float]:
    """Constants with their times in seconds: keys end in `_us` where the file has microseconds, in `_t` where it has 10¹²."""
    scaled = {}
    for name, value in values.items():
        if not (isinstance(value, int | float) and isfinite(value) and value >= 0):
            raise InputError(f"{kind}.{key}.{name} must be a number, 0 or more", place="timing")
        if name.endswith("_us"):
            scaled[name.removesuffix("_us")] = value * 1e-6
        elif name.endswith("_t"):
            scaled[name.removesuffix("_t")] = value * 1e12
        else:
            scaled[name] = float(value)
    return scaled
