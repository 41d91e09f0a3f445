"""How tokens spread over experts: imbalance between ranks, and experts that take no more than their capacity."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.experts.kernels import capacity
from memcalc.estimates.training.estimate import TrainingEstimate, estimate, estimate_parameters
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

Read = Callable[..., Architecture]
MIXTRAL = "mistralai/Mixtral-8x22B-v0.1"  # 8 experts, 2 a token
QWEN = "Qwen/Qwen3-30B-A3B"  # 128 experts, 8 a token
DENSE = "meta-llama/Meta-Llama-3.1-8B"
EP = {"gpus": 8, "ep": 8}


def found(model: Architecture, parallelism: dict[str, Any] | None = None, **settings: Any) -> TrainingEstimate:
    return estimate(model, Training(parallelism=Parallelism(**parallelism or {}), **{"seq_len": 512, **settings}))


# tokens, experts a token, experts, factor, rows of one expert; source
CAPACITIES = (
    (4096, 1, 64, 1.25, 80, "Fedus et al. 2021, equation 3: tokens / experts × capacity factor"),
    (8, 1, 4, 1.0, 2, "Fedus et al. 2021, figure 3: two slots each"),
    (8, 1, 4, 1.5, 3, "Fedus et al. 2021, figure 3: three slots each"),
    (4096, 2, 128, 1.0, 64, "Lepikhin et al. 2020, section 2.2: 2N / E for the two experts of a token"),
    (100, 2, 8, 1.1, 28, "megatron/core/transformer/moe/moe_utils.py: math.ceil"),
)


@pytest.mark.parametrize(("tokens", "top_k", "experts", "factor", "expected", "source"), CAPACITIES)
def test_capacity(tokens: int, top_k: int, experts: int, factor: float, expected: int, source: str) -> None:
    assert capacity(tokens, top_k, experts, factor) == expected, source


@pytest.mark.parametrize("name", [MIXTRAL, QWEN])
def test_imbalance(architecture: Read, name: str) -> None:
    """1 is as if nothing was said; more never needs less."""
    model = architecture(name)
    plain = found(model, EP)
    steps = [found(model, EP, expert_imbalance=f) for f in (1.0, 1.1, 1.5, 2.0, 4.0)]
    assert (steps[0].peak, steps[0].moments) == (plain.peak, plain.moments)
    for less, more in pairwise(steps):
        assert less.components["activations"] < more.components["activations"]
        assert less.peak <= more.peak


def test_imbalance_multiplies_rows_alone(architecture: Read) -> None:
    """What a row keeps (bf16, SwiGLU): its input, gate and up, silu(gate), their product and its weighted result."""
    model = architecture(MIXTRAL)
    one, two = (found(model, EP, precision="bf16", expert_imbalance=f).components["activations"] for f in (1.0, 2.0))
    four = found(model, EP, precision="bf16", expert_imbalance=4.0).components["activations"]
    assert four - two == 2 * (two - one)
    hidden, width, layers = 6144, 16384, 56
    row = 2 * hidden + 2 * (2 * width) + 2 * width + 2 * width + 2 * hidden
    assert (two - one) / (layers * 512 * 2) == pytest.approx(row, rel=1e-3)


@given(st.lists(st.floats(0.05, 8.0), min_size=2, max_size=4), st.booleans(), st.sampled_from([1.0, 1.5, 3.0]))
@settings(max_examples=25)
def test_larger_capacity_never_needs_less(architecture: Read, factors: list[float], pad: bool, imbalance: float) -> None:
    model, more = architecture(QWEN), {"expert_imbalance": 1.0 if pad else imbalance, "pad_to_capacity": pad}
    steps = [found(model, EP, capacity_factor=f, **more) for f in sorted(factors)]
    for less, larger in pairwise(steps):
        assert less.components["activations"] <= larger.components["activations"]
        assert less.peak <= larger.peak
    unbounded = found(model, EP, expert_imbalance=more["expert_imbalance"])
    if not pad:
        assert steps[-1].components["activations"] <= unbounded.components["activations"]


def test_padding_is_exact(architecture: Read) -> None:
    """Factor 1 where experts divide the rows: the same rows as without a capacity. Twice as many at factor 2."""
    model = architecture(QWEN)
    plain = found(model, EP).components["activations"]
    once, twice = (found(model, EP, capacity_factor=f, pad_to_capacity=True).components["activations"] for f in (1.0, 2.0))
    assert once == plain
    assert twice == found(model, EP, expert_imbalance=2.0).components["activations"]
    alone = found(model, capacity_factor=2.0, pad_to_capacity=True).components["activations"]
    assert alone > found(model).components["activations"], "padding needs no expert parallelism"


def test_capacity_is_rounded_up_at_the_batch_at_hand(architecture: Read) -> None:
    """300 tokens, 2 of 8 experts: 75 rows an expert; 301: 76. Runs that differ only in length must not share it."""
    model = architecture(MIXTRAL)
    at = [found(model, EP, seq_len=n, capacity_factor=1.0, pad_to_capacity=True).components["activations"] for n in (300, 301)]
    per_layer = (at[1] - at[0]) / 56
    row = 2 * 6144 + 8 * 16384 + 2 * 6144
    assert 8 * row <= per_layer < 9 * row


# model, parallelism, settings, fields the refusal names, what it says
REFUSED: tuple[tuple[str, dict[str, Any], dict[str, Any], tuple[str, ...], str], ...] = (
    (QWEN, {}, {"expert_imbalance": 1.5}, ("expert_imbalance", "ep"), "add ep"),
    (QWEN, EP, {"expert_imbalance": 0.5}, ("expert_imbalance",), "between 1.0 and"),
    (QWEN, EP, {"expert_imbalance": 9.0}, ("expert_imbalance",), "it has 8 × the mean"),
    (MIXTRAL, EP, {"expert_imbalance": 4.5}, ("expert_imbalance",), "it has 4 × the mean"),
    (QWEN, EP, {"pad_to_capacity": True}, ("pad_to_capacity", "capacity_factor"), "add a capacity_factor"),
    (QWEN, EP, {"pad_to_capacity": True, "capacity_factor": 1.0, "expert_imbalance": 2.0},
     ("pad_to_capacity", "expert_imbalance"), "choose one"),
    (DENSE, {}, {"capacity_factor": 1.25}, ("capacity_factor",), "no routed experts"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "parallelism", "settings", "fields", "said"), REFUSED)
def test_refused(
    architecture: Read, name: str, parallelism: dict[str, Any], settings: dict[str, Any], fields: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        found(architecture(name), parallelism, **settings)
    assert caught.value.fields == fields


def test_a_bare_parameter_count_has_no_experts() -> None:
    with pytest.raises(SpecError, match="needs an architecture"):
        estimate_parameters(10**9, Training(capacity_factor=1.0))


def test_on_the_command_line(memcalc: Callable[..., Any], folder: Callable[..., str]) -> None:
    words = f"train {folder(QWEN)} --gpus 8 --ep 8 --seq-len 512 --format json"
    result = memcalc(f"{words} --expert-imbalance 1.5 --capacity-factor 1.2")
    assert result.code == 0, result.err
    run = result.document["run"]
    assert (run["expert_imbalance"], run["capacity_factor"], run["pad_to_capacity"]) == (1.5, 1.2, False)
    said = [sentence for sentence in result.document["assumptions"] if sentence.startswith("capacity factor 1.2")]
    assert said == [
        "capacity factor 1.2: at most 39 rows an expert from each rank's 512 tokens; "
        "18.8% of the busiest rank's rows are dropped"
    ]
    for lone, other in (("--expert-imbalance 2", "add ep"), ("--pad-to-capacity", "--capacity-factor")):
        refused = memcalc(f"train {folder(QWEN)} {lone}")
        assert refused.code == 2
        assert other in refused.err
