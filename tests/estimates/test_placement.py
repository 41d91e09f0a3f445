"""Which weights a rank holds: all ranks together hold the model, plus what is replicated and a bounded padding."""

from collections.abc import Callable
from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcalc.blocks.architecture import Architecture, named_weights
from memcalc.blocks.ledger import Weight
from memcalc.estimates.placement import Stage, stages

Read = Callable[..., Architecture]

DENSE = ("meta-llama/Meta-Llama-3.1-8B", "Qwen/Qwen2.5-7B", "microsoft/phi-4", "bigcode/starcoder")
TIED = ("meta-llama/Llama-3.2-1B", "google/gemma-2-2b", "openai-community/gpt2")
EXPERTS = ("mistralai/Mixtral-8x22B-v0.1", "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-V3", "openai/gpt-oss-120b")
MIXED = ("ai21labs/Jamba-v0.1", "XiaomiMiMo/MiMo-V2-Flash", "google/recurrentgemma-2b")
ALL = DENSE + TIED + EXPERTS + MIXED

any_model = st.sampled_from(ALL)


def elements(stage: Stage) -> int:
    return sum(entry.elements for entry in stage.held)


def spans(depth: int, pp: int) -> list[tuple[int, int]]:
    """Layer positions of every stage: as even as whole layers allow, earlier stages take one more."""
    sizes = [depth // pp + (index < depth % pp) for index in range(pp)]
    return [(sum(sizes[:i]), sum(sizes[: i + 1])) for i in range(pp)]


def parameters_of_stages(model: Architecture, pp: int) -> list[int]:
    """Parameters of each pipeline stage of a decoder, counted position by position from the model's own order."""
    (part,) = (part for part in model.parts if part.name == "language")
    layers = [stack.layers[kind] for stack in part.stacks for kind, run in stack.runs for _ in range(run)]
    entry = list(named_weights(part.entry))
    counted = []
    for index, (start, stop) in enumerate(spans(len(layers), pp)):
        total = sum(layer.parameters for layer in layers[start:stop])
        if index == 0:
            total += sum(weight.parameters for weight in entry)
        if index == pp - 1:
            total += sum(weight.parameters for weight in named_weights(part.exit))
        if index == pp - 1 > 0 and model.tied:  # its own copy of the table that the first stage looks up
            total += sum(weight.parameters for weight in entry if weight.role == "embedding")
        counted.append(total)
    return counted


@given(name=any_model, pp=st.integers(1, 24))
def test_stages_hold_the_model_once(architecture: Read, name: str, pp: int) -> None:
    """Megatron-LM's layout: whole layers in order; a tied head keeps a copy of the embedding on the last stage."""
    model = architecture(name)
    depth = sum(stack.depth for part in model.parts for stack in part.stacks)
    pp = min(pp, depth)
    expected = parameters_of_stages(model, pp)
    table = model.vocabulary * model.hidden if model.tied and pp > 1 else 0
    assert sum(expected) == model.parameters + table, (
        f"stages hold {sum(expected):,}, the model {model.parameters:,} + {table:,}"
    )
    found = {elements(stage) for stage in stages(model, 1, pp, 1, 1)}
    assert found == set(expected), f"{name}, pp {pp}: stages hold {sorted(found)}, expected {sorted(set(expected))}"


@given(name=any_model, pp=st.integers(1, 12))
def test_no_stage_is_lost(architecture: Read, name: str, pp: int) -> None:
    found = stages(architecture(name), 1, pp, 1, 1)
    assert found[0].index == 0
    assert [stage.last for stage in found].count(True) == 1
    assert found[-1].last
    assert all(stage.layers for stage in found)
    assert 1 <= len(found) <= pp


def padding(weight: Weight, tp: int, ep: int, etp: int) -> int:
    """The most that all ranks together may hold of one tensor beyond the tensor itself, when it is divided.

    Each section of the cut dimension rounds up by less than one piece a rank; experts round up by less than one a rank.
    """
    ranks = etp if weight.routed else tp
    rest = weight.parameters
    most = 0
    if weight.split and ranks > 1:
        across = weight.parameters // weight.shape[weight.split.dim]
        most += across * sum((ranks - 1) * width for _, width in weight.split.sections)
    if weight.routed and ep > 1:
        most += (ep - 1) * ((rest + most) // weight.shape[0] + 1)
    return most


@given(
    name=any_model,
    tp=st.sampled_from([1, 2, 4, 8, 16]),
    ep=st.sampled_from([1, 2, 4, 8]),
    etp=st.sampled_from([1, 2, 3, 4]),
)
def test_ranks_hold_every_tensor_and_little_more(architecture: Read, name: str, tp: int, ep: int, etp: int) -> None:
    """Σ over tensor- or expert-parallel ranks = tensor (once a rank where it is not cut) + bounded padding."""
    for counted in architecture(name).weights:
        weight = counted.weight
        shape = weight.local_shape(tp, ep, etp)
        together = prod(shape) * weight.tensors * ((ep * etp) if weight.routed else tp)
        ranks = etp if weight.routed else tp
        if weight.split is None and ranks > 1:
            together //= ranks  # replicated
        low, high = weight.parameters, weight.parameters + padding(weight, tp, ep, etp)
        assert low <= together <= high, (
            f"{name}, {weight.path} {weight.shape}, tp {tp} ep {ep} etp {etp}: {shape} a rank is {together:,} in all, "
            f"between {low:,} and {high:,} expected"
        )


# model, degrees (tp, ep, etp), elements of a rank, counted by hand from the config
BY_HAND: list[tuple[str, tuple[int, int, int], int, str]] = [
    (
        "meta-llama/Meta-Llama-3.1-8B", (8, 1, 1),
        2 * 128256 // 8 * 4096 + 4096  # embedding and head over the vocabulary, final norm whole
        + 32 * (2 * 4096 + (2 * 4096 + 2 * 1024) // 8 * 4096 + 3 * 14336 // 8 * 4096),
        "no replicated heads: 8 key-value heads on 8 ranks",
    ),
    (
        "meta-llama/Meta-Llama-3.1-8B", (16, 1, 1),
        2 * 128256 // 16 * 4096 + 4096 + 32 * (2 * 4096 + (2 * 256 + 2 * 128) * 4096 + 3 * 896 * 4096),
        "8 key-value heads on 16 ranks: each rank keeps one (Megatron-LM, vLLM and SGLang replicate)",
    ),
    (
        "mistralai/Mixtral-8x22B-v0.1", (2, 8, 1),
        2 * 32000 // 2 * 6144 + 6144
        + 56 * (2 * 6144 + (2 * 6144 + 2 * 1024) // 2 * 6144 + 8 * 6144 + 3 * 16384 * 6144),
        "one expert a rank, whole; the router on every rank",
    ),
    (
        "mistralai/Mixtral-8x22B-v0.1", (4, 2, 4),
        2 * 32000 // 4 * 6144 + 6144
        + 56 * (2 * 6144 + (2 * 6144 + 2 * 1024) // 4 * 6144 + 8 * 6144 + 4 * 3 * 16384 // 4 * 6144),
        "four experts a rank, each cut in four",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "degrees", "expected", "why"), BY_HAND, ids=lambda value: str(value)[:40])
def test_one_rank_by_hand(architecture: Read, name: str, degrees: tuple[int, int, int], expected: int, why: str) -> None:
    tp, ep, etp = degrees
    (stage,) = stages(architecture(name), tp, 1, ep, etp)
    assert elements(stage) == expected, f"{elements(stage):,} elements, expected {expected:,}: {why}"


def test_depth_costs_nothing(architecture: Read) -> None:
    """126 equal layers are one group: as many tensors to walk as for two."""
    name = "meta-llama/Meta-Llama-3.1-8B"
    shallow, deep = architecture(name, num_hidden_layers=2), architecture(name, num_hidden_layers=126)
    (a,), (b,) = stages(shallow, 1, 1, 1, 1), stages(deep, 1, 1, 1, 1)
    assert len(a.held) == len(b.held)
    assert b.layers == 126


def test_towers_of_other_modalities_stand_on_the_first_stage(architecture: Read) -> None:
    model = architecture("Qwen/Qwen3-VL-8B-Instruct")
    vision = sum(c.parameters for c in model.weights if c.part != "language")
    first, *others = stages(model, 1, 4, 1, 1)
    held: dict[bool, Any] = {True: 0, False: 0}
    for stage in (first, *others):
        held[stage is first] += sum(e.elements for e in stage.held if not e.path.startswith(("language", "tied")))
    assert held == {True: vision, False: 0}, f"first and other stages hold {held}, the tower has {vision:,}"
