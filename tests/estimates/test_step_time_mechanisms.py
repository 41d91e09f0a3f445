"""What a library does differently shows in a step's time: where each mechanism is read stands beside its case."""

from collections.abc import Callable
from typing import Any

import pytest

from memcalc.autograd.profile import Adapters
from memcalc.blocks.architecture import Architecture
from memcalc.estimates.step_time.messages import _distinct
from memcalc.estimates.step_time.step import PARTS, StepTime, step_time
from memcalc.estimates.training.estimate import estimate
from memcalc.readers.catalogue import accelerator
from memcalc.readers.timing import time_law
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

LLAMA = "meta-llama/Meta-Llama-3.1-8B"


def training(**said: Any) -> Training:
    degrees = {name: said.pop(name) for name in tuple(said) if name in Parallelism.model_fields}
    return Training(**{"seq_len": 4096, **said}, parallelism=Parallelism(**degrees))


@pytest.fixture
def timed(architecture: Callable[[str], Architecture]) -> Callable[..., StepTime]:
    def of(gpu: str = "h100", **said: Any) -> StepTime:
        return step_time(architecture(LLAMA), training(**said), time_law(accelerator(gpu)))

    return of


def part(step: StepTime, name: str) -> float:
    return step.parts[PARTS.index(name)]


MERGES = (  # adapted, product, whether it stays one product, whether it has an adapter
    ((), "qkv", True, False),
    (("q", "k", "v"), "qkv", True, True),
    (("q", "v"), "qkv", False, False),
    (("q", "k", "v"), "gate_up", True, False),
    (("gate", "up", "down"), "gate_up", True, True),
    (("gate",), "gate_up", False, False),
    (("qkv",), "qkv", True, True),
)


@pytest.mark.parametrize(("layers", "product", "merges", "adapted"), MERGES)
def test_a_merged_product_is_adapted_as_one(layers: tuple[str, ...], product: str, merges: bool, adapted: bool) -> None:
    adapters = Adapters(layers=layers, rank=8)  # Megatron-Bridge, peft/lora.py: one pair on linear_qkv, one on linear_fc1
    assert adapters.merges(product) == merges
    assert adapters.on(product) == adapted


def test_adapters_of_attention_alone_cost_megatron_little(timed: Callable[..., StepTime]) -> None:
    full = timed(engine="megatron", zero=1, gpus=8, grad_accum=4)
    some, all_of_them = (
        timed(engine="megatron", zero=1, gpus=8, grad_accum=4, method="lora", lora_targets=targets)
        for targets in (("q", "k", "v"), ("all-linear",))
    )
    assert 2 / 3 < some.seconds / full.seconds < 0.8  # NeMo 25.03 on H100, Llama 3 8B: 0.92 s after 1.32 s
    assert some.seconds < all_of_them.seconds < full.seconds


def test_tensor_parallel_ranks_gather_in_few_bits(timed: Callable[..., StepTime]) -> None:
    layout = {"engine": "megatron", "gpus": 8, "tp": 8, "sequence_parallel": True, "zero": 1, "tp_overlap": "off"}
    half, few = (part(timed(precision=name, **layout), "exposed_communication") for name in ("bf16-mixed", "fp8-mixed"))
    assert 0.6 < few / half < 0.85  # five gathers of nine messages halve (transformer_engine/pytorch/distributed.py)


def test_tensor_parallel_messages_pass_beside_products(timed: Callable[..., StepTime]) -> None:
    """Megatron-Bridge, training/comm_overlap.py: a quarter of what a forward scatters stays, and a fifth of what is hidden."""
    layout = {"engine": "megatron", "gpus": 8, "tp": 8, "sequence_parallel": True, "zero": 1, "grad_accum": 8}
    waiting, beside = (
        part(timed(tp_overlap=word, **layout), "exposed_communication") for word in ("off", "on")
    )  # fmt: skip
    assert 0.2 < beside / waiting < 0.45
    assert timed(**layout) == timed(tp_overlap="on", **layout)


def test_torchtitans_messages_pass_beside_products_forward(timed: Callable[..., StepTime]) -> None:
    """At most 8 % of a step are gained, of which the forward has 29 % of its own: discuss.pytorch.org/t/209487 (2024)."""
    layout = {"engine": "torchtitan", "gpus": 8, "tp": 8, "sequence_parallel": True}
    waiting, beside = (timed(tp_overlap=word, **layout) for word in ("off", "on"))
    assert 1.01 < waiting.seconds / beside.seconds < 1.15
    assert timed(**layout) == waiting


@pytest.mark.parametrize("said", [{"engine": "megatron", "tp": 2, "gpus": 8}, {"tp": 2, "gpus": 8, "sequence_parallel": True}])
def test_messages_that_nothing_overlaps(said: dict[str, Any], architecture: Callable[[str], Architecture]) -> None:
    with pytest.raises(SpecError, match="tp_overlap"):
        estimate(architecture(LLAMA), training(**said, tp_overlap="on"))


def test_torch_casts_operands_again_in_the_backward(timed: Callable[..., StepTime]) -> None:
    """Beside 16 bits fp8 gains less where each operand is read twice and cast anew (torchao/float8/float8_linear.py)."""
    gain = {
        engine: timed(engine=engine, precision="bf16-mixed").seconds / timed(engine=engine, precision="fp8-mixed").seconds
        for engine in ("megatron", "torchtitan")
    }
    assert 1 < gain["torchtitan"] < gain["megatron"]


