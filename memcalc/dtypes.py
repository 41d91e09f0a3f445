"""Number formats: how many bytes a value takes, scales and zero points included. A format is one row of FORMATS.

A format stores values in blocks of `block_size`, each `block_bytes` long; plain formats are blocks of one. Names are
the field's, with hyphens, but GGUF's formats keep their underscores (`q4_k`). What depends on a tensor's shape is in no
row: a scale for each tensor or output channel, the channel order of GPTQ; nor are files that mix formats (Q4_K_M).
"""

import re
from math import gcd
from typing import Literal

from memcalc.caches import cached
from memcalc.errors import InputError, nearest
from memcalc.frozen import NamedTuple


class NumberFormat(NamedTuple):
    """One way to store numbers. In kind "block" a code means something only together with its block's scale."""

    name: str
    kind: Literal["float", "int", "block"]
    bits: int  # of one value's code; rounded down where a code stands for several values (iq*, tq1_0)
    block_size: int  # values
    block_bytes: int  # of a block, scales included
    description: str
    source: str
    aliases: tuple[str, ...] = ()  # other spellings, in lower case with hyphens: number_format folds the rest
    exponent: int | None = None  # bits; of the code where that is a float
    mantissa: int | None = None  # bits, without the implied one
    lowest: float | None = None  # finite value; of a block's values the range depends on the scale
    highest: float | None = None
    smallest_normal: float | None = None  # floats nearer to zero lose precision

    @property
    def bits_per_value(self) -> float:
        """Bits of memory for one value, scales included; exact, as every block size is a power of two, but EXL3's.

        >>> number_format("nf4").bits_per_value, number_format("nf4-dq").bits_per_value
        (4.5, 4.126953125)
        """
        return 8 * self.block_bytes / self.block_size

    @property
    def range(self) -> str:
        """The finite values it spans, for people; empty where that depends on a scale.

        >>> [number_format(name).range for name in ("fp32", "fp16", "int8")]
        ['±3.4e38', '±65504', '-128…127']
        """
        if self.lowest is None or self.highest is None:
            return ""
        if self.kind == "int":
            return f"{self.lowest}…{self.highest}"
        low, high = (f"{x:{'g' if 1e-6 < abs(x) < 1e6 else '.2g'}}".replace("+", "") for x in (self.lowest, self.highest))
        return f"±{high}" if self.lowest == -self.highest else f"{low}…{high}"

    def bytes_for(self, values: int) -> int:
        """Bytes [B] of so many values in a row; the last block is stored whole.

        ceil(values / block_size) * block_bytes

        >>> [number_format(name).bytes_for(1000) for name in ("bf16", "int4", "q4_k")]
        [2000, 500, 576]
        """
        return -(-values // self.block_size) * self.block_bytes


@cached(1024)
def number_format(name: str) -> NumberFormat:
    """The format of that name or alias; capitals, underscores and a leading `torch.` do not matter.

    >>> number_format("torch.bfloat16").name, number_format("F8_E4M3").name, number_format("Q4_K").name
    ('bf16', 'fp8-e4m3', 'q4_k')
    """
    row = known_format(name)
    if row is None:
        known = [spelling for row in FORMATS for spelling in (row.name, *row.aliases)]
        raise InputError(f"{name[:40]!r} is no number format; `memcalc formats` lists those known{nearest(name[:40], known)}")
    return row


def known_format(name: str) -> NumberFormat | None:
    """The same, None for a word that is no number format (but may mean something else: checkpoint, a mixture).

    Raises InputError for one that would be a format of groups or codes that there are not.

    >>> known_format("checkpoint"), known_format("torch.float32").name
    (None, 'fp32')
    """
    folded = _folded(name)
    return _BY_SPELLING.get(folded) or _grouped(folded) or _averaged(folded)


def _folded(name: str) -> str:
    return name.strip().lower().removeprefix("torch.").replace("_", "-")


@cached(64)
def _grouped(name: str) -> NumberFormat | None:
    """Integers in groups of any size, each with a 16-bit scale and, under GPTQ, AWQ and HQQ, a zero point.

    GPTQ and AWQ pack the zero points like the codes, so a block is as many groups as make whole bytes of them.

    >>> [number_format(name).bits_per_value for name in ("int4-g32", "gptq-int4-g64", "awq-int4-g128", "int3-g128")]
    [4.5, 4.3125, 4.15625, 3.125]
    """
    if named := _MLX.fullmatch(name):
        name = f"mlx-int{named[1]}-g{named[2] or 64}"
    match = _GROUPED.fullmatch(name)
    if match is None:
        return None
    library, bits, group = match[1] or "", int(match[2]), int(match[3])
    if group % 8 or not 8 <= group <= 1 << 16:
        raise InputError(f"{name!r}: a group must be a multiple of 8 between 8 and 65536 values, not {group}")
    zero_bits, what, source = _ZERO_POINTS[library]
    zero_bits = bits if zero_bits is None else zero_bits
    groups = 8 // gcd(8, zero_bits)
    size = groups * (group * bits // 8 + 2) + groups * zero_bits // 8
    described = f"int{bits}, a 16-bit scale{what.format(bits=bits)} for {group}"
    return NumberFormat(name, "block", bits, groups * group, size, described, source)


@cached(64)
def _averaged(name: str) -> NumberFormat | None:
    """Codes without scales of which so many bits stand for a value: EXL3, whose bits differ from matrix to matrix.

    >>> number_format("exl3-4.25bpw").bits_per_value
    4.25
    """
    match = _BITS_PER_WEIGHT.fullmatch(name)
    if match is None:
        return None
    bits = float(match[1])
    if not 1 <= bits <= 8:
        raise InputError(f"{name!r}: EXL3 has 1 to 8 bits per weight, not {match[1]}")
    described = f"trellis codes, {bits:g} bits per weight on average"
    return NumberFormat(f"exl3-{bits:g}bpw", "block", int(bits), 800, round(100 * bits), described, _EXL3)


def _float(
    name: str,
    exponent: int,
    mantissa: int,
    description: str,
    source: str,
    aliases: tuple[str, ...] = (),
    *,
    bias: int | None = None,
    highest: float | None = None,
    block: tuple[int, int] | None = None,
) -> NumberFormat:
    """A signed float; bias and highest finite value are those of IEEE 754 unless given."""
    bits = 1 + exponent + mantissa
    size, length = block or (1, bits // 8)
    bias = 2 ** (exponent - 1) - 1 if bias is None else bias
    highest = highest or (2 - 2.0**-mantissa) * 2.0**bias
    normal = 2.0 ** (1 - bias)
    return NumberFormat(
        name, "float", bits, size, length, description, source, aliases, exponent, mantissa, -highest, highest, normal
    )


def _int(name: str, bits: int, lowest: int, highest: int, description: str, aliases: tuple[str, ...]) -> NumberFormat:
    """An integer in whole bytes, or two to a byte."""
    size, length = (1, bits // 8) if bits >= 8 else (8 // bits, 1)
    return NumberFormat(name, "int", bits, size, length, description, _TORCH, aliases, lowest=lowest, highest=highest)


def _ggml(name: str, bits: int, block_size: int, block_bytes: int, layout: str) -> NumberFormat:
    return NumberFormat(name, "block", bits, block_size, block_bytes, f"GGUF: {layout}", _LLAMA_CPP)


_TORCH = "PyTorch documentation, Tensor Attributes (torch.dtype)"
_IEEE = "IEEE 754-2019, table 3.5; torch.finfo"
_BFLOAT16 = "PyTorch documentation, Tensor Attributes: sign, exponent, mantissa of 1-8-7 bits; torch.finfo"
_TF32 = "NVIDIA CUDA Math API, __nv_tf32: at least 19 bits, 32 bits of storage"
_OFP8 = "OCP 8-bit Floating Point Specification (OFP8) 1.0, tables 1 and 2; Micikevicius et al. 2022, arXiv:2209.05433"
_FNUZ = "Noune et al. 2022, arXiv:2206.02915; ml_dtypes README"
_OCP_MX = "OCP Microscaling Formats (MX) 1.0; element values: ml_dtypes README"
_MXFP8 = "OCP Microscaling Formats (MX) 1.0; NVIDIA Transformer Engine documentation, MXFP8"
_NVFP4 = "NVIDIA cuTile documentation, Inference with NVFP4/MXFP8: 16 values take 8 + 1 bytes"
_BNB = "bitsandbytes functional.py, quantize_4bit: absmax float32, blocksize 64; Dettmers et al. 2023 (QLoRA)"
_BNB_DQ = "bitsandbytes functional.py, quantize_4bit with compress_statistics: absmax in 8 bits, blocksize 256"
_GPTQ = "AutoGPTQ qlinear_exllama.py: qweight and qzeros packed in int32, scales float16"
_AWQ = "AutoAWQ awq/modules/linear/gemm.py: qweight and qzeros packed in int32, scales float16"
_W4A16 = "vLLM compressed_tensors_wNa16.py: weight_packed int32, weight_scale in the model's 16-bit dtype"
_INT8_ROW = "bitsandbytes int8_vectorwise_quant: float32 row statistics; vLLM compressed_tensors_w8a8_int8.py"
_FP8_ROW = "vLLM logs, Llama-3.1-8B in fp8: 8.49 GiB, a byte for each linear weight and two for each embedding value"
_FP8_BLOCK = "DeepSeek-V3 README_WEIGHTS.md: e4m3, weight_block_size [128, 128], weight_scale_inv float32"
_FP8_G128 = "DeepSeek-V3.2 inference/kernel.py act_quant: e4m3, an fp32 scale for each 128 values of a row"
_HQQ = "mobiusml/hqq hqq/core/quantize.py: scale and zero of a group in the compute dtype"
_VLLM_CACHE = "vLLM 0.33, v1/attention/backends: a token's slot of a head, or of all heads where they share a latent"
_MLX_SOURCE = "mlx mlx/ops.cpp, affine_quantize: packed codes, scales and biases of a group in the weights' format"
_EXL3 = "exllamav3 modules/quant/exl3.py: trellis int16 [inputs / 16, outputs / 16, 16 × bits], suh and svh float16"
_LLAMA_CPP = "ggml-org/llama.cpp ggml/src/ggml-common.h, commit 01243c5"

FORMATS: tuple[NumberFormat, ...] = (
    _float("fp64", 11, 52, "double precision", _IEEE, ("float64", "double", "f64")),
    _float(
        "fp32", 8, 23, "single precision: master weights and optimizer states", _IEEE,
        ("float32", "float", "single", "f32"),
    ),
    _float("tf32", 8, 10, "what tensor cores read of an fp32, and stored like one", _TF32, ("tfloat32",), block=(1, 4)),
    _float("fp16", 5, 10, "half precision: gradients need loss scaling", _IEEE, ("float16", "half", "f16")),
    _float("bf16", 8, 7, "the upper half of an fp32: its range, fewer digits", _BFLOAT16, ("bfloat16", "bfloat")),
    _float(
        "fp8-e4m3", 4, 3, "8-bit float for weights, activations and caches; no infinities", _OFP8,
        ("fp8", "fp8-inc", "float8", "float8-e4m3fn", "float8-e4m3", "f8-e4m3", "f8-e4m3fn", "e4m3", "e4m3fn", "fp8-e4m3fn"),
        highest=448.0,
    ),
    _float("fp8-e5m2", 5, 2, "8-bit float for gradients", _OFP8, ("float8-e5m2", "f8-e5m2", "e5m2")),
    _float(
        "fp8-e4m3fnuz", 4, 3, "8-bit float of AMD's MI300 series", _FNUZ, ("float8-e4m3fnuz", "f8-e4m3fnuz"),
        bias=8, highest=240.0,
    ),
    _float(
        "fp8-e5m2fnuz", 5, 2, "8-bit float of AMD's MI300 series", _FNUZ, ("float8-e5m2fnuz", "f8-e5m2fnuz"),
        bias=16, highest=57344.0,
    ),
    NumberFormat(
        "fp8-e8m0", "float", 8, 1, 1, "a power of two: the scale of an MX block", _OCP_MX,
        ("float8-e8m0fnu", "f8-e8m0", "e8m0"), 8, 0, 2.0**-127, 2.0**127, 2.0**-127,
    ),
    _float("fp6-e3m2", 3, 2, "four in three bytes", _OCP_MX, ("fp6", "f6-e3m2"), highest=28.0, block=(4, 3)),
    _float("fp6-e2m3", 2, 3, "four in three bytes", _OCP_MX, ("f6-e2m3",), highest=7.5, block=(4, 3)),
    _float(
        "fp4-e2m1", 2, 1, "two in a byte: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives", _OCP_MX,
        ("fp4", "f4", "e2m1", "float4-e2m1fn", "float4-e2m1fn-x2"), highest=6.0, block=(2, 1),
    ),
    _int("int64", 64, -(2**63), 2**63 - 1, "token ids", ("i64", "long")),
    _int("int32", 32, -(2**31), 2**31 - 1, "indices; packed 4-bit weights", ("i32", "int")),
    _int("int16", 16, -(2**15), 2**15 - 1, "short integer", ("i16", "short")),
    _int("int8", 8, -128, 127, "quantised weights and activations", ("i8", "char")),
    _int("int4", 4, -8, 7, "two in a byte, without scales", ("i4",)),
    _int("uint64", 64, 0, 2**64 - 1, "unsigned integer", ("u64",)),
    _int("uint32", 32, 0, 2**32 - 1, "unsigned integer", ("u32",)),
    _int("uint16", 16, 0, 2**16 - 1, "unsigned integer", ("u16",)),
    _int("uint8", 8, 0, 255, "bytes; packed 4-bit weights, 8-bit optimizer states", ("u8", "byte")),
    _int("uint4", 4, 0, 15, "two in a byte, without scales", ("u4",)),
    _int("bool", 8, 0, 1, "masks: one byte a value", ("boolean",)),
    NumberFormat(
        "int8-channel", "block", 8, 1, 1, "int8; beside it a scale for each output channel", _INT8_ROW,
        ("w8a8", "w8a8-int8", "int8-per-channel", "llm.int8", "llm-int8", "bnb-int8"),
    ),
    NumberFormat(
        "fp8-channel", "block", 8, 1, 1, "e4m3; beside it a scale for each output channel", _FP8_ROW,
        ("w8a8-fp8", "fp8-per-channel", "fp8-dynamic"), 4, 3,
    ),
    NumberFormat(
        "fp8-block128", "block", 8, 128 * 128, 128 * 128 + 4, "e4m3, an fp32 scale for 128 × 128", _FP8_BLOCK,
        ("fp8-block", "fp8-128x128"), 4, 3,
    ),
    NumberFormat(
        "fp8-g128", "block", 8, 128, 128 + 4, "e4m3, an fp32 scale for 128", _FP8_G128, ("fp8-1x128",), 4, 3,
    ),
    NumberFormat(
        "nf4", "block", 4, 64, 32 + 4, "normal-float codes, an fp32 absmax for 64", _BNB,
        ("bnb-nf4", "bnb-4bit", "normalfloat4"),
    ),
    NumberFormat(
        "nf4-dq", "block", 4, 256 * 64, 256 * (32 + 1) + 4, "nf4 with an 8-bit absmax, an fp32 scale for 256 of them",
        _BNB_DQ, ("bnb-nf4-dq", "nf4-double-quant"),
    ),
    NumberFormat("bnb-fp4", "block", 4, 64, 32 + 4, "4-bit float codes, an fp32 absmax for 64", _BNB),
    NumberFormat(
        "bnb-fp4-dq", "block", 4, 256 * 64, 256 * (32 + 1) + 4,
        "bnb-fp4 with an 8-bit absmax, an fp32 scale for 256 of them", _BNB_DQ,
    ),
    NumberFormat(  # two groups to a block: a zero point is half a byte
        "gptq-int4-g128", "block", 4, 2 * 128, 2 * (64 + 2) + 1, "int4, an fp16 scale and an int4 zero point for 128",
        _GPTQ, ("gptq", "gptq-int4"),
    ),
    NumberFormat(
        "awq-int4-g128", "block", 4, 2 * 128, 2 * (64 + 2) + 1, "int4, an fp16 scale and an int4 zero point for 128",
        _AWQ, ("awq", "awq-int4"),
    ),
    NumberFormat(
        "int4-g128", "block", 4, 128, 64 + 2, "int4 symmetric, a 16-bit scale for 128", _W4A16, ("w4a16", "w4a16-g128")
    ),
    NumberFormat("mxfp8", "block", 8, 32, 32 + 1, "e4m3, an e8m0 scale for 32", _MXFP8, ("mxfp8-e4m3",), 4, 3),
    NumberFormat("mxfp6", "block", 6, 32, 24 + 1, "e3m2, an e8m0 scale for 32", _OCP_MX, ("mxfp6-e3m2",), 3, 2),
    NumberFormat(
        "mxfp4", "block", 4, 32, 16 + 1, "e2m1, an e8m0 scale for 32", f"{_OCP_MX}; {_LLAMA_CPP}", ("mxfp4-e2m1",), 2, 1
    ),
    NumberFormat(
        "nvfp4", "block", 4, 16, 8 + 1, "e2m1, an e4m3 scale for 16; beside it an fp32 scale for the tensor", _NVFP4,
        ("nvfp4-4over6", "fp4-mx-block16"), 2, 1,
    ),
    *(
        NumberFormat(name, "block", bits, size, length, f"cache: {what}", _VLLM_CACHE)
        for name, bits, size, length, what in (
            ("int8-per-token-head", 8, 256, 264, "int8, an fp32 scale for the keys and one for the values of a head (of 128)"),
            ("fp8-per-token-head", 8, 256, 264, "e4m3, an fp32 scale for the keys and one for the values of a head (of 128)"),
            ("int4-per-token-head", 4, 256, 136, "int4, an fp32 scale for the keys and one for the values of a head (of 128)"),
            ("turboquant-k8v4", 4, 256, 196, "fp8 keys, 4-bit values with scale and zero, of a head of 128"),
            ("turboquant-4bit-nc", 4, 256, 134, "4-bit keys with a norm, 4-bit values with scale and zero, of a head of 128"),
            ("turboquant-k3v4-nc", 3, 256, 118, "3-bit keys with a norm, 4-bit values with scale and zero, of a head of 128"),
            ("turboquant-3bit-nc", 3, 256, 102, "3-bit keys with a norm, 3-bit values with scale and zero, of a head of 128"),
            ("fp8-ds-mla", 8, 576, 656, "a latent of 512 in e4m3 with an fp32 scale for 128, 64 rotated values in bf16"),
            ("nvfp4-ds-mla", 4, 576, 352, "a latent of 512 in e2m1 with an e4m3 scale for 16, 64 rotated values in e4m3"),
        )
    ),
    _ggml("nvfp4_gguf", 4, 64, 36, "4 e4m3 scales (1 for 16), 32 B of e2m1"),
    _ggml("q1_0", 1, 128, 18, "fp16 scale, 16 B of signs"),
    _ggml("q2_0", 2, 64, 18, "fp16 scale, 16 B of 2-bit codes"),
    _ggml("q4_0", 4, 32, 18, "fp16 scale, 16 B of 4-bit codes"),
    _ggml("q4_1", 4, 32, 20, "fp16 scale and minimum, 16 B of 4-bit codes"),
    _ggml("q5_0", 5, 32, 22, "fp16 scale, 4 B of fifth bits, 16 B of low bits"),
    _ggml("q5_1", 5, 32, 24, "fp16 scale and minimum, 4 B of fifth bits, 16 B of low bits"),
    _ggml("q8_0", 8, 32, 34, "fp16 scale, 32 B of int8"),
    _ggml("q8_1", 8, 32, 36, "fp16 scale and sum, 32 B of int8; internal, never in a file"),
    _ggml("q2_k", 2, 256, 84, "16 B of 4-bit scales and minima, 64 B of codes, fp16 scale and minimum"),
    _ggml("q3_k", 3, 256, 110, "32 B of high bits, 64 B of low bits, 12 B of 6-bit scales, fp16 scale"),
    _ggml("q4_k", 4, 256, 144, "fp16 scale and minimum, 12 B of 6-bit scales and minima, 128 B of codes"),
    _ggml("q5_k", 5, 256, 176, "fp16 scale and minimum, 12 B of scales and minima, 32 B of high, 128 B of low bits"),
    _ggml("q6_k", 6, 256, 210, "128 B of low bits, 64 B of high bits, 16 int8 scales, fp16 scale"),
    _ggml("q8_k", 8, 256, 292, "fp32 scale, 256 B of int8, 16 int16 sums; internal, never in a file"),
    _ggml("tq1_0", 1, 256, 54, "48 B of five ternary digits, 4 B of four, fp16 scale"),
    _ggml("tq2_0", 2, 256, 66, "64 B of 2-bit ternary codes, fp16 scale"),
    _ggml("iq1_s", 1, 256, 50, "fp16 scale, 32 B of grid indices, 16 B of high bits and scales"),
    _ggml("iq1_m", 1, 256, 56, "32 B of grid indices, 16 B of high bits and shifts, 8 B of scales"),
    _ggml("iq2_xxs", 2, 256, 66, "fp16 scale, 64 B of grid indices, signs and scales"),
    _ggml("iq2_xs", 2, 256, 74, "fp16 scale, 64 B of grid indices and signs, 8 B of scales"),
    _ggml("iq2_s", 2, 256, 82, "fp16 scale, 64 B of grid indices and signs, 8 B of high bits, 8 B of scales"),
    _ggml("iq2_nl", 2, 32, 10, "fp16 scale, 8 B of indices into a table of 4"),
    _ggml("iq3_xxs", 3, 256, 98, "fp16 scale, 64 B of grid indices, 32 B of signs and scales"),
    _ggml("iq3_s", 3, 256, 110, "fp16 scale, 64 B of grid indices, 8 B of high bits, 32 B of signs, 4 B of scales"),
    _ggml("iq3_nl", 3, 32, 14, "fp16 scale, 4 B of high bits, 8 B of low bits of indices into a table of 8"),
    _ggml("iq4_nl", 4, 32, 18, "fp16 scale, 16 B of indices into a table of 16"),
    _ggml("iq4_xs", 4, 256, 136, "fp16 scale, 6 B of 6-bit scales, 128 B of indices into a table of 16"),
)  # fmt: skip

_GROUPED = re.compile(r"(?:(gptq|awq|hqq|mlx)-)?int([2-8])-g([0-9]{1,6})")
_MLX = re.compile(r"mlx-([2-8])-?bits?(?:-g([0-9]{1,6}))?")
_BITS_PER_WEIGHT = re.compile(r"(?:exl3-)?([0-9](?:\.[0-9]{1,2})?)-?bpw(?:-exl3)?")
_ZERO_POINTS: dict[str, tuple[int | None, str, str]] = {  # bits of a zero point (None: those of a code), words, source
    "": (0, "", _W4A16),
    "gptq": (None, " and an int{bits} zero point", _GPTQ),
    "awq": (None, " and an int{bits} zero point", _AWQ),
    "hqq": (16, " and a 16-bit zero point", _HQQ),
    "mlx": (16, " and a 16-bit bias", _MLX_SOURCE),
}

_BY_SPELLING = {_folded(spelling): row for row in FORMATS for spelling in (row.name, *row.aliases)}
