"""The last layers alone trained: their states, and what layers before them keep."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.training.estimate import TrainingEstimate, estimate, estimate_parameters
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

Read = Callable[..., Architecture]
TIED, HYBRID = "meta-llama/Llama-3.2-1B", "ai21labs/Jamba-v0.1"
LAYER = 2 * 2048 * 2048 + 2 * 2048 * 512 + 3 * 2048 * 8192 + 2 * 2048  # of TIED


def found(model: Architecture, parallelism: dict[str, Any] | None = None, **settings: Any) -> TrainingEstimate:
    base = {"precision": "bf16", "seq_len": 512, "micro_batch": 2}
    return estimate(model, Training(parallelism=Parallelism(**parallelism or {}), **{**base, **settings}))


@pytest.mark.parametrize("layers", [1, 5, 15])
@pytest.mark.parametrize(("parallelism", "ranks"), [({}, 1), ({"gpus": 8, "fsdp": "full"}, 8)])
def test_states(architecture: Read, layers: int, parallelism: dict[str, Any], ranks: int) -> None:
    model = architecture(TIED)
    some = found(model, parallelism, train_layers=layers)
    assert some.trainable == layers * LAYER
    assert some.components["gradients"] == pytest.approx(2 * layers * LAYER / ranks, rel=1e-3)
    assert some.components["parameters"] == pytest.approx(2 * model.parameters / ranks, rel=1e-3)


# LLaMA of 6 layers, hidden 1024, intermediate 4096, vocabulary 1024, 2 × 512 tokens, traced with PyTorch 2.13 and transformers
# 5.24 (tests/trace/test_last_layers.py): last layers trained, recomputation, allocated after the forward, at the peak
LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 6, "num_attention_heads": 16,
    "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 1024, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}  # fmt: skip
TRACED = ((1, "full", 268_632_576, 354_682_368),)


@pytest.mark.parametrize(("layers", "recompute", "after", "peak"), TRACED)
def test_a_step(layers: int, recompute: str, after: int, peak: int) -> None:
    from memcalc.readers.hf import read_config

    step = found(read_config(LLAMA), train_layers=layers, recompute=recompute)
    assert step.after_forward == pytest.approx(after, rel=0.001)
    assert step.peak_forward_backward == pytest.approx(peak, rel=0.01)


def test_layers_before_keep_nothing(architecture: Read) -> None:
    """Neither input nor weights need gradients there, so autograd records nothing."""
    model = architecture(TIED)
    one, two, three = (found(model, train_layers=n).components["activations"] for n in (1, 2, 3))
    assert three - two == two - one > 0
    assert found(model).components["activations"] - one >= 15 * (two - one)


def test_kinds_of_layers_are_counted_from_the_end(architecture: Read) -> None:
    """Layers that differ: those of the end, in the model's own order."""
    model = architecture(HYBRID)
    each = [found(model, train_layers=n).trainable for n in range(1, 8)]
    sizes = {later - earlier for earlier, later in pairwise(each)}
    assert len(sizes) > 1, sizes


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "lora"}, "without method"),
        ({"recompute": "selective"}, "without recompute"),
        ({"freeze": ("embeddings",)}, "without freeze"),
        ({"engine": "megatron"}, "without engine"),
    ],
)
def test_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Training(train_layers=2, **settings)


def test_fewer_than_all(architecture: Read) -> None:
    with pytest.raises(SpecError, match="16 of 16"):
        found(architecture(TIED), train_layers=16)
    with pytest.raises(SpecError, match="needs an architecture"):
        estimate_parameters(10**9, Training(train_layers=2))


def test_on_the_command_line(memcalc: Callable[..., Any]) -> None:
    result = memcalc("train llama-3.2-1b --train-layers 4 --recompute full --gpu l4 --format json")
    assert (result.code, result.document["run"]["train_layers"]) == (0, 4)
    assert any(said.startswith("trained: the last 4 layers") for said in result.document["assumptions"])
    assert memcalc("train llama-3.2-1b --train-layers 4 --explain peak").code == 0
    assert memcalc("train llama-3.2-1b --train-layers 0").code == 2
