"""Number formats against the block layouts and ranges that their sources publish."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcalc.dtypes import FORMATS, NumberFormat, number_format
from memcalc.errors import InputError
from memcalc.formulas.cache_slots import LATENT

# ggml type, values in a block, bytes of a block, bits a value.
# Source: ggml-org/llama.cpp, ggml/src/ggml-common.h, commit 01243c5 (the structs and their static_asserts).
# Q8_1 is internal, never in a file; gguf-py's table still has its older struct of 40 bytes (fp32 scale and sum).
GGML = [
    ("F32", 1, 4, 32.0),
    ("F16", 1, 2, 16.0),
    ("BF16", 1, 2, 16.0),
    ("Q1_0", 128, 18, 1.125),
    ("Q2_0", 64, 18, 2.25),
    ("Q4_0", 32, 18, 4.5),
    ("Q4_1", 32, 20, 5.0),
    ("Q5_0", 32, 22, 5.5),
    ("Q5_1", 32, 24, 6.0),
    ("Q8_0", 32, 34, 8.5),
    ("Q8_1", 32, 36, 9.0),
    ("MXFP4", 32, 17, 4.25),
    ("NVFP4_GGUF", 64, 36, 4.5),
    ("TQ1_0", 256, 54, 1.6875),
    ("TQ2_0", 256, 66, 2.0625),
    ("Q2_K", 256, 84, 2.625),
    ("Q3_K", 256, 110, 3.4375),
    ("Q4_K", 256, 144, 4.5),
    ("Q5_K", 256, 176, 5.5),
    ("Q6_K", 256, 210, 6.5625),
    ("Q8_K", 256, 292, 9.125),
    ("IQ1_S", 256, 50, 1.5625),
    ("IQ1_M", 256, 56, 1.75),
    ("IQ2_XXS", 256, 66, 2.0625),
    ("IQ2_XS", 256, 74, 2.3125),
    ("IQ2_S", 256, 82, 2.5625),
    ("IQ3_XXS", 256, 98, 3.0625),
    ("IQ3_S", 256, 110, 3.4375),
    ("IQ4_NL", 32, 18, 4.5),
    ("IQ4_XS", 256, 136, 4.25),
    ("IQ2_NL", 32, 10, 2.5),
    ("IQ3_NL", 32, 14, 3.5),
]

# Quantisation libraries: format, values that share a scale, bits a value, source.
LIBRARIES = [
    ("nf4", 64, 4.5, "bitsandbytes quantize_4bit: absmax float32, blocksize 64"),
    ("bnb-fp4", 64, 4.5, "bitsandbytes quantize_4bit: absmax float32, blocksize 64"),
    ("nf4-dq", 64, 4 + 8 / 64 + 32 / (64 * 256), "Dettmers et al. 2023 (QLoRA), section 3: 0.127 bits for the scales"),
    ("bnb-fp4-dq", 64, 4.126953125, "bitsandbytes quantize_4bit with compress_statistics: blocksize 256"),
    ("gptq-int4-g128", 128, 4 + 16 / 128 + 4 / 128, "AutoGPTQ qlinear_exllama.py: qweight, scales, qzeros"),
    ("awq-int4-g128", 128, 4.15625, "AutoAWQ awq/modules/linear/gemm.py: qweight, scales, qzeros"),
    ("int4-g128", 128, 4.125, "vLLM compressed_tensors_wNa16.py: weight_packed, weight_scale"),
    ("fp8-block128", 128 * 128, 8.001953125, "DeepSeek-V3 README_WEIGHTS.md: weight_scale_inv float32 for 128 × 128"),
    ("int8-channel", 1, 8.0, "bitsandbytes int8_vectorwise_quant: one scale a row"),
    ("fp8-channel", 1, 8.0, "vLLM logs of Llama-3.1-8B fp8: 8.49 GiB"),
    ("mxfp8", 32, 8.25, "OCP MX 1.0: 32 elements and an E8M0 scale"),
    ("mxfp6", 32, 6.25, "OCP MX 1.0"),
    ("mxfp4", 32, 4.25, "OCP MX 1.0"),
    ("nvfp4", 16, 4.5, "NVIDIA cuTile documentation: 16 values take 8 + 1 bytes"),
]

# Plain floats: exponent and mantissa bits, bytes, largest finite value, smallest normal, source.
FLOATS = [
    ("fp64", 11, 52, 8, 1.7976931348623157e308, 2.2250738585072014e-308, "torch.finfo(torch.float64)"),
    ("fp32", 8, 23, 4, 3.4028234663852886e38, 1.1754943508222875e-38, "torch.finfo(torch.float32)"),
    ("tf32", 8, 10, 4, 3.4011621342146535e38, 1.1754943508222875e-38, "fp32's exponent, fp16's mantissa"),
    ("fp16", 5, 10, 2, 65504.0, 6.103515625e-05, "torch.finfo(torch.float16)"),
    ("bf16", 8, 7, 2, 3.3895313892515355e38, 1.1754943508222875e-38, "torch.finfo(torch.bfloat16)"),
    ("fp8-e4m3", 4, 3, 1, 448.0, 2.0**-6, "OFP8 1.0, table 2"),
    ("fp8-e5m2", 5, 2, 1, 57344.0, 2.0**-14, "OFP8 1.0, table 2"),
    ("fp8-e4m3fnuz", 4, 3, 1, 240.0, 2.0**-7, "ml_dtypes README: bias 8"),
    ("fp8-e5m2fnuz", 5, 2, 1, 57344.0, 2.0**-15, "ml_dtypes README: bias 16"),
]

# Beginners' table: format, bytes, range.
TEXTBOOK = [
    ("fp32", 4, "±3.4e38"),
    ("bf16", 2, "±3.4e38"),
    ("fp16", 2, "±65504"),
    ("fp8", 1, "±448"),
    ("int8", 1, "-128…127"),
    ("uint8", 1, "0…255"),
    ("bool", 1, "0…1"),
    ("int64", 8, "-9223372036854775808…9223372036854775807"),
    ("fp8-e8m0", 1, "5.9e-39…1.7e38"),
    ("mxfp4", 17, ""),
]

# What people, PyTorch, safetensors (Dtype in tensor.rs) and GGUF write.
SPELLINGS = [
    ("fp32", "fp32 FP32 float32 torch.float32 torch.float f32 F32 single"),
    ("fp16", "fp16 half float16 torch.half torch.float16 f16 F16"),
    ("bf16", "bf16 BF16 bfloat16 torch.bfloat16 BFloat16"),
    ("fp64", "double torch.float64 F64"),
    ("fp8-e4m3", "fp8 FP8 fp8_e4m3 float8_e4m3fn torch.float8_e4m3fn F8_E4M3 e4m3"),
    ("fp8-e5m2", "fp8_e5m2 torch.float8_e5m2 F8_E5M2"),
    ("fp8-e4m3fnuz", "torch.float8_e4m3fnuz F8_E4M3FNUZ"),
    ("fp8-e5m2fnuz", "torch.float8_e5m2fnuz F8_E5M2FNUZ"),
    ("fp8-e8m0", "torch.float8_e8m0fnu F8_E8M0"),
    ("fp6-e2m3", "F6_E2M3"),
    ("fp6-e3m2", "F6_E3M2"),
    ("fp4-e2m1", "F4 fp4 torch.float4_e2m1fn_x2"),
    ("int64", "I64 torch.int64 torch.long"),
    ("int32", "I32 torch.int32"),
    ("int16", "I16 torch.int16"),
    ("int8", "I8 torch.int8 INT8"),
    ("uint64", "U64 torch.uint64"),
    ("uint32", "U32 torch.uint32"),
    ("uint16", "U16 torch.uint16"),
    ("uint8", "U8 torch.uint8"),
    ("bool", "BOOL torch.bool"),
    ("q4_k", "q4_k Q4_K q4-k"),
    ("iq2_xxs", "IQ2_XXS"),
    ("nf4-dq", "nf4_dq NF4-DQ"),
    ("gptq-int4-g128", "gptq GPTQ"),
    ("awq-int4-g128", "awq"),
    ("int4-g128", "w4a16"),
    ("int8-channel", "w8a8 LLM.int8"),
]

WIDER_THAN_ITS_CODE = {"tf32"}  # 19 bits that occupy 32


@pytest.mark.parametrize(("name", "block_size", "block_bytes", "bits"), GGML, ids=[row[0] for row in GGML])
def test_ggml_blocks(name: str, block_size: int, block_bytes: int, bits: float) -> None:
    row = number_format(name)
    assert (row.block_size, row.block_bytes, row.bits_per_value) == (block_size, block_bytes, bits)


def test_every_gguf_row_is_checked() -> None:
    checked = {name.lower() for name, *_ in GGML}
    assert {row.name for row in FORMATS if "_" in row.name} <= checked


@pytest.mark.parametrize(("name", "group", "bits", "source"), LIBRARIES, ids=[row[0] for row in LIBRARIES])
def test_library_formats(name: str, group: int, bits: float, source: str) -> None:
    row = number_format(name)
    assert row.kind == "block"
    assert row.block_size % group == 0, source
    assert row.bits_per_value == bits, source


@pytest.mark.parametrize(("name", "exponent", "mantissa", "size", "highest", "normal", "source"), FLOATS)
def test_floats(name: str, exponent: int, mantissa: int, size: int, highest: float, normal: float, source: str) -> None:
    row = number_format(name)
    assert (row.exponent, row.mantissa, row.block_size, row.block_bytes) == (exponent, mantissa, 1, size), source
    assert (row.lowest, row.highest, row.smallest_normal) == (-highest, highest, normal), source


@pytest.mark.parametrize(("name", "code", "layout"), [("fp16", 0x7BFF, "<e"), ("fp32", 0x7F7FFFFF, "<f")])
def test_largest_finite_value_is_the_highest_code_below_infinity(name: str, code: int, layout: str) -> None:
    row = number_format(name)
    assert struct.unpack(layout, code.to_bytes(row.block_bytes, "little"))[0] == row.highest


def test_bf16_is_the_upper_half_of_fp32() -> None:
    assert struct.unpack("<f", (0x7F7F0000).to_bytes(4, "little"))[0] == number_format("bf16").highest


@pytest.mark.parametrize(("name", "size", "span"), TEXTBOOK, ids=[row[0] for row in TEXTBOOK])
def test_textbook_ranges(name: str, size: int, span: str) -> None:
    row = number_format(name)
    assert (row.block_bytes, row.range) == (size, span)


# (format, values, bytes, why)
SIZES = [
    ("fp32", 1_000_000_000, 4_000_000_000, "a billion parameters are 4 GB"),
    ("bf16", 8_030_261_248, 16_060_522_496, "Llama-3.1-8B's checkpoint"),
    ("int4", 7, 4, "the last byte is half empty"),
    ("fp6-e3m2", 5, 6, "four in three bytes"),
    ("q4_0", 33, 36, "two blocks"),
    ("q8_0", 128, 136, "a head of a llama.cpp q8_0 cache: 34 bytes for 32"),
    ("nf4", 4096 * 4096, 9_437_184, "4.5 bits"),
    ("nf4-dq", 4096 * 4096, 8_388_608 + 262_144 + 4_096, "codes, absmax, scales of absmax"),
    ("gptq-int4-g128", 4096 * 4096, 8_388_608 + 262_144 + 65_536, "codes, scales, zero points"),
    ("fp8-block128", 7168 * 2048, 7168 * 2048 + 56 * 16 * 4, "an expert of DeepSeek-V3"),
    ("mxfp4", 2880 * 2880, 2880 * 2880 * 17 // 32, "an expert's matrix of gpt-oss"),
    ("fp16", 0, 0, "nothing"),
]


@pytest.mark.parametrize(("name", "values", "size", "why"), SIZES, ids=[row[0] for row in SIZES])
def test_bytes_for(name: str, values: int, size: int, why: str) -> None:
    assert number_format(name).bytes_for(values) == size, why


@given(st.sampled_from(FORMATS), st.integers(0, 10**15))
def test_whole_blocks_and_never_less_than_the_bits(row: NumberFormat, values: int) -> None:
    size = row.bytes_for(values)
    assert size % row.block_bytes == 0
    assert size * row.block_size >= values * row.block_bytes
    assert (size - row.block_bytes) * row.block_size < values * row.block_bytes or values == 0
    assert row.bytes_for(values * row.block_size) == values * row.block_bytes


@pytest.mark.parametrize(
    ("name", "spelling"), [(name, spelling) for name, spellings in SPELLINGS for spelling in spellings.split()]
)
def test_spellings(name: str, spelling: str) -> None:
    assert number_format(spelling).name == name


def test_no_spelling_is_claimed_twice() -> None:
    folded = [spelling.lower().replace("_", "-") for row in FORMATS for spelling in (row.name, *row.aliases)]
    assert sorted(folded) == sorted(set(folded))


@given(st.sampled_from([(row, spelling) for row in FORMATS for spelling in (row.name, *row.aliases)]), st.data())
def test_capitals_and_underscores_do_not_matter(case: tuple[NumberFormat, str], data: st.DataObject) -> None:
    row, spelling = case
    flips = data.draw(st.lists(st.booleans(), min_size=len(spelling), max_size=len(spelling)))
    text = "".join(char.upper() if flip else char for char, flip in zip(spelling, flips, strict=True))
    assert number_format(text.replace("-", "_")) is row
    assert number_format(text.replace("_", "-")) is row


@pytest.mark.parametrize("row", FORMATS, ids=[row.name for row in FORMATS])
def test_rows_are_consistent(row: NumberFormat) -> None:
    assert row.name == row.name.lower()
    assert row.source
    assert row.description
    assert "\n" not in row.description + row.source
    assert math.log2(row.block_size).is_integer() or row.name in LATENT, "bits_per_value is exact only then"
    assert row.bits <= row.bits_per_value
    assert row.kind == "block" or row.bits == row.bits_per_value or row.name in WIDER_THAN_ITS_CODE
    assert (row.highest is None) == (row.kind == "block")
    assert (row.smallest_normal is None) == (row.kind != "float")
    assert hash(row) == hash(row._replace())
    assert len({other for other in FORMATS if other.name == row.name}) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bf17", ("'bf17'", "did you mean", "bf16")),
        ("q4_kk", ("'q4_kk'", "q4_k")),
        ("", ("''", "memcalc formats")),
        ("int3", ("'int3'", "int")),
        ("x" * 10**6, ("no number format",)),
    ],
    ids=["near", "gguf", "empty", "int3", "long"],
)
def test_unknown_names_are_refused(name: str, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as refusal:
        number_format(name)
    message = str(refusal.value)
    assert [word for word in words if word not in message] == [], message
    assert len(message) < 250
