"""Which layers are recomputed: each n-th, or the first n of a stage."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.estimates.training.estimate import TrainingEstimate, estimate
from memcalc.estimates.training.sequence import LayerMark, Pattern, Sequence
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

Read = Callable[..., Architecture]
LLAMA = "meta-llama/Meta-Llama-3.1-8B"  # 32 layers
GEMMA = "google/gemma-2-2b"  # two kinds of layers that take turns
DEPTH = 32


def found(model: Architecture, parallelism: dict[str, Any] | None = None, **settings: Any) -> TrainingEstimate:
    return estimate(model, Training(parallelism=Parallelism(**parallelism or {}), **{"seq_len": 512, **settings}))


# --- where layers stand, against counting them one by one --------------------------------------------------------------

LAYERS = tuple(Layer((), parallel=parallel) for parallel in (False, True))
PATTERNS = st.one_of(
    st.builds(Pattern, every=st.integers(0, 7)), st.builds(Pattern, every=st.just(1), first=st.integers(1, 30))
)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9)), min_size=1, max_size=5), PATTERNS, st.booleans())
def test_places(runs: list[tuple[int, int]], pattern: Pattern, input_grad: bool) -> None:
    sequence = Sequence.of([(LAYERS[kind], count) for kind, count in runs], dict.fromkeys(LAYERS, 1))
    marked = sequence.marked(pattern, input_grad=input_grad)
    each = [kind for kind, count in runs for _ in range(count)]
    again = [
        position < pattern.first if pattern.first is not None else pattern.every > 0 and (position + 1) % pattern.every == 0
        for position in range(len(each))
    ]
    index = {layer: number for number, layer in enumerate(sequence.layers)}
    marks = [LayerMark(index[LAYERS[kind]], again[i], input_grad or i > 0) for i, kind in enumerate(each)]
    before = [tuple(marks[:i].count(mark) for mark in marked.marks) for i in range(len(marks))]
    assert set(marked.marks) == set(marks)
    for mark, count, places in zip(marked.marks, marked.counts, marked.places, strict=True):
        expected = [before[i] for i in range(len(marks)) if marks[i] == mark]
        assert count == len(expected)
        assert list(places) == list(dict.fromkeys(expected[:2] + expected[-2:]))


def test_cost_does_not_grow_with_depth() -> None:
    """A million equal layers are laid out as quickly as ten."""
    sequence = Sequence.of([(LAYERS[0], 10**6)], {LAYERS[0]: 1}).marked(Pattern(every=3))
    assert sequence.counts == (666_667, 333_333)
    assert sequence.places[1] == ((2, 0), (4, 1), (666_664, 333_331), (666_666, 333_332))


# --- what it changes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [LLAMA, GEMMA])
@pytest.mark.parametrize("precision", ["bf16", "bf16-amp", "fp32"])
def test_more_layers_never_keep_more(architecture: Read, name: str, precision: str) -> None:
    model = architecture(name)
    none = found(model, precision=precision)
    steps = [none, *(found(model, precision=precision, recompute="full", recompute_layers=n) for n in range(1, 26))]
    steps.append(found(model, precision=precision, recompute="full"))
    for fewer, more in pairwise(steps):
        assert more.components["activations"] < fewer.components["activations"]
        assert more.after_forward < fewer.after_forward
    sparser = [found(model, precision=precision, recompute="full", recompute_every=n) for n in range(1, 26)]
    for more, fewer in pairwise(sparser):
        assert more.components["activations"] <= fewer.components["activations"] < none.components["activations"]


@pytest.mark.parametrize("name", [LLAMA, GEMMA])
@pytest.mark.parametrize("sharding", [{}, {"gpus": 8, "fsdp": "full"}, {"gpus": 8, "zero": 3}, {"gpus": 4, "pp": 2}])
def test_all_layers_are_full_recomputation(architecture: Read, name: str, sharding: dict[str, Any]) -> None:
    model = architecture(name)
    depth = sum(stack.depth for part in model.parts for stack in part.stacks) // sharding.get("pp", 1)
    full = found(model, sharding, recompute="full")
    for choice in ({"recompute_every": 1}, {"recompute_layers": depth}):
        some = found(model, sharding, recompute="full", **choice)
        assert (some.peak, some.after_forward, some.moments) == (full.peak, full.after_forward, full.moments)


def test_what_each_layer_keeps(architecture: Read) -> None:
    """Half of the layers keep their input, half what they keep without recomputation; reference/README.md, closed forms."""
    model = architecture(LLAMA)
    tokens, inputs = 512, 2 * 4096
    kept = 16 * 4096 + 4 * 4096 + 4 * 1024 + 8 * 14336 + 4 * 32 + 8
    layer = tokens * kept + 1024
    none, every, first = (found(model, precision="bf16", **more) for more in (
        {}, {"recompute": "full", "recompute_every": 2}, {"recompute": "full", "recompute_layers": 5},
    ))  # fmt: skip
    for some, count in ((every, 16), (first, 5)):
        saved = none.components["activations"] - some.components["activations"]
        assert saved == count * (layer - tokens * inputs), f"{saved:,} less, expected {count} layers' {layer:,}"


def test_stages_count_their_own_layers(architecture: Read) -> None:
    """Each pipeline stage counts from its own first layer (Megatron-LM: recompute_num_layers per pipeline stage)."""
    model = architecture(LLAMA)
    whole = found(model, {"gpus": 4, "pp": 4}, recompute="full", recompute_layers=8)
    assert whole.peak == found(model, {"gpus": 4, "pp": 4}, recompute="full").peak
    with pytest.raises(SpecError, match="deepest pipeline stage has 8 layers"):
        found(model, {"gpus": 4, "pp": 4}, recompute="full", recompute_layers=9)


# settings, fields the refusal names, what it says
REFUSED: tuple[tuple[dict[str, Any], tuple[str, ...], str], ...] = (
    ({"recompute_every": 2}, ("recompute_every", "recompute"), "add recompute full"),
    ({"recompute_layers": 2, "recompute": "selective"}, ("recompute_layers", "recompute"), "add recompute full"),
    ({"recompute": "full", "recompute_every": 2, "recompute_layers": 2}, ("recompute_every", "recompute_layers"), "choose one"),
    ({"recompute": "full", "recompute_every": 33}, ("recompute_every",), "deepest pipeline stage has 32 layers"),
    ({"recompute": "full", "recompute_every": 0}, ("recompute_every",), "between 1 and"),
)


@pytest.mark.parametrize(("settings", "fields", "said"), REFUSED)
def test_refused(architecture: Read, settings: dict[str, Any], fields: tuple[str, ...], said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        found(architecture(LLAMA), **settings)
    assert caught.value.fields == fields


def test_on_the_command_line(memcalc: Callable[..., Any], folder: Callable[..., str]) -> None:
    words = f"train {folder()} --precision bf16 --recompute full --seq-len 512 --format json"
    every = memcalc(f"{words} --recompute-every 2").document
    assert every["run"]["recompute_every"] == 2
    assert any("divides by 2 is recomputed" in said for said in every["assumptions"])
    inputs = [line["inputs"]["layers"] for line in every["lines"] if line["path"] == "activations/layers/input"]
    assert inputs == [16]
    lone = memcalc(f"train {folder()} --recompute-layers 2")
    assert lone.code == 2
    assert "--recompute-layers" in lone.err
