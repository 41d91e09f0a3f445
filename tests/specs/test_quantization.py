"""Words of `--weights`: what they stand for, and what a refusal says."""

import pytest

from memcalc.dtypes import FORMATS
from memcalc.errors import InputError
from memcalc.specs.quantization import CHECKPOINT, MIXTURES, SCHEMES, Scheme, check_weights, loader, stored_as, weight_words

# word, name, bits of a value without what stands beside it
WORDS = (
    ("fp8", "fp8", 8), ("FP8_DYNAMIC", "fp8-channel", 8), ("fp8-block", "fp8-block128", 8), ("w8a8", "w8a8", 8),
    ("llm.int8", "bnb-int8", 8), ("int8-g128", "int8-g128", 8.125), ("int4-g32", "int4-g32", 4.5),
    ("w4a16", "int4-g128", 4.125), ("int3-g128", "int3-g128", 3.125), ("gptq", "gptq-int4-g128", 4.15625),
    ("gptq-int4-g64", "gptq-int4-g64", 4.3125), ("AWQ", "awq-int4-g128", 4.15625), ("nf4", "nf4", 4.5),
    ("nf4-dq", "nf4-dq", 4.126953125), ("mxfp4", "mxfp4", 4.25), ("nvfp4", "nvfp4", 4.5), ("bf16", "bf16", 16),
    ("q4_k_m", "Q4_K_M", 4.5), ("Q4_K", "Q4_K_M", 4.5), ("iq3-xxs", "IQ3_XXS", 3.0625), ("q8_0", "Q8_0", 8.5),
    ("mxfp4_moe", "MXFP4_MOE", 4.25), ("tq1_0", "TQ1_0", 1.6875),
)  # fmt: skip


@pytest.mark.parametrize(("word", "name", "bits"), WORDS)
def test_words(word: str, name: str, bits: float) -> None:
    found = stored_as(word)
    assert found.name == name
    assert found.stored.bits_per_value == bits


def test_every_word_is_known() -> None:
    for word in weight_words():
        check_weights(word)
    for row in FORMATS:
        check_weights(row.name)


def test_names_are_unique() -> None:
    names = [name for row in SCHEMES for name in (row.name, *row.aliases)]
    assert len(set(names)) == len(names)
    assert not {name.upper() for name in names} & MIXTURES.keys()


REFUSED = (
    ("Q4_K_N", "did you mean"),
    ("bf61", "did you mean bf16?"),
    ("chekpoint", "did you mean checkpoint?"),
    ("int4-g7", "a multiple of 8"),
    ("int4-g999999", "between 8 and 65536"),
    ("int9-g128", "is no way to store weights"),
    ("", "is no way to store weights"),
)


@pytest.mark.parametrize(("word", "said"), REFUSED)
def test_refused(word: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        check_weights(word)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_engines_change_some_words() -> None:
    assert stored_as("F16").name == "fp16"
    assert stored_as("F16", "llama.cpp").name == "F16"
    assert stored_as("mxfp4", "vllm").name == "mxfp4-triton"
    assert isinstance(stored_as("bf16"), Scheme)
    check_weights(CHECKPOINT)


@pytest.mark.parametrize(
    ("word", "engine", "generation", "name"),
    [
        # vllm/model_executor/layers/quantization/utils/marlin_utils_fp8.py: no tensor cores for fp8 before 8.9
        ("fp8-block128", "vllm", "sm_86", "fp8-block128-marlin"), ("fp8-block128", "sglang", "sm_80", "fp8-block128-marlin"),
        ("fp8-block128", "vllm", "sm_89", "fp8-block128"), ("fp8-block128", "vllm", "gfx942", "fp8-block128"),
        ("fp8-block128", "vllm", "", "fp8-block128"), ("fp8", "vllm", "sm_86", "fp8"),
        # vllm/model_executor/layers/fused_moe/oracle/mxfp4.py: triton_kernels from 9.0 to 10.x
        ("mxfp4", "vllm", "sm_90", "mxfp4-triton"), ("mxfp4", "vllm", "sm_100", "mxfp4-triton"),
        ("mxfp4", "vllm", "sm_120", "mxfp4-marlin"), ("mxfp4", "vllm", "sm_89", "mxfp4-marlin"),
        ("mxfp4", "vllm", "", "mxfp4-triton"), ("mxfp4", "sglang", "sm_89", "mxfp4"),
    ],
)  # fmt: skip
def test_what_an_engine_makes_of_it_on_a_gpu(word: str, engine: str, generation: str, name: str) -> None:
    assert stored_as(word, loader(engine, generation)).name == name
