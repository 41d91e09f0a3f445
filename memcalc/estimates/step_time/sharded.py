"""Traffic of what is sharded or replicated over data-parallel ranks, what hides it, the optimizer's step, and offload."""

from math import prod

from memcalc.estimates.step_time.messages import Axes
from memcalc.estimates.training.layer_kinds import gathered_elements
from memcalc.estimates.training.ranks import Standing
from memcalc.formulas.optimizers import optimizer
from memcalc.formulas.timing.law import TimeLaw
from memcalc.frozen import NamedTuple
from memcalc.specs.training import Training

HALF = 2
PASSES = {"fused": 1.0, "foreach": 2.5, "for-loop": 2.5, "own": 1.5}  # over all states, by how the step is run
HOST_BANDWIDTH = 200e9  # B/s of a node's memory that all of its ranks share: eight channels of DDR5 on two sockets, assumed
NVME = 6e9  # B/s of a node's disks, assumed
ADAM_PASSES = 7  # fp32 values read and written for each parameter by an Adam step on the host


class Gathers(NamedTuple):
    """Around one layer, for one micro-batch [s]: parameters before its forward and backward, gradients after it."""

    forward: float = 0.0
    backward: float = 0.0
    copies: float = 0.0  # out of the buffers that are gathered into, and into those that are reduced

    def times(self, share: float) -> "Gathers":
        return Gathers(*(seconds * share for seconds in self))


def gathers_share(run: Training) -> float:
    """Of how many of a step's micro-batches layers gather and reduce: some engines' pipeline stages do so once
    (torch/distributed/pipelining/stage.py, backward_maybe_with_nosync)."""
    return 1 / run.grad_accum if run.parallelism.pp > 1 and run.engine_row.gathers_once else 1.0


def sharded_parameters(rank: Standing) -> tuple[bool, bool]:
    """Whether layers gather their parameters before the forward, and again before the backward."""
    p = rank.setting.run.parallelism
    if p.zero == 3:
        return p.shard_ranks > 1, p.shard_ranks > 1
    if p.fsdp in (None, "none") or p.fsdp_shards == 1:
        return False, False
    return True, p.fsdp != "grad-op"


def gathers(rank: Standing, index: int, axes: Axes, law: TimeLaw, trained_share: float) -> Gathers:
    """What layer kind number `index` gathers and reduces in each micro-batch."""
    ahead, back = sharded_parameters(rank)
    p, setting = rank.setting.run.parallelism, rank.setting
    zero2 = p.zero == 2
    if not (ahead or zero2):
        return Gathers()
    ranks = p.shard_size or (p.fsdp_shards if p.fsdp else p.shard_ranks)
    inside = min(axes.data.inside, ranks)
    elements = gathered_elements(rank.setup, index) if ahead else rank.setup.stage.sequence.elements[index]
    gathering = law.collective("all-gather", ranks, elements * setting.compute, inside=inside) if ahead else 0.0
    reducing = 0.0
    if trained_share > 0:
        size = rank.setup.stage.sequence.elements[index] * trained_share * (HALF if p.zero else setting.gradients)
        reducing = law.collective("reduce-scatter", ranks, size, inside=inside)
    if "parameters" in setting.run.offload:
        gathering += elements / ranks * setting.compute / law.hardware.pcie
    times = (1 + back) * ahead
    copied = law.moved(elements * setting.compute * 2 * times)  # torch/distributed/fsdp/_fully_shard/_fsdp_collectives.py
    if trained_share > 0:
        copied += law.moved(elements * trained_share * (setting.compute + setting.gradients))
    return Gathers(gathering, (gathering if back else 0.0) + reducing, copied)


def trained_share(rank: Standing) -> float:
    """Share of a rank's elements that have gradients."""
    trained = sum(group.trained.elements() for group in rank.groups if group.trained)
    whole = sum(group.elements for group in rank.groups)
    return min(1.0, trained / whole) if whole else 0.0


