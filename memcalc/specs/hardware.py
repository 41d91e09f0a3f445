"""An accelerator: how much it holds, how fast it is, what it draws, and how we know.

One record is one device as software sees it (one of the two GCDs of an MI250X, one GPU of a GB200 board), which is what
`--gpus` counts. Units are SI: bytes, B/s, FLOP/s, W. Peaks are dense: never the 2:4-sparse figure on the box.
"""

from typing import Annotated

from pydantic import Field

from memcalc.errors import InputError, nearest
from memcalc.formulas.allocatable import UNIFIED, reserve_bytes, unified_share
from memcalc.specs.spec import Spec, SpecError, rule, setting

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
    "multiprocessors": 10_000,
    "peak": 1e20,
}


Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]


class Accelerator(Spec):
    """One row of the catalogue; the keys of `presets/gpus/<id>.toml` are these fields, and `id` is the file's name."""

    id: str = Field(description="The file's name.")
    name: str = Field(description="As people write it.")
    vendor: str = Field(description="Who makes it.")
    architecture: str = Field(description="sm_90, gfx942, …: its generation.")
    vendor_bytes: Whole = Field(description="Memory as sold, bytes.")
    bandwidth: Number | None = setting(None, "Of that memory, B/s; always known of a card of the catalogue.")
    sources: tuple[str, ...] = Field(description="Where the numbers come from.")
    driver_mib: Whole | None = setting(None, "Memory as the driver reports it, before any context: nvidia-smi's total, MiB.")
    driver_source: str = setting("", "Where that was read.")
    cuda_mib: Whole | None = setting(None, "Memory as cudaMemGetInfo reports it: less what the driver keeps for itself, MiB.")
    cuda_source: str = setting("", "Where that was read.")
    peak: dict[str, Number] = Field(default_factory=dict, description="Dense FLOP/s by number format.")
    scale_up: str = setting("", "The link between devices of a node, in the vendor's words.")
    scale_up_bandwidth: Number | None = setting(None, "B/s one way, summed over the device's links.")
    pcie_bandwidth: Number | None = setting(None, "B/s one way.")
    tdp: Number | None = setting(None, "Thermal design power, W.")
    multiprocessors: Whole | None = setting(None, "Streaming multiprocessors or compute units that share out tiles.")
    timing: str = setting("generic", "Whose constants of the time law it has: a file of `presets/timing/`.")
    aliases: tuple[str, ...] = setting((), "Further names.")
    unverified: tuple[str, ...] = setting((), "Keys whose value was not read in a source; `peak` stands for all peaks.")
    notes: tuple[str, ...] = setting((), "What else to know.")

    def __hash__(self) -> int:
        return hash((self.id, self.name))

    @property
    def usable(self) -> int:
        """Bytes there are to fill: what the driver reports where that is known, else the vendor's figure.

        The two differ both ways: an H100 sold as 80 GB has 85.5e9 bytes, an L4 sold as 24 GB 24.15e9.
        """
        return self.driver_mib * 2**20 if self.driver_mib else self.vendor_bytes

    @property
    def allocatable(self) -> int:
        """Bytes that engines find and take their share of: what cudaMemGetInfo reports, or is assumed to."""
        if self.cuda_mib:
            return self.cuda_mib * 2**20
        return self.usable if self.unified else self.usable - reserve_bytes(self.usable, self.architecture)

    @property
    def limit(self) -> int:
        """Bytes that one process can get: all that is allocatable; of unified memory, the working set the system allows."""
        return int(self.allocatable * unified_share(self.allocatable, self.architecture)) if self.unified else self.allocatable

    @property
    def unified(self) -> bool:
        """Whether GPU and system share the memory."""
        return self.architecture in UNIFIED

    @property
    def limit_assumed(self) -> str:
        """How the limit was come by where nobody read it from this device; else empty."""
        if self.unified:
            return f"{self.limit / self.usable:.0%} of the unified memory ({UNIFIED[self.architecture].why})"
        if self.cuda_mib:
            return ""
        kept = (self.usable - self.allocatable) / 2**30
        return f"{self.usable / 2**30:.2f} GiB less {kept:.2f} GiB that the driver keeps on such GPUs"

    def dense_peak(self, number_format: str) -> float:
        """Dense FLOP/s in one number format; refused where nobody publishes it."""
        if number_format not in self.peak:
            known = f"published are {', '.join(self.peak)}" if self.peak else "its vendor publishes none"
            raise InputError(f"{self.name} has no known dense peak in {number_format} ({known})")
        return self.peak[number_format]

    def is_verified(self, key: str) -> bool:
        """Whether the value under a key, such as `driver_mib` or `peak.bf16`, was read in a source."""
        return key not in self.unverified and key.partition(".")[0] not in self.unverified

    @rule()
    def _check(self) -> None:
        for key in ("name", "vendor", "architecture"):
            if not getattr(self, key):
                raise SpecError("is empty", key)
        for key in ("name", "vendor", "architecture", "driver_source", "cuda_source", "scale_up"):
            _printable(key, getattr(self, key))
        for key in ("sources", "aliases", "unverified", "notes"):
            for text in getattr(self, key):
                _printable(key, text)
        if not self.sources:
            raise SpecError("is empty: say where the numbers come from", "sources")
        for key in (
            "vendor_bytes",
            "bandwidth",
            "driver_mib",
            "cuda_mib",
            "scale_up_bandwidth",
            "pcie_bandwidth",
            "tdp",
            "multiprocessors",
        ):
            value = getattr(self, key)
            if value is not None:
                _in_range(key, value, LIMITS[key])
        for number_format, flops in self.peak.items():
            if number_format not in PEAKS:
                raise SpecError(f"is no number format{nearest(number_format, PEAKS)}", f"peak.{number_format[:40]}")
            _in_range(f"peak.{number_format}", flops, LIMITS["peak"])


def _in_range(key: str, value: float, most: float) -> None:
    if not 0 < value <= most:  # not-a-number fails too
        found = "too large" if value > most else f"{value:g}"
        raise SpecError(f"is {found}; it must be above 0 and at most {most:g}", key)


def _printable(key: str, text: str) -> None:
    if not text.isprintable() or len(text) > 1000:
        raise SpecError("must be one line of printable text, at most 1000 characters", key)
