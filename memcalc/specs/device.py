"""The device at hand, beside what the catalogue says of its kind."""

from typing import TYPE_CHECKING, Annotated, Any

from memcalc.specs.spec import HARDWARE, Spec, SpecError, setting, within

if TYPE_CHECKING:
    from memcalc.specs.hardware import Accelerator


class Device(Spec):
    """The device at hand: what others hold on it, and its figures where the catalogue has no such card or says otherwise."""

    gpu_memory: Annotated[int, within(2**20, 10**15)] | None = setting(
        None, "Memory of a GPU that is not in the catalogue: 24GiB.", HARDWARE, kind="bytes", otherwise="the catalogue's"
    )
    gpu_bandwidth: Annotated[float, within(1e6, 1e16)] | None = setting(
        None, "Of that memory: 936GB/s.", HARDWARE, kind="bandwidth", otherwise="the catalogue's"
    )
    gpu_flops: Annotated[float, within(1e6, 1e20)] | None = setting(
        None, "Dense 16-bit peak: 71TFLOP/s.", HARDWARE, kind="speed", otherwise="the catalogue's"
    )
    reserved: Annotated[int, within(0, 10**15)] = setting(
        0, "Memory of the GPU that other processes hold.", HARDWARE, kind="bytes", otherwise="none"
    )

    def described(self, gpu: "Accelerator | None") -> "Accelerator | None":
        """The accelerator with these figures in place of its own; a new one where memory is all that is known."""
        said = {"gpu_bandwidth": self.gpu_bandwidth, "gpu_flops": self.gpu_flops, "reserved": self.reserved}
        if gpu is None and self.gpu_memory is None:
            if names := [name for name, value in said.items() if value]:
                raise SpecError("needs a gpu, or the gpu_memory of one that is not in the catalogue", *names)
            return None
        changes: dict[str, Any] = {}
        if self.gpu_memory is not None:
            changes |= {"vendor_bytes": self.gpu_memory, "driver_mib": None, "cuda_mib": None}
        if self.gpu_bandwidth is not None:
            changes["bandwidth"] = self.gpu_bandwidth
        if self.gpu_flops is not None:
            changes["peak"] = dict.fromkeys(SIXTEEN_BIT, self.gpu_flops)
        from memcalc.specs.hardware import Accelerator

        found = Accelerator(**OTHER | changes) if gpu is None else gpu.replace(**changes) if changes else gpu
        if self.reserved and self.reserved >= found.limit:
            raise SpecError(f"{self.reserved:,} bytes leave nothing of the {found.limit:,} that a process can get", "reserved")
        return found


SIXTEEN_BIT = ("bf16", "fp16")  # what a stated peak is one of
OTHER = {
    "id": "other",
    "name": "GPU of the given memory",
    "vendor": "unknown",
    "architecture": "unknown",
    "sources": ("as given",),
}
