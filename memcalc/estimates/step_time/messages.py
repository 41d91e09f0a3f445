"""Messages of a step: between tensor-, context- and expert-parallel ranks inside layers, and of what is sharded."""

from memcalc.blocks.executed import Executed
from memcalc.caches import cached
from memcalc.formulas.timing.law import TimeLaw
from memcalc.frozen import NamedTuple
from memcalc.specs.parallelism import Parallelism

CONTENTION = 0.2  # slowdown of computing while messages pass: 19 % on average in Lee et al. 2025 (arXiv 2507.03114)
OVERLAPPED = ("all-gather", "reduce-scatter")  # what Transformer Engine's userbuffers cut into pieces beside a product
# Of a result's reduce-scatter, the last of the four pieces that a product is cut into (Megatron-Bridge, comm_overlap.py,
# PipelineOverlapCfg num_splits); gathers and all of the backward pass beside whole products.
LAST_SPLIT = 0.25


def exposed(traffic: float, computing: float) -> float:
    """What traffic adds to the computing beside it [s]: what outlasts it, and what it takes from it meanwhile, since its
    kernels use multiprocessors and memory too."""
    return max(0.0, traffic - computing) + CONTENTION * min(traffic, computing)


class Axis(NamedTuple):
    """Ranks that talk to each other, and how many of them share a link domain."""

    ranks: int
    inside: int


class Axes(NamedTuple):
    """All axes of a layout: tensor parallel ranks are neighbours, then context, then data; pipeline stages are farthest
    (megatron/core/parallel_state.py, order tp-cp-ep-dp-pp; torch's DeviceMesh alike)."""

    tp: Axis
    cp: Axis
    ep: Axis
    data: Axis  # data and context parallel: who shares weights
    expert_data: Axis
    pipeline_far: bool

    @classmethod
    def of(cls, p: Parallelism, domain: int) -> "Axes":
        """`domain`: GPUs that a scale-up link joins."""
        near = min(p.gpus, max(p.gpus_per_node, domain) if domain > p.gpus_per_node and domain > 8 else p.gpus_per_node)

        def axis(ranks: int, stride: int) -> Axis:
            return Axis(ranks, max(1, min(ranks, near // stride)))

        return cls(
            axis(p.tp, 1), axis(p.cp, p.tp), axis(p.ep, p.etp), axis(p.shard_ranks, p.tp),
            axis(p.expert_shard_ranks, p.ep * p.etp), p.gpus // p.pp >= near,
        )  # fmt: skip


class Busy(NamedTuple):
    """What messages of a piece hide behind, forward and backward [s]: a ring behind attention, those of tensor-parallel ranks
    behind the products that they feed where the engine overlaps the two."""

    attention: tuple[float, float] = (0.0, 0.0)
    products: tuple[float | None, float | None] = (None, None)  # None: tensor-parallel messages wait


class Sent(NamedTuple):
    """Seconds of messages inside a piece, forward and backward, that nothing hides."""

    forward: float = 0.0
    backward: float = 0.0


@cached(8192)
def sent_by(executed: Executed, tokens: float, busy: Busy, axes: Axes, law: TimeLaw, narrowed: float = 1.0) -> Sent:
    """What a piece sends. `narrowed`: the share of 16 bits in which tensor-parallel ranks gather operands of products in few
    bits (Transformer Engine, pytorch/distributed.py, gather_along_first_dim with a quantizer; torchtitan,
    Float8ColwiseParallel)."""
    passed, rings, tp = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]  # forward, backward
    for message in executed.messages:
        axis: Axis = getattr(axes, message.axis)
        size = message.size.at(tokens, 0)
        gathered = {"all-gather": narrowed} if message.axis == "tp" else {}
        for way, kinds in enumerate((message.forward, message.backward)):
            for kind in kinds:
                if kind == "ring":
                    rings[way] += _ring(axis, size, law)
                elif kind == "all-to-all" and message.copies > 1:
                    passed[way] += _dispatched(message.copies, axis, size, law)
                else:
                    seconds = law.collective(kind, axis.ranks, size * gathered.get(kind, 1.0), inside=axis.inside)
                    hides = busy.products[way] is not None and kind in OVERLAPPED and message.axis == "tp"
                    last = LAST_SPLIT if way == 0 and kind == "reduce-scatter" else 0.0
                    passed[way] += seconds * (last if hides else 1.0)
                    tp[way] += seconds * (1.0 - last if hides else 0.0)
    behind = [seconds or 0.0 for seconds in busy.products]
    return Sent(*(
        waiting + exposed(hidden, computing) + max(0.0, ring - attended)
        for waiting, hidden, computing, ring, attended in zip(passed, tp, behind, rings, busy.attention, strict=True)
    ))  # fmt: skip


def _dispatched(copies: float, axis: Axis, size: float, law: TimeLaw) -> float:
    """A token goes once to each node that has some of its experts, and there once to each rank that has (DeepEP and
    Megatron-LM's flexible dispatcher); `size` is that of a copy for each expert [B]. Returns [s]."""
    near, far = (size * _distinct(axis.ranks / ranks, copies) / copies for ranks in (1, axis.inside))
    return law.all_to_all(axis.ranks, axis.inside, near, far)


def _distinct(places: float, copies: float) -> float:
    """Of so many places, how many so many independent, even choices hit.

    >>> _distinct(1, 8), round(_distinct(8, 8), 2)
    (1, 5.25)
    """
    return places * (1 - (1 - 1 / places) ** copies) if places > 1 else 1


def _ring(axis: Axis, size: float, law: TimeLaw) -> float:
    """Keys and values of each rank pass all others; `size` is that of all ranks' together."""
    far = axis.inside < axis.ranks
    return (axis.ranks - 1) * law.sent(size / axis.ranks, far=far)