@pytest.mark.parametrize(("gpu", "faster"), [("h100", True), ("b200", True), ("a100", False)])
def test_flash_attention_3(gpu: str, faster: bool, timed: Callable[..., StepTime]) -> None:
    second, third = (timed(gpu, attention=name, seq_len=32768, recompute="full") for name in ("flash", "flash3"))
    assert (third.seconds < second.seconds) == faster


def test_flash_attention_3_keeps_what_2_keeps(architecture: Callable[[str], Architecture]) -> None:
    second, third = (estimate(architecture(LLAMA), training(attention=name)) for name in ("flash", "flash3"))
    assert second.peak == third.peak


def test_adapters_in_half_precision(architecture: Callable[[str], Architecture], timed: Callable[..., StepTime]) -> None:
    """No input is cast to fp32 and back (peft/tuners/lora/layer.py)."""
    said = {"method": "lora", "recompute": "full"}
    assert timed(**said, adapter_dtype="half").seconds < timed(**said, adapter_dtype="fp32").seconds
    assert timed(**said, adapter_dtype="fp32") == timed(**said)
    wide, narrow = (estimate(architecture(LLAMA), training(**said, adapter_dtype=name)).peak for name in ("fp32", "half"))
    assert narrow < wide


@pytest.mark.parametrize("said", [
    {"adapter_dtype": "half"}, {"adapter_dtype": "half", "method": "ia3"},
    {"adapter_dtype": "fp32", "method": "lora", "engine": "torchtune"},
])  # fmt: skip
def test_formats_of_adapters_that_are_none(said: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="adapter"):
        training(**said)


def test_compiled_chains_write_nothing_between(timed: Callable[..., StepTime]) -> None:
    """Scaling what adapters add, adding and casting it is one kernel (torch/_inductor/scheduler.py)."""
    extra = {
        kernels: part(timed(method="lora", kernels=kernels, adapter_dtype="half"), "forward")
        - part(timed(kernels=kernels), "forward")
        for kernels in ("eager", "compiled")
    }
    assert 0 < extra["compiled"] < 0.8 * extra["eager"]


def test_stages_of_torchtitan_gather_once_a_step(timed: Callable[..., StepTime]) -> None:
    """torchtitan/distributed/fsdp.py, get_fsdp_reshard_after_forward_policy."""
    layout = {"gpus": 64, "pp": 4, "fsdp": "full", "kernels": "compiled", "grad_accum": 32}
    once, each = (part(timed(engine=name, **layout), "exposed_communication") for name in ("torchtitan", "torch"))
    assert once < each / 2


@pytest.mark.parametrize(("places", "copies", "hit"), [(1, 8, 1), (8, 1, 1), (2, 2, 1.5), (8, 8, 5.251), (1e9, 8, 8)])
def test_copies_of_a_token_are_sent_once_to_each_rank(places: float, copies: float, hit: float) -> None:
    assert _distinct(places, copies) == pytest.approx(hit, abs=1e-3)  # DeepEP, intranode dispatch


ENCODER_DECODERS = (  # model, tokens of the decoder, FLOPs of a sequence's forward by hand: 2 a weight and token, attention
    # T5 Base: 12 + 12 layers, width 768, inner 3072, head 32128; queries of the decoder read as many tokens of the encoder
    ("t5-base", 512, 2 * 512 * (12 * (4 * 768**2 + 2 * 768 * 3072) + 12 * (8 * 768**2 + 2 * 768 * 3072) + 32128 * 768)
     + 4 * 768 * 512**2 * 12 * (1 + 0.5 + 1)),
    # Whisper Small: 1500 frames in the encoder, whose keys and values the decoder's layers make of them
    ("whisper-small", 448, 2 * 1500 * 12 * (4 * 768**2 + 2 * 768 * 3072) + 2 * 448 * 12 * (6 * 768**2 + 2 * 768 * 3072)
     + 2 * 1500 * 12 * 2 * 768**2 + 2 * 448 * 51865 * 768 + 4 * 768 * 12 * (1500**2 + 448**2 / 2 + 448 * 1500)),
)  # fmt: skip


@pytest.mark.parametrize(("model", "length", "flops"), ENCODER_DECODERS)
def test_encoder_decoders(model: str, length: int, flops: float) -> None:
    from memcalc.readers.models import read_model_preset

    architecture = read_model_preset(model).architecture
    assert architecture
    law = time_law(accelerator("h100"))
    found = step_time(architecture, training(seq_len=length, micro_batch=4), law)
    assert found.model_flops == pytest.approx(3 * 4 * flops, rel=0.02)  # convolutions and projections of the entry besides
    assert found.seconds > found.roofline
    assert found.tokens == 4 * length
    larger = training(seq_len=length, micro_batch=64)  # not bound by launches
    assert step_time(architecture, larger, law).seconds > found.seconds


WIDE = (  # model, length, what is said: kernels whose pairs outweigh all products
    ("bert-base", 8192, {}),
    ("t5-base", 8192, {}),
    ("moonshine-tiny", 8192, {}),
    ("gpt2", 8192, {"cp": 2, "gpus": 2}),
    ("mamba2-130m", 8192, {}),
)


@pytest.mark.parametrize("gpu", ["a100", "h100"])
@pytest.mark.parametrize(("model", "length", "said"), WIDE)
def test_attention_in_fp32_runs_at_its_own_peak(model: str, length: int, said: dict[str, Any], gpu: str) -> None:
    from memcalc.readers.models import read_model_preset

    architecture = read_model_preset(model).architecture
    assert architecture
    found = step_time(architecture, training(seq_len=length, precision="fp32", **said), time_law(accelerator(gpu)))
    assert found.peak_format == "fp32"
    assert 0 < found.mfu <= found.hfu <= 1
