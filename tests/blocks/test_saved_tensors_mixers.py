"""Experts, latent attention, linear attention and state-space mixers against PyTorch: what autograd keeps after the
forward pass, and the highest point of the backward pass (tests/reference/mixers.json says how that was traced)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, HALF, Size, Tape, Var
from memcalc.blocks.architecture import Architecture, named_weights
from memcalc.blocks.experts.mixture import Experts, experts_of
from memcalc.blocks.experts.routing import ROUTINGS
from memcalc.blocks.mlp import MLP
from memcalc.blocks.recording import record, record_entry, record_exit
from memcalc.blocks.values import revised
from memcalc.errors import Unsupported
from memcalc.readers.hf import read_config

TRACED = json.loads((Path(__file__).parents[1] / "reference" / "mixers.json").read_text(encoding="utf-8"))

EXACT = 0.0015  # allocator blocks of scalars, rotary tables in fp32
# Where the ledger knowingly leaves something out, in the order of its size.
BOUNDS = {
    "minimax": 0.02,  # the traced sequence has three blocks, and the last one's memory is dropped unused
    "mamba2": 0.011,  # one more state than chunks, of three chunks; the residual is fp32
    "qwen3_5_text": 0.006,  # under autocast and in fp32, which copies a chunk needs
    "qwen3_next": 0.006,
    "bamba": 0.006,  # as mamba2
    "falcon_h1": 0.006,
    "granitemoehybrid": 0.006,
    "nemotron_h": 0.006,
    "full-size mamba2": 0.006,
    "full-size nemotron_h": 0.011,  # recomputing the scan needs more than its backward
    "mamba": 0.003,
    "falcon_mamba": 0.003,
    "ernie4_5_moe": 0.003,  # rotary tables are kept once a layer, in fp32
}


class Traced(NamedTuple):
    config: str
    precision: str
    attention: str
    checkpointing: str
    batch: int
    seq: int
    forward: int
    peak: int

    @property
    def profile(self) -> Profile:
        window = TRACED["configs"][self.config].get("sliding_window")
        return revised(
            Profile(),
            compute=FP32 if self.precision == "fp32" else HALF,
            weights=HALF if self.precision == "bf16" else FP32,
            autocast=self.precision == "amp",
            attention=self.attention,
            masked=window is not None and self.seq >= window,
        )


ROWS = [Traced(*row) for row in TRACED["rows"]]


class Moments(NamedTuple):
    """Bytes beside parameters and optimizer states."""

    forward: float
    peak: float


def moments(row: Traced) -> Moments:
    """The two moments, for a model that is one stack between an embedding and a head."""
    model, profile = read_config(TRACED["configs"][row.config]), row.profile
    part = model.parts[0]
    entry, last = record_entry(part.entry, profile), record_exit(part.exit, profile, model.hidden)
    layers = [record(layer, profile, model.hidden) for layer in part.stacks[0].layers]
    kinds = [kind for kind, count in part.stacks[0].runs for _ in range(count)]

    def at(size: Size) -> float:
        return size.at(row.batch * row.seq, row.batch * row.seq**2)

    full = row.checkpointing == "full"
    kept = [at(layers[kind].input.bytes if full else layers[kind].saved_bytes) for kind in kinds]
    each = profile.formats.weights
    sizes = [layer.parameters * each for layer in part.stacks[0].layers]
    head = sum(weight.parameters for weight in named_weights(part.exit)) * each
    head += model.vocabulary * model.hidden * each if model.tied else 0
    base = at(entry.saved_bytes) + rotary_tables(model, row)

    def peaks() -> Iterator[float]:
        yield from (base + sum(kept) + at(peak) for peak in last.peaks)
        for i, kind in enumerate(kinds):
            standing = base + sum(kept[:i]) + (kept[i] if full else 0) + head + sum(sizes[k] for k in kinds[i + 1 :])
            yield from (standing + at(peak) for peak in layers[kind].peaks)
        yield from (base - at(entry.saved_bytes) + head + sum(sizes[k] for k in kinds) + at(p) for p in entry.peaks)

    return Moments(base + sum(kept) + at(last.saved_bytes), max(peaks()))


def rotary_tables(model: Architecture, row: Traced) -> int:
    """cos and sin, shared by all layers."""
    blocks = [block for layer in model.parts[0].stacks[0].layers for _, block in layer.blocks]
    rotated = {b.rotary_dim or b.head_dim for b in blocks if getattr(b, "rotary", False) and hasattr(b, "rotary_dim")}
    return sum(2 * row.seq * dims * row.profile.formats.residual for dims in rotated)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.config}-{row.precision}-{row.attention}-{row.checkpointing}")
def test_matches_pytorch(row: Traced) -> None:
    ours, bound = moments(row), BOUNDS.get(row.config, EXACT)
    assert ours.forward == pytest.approx(row.forward, rel=bound), "alive after the forward pass"
    assert ours.peak == pytest.approx(row.peak, rel=bound), "highest point of the backward pass"


# --- experts over several ranks ---------------------------------------------------------------------------------------

MOE = experts_of(1024, 512, experts=16, top_k=2, shared=MLP(1024, 512))


def recorded(experts: Experts, **traits: Any) -> Tape:
    tape, profile = Tape(), revised(Profile(), **traits)
    experts.forward(tape, profile, Var(Size(token=experts.hidden * profile.degrees.stream), HALF, True, "input"))
    return tape


def weight_gradients(tape: Tape, name: str) -> float:
    return sum(step.bytes.fixed for node in tape.nodes if node.name == name for step in node.steps if step.kind == "weight")


def test_expert_parallelism_divides_weights_and_leaves_activations() -> None:
    """Balanced routing brings as many tokens to a rank as leave it."""
    one, four = recorded(MOE), recorded(MOE, ep=4)
    assert weight_gradients(four, "gate_up") * 4 == weight_gradients(one, "gate_up") == 16 * 2 * 512 * 1024 * HALF
    assert four.saved_bytes().token == one.saved_bytes().token


def test_imbalance_makes_the_busiest_rank_hold_more_rows() -> None:
    even, uneven = recorded(MOE, ep=4), recorded(MOE, ep=4, imbalance=1.5)
    assert uneven.saved_bytes().token > even.saved_bytes().token
    assert recorded(MOE, imbalance=1.5).saved_bytes() == recorded(MOE).saved_bytes(), "one rank holds all anyway"


def test_expert_tensor_parallelism_divides_the_experts_width() -> None:
    cut = recorded(MOE, tp=4, etp=4, sequence_parallel=True)
    (gate_up,) = (node for node in cut.nodes if node.name == "gate_up")
    assert gate_up.out.elements == Size(token=2 * 2 * 512 / 4), "rows of all ranks, a quarter of the width"


def test_frozen_experts_keep_what_only_their_weights_would_read() -> None:
    kept = {var.label for var in recorded(MOE, trained=False).saved()}
    assert "down" in kept, "the router is frozen too, but a gradient flows through its weights to the tokens"
    assert recorded(MOE, trained=False).weight_gradient_bytes() == Size()
    assert recorded(MOE, trained=False).saved_bytes().token < recorded(MOE).saved_bytes().token


@pytest.mark.parametrize("name", ROUTINGS)
def test_every_routing_gives_weights_that_a_gradient_flows_to(name: str) -> None:
    tape = recorded(experts_of(64, 32, experts=8, top_k=2, routing=name))
    (weighted,) = (node for node in tape.nodes if node.name == "weighted")
    assert weighted.inputs[1].grad
    assert weighted.inputs[1].elements == Size(token=2)


# --- refusals ---------------------------------------------------------------------------------------------------------

REFUSED = {
    "longcat_flash": ({"zero_expert_num": 4, "num_layers": 2}, "LongCat"),
}
LATENT = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 97,
    "intermediate_size": 128, "moe_intermediate_size": 32, "n_routed_experts": 8, "num_experts_per_tok": 2,
    "n_shared_experts": 1, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}  # fmt: skip


@pytest.mark.parametrize("family", REFUSED)
def test_what_is_not_modelled_is_refused_by_name(family: str) -> None:
    changes, words = REFUSED[family]
    model = read_config({**LATENT, **changes, "model_type": family})
    layer = model.parts[0].stacks[0].layers[-1]
    with pytest.raises(Unsupported, match=words):
        record(layer, Profile(), model.hidden)
