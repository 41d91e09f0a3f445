"""The shipped accelerators: complete, in the right units, dense, and equal to what their sources say."""

import shutil

import pytest

from memcalc.readers.catalogue import SAFE_NAME, accelerator, accelerators, shipped_folder
from memcalc.specs.hardware import PEAKS, Accelerator

SHIPPED = {gpu.id: gpu for gpu in accelerators()}

SMI = "nvidia-smi's total"
FIGURES = [  # name, field or peak, value, where the value is from
    ("h100", "peak.bf16", 989.4e12, "NVIDIA H100 white paper, dense"),
    ("h100", "peak.fp8", 1978.9e12, "NVIDIA H100 white paper, dense"),
    ("h100", "bandwidth", 3.35e12, "NVIDIA H100 data sheet, SXM"),
    ("h100", "vendor_bytes", 80_000_000_000, "sold as 80 GB"),
    ("h100", "driver_mib", 81559, SMI),
    ("h100", "scale_up_bandwidth", 450e9, "NVLink 4: 900 GB/s both ways together"),
    ("h100", "tdp", 700, "NVIDIA H100 data sheet, SXM"),
    ("h100-pcie", "peak.bf16", 756.5e12, "NVIDIA H100 data sheet, PCIe: 1,513 sparse, halved"),
    ("h100-nvl", "driver_mib", 95830, SMI),
    ("h100-96", "bandwidth", 2.4e12, "torchtitan, docs/performance.md: HBM2e"),
    ("h100-96", "tdp", 500, "the same: the default power limit of those machines"),
    ("a100", "driver_mib", 81920, SMI),
    ("a100", "peak.bf16", 312e12, "NVIDIA A100 data sheet, dense"),
    ("a100", "peak.tf32", 156e12, "NVIDIA A100 data sheet, dense"),
    ("a100", "bandwidth", 2.039e12, "NVIDIA A100 80GB data sheet, SXM"),
    ("a100-40gb", "driver_mib", 40960, SMI),
    ("a100-40gb", "bandwidth", 1.555e12, "NVIDIA A100 40GB data sheet"),
    ("a100-pcie-80gb", "bandwidth", 1.935e12, "NVIDIA A100 80GB data sheet, PCIe"),
    ("h200", "driver_mib", 143771, SMI),
    ("h200", "bandwidth", 4.8e12, "NVIDIA H200 data sheet"),
    ("b200", "driver_mib", 183359, SMI),
    ("b200", "peak.bf16", 2250e12, "NVIDIA DGX B200: 36 PFLOP/s sparse, 8 GPUs, halved"),
    ("gb200", "peak.bf16", 2500e12, "NVIDIA GB200 NVL72: 360 PFLOP/s sparse, 72 GPUs, halved"),
    ("b300", "peak.int8", 153.5e12, "aiconfigurator: Blackwell Ultra cut int8; 307 sparse, halved"),
    ("v100", "peak.fp16", 125e12, "NVIDIA V100 data sheet, SXM2"),
    ("t4", "driver_mib", 15360, SMI),
    ("t4", "peak.fp16", 65e12, "NVIDIA T4 data sheet"),
    ("l4", "driver_mib", 23034, SMI),
    ("l4", "peak.bf16", 121e12, "NVIDIA L4: 242 sparse, halved"),
    ("l40s", "driver_mib", 46068, SMI),
    ("l40s", "peak.bf16", 362.05e12, "NVIDIA L40S data sheet: 362.05 dense | 733 sparse"),
    ("a10", "driver_mib", 23028, SMI),
    ("a10g", "peak.bf16", 70e12, "NVIDIA and AWS A10G sheets; 125 is the A10's"),
    ("4090", "driver_mib", 24564, SMI),
    ("4090", "peak.bf16", 165.2e12, "dense with fp32 accumulation; 330.3 accumulates in fp16"),
    ("5090", "driver_mib", 32607, SMI),
    ("rtx-2080-ti", "peak.fp16", 53.8e12, "dense with fp32 accumulation; 107.6 accumulates in fp16"),
    ("mi300x", "driver_mib", 196592, "rocm-smi's total: 206,141,652,992 B less a fraction of a MiB"),
    ("mi300x", "peak.bf16", 1307.4e12, "AMD MI300X data sheet, dense"),
    ("mi100", "peak.bf16", 92.3e12, "AMD MI100: half of fp16's 184.6"),
    ("mi250x", "peak.bf16", 191.5e12, "AMD MI250X: 383 a card, which software sees as two devices"),
    ("mi250x", "vendor_bytes", 64_000_000_000, "AMD MI250X: 128 GB a card, which software sees as two devices"),
    ("gaudi3", "peak.bf16", 1835e12, "Intel Gaudi 3 white paper"),
    ("tpu-v5p", "peak.bf16", 459e12, "Google Cloud TPU v5p"),
    ("trn2", "vendor_bytes", 96 * 2**30, "AWS Neuron documentation: 96 GiB"),
    ("m3-ultra", "bandwidth", 819e9, "Apple M3 Ultra"),
]

