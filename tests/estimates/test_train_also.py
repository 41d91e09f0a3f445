"""Copies of embedding, head and norms that are trained beside adapters (PEFT's modules_to_save)."""

from collections.abc import Callable
from typing import Any

import pytest

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.training.estimate import TrainingEstimate, estimate
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

Read = Callable[..., Architecture]
OWN_HEAD, TIED = "meta-llama/Meta-Llama-3.1-8B", "meta-llama/Llama-3.2-1B"
TABLE, NORMS = 128256 * 4096, 65 * 4096
TIED_TABLE = 128256 * 2048


def found(model: Architecture, parallelism: dict[str, Any] | None = None, **settings: Any) -> TrainingEstimate:
    base = {"method": "lora", "precision": "bf16", "engine": "accelerate", "seq_len": 512}
    return estimate(model, Training(parallelism=Parallelism(**parallelism or {}), **{**base, **settings}))


# peft/utils/other.py, ModulesToSaveWrapper: copy.deepcopy(original_module), which keeps its type
COPIED = (
    (OWN_HEAD, ("embeddings",), TABLE), (OWN_HEAD, ("head",), TABLE), (OWN_HEAD, ("norms",), NORMS),
    (OWN_HEAD, ("embeddings", "head", "norms"), 2 * TABLE + NORMS),
    (TIED, ("embeddings",), TIED_TABLE), (TIED, ("head",), TIED_TABLE), (TIED, ("embeddings", "head"), 2 * TIED_TABLE),
)  # fmt: skip


@pytest.mark.parametrize(("name", "also", "elements"), COPIED)
def test_states(architecture: Read, name: str, also: tuple[str, ...], elements: int) -> None:
    """Weights, gradients and Adam's two states of so many elements, all in bf16."""
    model = architecture(name)
    plain, more = found(model), found(model, train_also=also)
    assert more.trainable - plain.trainable == elements
    for component, each in (("parameters", 2), ("gradients", 2), ("optimizer_states", 4)):
        assert more.components[component] - plain.components[component] == each * elements, component


@pytest.mark.parametrize(
    ("settings", "bytes_each"),
    [
        ({"method": "qlora", "kbit_prepare": "all", "precision": "bf16-amp"}, (4, 4, 8)),
        ({"method": "qlora", "kbit_prepare": "none", "precision": "bf16-amp"}, (2, 2, 4)),
        ({"engine": "deepspeed", "parallelism": {"zero": 0}, "precision": "bf16-mixed"}, (2, 2, 12)),
    ],
)
def test_types(architecture: Read, settings: dict[str, Any], bytes_each: tuple[int, int, int]) -> None:
    """What is upcast is copied in fp32; DeepSpeed keeps fp32 copies of 16-bit weights (runtime/bf16_optimizer.py)."""
    model = architecture(OWN_HEAD)
    plain, more = (found(model, **settings, train_also=also) for also in ((), ("head",)))
    for component, each in zip(("parameters", "gradients", "optimizer_states"), bytes_each, strict=True):
        assert more.components[component] - plain.components[component] == each * TABLE, component


def test_an_embedding_that_is_trained_feeds_gradients(architecture: Read) -> None:
    """Then the first layer's input needs one, with or without recomputation, and no leaf is made for it."""
    model = architecture(OWN_HEAD)
    trained, head = (found(model, train_also=(word,)) for word in ("embeddings", "head"))
    assert trained.after_forward - trained.steady > head.after_forward - head.steady - 512 * 4096 * 2
    assert any(moment.name == "gradient of the embedding" for moment in trained.moments)
    assert all(moment.name != "gradient of the embedding" for moment in head.moments)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "full"}, "add method lora"),
        ({"engine": "torchtune"}, "torchtune has no such thing"),
        ({"kernels": "unsloth"}, "moves off the GPU"),
    ],
)
def test_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Training(**{"method": "lora", "train_also": ("head",), **settings})


def test_a_model_without_a_head(architecture: Read) -> None:
    from memcalc.readers.hf.tasks import under_objective

    with pytest.raises(SpecError, match="head, but the model has none"):
        found(under_objective(architecture(OWN_HEAD), "embed", 2), train_also=("head",), objective="embed")


def test_on_the_command_line(memcalc: Callable[..., Any]) -> None:
    words = "train llama-3.1-8b --method lora --engine accelerate --train-also embed_tokens,lm_head"
    result = memcalc(f"{words} --format json")
    assert result.document["run"]["train_also"] == ["embeddings", "head"]
    assert any("modules_to_save" in said for said in result.document["assumptions"])
    assert "is not one of embeddings, head, norms" in memcalc("train llama-3.1-8b --method lora --train-also layers").err
