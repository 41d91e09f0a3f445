"""Embeddings that are not trained: their states, and what the first layer no longer keeps."""

from collections.abc import Callable
from typing import Any

import pytest

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.training.estimate import TrainingEstimate, estimate, estimate_parameters
from memcalc.readers.models import read_model
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

Read = Callable[..., Architecture]
FROZEN = ("embeddings",)
OWN_HEAD, TIED = "meta-llama/Meta-Llama-3.1-8B", "meta-llama/Llama-3.2-1B"
TABLE = {OWN_HEAD: 128256 * 4096, TIED: 128256 * 2048}


def found(model: Architecture, parallelism: dict[str, Any] | None = None, **settings: Any) -> TrainingEstimate:
    return estimate(model, Training(parallelism=Parallelism(**parallelism or {}), **{"seq_len": 512, **settings}))


# precision, sharding, ranks the table's states are divided by, bytes of a frozen element
SHARDINGS: tuple[tuple[str, dict[str, Any], int, int], ...] = (
    ("bf16", {}, 1, 2),
    ("fp32", {}, 1, 4),
    ("bf16-amp", {}, 1, 4),
    ("bf16-mixed", {}, 1, 2),
    ("bf16-mixed", {"gpus": 8, "fsdp": "full"}, 8, 4),
    ("bf16-mixed", {"gpus": 8, "zero": 3}, 8, 2),
)


@pytest.mark.parametrize("name", [OWN_HEAD, TIED])
@pytest.mark.parametrize(("precision", "sharding", "ranks", "each"), SHARDINGS)
def test_states(architecture: Read, name: str, precision: str, sharding: dict[str, Any], ranks: int, each: int) -> None:
    """The table keeps its weights; its gradient, states and master copy are gone. A tied head is the same table."""
    whole, frozen = (found(architecture(name), sharding, precision=precision, freeze=f) for f in ((), FROZEN))
    assert whole.trainable - frozen.trainable == TABLE[name]
    kept = {line.name: line.bytes for line in frozen.lines if line.component == "parameters"}
    assert kept["dense/frozen"] == TABLE[name] // ranks * each
    before, after = whole.components, frozen.components
    for component in ("gradients", "optimizer_states"):
        share = before[component] / whole.trainable
        assert after[component] == pytest.approx(share * frozen.trainable, rel=1e-3), component
    if precision != "bf16-mixed" or "fsdp" in sharding:  # elsewhere a trained weight has a master copy, counted above
        assert before["parameters"] == after["parameters"]


@pytest.mark.parametrize("name", [OWN_HEAD, TIED])
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("engine", ["torch", "torchtitan"])
def test_never_more(architecture: Read, name: str, recompute: str, engine: str) -> None:
    whole, frozen = (found(architecture(name), recompute=recompute, engine=engine, freeze=f) for f in ((), FROZEN))
    for figure in ("steady", "after_forward", "peak_forward_backward", "peak_optimizer_step", "peak"):
        assert getattr(frozen, figure) <= getattr(whole, figure), figure


def test_the_first_layer_keeps_less(architecture: Read) -> None:
    """Its norm no longer keeps the fp32 copy of its input: 4 bytes × hidden a token; nor are the token ids kept."""
    whole, frozen = (found(architecture(OWN_HEAD), precision="bf16", freeze=f) for f in ((), FROZEN))
    less = whole.components["activations"] - frozen.components["activations"]
    assert less == 512 * (4 * 4096 + 4 + 8), f"{less:,}"


def test_learned_positions_are_frozen_too(architecture: Read) -> None:
    model = architecture("openai-community/gpt2")
    assert model.parameters - found(model, freeze=FROZEN).trainable == (50257 + 1024) * 768


def test_pipeline_stages(architecture: Read) -> None:
    """A tied head's own copy on the last stage is frozen too; between stages gradients flow as ever."""
    model, split = architecture(TIED), {"gpus": 2, "pp": 2}
    assert found(model, split, freeze=FROZEN).peak < found(model, split).peak


def test_refused(architecture: Read) -> None:
    with pytest.raises(SpecError, match="lora freezes the whole model"):
        found(architecture(TIED), method="lora", freeze=FROZEN)
    with pytest.raises(SpecError, match="embeddings"):
        found(architecture(TIED), freeze=("head",))
    with pytest.raises(SpecError, match="needs an architecture"):
        estimate_parameters(10**9, Training(freeze=FROZEN))


def test_on_the_command_line(memcalc: Callable[..., Any], folder: Callable[..., str]) -> None:
    result = memcalc(f"train {folder()} --freeze embeddings --recompute full --format json")
    assert result.code == 0, result.err
    assert result.document["run"]["freeze"] == ["embeddings"]
    assert any(said.startswith("frozen: ") for said in result.document["assumptions"])
    assert memcalc(f"train {folder()} --freeze embedings").err.count("did you mean embeddings?") == 1


@pytest.mark.parametrize(("name", "tied"), [(OWN_HEAD, False), (TIED, True)])
def test_a_head_is_said_to_freeze_only_where_it_is_the_table(architecture: Read, name: str, tied: bool) -> None:
    said = next(words for words in found(architecture(name), freeze=FROZEN).assumptions if words.startswith("frozen: "))
    assert ("a tied head" in said) == tied


def test_towers_and_what_stands_before_the_language_model() -> None:
    architecture = read_model("qwen2-vl-7b").architecture
    assert architecture
    sizes = {part.name: sum(w.parameters for w in architecture.weights if w.part == part.name) for part in architecture.parts}
    whole, run = architecture.parameters, Training(precision="bf16", recompute="full")
    for words, frozen in ((("vision",), sizes["vision"]), (("vision", "projector"), sizes["vision"] + sizes["projector"])):
        found = estimate(architecture, run.replace(freeze=words))
        assert found.trainable == whole - frozen
        assert found.components["parameters"] == estimate(architecture, run).components["parameters"]
    lora = Training(method="lora", precision="bf16")
    assert 0 < estimate(architecture, lora.replace(freeze=("vision",))).trainable < estimate(architecture, lora).trainable


def test_a_part_that_a_model_lacks_cannot_be_frozen() -> None:
    llama = read_model("llama-3.2-1b").architecture
    assert llama
    with pytest.raises(SpecError, match="no part for vision"):
        estimate(llama, Training(freeze=("vision",)))