SPARSE = [  # what vendors print with 2:4 sparsity, FLOP/s: memcalc's figure is half of it
    ("h100", "bf16", 1979e12),
    ("h100", "fp8", 3958e12),
    ("h100-pcie", "bf16", 1513e12),
    ("h200", "bf16", 1979e12),
    ("a100", "bf16", 624e12),
    ("a100", "tf32", 312e12),
    ("l4", "fp8", 485e12),
    ("l40s", "fp8", 1466e12),
    ("b200", "bf16", 4500e12),
    ("gb200", "bf16", 5000e12),
    ("5090", "fp4", 3352e12),
    ("trainium2", "fp8", 2563e12),
]


def value(gpu: Accelerator, key: str) -> object:
    return gpu.peak[key.removeprefix("peak.")] if key.startswith("peak.") else getattr(gpu, key)


def test_there_are_many() -> None:
    assert len(SHIPPED) >= 60
    assert {gpu.vendor for gpu in SHIPPED.values()} == {"NVIDIA", "AMD", "Intel", "Google", "AWS", "Apple", "Huawei"}


@pytest.mark.parametrize(("name", "key", "expected", "source"), FIGURES, ids=lambda case: str(case)[:40])
def test_figures(name: str, key: str, expected: float, source: str) -> None:
    assert value(accelerator(name), key) == pytest.approx(expected, rel=1e-9), source


@pytest.mark.parametrize(("name", "number_format", "sparse"), SPARSE)
def test_peaks_are_dense(name: str, number_format: str, sparse: float) -> None:
    assert accelerator(name).dense_peak(number_format) <= 0.515 * sparse


def test_every_file_passes_pydantic_and_means_the_same(tmp_path) -> None:
    shutil.copytree(shipped_folder("gpus"), tmp_path / "gpus")  # a user's folder: validated, not trusted
    assert list(accelerators([str(tmp_path)])) == list(SHIPPED.values())


