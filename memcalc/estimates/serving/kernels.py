"""Which kernel multiplies with weights that are stored in some way, on some accelerator.

Engines multiply in the stored format where the accelerator can, and else unpack weights inside a kernel that multiplies 16-bit
activations (Marlin and its like). llama.cpp casts activations to int8 and multiplies GGUF's blocks as they are. bitsandbytes
unpacks to 16 bits in memory first.
"""

from collections.abc import Iterable, Mapping

from memcalc.dtypes import known_format
from memcalc.errors import InputError
from memcalc.estimates.lines import Line
from memcalc.frozen import NamedTuple

GGUF, UNPACKED = "gguf", "unpacked"
FLOATS = ("bf16", "fp32", "tf32")
HALF = 2  # bytes of a 16-bit value

# Stored as → kernels of the time law (OPERANDS of memcalc.formulas.timing.constants), the first whose peak the accelerator has.
KERNELS: dict[str, tuple[tuple[str, str], ...]] = {  # (peak that it needs, kernel)
    "fp32": (("", "fp32"),),
    "tf32": (("", "tf32"),),
    "fp8": (("fp8", "fp8"), ("", "int8-weights")),
    "fp8-block128": (("fp8", "fp8-block"), ("", "int8-weights")),
    "mxfp8": (("fp8", "fp8-block"), ("", "int8-weights")),
    "int8-channel": (("int8", "int8"), ("", "int8-weights")),
    "int8": (("int8", "int8"), ("", "int8-weights")),
    "eetq": (("", "int8-weights"),),
    "nvfp4": (("fp4", "nvfp4"), ("", "int4-weights")),
    "mxfp4": (("fp4", "mxfp4-mxfp8"), ("", "mxfp4-weights")),
    "int4": (("", "int4-weights"),),
}
ALIKE = {
    "w8a8": "int8-channel", "fp8-channel": "fp8", "fp8-e4m3": "fp8", "fp8-g128": "fp8-block128",
    "fp8-block128-marlin": "fp8-block128", "mxfp4-triton": "mxfp4", "mxfp4-marlin": "mxfp4",
    "int4-channel": "int4", "fp8-e4m3fnuz": "fp8", "nvfp4a16": "int4",
}  # fmt: skip
UNPACKING = ("nf4", "bnb-")  # bitsandbytes


class Stored(NamedTuple):
    """How the weights of a role are stored, and what multiplies them."""

    kernel: str  # a row of OPERANDS, or GGUF
    itemsize: float = HALF  # bytes of a weight as stored
    unpacked: bool = False  # to 16 bits in memory before each product
    on_host: float = 0.0  # share of their bytes that stands in host memory


def kernel_of(word: str, peaks: Mapping[str, float]) -> tuple[str, bool]:
    """The kernel for weights that are stored under this word, and whether they are unpacked in memory first."""
    if word.startswith(UNPACKING):
        return "bf16", True
    name = ALIKE.get(word, word)
    try:
        row = known_format(name)
    except InputError:
        row = None
    if row is None:
        return "bf16", False
    if "_" in row.name:
        return GGUF, False
    if name not in KERNELS and row.kind == "block":
        name = "int4" if row.bits <= 4 else "eetq"
    rows = KERNELS.get(name, KERNELS.get(row.name, (("", "bf16"),)))
    return next(kernel for peak, kernel in rows if not peak or peak in peaks), False


def stored_roles(
    lines: Iterable[Line], elements: Mapping[str, int], leading: str, peaks: Mapping[str, float], *, ggml: bool = False
) -> dict[str, Stored]:
    """Each role's weights, from the lines of an estimate; `elements` of each role on the rank, `leading`: their format where a
    line names none. `ggml`: whatever is no float is a block to it, mxfp4 too (ggml-common.h, block_mxfp4)."""
    sizes: dict[str, dict[str, int]] = {}
    host: dict[str, int] = {}
    for entry in lines:
        if entry.component != "weights" or not (role := entry.group):
            continue
        word = entry.name.removeprefix(role).removeprefix(", ").partition(", ")[0] or leading
        sizes.setdefault(role, {}).setdefault(word, 0)
        sizes[role][word] += entry.bytes
        host[role] = host.get(role, 0) + (entry.bytes if entry.place == "host" else 0)
    out = {}
    for role, words in sizes.items():
        total = sum(words.values())
        kernel, unpacked = kernel_of(max(words, key=lambda word: words[word]), peaks)
        kernel = GGUF if ggml and kernel not in FLOATS else kernel
        out[role] = Stored(
            kernel, total / max(1, elements.get(role, 0) or total / HALF), unpacked, host[role] / total if total else 0.0
        )
    return out
