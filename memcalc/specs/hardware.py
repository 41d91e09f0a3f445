"""An accelerator: how much it holds, how fast it is, what it draws, and how we know.

One record is one device as software sees it (one of the two GCDs of an MI250X, one GPU of a GB200 board), which is what
`--gpus` counts. Units are SI: bytes, B/s, FLOP/s, W. Peaks are dense: never the 2:4-sparse figure on the box.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from memcalc.errors import InputError, nearest

# Number formats of a peak. `_matrix` is the tensor or matrix cores' rate where the plain units have one of their own;
# fp16, bf16 and fp8 accumulate in fp32, `_acc16` in fp16 (twice as fast on GeForce).
PEAKS = (
    "fp64", "fp64_matrix", "fp32", "fp32_matrix", "tf32", "fp16", "bf16", "fp16_acc16",
    "fp8", "fp8_acc16", "fp6", "fp4", "int8", "int4",
)  # fmt: skip

# The most that any one device could plausibly have; anything above is a slip of units.
LIMITS = {
    "vendor_bytes": 1e15,
    "driver_mib": 1e9,
    "cuda_mib": 1e9,
    "bandwidth": 1e16,
    "scale_up_bandwidth": 1e15,
    "pcie_bandwidth": 1e14,
    "tdp": 1e6,
    "peak": 1e20,
}


class Strict:
    """For Pydantic, which asks any annotation for this method: no text and no true or false in place of a number."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return {**handler(source), "strict": True}


Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]


@dataclass(frozen=True)
class Accelerator:
    """One row of the catalogue; the keys of `presets/gpus/<id>.toml` are these fields, and `id` is the file's name."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    id: str
    name: str
    vendor: str
    architecture: str  # sm_90, gfx942, ...
    vendor_bytes: Whole  # memory as sold
    bandwidth: Number  # of that memory, B/s
    sources: tuple[str, ...]
    driver_mib: Whole | None = None  # memory as the driver reports it, before any context: nvidia-smi's total
    driver_source: str = ""
    cuda_mib: Whole | None = None  # memory as cudaMemGetInfo reports it: less what the driver keeps for itself
    cuda_source: str = ""
    peak: Mapping[str, Number] = field(default_factory=dict, hash=False)  # number format → dense FLOP/s
    scale_up: str = ""  # the link between devices of a node, in the vendor's words
    scale_up_bandwidth: Number | None = None  # B/s one way, summed over the device's links
    pcie_bandwidth: Number | None = None  # B/s one way
    tdp: Number | None = None  # W
    aliases: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()  # keys whose value was not read in a source; `peak` stands for all peaks
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> int:
        """Bytes there are to fill: what the driver reports where that is known, else the vendor's figure.

        The two differ both ways: an H100 sold as 80 GB has 85.5e9 bytes, an L4 sold as 24 GB 24.15e9.
        """
        return self.driver_mib * 2**20 if self.driver_mib else self.vendor_bytes

    @property
    def allocatable(self) -> int:
        """Bytes that a process can allocate, and that engines take their share of."""
        return self.cuda_mib * 2**20 if self.cuda_mib else self.usable

    def dense_peak(self, number_format: str) -> float:
        """Dense FLOP/s in one number format; refused where nobody publishes it."""
        if number_format not in self.peak:
            known = f"published are {', '.join(self.peak)}" if self.peak else "its vendor publishes none"
            raise InputError(f"{self.name} has no known dense peak in {number_format} ({known})")
        return self.peak[number_format]

    def is_verified(self, key: str) -> bool:
        """Whether the value under a key, such as `driver_mib` or `peak.bf16`, was read in a source."""
        return key not in self.unverified and key.partition(".")[0] not in self.unverified

    def __post_init__(self) -> None:
        for key in ("name", "vendor", "architecture"):
            if not getattr(self, key):
                raise ValueError(f"{key} is empty")
        for key in ("name", "vendor", "architecture", "driver_source", "cuda_source", "scale_up"):
            _printable(key, getattr(self, key))
        for key in ("sources", "aliases", "unverified", "notes"):
            for text in getattr(self, key):
                _printable(key, text)
        if not self.sources:
            raise ValueError("sources is empty: say where the numbers come from")
        for key in ("vendor_bytes", "bandwidth", "driver_mib", "cuda_mib", "scale_up_bandwidth", "pcie_bandwidth", "tdp"):
            value = getattr(self, key)
            if value is not None:
                _in_range(key, value, LIMITS[key])
        for number_format, flops in self.peak.items():
            if number_format not in PEAKS:
                raise ValueError(f"peak.{number_format[:40]} is no number format{nearest(number_format, PEAKS)}")
            _in_range(f"peak.{number_format}", flops, LIMITS["peak"])


def _in_range(key: str, value: float, most: float) -> None:
    if not 0 < value <= most:  # not-a-number fails too
        found = "too large" if value > most else f"{value:g}"
        raise ValueError(f"{key} is {found}; it must be above 0 and at most {most:g}")


def _printable(key: str, text: str) -> None:
    if not text.isprintable() or len(text) > 1000:
        raise ValueError(f"{key} must be one line of printable text, at most 1000 characters")
