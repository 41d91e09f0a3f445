"""Model states of a step against papers, PyTorch and arithmetic of our own; of activations only what must hold."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcalc.allocator.settings import LARGE_SEGMENT
from memcalc.blocks.architecture import Architecture
from memcalc.estimates.lines import COMPONENTS
from memcalc.estimates.training.estimate import TrainingEstimate, estimate, estimate_parameters
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

Read = Callable[..., Architecture]

LLAMA = "meta-llama/Meta-Llama-3.1-8B"
MIXTRAL = "mistralai/Mixtral-8x22B-v0.1"
GB = 10**9


def run(**settings: Any) -> Training:
    """A run from flat settings, those of the parallelism among them."""
    names = Parallelism.model_fields
    divided = {name: settings.pop(name) for name in names if name in settings}
    return Training(parallelism=Parallelism(**divided), **{"seq_len": 512, **settings})


def states(found: TrainingEstimate) -> int:
    """Bytes of the model states on a GPU, as Rajbhandari et al. count them."""
    return sum(found.components[name] for name in ("parameters", "gradients", "optimizer_states"))


def lines(found: TrainingEstimate, component: str, place: str = "gpu") -> dict[str, int]:
    return {entry.name: entry.bytes for entry in found.lines if entry.component == component and entry.place == place}


# --- the published table ----------------------------------------------------------------------------------------------

# ZeRO stage, GB per GPU; Rajbhandari et al. 2020, figure 1: Ψ = 7.5 B, N_d = 64, K = 12 (mixed-precision Adam)
FIGURE_1 = ((0, 120.0), (1, 31.4), (2, 16.6), (3, 1.9))


@pytest.mark.parametrize(("stage", "published"), FIGURE_1)
def test_zero_paper(stage: int, published: float) -> None:
    found = states(estimate_parameters(7_500_000_000, run(gpus=64, zero=stage, precision="fp16-mixed", optimizer="adam")))
    assert round(found / GB, 1) == published, f"ZeRO-{stage}: {found / GB:.3f} GB, figure 1 says {published}"


@pytest.mark.parametrize(("stage", "published"), FIGURE_1)
def test_zero_paper_on_the_command_line(stage: int, published: float, memcalc: Callable[..., Any]) -> None:
    command = f"train 7.5B --gpus 64 --zero {stage} --precision fp16-mixed --optimizer adam --format json"
    per_gpu = json.loads(memcalc(command).out)["per_gpu"]
    found = per_gpu["parameters"] + per_gpu["gradients"] + per_gpu["optimizer_states"]
    assert round(found / GB, 1) == published, f"ZeRO-{stage}: {found / GB:.3f} GB, figure 1 says {published}"


# model parameters in B, GPUs, then GB for stages 1, 2, 3; Rajbhandari et al. 2020, table 1
TABLE_1 = (
    (7.5, 1, 120, 120, 120),
    (7.5, 4, 52.5, 41.3, 30),
    (7.5, 16, 35.6, 21.6, 7.5),
    (7.5, 64, 31.4, 16.6, 1.88),
    (7.5, 256, 30.4, 15.4, 0.47),
    (7.5, 1024, 30.1, 15.1, 0.12),
    (128, 4, 896, 704, 512),
    (128, 64, 536, 284, 32),
    (128, 1024, 513, 257, 2),
    (1000, 16, 4750, 2875, 1000),
    (1000, 256, 4046, 2054, 62.5),
    (1000, 1024, 4011, 2013, 15.6),
)


@pytest.mark.parametrize("row", TABLE_1, ids=lambda row: f"{row[0]}B on {row[1]}")
def test_zero_paper_table_1(row: tuple[float, ...]) -> None:
    size, gpus, *published = row
    for stage, expected in enumerate(published, start=1):
        found = states(estimate_parameters(int(size * GB), run(gpus=int(gpus), zero=stage, precision="fp16-mixed"))) / GB
        assert found == pytest.approx(expected, rel=6e-3, abs=5e-3), f"P{stage}: {found:.3f} GB, table 1 says {expected}"


# precision, optimizer, bytes per parameter: weights, gradients, master + states; source
RULES_OF_THUMB = (
    ("fp32", "adamw", 4, 4, 8, "coursera-2023: 4 weights, 4 gradients, 8 Adam states"),
    ("fp16-mixed", "adamw", 2, 2, 12, "Rajbhandari et al. 2020, section 3.1: 2 + 2 + 12"),
    ("bf16-mixed", "adamw", 2, 2, 12, "Rajbhandari et al. 2020, section 3.1"),
    ("bf16", "adamw", 2, 2, 4, "reference/README.md: pure bf16 AdamW keeps bf16 states, 6 steady, 8 with gradients"),
    ("bf16-amp", "adamw", 4, 4, 8, "transformers, model_memory_anatomy.md: autocast keeps fp32 weights"),
    ("fp32", "sgd", 4, 4, 0, "PyTorch 2.13: SGD without momentum keeps nothing"),
    ("fp32", "sgd-momentum", 4, 4, 4, "transformers, model_memory_anatomy.md: 4 bytes for momentum"),
    ("fp32", "lion", 4, 4, 4, "Chen et al. 2023: one momentum"),
)


@pytest.mark.parametrize(("precision", "optimizer", "weights", "gradients", "rest", "source"), RULES_OF_THUMB)
def test_bytes_per_parameter(precision: str, optimizer: str, weights: int, gradients: int, rest: int, source: str) -> None:
    found = estimate_parameters(GB, run(precision=precision, optimizer=optimizer)).components
    expected = {"parameters": weights * GB, "gradients": gradients * GB, "optimizer_states": rest * GB}
    assert {name: found[name] for name in expected} == expected, f"{found}, expected {expected}: {source}"


def test_fp32_adam_is_four_and_twenty() -> None:
    """DeepLearning.AI 2023: 1 B parameters take 4 GB to store and about 24 GB to train, 8 of them activations."""
    found = estimate_parameters(GB, run(precision="fp32"))
    assert found.components["parameters"] == 4 * GB
    assert found.peak == 24 * GB, f"{found.peak / GB} GB, expected 4 + 20"


# --- against PyTorch, byte for byte -----------------------------------------------------------------------------------

# model, layers, precision, bytes of parameters, of gradients, of states with 4 for each tensor's step counter (fused)
# PyTorch 2.13 MemTracker, one device, AdamW fused; models whose storages are whole multiples of 512 B
TRACED = (
    (LLAMA, 2, "bf16", 2973802496, 2973802496, 1486901248 * 4),
    (LLAMA, 4, "bf16-amp", 7692500992, 7692500992, 1923125248 * 8),
    (LLAMA, 32, "bf16", 16060522496, 16060522496, 8030261248 * 4),
    ("meta-llama/Llama-3.2-1B", 16, "bf16-amp", 4943257600, 4943257600, 1235814400 * 8),
    ("Qwen/Qwen2.5-7B", 4, "fp32", 8088918016, 8088918016, 2022229504 * 8),
    ("google/gemma-2-2b", 4, "bf16", 1802580480, 1802580480, 901290240 * 4),
    ("microsoft/Phi-3-mini-4k-instruct", 2, "fp32", 1694035968, 1694035968, 423508992 * 8),
    ("Qwen/Qwen3-30B-A3B", 2, "bf16", 3737146368, 3737146368, 1868573184 * 4),
)


@pytest.mark.parametrize(("name", "depth", "precision", "weights", "gradients", "adam"), TRACED)
def test_states_as_traced(
    architecture: Read, name: str, depth: int, precision: str, weights: int, gradients: int, adam: int
) -> None:
    found = estimate(architecture(name, num_hidden_layers=depth), run(precision=precision)).components
    expected = {"parameters": weights, "gradients": gradients, "optimizer_states": adam}
    assert {key: found[key] for key in expected} == expected, f"{found}, PyTorch keeps {expected}"


# layers, ranks, sharded fp32 parameters, AdamW states with 4 B a tensor of step counters; PyTorch 2.13 FSDPMemTracker
FSDP2_TRACED = (
    (2, 8, 743450624, 1486901332, 21),
    (4, 8, 961562624, 1923125404, 39),
    (32, 8, 4015130624, 8030262412, 291),
    (2, 64, 92931328, 185862740, 21),
    (32, 64, 501891328, 1003783820, 291),
)


@pytest.mark.parametrize(("depth", "ranks", "weights", "adam", "tensors"), FSDP2_TRACED)
def test_fsdp2_as_traced(architecture: Read, depth: int, ranks: int, weights: int, adam: int, tensors: int) -> None:
    found = estimate(architecture(LLAMA, num_hidden_layers=depth), run(gpus=ranks, fsdp="full")).components
    assert found["parameters"] == weights, f"{found['parameters']:,}, PyTorch keeps {weights:,}"
    assert found["gradients"] == weights, "reduced in fp32"
    steps = 4 * tensors
    assert found["optimizer_states"] + steps == adam, f"{found['optimizer_states']:,} + {steps}, PyTorch keeps {adam:,}"


def test_fsdp2_70b_as_traced(architecture: Read) -> None:
    found = estimate(architecture("meta-llama/Meta-Llama-3.1-70B", num_hidden_layers=8), run(gpus=64, fsdp="full"))
    assert found.components["parameters"] == 559161856, "PyTorch 2.13 FSDPMemTracker, 8 layers, 64 ranks"


# --- sharding and padding ---------------------------------------------------------------------------------------------

# A model that no number of ranks divides: every tensor's shape, by hand from these sizes.
ODD = {"hidden_size": 100, "intermediate_size": 333, "vocab_size": 1001, "num_hidden_layers": 3,
       "num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 20, "tie_word_embeddings": False}  # fmt: skip
ODD_LAYER = [(100,), (100,), (100, 100), (20, 100), (20, 100), (100, 100), (333, 100), (333, 100), (100, 333)]
ODD_TENSORS = [(1001, 100), *ODD_LAYER * 3, (100,), (1001, 100)]


def size(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


ODD_SIZE = sum(map(size, ODD_TENSORS))


def rows_of(shape: tuple[int, ...], ranks: int) -> int:
    """Rows of the largest chunk of torch.chunk: what FSDP2 pads every rank's shard to."""
    rows = list(range(shape[0]))
    step = (len(rows) + ranks - 1) // ranks
    return max(len(rows[start : start + step]) for start in range(0, len(rows), step))


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 8, 64, 1000, 4096])
@pytest.mark.parametrize(("strategy", "factor"), [("full", None), ("grad-op", None), ("hybrid", 1), ("full", 2)])
def test_fsdp_pads_rows(architecture: Read, ranks: int, strategy: str, factor: int | None) -> None:
    if factor is not None and ranks % factor:
        factor = 1
    found = estimate(architecture(LLAMA, **ODD), run(gpus=ranks, fsdp=strategy, shard_size=factor)).components
    shards = factor or ranks
    elements = sum(rows_of(shape, shards) * (size(shape) // shape[0]) for shape in ODD_TENSORS)
    expected = {"parameters": 4 * elements, "gradients": 4 * elements, "optimizer_states": 8 * elements}
    assert {key: found[key] for key in expected} == expected, f"{shards} shards: {found}, expected {expected}"
    assert elements * shards >= ODD_SIZE


@pytest.mark.parametrize("ranks", [2, 3, 7, 8, 64, 1000, 4096])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_zero_pads_a_flat_buffer(architecture: Read, ranks: int, stage: int) -> None:
    """DeepSpeed: stages 1 and 2 pad the flat buffer to ranks × 2 elements, stage 3 every parameter to the ranks."""
    found = estimate(architecture(LLAMA, **ODD), run(gpus=ranks, zero=stage)).components
    flat = -(-ODD_SIZE // (2 * ranks)) * 2
    each = sum(-(-size(shape) // ranks) for shape in ODD_TENSORS)
    assert found["parameters"] == 2 * (each if stage == 3 else ODD_SIZE)
    if stage < 3:
        assert found["gradients"] == 2 * (flat if stage == 2 else ODD_SIZE)
        assert found["optimizer_states"] == 12 * (flat if stage else ODD_SIZE)
    else:  # whichever way they round, nothing is lost and no parameter adds more than an element
        for component, bytes_each in (("gradients", 2), ("optimizer_states", 12)):
            elements = found[component] // bytes_each
            assert ODD_SIZE / ranks <= elements <= max(flat, each), (
                f"{component}: {elements} elements, {flat} flat, {each} apart"
            )


def test_experts_shard_over_their_own_ranks(architecture: Read) -> None:
    """8 GPUs, 8 experts, ep 8: an expert is on one GPU only, so ZeRO has nobody to share it with."""
    found = estimate(architecture(MIXTRAL), run(gpus=8, ep=8, zero=3)).components
    expert = 56 * 3 * 16384 * 6144
    dense = architecture(MIXTRAL).parameters - 8 * expert
    assert found["parameters"] == 2 * (expert + -(-dense // 8)), f"{found['parameters']:,}"
    shared = estimate(architecture(MIXTRAL), run(gpus=16, ep=8, zero=3)).components
    assert shared["parameters"] == 2 * (expert // 2 + -(-dense // 16)), "two copies of each expert share it"


# settings, bytes per parameter on one of 8 GPUs of a model of a multiple of 16 elements: weights, gradients, states
STRATEGIES: tuple[tuple[dict[str, Any], tuple[float, float, float], str], ...] = (
    ({}, (2, 2, 12), "DDP replicates"),
    ({"ddp": True}, (2, 2, 12), "DDP replicates"),
    ({"zero": 0}, (2, 2, 12), "stage 0 replicates"),
    ({"zero": 1}, (2, 2, 12 / 8), "stage 1 shards optimizer states, and only those"),
    ({"zero": 2}, (2, 2 / 8, 12 / 8), "stage 2 also gradients"),
    ({"zero": 3}, (2 / 8, 2 / 8, 12 / 8), "stage 3 also parameters"),
    ({"fsdp": "full"}, (4 / 8, 4 / 8, 8 / 8), "fp32 shards are the master copy"),
    ({"fsdp": "grad-op"}, (4 / 8, 4 / 8, 8 / 8), "sharded outside forward and backward"),
    ({"fsdp": "hybrid", "shard_size": 4}, (4 / 4, 4 / 4, 8 / 4), "sharded over four, replicated twice"),
    ({"fsdp": "full", "shard_size": 1}, (4, 4, 8), "a sharding factor of 1 replicates"),
    ({"fsdp": "none"}, (4, 4, 8), "replicates"),
)


@pytest.mark.parametrize(("settings", "expected", "why"), STRATEGIES, ids=lambda value: str(value)[:40])
def test_what_each_strategy_shards(settings: dict[str, Any], expected: tuple[float, float, float], why: str) -> None:
    found = estimate_parameters(16_000, run(gpus=8, **settings)).components
    each = tuple(found[name] / 16_000 for name in ("parameters", "gradients", "optimizer_states"))
    assert each == expected, f"{each} bytes per parameter, expected {expected}: {why}"


def test_ddp_keeps_buckets_beside_the_gradients() -> None:
    """torch DDP, gradient_as_bucket_view=False: one more copy of every gradient; nothing on a single GPU."""
    for settings in ({}, {"ddp": True}, {"fsdp": "none"}, {"fsdp": "full", "shard_size": 1}):
        found = estimate_parameters(GB, run(gpus=8, **settings)).components
        assert found["communication"] == found["gradients"] > 0, f"{settings}: {found}"
    assert estimate_parameters(GB, run(gpus=1)).components["communication"] == 0


# ZeRO stage, parameters, bytes of communication; DeepSpeed's defaults: one buffer of reduce_bucket_size 5e8 elements whatever
# the model's size (stage_1_and_2.py, setup_buckets; stage3.py), stage3_prefetch_bucket_size 5e7
BUCKETS = (
    (0, 10 * GB, 0),
    (1, 10 * GB, 500_000_000 * 2),
    (2, 10 * GB, 500_000_000 * 2),
    (2, 100_000_000, 500_000_000 * 2),
    (3, 10 * GB, 500_000_000 * 2 + 50_000_000 * 2),
)


@pytest.mark.parametrize(("stage", "parameters", "expected"), BUCKETS)
def test_zero_buckets(stage: int, parameters: int, expected: int) -> None:
    found = estimate_parameters(parameters, run(gpus=8, zero=stage)).components["communication"]
    assert found == expected, f"ZeRO-{stage}: {found:,}, DeepSpeed's defaults give {expected:,}"


def test_fsdp_gathers_a_layer_but_grad_op_the_model(architecture: Read) -> None:
    model = architecture(LLAMA)
    full = estimate(model, run(gpus=8, fsdp="full")).components["communication"]
    kept = estimate(model, run(gpus=8, fsdp="grad-op")).components["communication"]
    assert kept == 2 * model.parameters, f"{kept:,}: grad-op keeps all gathered parameters in bf16"
    layer, root = 218112000, 2 * 128256 * 4096 + 4096
    assert 2 * (root + layer) <= full <= 2 * (root + 2 * layer), f"{full:,}: the root and one layer or two"


# --- offload ----------------------------------------------------------------------------------------------------------

# settings, place → components that live there, why
OFFLOADED: tuple[tuple[dict[str, Any], dict[str, set[str]], str], ...] = (
    ({"zero": 1, "offload": ("optimizer",)}, {"host": {"optimizer_states"}}, "stage 1 leaves gradients on the GPU"),
    (
        {"zero": 2, "offload": ("optimizer",)},
        {"host": {"optimizer_states", "gradients"}},
        "ZeRO-Offload, Ren et al. 2021",
    ),
    (
        {"zero": 3, "offload": ("optimizer", "parameters")},
        {"host": {"optimizer_states", "gradients", "parameters"}},
        "ZeRO-Infinity, Rajbhandari et al. 2021",
    ),
    (
        {"zero": 3, "offload": ("optimizer", "parameters"), "offload_to": "nvme"},
        {"nvme": {"optimizer_states", "parameters"}, "host": {"gradients"}},
        "gradients pass through the host",
    ),
    (
        {"fsdp": "full", "offload": ("parameters",)},
        {"host": {"optimizer_states", "gradients", "parameters"}},
        "FSDP2's CPUOffloadPolicy moves parameters, gradients and optimizer states",
    ),
)


@pytest.mark.parametrize(("settings", "places", "why"), OFFLOADED, ids=[why for _, _, why in OFFLOADED])
def test_offload_moves_states_off_the_gpu(settings: dict[str, Any], places: dict[str, set[str]], why: str) -> None:
    plain = {key: value for key, value in settings.items() if not key.startswith("offload")}
    before, after = (estimate_parameters(8 * GB, run(gpus=16, **each)) for each in (plain, settings))
    moved = {place: {entry.component for entry in after.lines if entry.place == place} for place in ("host", "nvme")}
    assert {place: names for place, names in moved.items() if names} == places, why
    gone = set().union(*places.values())
    assert all(after.components[name] == 0 for name in gone)
    off_gpu = sum(before.components[name] for name in gone)
    per_node = after.host_per_node + after.nvme_per_node
    assert per_node == 8 * off_gpu, f"{per_node:,} B off the GPUs of a node, 8 ranks × {off_gpu:,} expected"


@pytest.mark.parametrize(("gpus", "node", "ranks"), [(4, 8, 4), (16, 8, 8), (16, 4, 4)])
def test_a_node_holds_what_its_ranks_offload(gpus: int, node: int, ranks: int) -> None:
    found = estimate_parameters(16 * GB, run(gpus=gpus, gpus_per_node=node, zero=1, offload=("optimizer",)))
    assert found.host_per_node == ranks * 12 * 16 * GB // gpus, f"{found.host_per_node / GB} GB for {ranks} ranks"


# paged optimizer, the same in plain memory, bytes of a value's states in unified memory
PAGED = (("paged-adamw-8bit", "adamw-8bit", 2), ("paged-lion-8bit", "lion-8bit", 1))


@pytest.mark.parametrize(("paged", "plain", "each"), PAGED)
def test_large_states_of_paged_optimizers_are_off_pytorchs_count(paged: str, plain: str, each: int) -> None:
    """bitsandbytes get_state_buffer: states are paged where the tensor has 100,000 values, their scales are not."""
    found, beside = (estimate_parameters(8 * GB, run(optimizer=name)) for name in (paged, plain))
    assert lines(found, "optimizer_states", "host") == {f"dense/{paged}/paged": 8 * GB * each}
    assert beside.components["optimizer_states"] - found.components["optimizer_states"] == 8 * GB * each
    assert found.host_per_node == 8 * GB * each
    assert any("unified memory" in sentence for sentence in found.assumptions)
    assert not any("unified memory" in sentence for sentence in beside.assumptions)


@pytest.mark.parametrize(("parameters", "gpu", "host"), [(99_999, 8 * 99_999, 0), (100_000, 0, 800_000)])
def test_states_of_small_tensors_are_not_paged(parameters: int, gpu: int, host: int) -> None:
    found = estimate_parameters(parameters, run(optimizer="paged-adamw", precision="bf16"))
    assert (found.components["optimizer_states"], found.host_per_node) == (gpu, host)
    assert any("unified memory" in sentence for sentence in found.assumptions) == bool(host)


@pytest.mark.parametrize("to", ["cpu", "nvme"])
def test_offloaded_states_are_where_they_were_sent_paged_or_not(to: str) -> None:
    settings = {"gpus": 16, "zero": 3, "offload": ("optimizer", "parameters"), "offload_to": to}
    paged, plain = (estimate_parameters(8 * GB, run(optimizer=name, **settings)) for name in ("paged-lion-8bit", "lion-8bit"))
    assert (paged.host_per_node, paged.nvme_per_node) == (plain.host_per_node, plain.nvme_per_node)
    assert not any("unified memory" in sentence for sentence in paged.assumptions)


# --- properties that hold whatever the formulas -----------------------------------------------------------------------

MODELS = (LLAMA, MIXTRAL, "meta-llama/Llama-3.2-1B", "google/gemma-2-2b", "deepseek-ai/DeepSeek-V3")
SHARDED: tuple[dict[str, Any], ...] = ({"zero": 1}, {"zero": 2}, {"zero": 3}, {"fsdp": "full"}, {"fsdp": "grad-op"})
PLAIN_OPTIMIZERS = ("adamw", "sgd", "lion")


def check(found: TrainingEstimate) -> None:
    """What the JSON contract promises of the totals."""
    assert all(found.components[name] >= 0 for name in COMPONENTS)
    for name in COMPONENTS:
        listed = sum(entry.bytes for entry in found.lines if entry.component == name and entry.place == "gpu")
        assert found.components[name] == listed, f"{name}: {found.components[name]:,}, its lines add to {listed:,}"
    assert found.steady <= found.after_forward <= found.peak
    assert found.peak == max(found.peak_forward_backward, found.peak_optimizer_step)
    assert found.steady <= found.peak_optimizer_step
    assert found.peak <= found.reserved <= found.device
    assert all(isinstance(value, int) for value in (*found.components.values(), found.peak, found.device, found.steady))


@given(
    name=st.sampled_from(MODELS), sharding=st.sampled_from(SHARDED),
    fewer=st.integers(2, 300), more=st.integers(2, 300),
    tp=st.sampled_from([1, 2, 4]), optimizer=st.sampled_from(PLAIN_OPTIMIZERS), batch=st.integers(1, 4),
)  # fmt: skip
def test_more_gpus_never_need_more_memory_each(
    architecture: Read, name: str, sharding: dict[str, Any], fewer: int, more: int, tp: int, optimizer: str, batch: int
) -> None:
    """The same sharded strategy over more GPUs; from two on, since a second GPU brings communication buffers.

    The allocated peak never rises. What the allocator reserves for it may, by the rests of a few segments: other sizes
    are cut from other segments.
    """
    fewer, more = sorted((fewer, more))
    settings = {"tp": tp, "optimizer": optimizer, "micro_batch": batch, **sharding}
    small, large = (estimate(architecture(name), run(gpus=gpus * tp, **settings)) for gpus in (fewer, more))
    check(small)
    assert large.peak <= small.peak, f"{more * tp} GPUs: {large.peak:,}; {fewer * tp} GPUs: {small.peak:,}"
    rests = 10 * LARGE_SEGMENT + small.device // 100
    assert large.device <= small.device + rests, f"{more * tp} GPUs: {large.device:,}; {fewer * tp} GPUs: {small.device:,}"


@given(
    parameters=st.integers(1, 10**13), gpus=st.integers(1, 10_000), stage=st.sampled_from([None, 0, 1, 2, 3]),
    precision=st.sampled_from(["fp32", "bf16", "bf16-mixed", "bf16-amp"]), accumulated=st.integers(1, 4),
)  # fmt: skip
def test_totals_are_sums(parameters: int, gpus: int, stage: int | None, precision: str, accumulated: int) -> None:
    check(estimate_parameters(parameters, run(gpus=gpus, zero=stage, precision=precision, grad_accum=accumulated)))


@given(parameters=st.integers(1, 10**13), gpus=st.integers(2, 10_000))
def test_each_zero_stage_keeps_less(parameters: int, gpus: int) -> None:
    found = [states(estimate_parameters(parameters, run(gpus=gpus, zero=stage))) for stage in range(4)]
    padding = 2 * 16  # a flat partition may end with one unused pair of elements
    assert all(b <= a + padding for a, b in pairwise(found)), found


ACTIVATION_SETTINGS = st.fixed_dictionaries(
    {
        "micro_batch": st.integers(1, 8),
        "seq_len": st.sampled_from([512, 4096, 8192]),
        "attention": st.sampled_from(["eager", "flash"]),
        "precision": st.sampled_from(["fp32", "bf16", "bf16-mixed", "bf16-amp"]),
        "tp": st.sampled_from([1, 2, 4]),
    }
)


@given(name=st.sampled_from(MODELS), settings=ACTIVATION_SETTINGS)
def test_recomputation_never_raises_activations(architecture: Read, name: str, settings: dict[str, Any]) -> None:
    none, selective, full = (
        estimate(architecture(name), run(**settings, gpus=settings["tp"], recompute=how)).components["activations"]
        for how in ("none", "selective", "full")
    )
    assert none >= selective > 0, f"none {none:,}, selective {selective:,}"
    assert none >= full > 0, f"none {none:,}, full {full:,}"


@given(name=st.sampled_from(MODELS), settings=ACTIVATION_SETTINGS)
def test_activations_grow_with_tokens(architecture: Read, name: str, settings: dict[str, Any]) -> None:
    twice = {**settings, "micro_batch": 2 * settings["micro_batch"]}
    once, more = (estimate(architecture(name), run(**each, gpus=each["tp"])) for each in (settings, twice))
    assert once.components["activations"] < more.components["activations"]
    assert states(once) == states(more), "the batch changes no model states"


def test_flash_attention_keeps_no_scores(architecture: Read) -> None:
    eager, flash = (estimate(architecture(LLAMA), run(attention=kind, seq_len=8192)) for kind in ("eager", "flash"))
    assert flash.components["activations"] < eager.components["activations"]


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_more_micro_batches_in_flight_need_more(architecture: Read, recompute: str) -> None:
    """GPipe keeps all micro-batches (Huang et al. 2019), 1F1B at most one a stage (Narayanan et al. 2021, 2.2)."""
    settings: dict[str, Any] = {"gpus": 8, "pp": 4, "grad_accum": 64, "recompute": recompute}
    gpipe, one = (estimate(architecture(LLAMA), run(**settings, pipeline_schedule=each)) for each in ("gpipe", "1f1b"))
    assert one.components["activations"] < gpipe.components["activations"]


def test_gradient_accumulation_keeps_gradients_during_forward() -> None:
    once, twice = (estimate_parameters(GB, run(grad_accum=steps)) for steps in (1, 2))
    assert twice.after_forward - once.after_forward == once.components["gradients"]


@pytest.mark.parametrize("depth", [2, 126])
def test_cost_does_not_grow_with_depth(architecture: Read, depth: int) -> None:
    found = estimate(architecture(LLAMA, num_hidden_layers=depth), run(gpus=8, zero=3))
    assert len(found.lines) == len(estimate(architecture(LLAMA), run(gpus=8, zero=3)).lines)


# --- adapters ---------------------------------------------------------------------------------------------------------

# model, layers, rank, targets, trainable parameters, source
ADAPTERS = (
    (LLAMA, 2, 16, ("all-linear",), 2621440, "PEFT on transformers 5.18, traced with PyTorch 2.13"),
    (LLAMA, 4, 16, ("all-linear",), 5242880, "PEFT, traced"),
    ("meta-llama/Llama-3.2-1B", 2, 16, ("all-linear",), 1409024, "PEFT, traced"),
    (LLAMA, 32, 16, ("all-linear",), 41943040, "PEFT: r (in + out) over q, k, v, o, gate, up, down"),
    (LLAMA, 32, 8, ("q_proj", "v_proj"), 3407872, "PEFT's default targets of llama: 32 × 8 × (8192 + 5120)"),
    (LLAMA, 32, 8, ("q", "v"), 3407872, "the same in the ledger's names"),
    (LLAMA, 32, 64, ("k_proj",), 32 * 64 * (4096 + 1024), "grouped keys are narrower"),
    ("openai-community/gpt2", 12, 8, ("c_attn",), 294912, "PEFT's GPT-2 example: trainable params: 294,912"),
    ("microsoft/Phi-3-mini-4k-instruct", 32, 4, ("qkv_proj", "gate_up_proj"), 32 * 4 * ((3072 + 9216) + (3072 + 16384)),
     "fused matrices get one adapter each"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "depth", "rank", "targets", "expected", "source"), ADAPTERS)
def test_lora_adapters(
    architecture: Read, name: str, depth: int, rank: int, targets: tuple[str, ...], expected: int, source: str
) -> None:
    key = "n_layer" if "gpt2" in name else "num_hidden_layers"
    settings = run(method="lora", lora_rank=rank, lora_targets=targets, precision="bf16")
    model = architecture(name, **{key: depth})
    found = estimate(model, settings)
    assert found.trainable == expected, f"{found.trainable:,} adapter parameters, expected {expected:,}: {source}"
    assert found.components["parameters"] == 2 * model.parameters + 4 * expected, "16-bit base, fp32 adapters"
    assert found.components["gradients"] == 4 * expected
    assert found.components["optimizer_states"] == 8 * expected


def test_lora_leaves_routed_experts_alone(architecture: Read) -> None:
    """transformers keeps experts as stacked parameters, which are no linear layers to PEFT's all-linear."""
    found = estimate(architecture(MIXTRAL), run(method="lora", lora_rank=16)).trainable
    expected = 56 * 16 * (2 * (6144 + 6144) + 2 * (6144 + 1024))
    assert found == expected, f"{found:,}, expected {expected:,}"


def test_an_unknown_target_is_named(architecture: Read) -> None:
    with pytest.raises(SpecError, match=r"no linear layer named 'gat'.*did you mean gate") as caught:
        estimate(architecture(LLAMA), run(method="lora", lora_targets=("gat",)))
    assert caught.value.fields == ("lora_targets",)


@pytest.mark.parametrize("name", ["adamw-8bit", "paged-adamw-8bit", "lion-8bit"])
def test_the_trainer_keeps_fp32_states_of_embeddings(architecture: Read, name: str) -> None:
    """transformers 5.24 trainer.py, create_optimizer: register_module_override(nn.Embedding, "weight", {"optim_bits": 32});
    bitsandbytes optim/optimizer.py finds it where the module's weight is what is optimised, not a flat shard of it."""
    model, states = architecture(LLAMA), 1 if name.startswith("lion") else 2
    wide, plain, flat = (
        estimate(model, run(precision="bf16", optimizer=name, engine=engine, **more))
        for engine, more in (("accelerate", {}), ("torchtune", {}), ("deepspeed", {"zero": 1}))
    )
    table = 128256 * 4096
    kept = [sum(entry.bytes for entry in found.lines if f"/{name}" in entry.name) for found in (wide, plain, flat)]
    assert kept[0] - kept[1] == table * states * 3 - 4 * states * table // 256  # fp32 without scales in place of 8 bits
    assert kept[2] == pytest.approx(kept[1], rel=1e-3)


def test_usual_targets_that_a_model_lacks_are_passed_over(architecture: Read) -> None:
    """As by PEFT where it finds others (tuners_utils.py, inject_adapter): Mixtral's feed-forwards are experts alone."""
    model = architecture(MIXTRAL)
    found = estimate(model, run(method="lora", lora_targets=("q", "v", "gate_proj")))
    assert found.trainable == estimate(model, run(method="lora", lora_targets=("q", "v"))).trainable
    assert any(sentence.startswith("the model has no gate_proj:") for sentence in found.assumptions)
    with pytest.raises(SpecError, match="no linear layer named 'gate_proj'"):
        estimate(model, run(method="lora", lora_targets=("gate_proj",)))


@pytest.mark.parametrize("pp", [1, 2, 4, 8])
def test_a_target_need_not_be_on_every_stage(architecture: Read, pp: int) -> None:
    """Jamba has attention in four of 32 layers; of eight stages four have none, and no adapter on it."""
    found = estimate(architecture("ai21labs/Jamba-v0.1"), run(gpus=8, pp=pp, method="lora", lora_targets=("q_proj",)))
    assert found.stage >= 0


def test_all_linear_means_linear_layers(architecture: Read) -> None:
    """A_log is a parameter of Mamba's, no linear layer; PEFT's all-linear takes in, x, dt and out projections."""
    model = architecture("state-spaces/mamba-370m-hf")
    found = estimate(model, run(method="lora", lora_rank=16)).trainable
    hidden, inner, state, dt = 1024, 2048, 16, 64
    matrices = ((hidden, 2 * inner), (inner, dt + 2 * state), (dt, inner), (inner, hidden))
    expected = 48 * 16 * sum(a + b for a, b in matrices)
    assert found == expected, f"{found:,} adapter parameters, expected {expected:,}"


def test_qlora_bytes(architecture: Read) -> None:
    """Dettmers et al. 2023, section 3: 4 bit codes, an 8 bit scale for 64 of them, an fp32 scale for 256 of those."""
    model = architecture(LLAMA)
    found = estimate(model, run(method="qlora", lora_rank=16))
    low = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    nf4 = low // 2 + low // 64 + low // (64 * 256) * 4
    sixteen_bit = 2 * (model.parameters - low)
    assert low % (64 * 256) == 0
    expected = nf4 + sixteen_bit + 4 * 41943040
    assert found.components["parameters"] == expected, f"{found.components['parameters']:,}, expected {expected:,}"
    assert lines(found, "parameters")["dense/nf4"] == nf4
    assert nf4 / low * 8 == pytest.approx(4.127, abs=5e-4), "4 + 8/64 + 32/(64 × 256) bits, section 3"


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize("settings", [{"zero": 3}, {"fsdp": "full"}])
def test_frozen_weights_shard_too(architecture: Read, method: str, settings: dict[str, Any]) -> None:
    one, eight = (estimate(architecture(LLAMA), run(method=method, gpus=n, **settings)) for n in (1, 8))
    ratio = one.components["parameters"] / eight.components["parameters"]
    assert ratio == pytest.approx(8, rel=1e-3), f"one GPU holds {ratio:.3f} times what each of eight holds"