@pytest.mark.parametrize("gpu", SHIPPED.values(), ids=SHIPPED)
class TestEach:
    def test_is_complete(self, gpu: Accelerator) -> None:
        assert SAFE_NAME.fullmatch(gpu.id)
        assert gpu.name.startswith(gpu.vendor)
        assert gpu.usable > 0
        assert gpu.bandwidth > 0
        assert gpu.sources
        assert bool(gpu.driver_mib) == bool(gpu.driver_source)
        assert any(name in gpu.peak for name in ("bf16", "fp16", "fp32"))

    def test_driver_and_vendor_tell_of_the_same_memory(self, gpu: Accelerator) -> None:
        """Within what ECC, reserved pages, and GB for GiB (1.074) explain."""
        assert 0.94 < gpu.usable / gpu.vendor_bytes < 1.075

    def test_bandwidth_is_in_bytes_per_second(self, gpu: Accelerator) -> None:
        assert 0.01 < gpu.vendor_bytes / gpu.bandwidth < 1, "seconds to read the memory once"

    def test_peaks_are_known_formats_in_flops_per_second(self, gpu: Accelerator) -> None:
        assert list(gpu.peak) == [known for known in PEAKS if known in gpu.peak]
        assert all(1e12 <= flops < 3e16 for flops in gpu.peak.values())

    def test_narrower_formats_are_at_most_twice_as_fast(self, gpu: Accelerator) -> None:
        """A sparse figure among dense ones would be four times as fast."""
        if gpu.vendor != "NVIDIA" or "fp8" not in gpu.peak:
            return
        assert gpu.peak["fp16"] == gpu.peak["bf16"]
        assert gpu.peak["fp8"] == pytest.approx(2 * gpu.peak["bf16"], rel=0.02)
        assert gpu.peak.get("tf32", 0) <= 0.51 * gpu.peak["bf16"]

    def test_unverified_keys_exist(self, gpu: Accelerator) -> None:
        known = {name for name in type(gpu).model_fields if getattr(gpu, name)} | {f"peak.{key}" for key in gpu.peak}
        assert set(gpu.unverified) <= known
        assert len(set(gpu.unverified)) == len(gpu.unverified)
        assert gpu.is_verified("driver_mib") == ("from memory" not in gpu.driver_source and "assumed" not in gpu.driver_source)

    def test_memory_alone_is_not_a_source(self, gpu: Accelerator) -> None:
        if set(gpu.sources) == {"from memory, not verified"}:
            assert not gpu.is_verified("vendor_bytes")
            assert not gpu.is_verified("bandwidth")


def test_aliases_are_safe_and_name_one_accelerator_each() -> None:
    owners: dict[str, str] = {}
    for gpu in SHIPPED.values():
        for alias in gpu.aliases:
            assert SAFE_NAME.fullmatch(alias), alias
            assert alias not in SHIPPED, f"{gpu.id}: {alias} is another's id"
            assert alias not in owners, f"{alias}: {gpu.id} and {owners.get(alias)}"
            owners[alias] = gpu.id
    assert all(accelerator(alias).id == owner for alias, owner in owners.items())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("h100", "h100-sxm-80"), ("H100", "h100-sxm-80"), ("h100-sxm", "h100-sxm-80"), ("a100", "a100-sxm4-80"),
        ("a100-80gb", "a100-sxm4-80"), ("a100-40gb", "a100-sxm4-40"), ("v100", "v100-sxm2-32"), ("4090", "rtx-4090"),
        ("rtx4090", "rtx-4090"), ("RTX 4090", "rtx-4090"), ("h200", "h200-sxm"), ("b200", "b200-sxm"),
        ("gb200", "gb200"), ("l40s", "l40s"), ("t4", "t4"), ("mi300x", "mi300x"), ("gh200", "gh200-96"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm-80"), ("NVIDIA A100-SXM4-40GB", "a100-sxm4-40"), ("Tesla T4", "t4"),
        ("NVIDIA GeForce RTX 3090", "rtx-3090"), ("trn1", "trainium1"), ("trillium", "tpu-v6e"),
    ],
)  # fmt: skip
def test_the_names_people_use(name: str, expected: str) -> None:
    assert accelerator(name).id == expected


def test_two_memory_sizes_of_one_name_are_not_guessed() -> None:
    """The RTX 4060 Ti is sold with 8 and 16 GB; the driver names both alike."""
    assert not {"4060ti", "rtx-4060-ti", "5060ti"} & {alias for gpu in SHIPPED.values() for alias in gpu.aliases}


@pytest.mark.parametrize("gpu", [gpu for gpu in SHIPPED.values() if gpu.cuda_mib], ids=lambda gpu: gpu.id)
def test_cuda_reports_a_little_less_than_the_driver(gpu: Accelerator) -> None:
    """The driver keeps some memory for itself: 0.3 to 3.7 GiB, up to 5.2 % of small cards."""
    assert gpu.cuda_source
    assert gpu.driver_mib
    assert gpu.cuda_mib
    assert 0.94 < gpu.cuda_mib / gpu.driver_mib < 1
    assert gpu.allocatable == gpu.cuda_mib * 2**20