def replicated_seconds(rank: Standing, axes: Axes, law: TimeLaw) -> tuple[float, float]:
    """Once a step: gradients that are reduced at the end of the backward, and parameters that are gathered after the
    optimizer's step [s]."""
    run, p = rank.setting.run, rank.setting.run.parallelism
    reduced = gathered = 0.0
    for group in rank.groups:
        if not group.trained:
            continue
        axis = axes.expert_data if group.name == "experts" else axes.data
        elements = group.trained.elements()
        if sharded_parameters(rank)[0]:
            replicas = axis.ranks // max(1, p.fsdp_shards if p.fsdp else p.shard_size or axis.ranks)
            if replicas > 1:  # hybrid: each shard's gradients are added up over the copies
                size = elements * rank.setting.gradients / p.fsdp_shards
                reduced += law.collective("all-reduce", replicas, size, inside=max(1, axis.inside // p.fsdp_shards))
            continue
        each = rank.setting.gradients if run.engine_row.fp32_gradients or not p.zero else HALF
        if p.zero in (1, 2):
            if p.zero == 1:
                reduced += law.collective("reduce-scatter", axis.ranks, elements * each, inside=axis.inside)
            gathered += law.collective("all-gather", axis.ranks, elements * rank.setting.compute, inside=axis.inside)
        else:
            reduced += law.collective("all-reduce", axis.ranks, elements * each, inside=axis.inside)
    return reduced, gathered


def optimizer_seconds(rank: Standing, law: TimeLaw) -> float:
    """The optimizer's step [s]: gradients read once, what it updates read and written; clipping reads and writes gradients
    once more. On the host, at the pace of its memory and of the link to it."""
    run, sums = rank.setting.run, rank.sums
    gradients = sums["gpu"]["gradients"]
    trained = sum(
        group.trained.elements() / (group.shards if run.parallelism.zero or run.fsdp else 1)
        for group in rank.groups if group.trained
    )  # fmt: skip
    clipping = 3 * gradients if run.max_grad_norm else 0
    if run.steps_in_backward:
        gradients = 0
    products = _newton_schulz(rank, law) if run.optimizer.startswith("muon") else 0.0
    states = sums["gpu"]["optimizer_states"]
    moved = gradients + 2 * (states + trained * rank.setting.weights)
    on_gpu = law.moved(moved * PASSES.get(run.optimizer_impl_used, 1.5) + clipping) + products
    if optimizer(run.optimizer).paged:
        on_gpu += 2 * sums["host"]["optimizer_states"] / law.hardware.pcie
    if "optimizer" not in run.offload:
        return on_gpu
    share = run.offload_fraction
    on_node = min(run.parallelism.gpus, run.parallelism.gpus_per_node)
    stepped = trained * share * ADAM_PASSES * 4 * on_node / HOST_BANDWIDTH
    travelled = trained * share * (rank.setting.compute + HALF) / law.hardware.pcie
    swapped = 2 * sums["nvme"]["optimizer_states"] * on_node / NVME if run.offload_to == "nvme" else 0.0
    return on_gpu * (1 - share) + stepped + travelled + swapped


def _newton_schulz(rank: Standing, law: TimeLaw) -> float:
    """Muon's five iterations of X ← aX + (bA + cA²)X, A = XXᵀ, of each matrix [m, n], m ≤ n: 4 m² n + 2 m³ FLOP each [s];
    sharded ranks share the matrices out (Jordan et al. 2024, Muon; Liu et al. 2025, distributed Muon)."""
    seconds = 0.0
    for group in rank.groups:
        for held in group.trained.held if group.trained else ():
            if held.layered and len(held.shape) >= 2:
                m, n = sorted(held.shape[-2:])
                one = 2 * law.product(m, m, n) + law.product(m, n, m)
                matrices = held.copies * prod(held.shape[:-2])
                seconds += 5 * one * law.sustained.product * matrices / group.shards
    return seconds
