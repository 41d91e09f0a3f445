"""Messages of a step: between tensor-, context- and expert-parallel ranks inside layers, and of what is sharded."""

from memcalc.blocks.executed import Executed
from memcalc.caches import cached
from memcalc.formulas.timing.law import TimeLaw
from memcalc.frozen import NamedTuple
from memcalc.specs.parallelism import Parallelism


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


class Sent(NamedTuple):
    """Seconds of messages inside a piece, forward and backward, that nothing hides."""

    forward: float = 0.0
    backward: float = 0.0


@cached(8192)
def sent_by(executed: Executed, tokens: float, attention: tuple[float, float], axes: Axes, law: TimeLaw) -> Sent:
    """What a piece sends. `attention`: seconds of attention forward and backward, behind which a ring hides."""
    forward = backward = 0.0
    rings = [0.0, 0.0]
    for message in executed.messages:
        axis: Axis = getattr(axes, message.axis)
        size = message.size.at(tokens, 0) * _crossing(message.copies, axis)
        for kind in message.forward:
            if kind == "ring":
                rings[0] += _ring(axis, size, law)
            else:
                forward += law.collective(kind, axis.ranks, size, inside=axis.inside)
        for kind in message.backward:
            if kind == "ring":
                rings[1] += _ring(axis, size, law)
            else:
                backward += law.collective(kind, axis.ranks, size, inside=axis.inside)
    return Sent(forward + max(0.0, rings[0] - attention[0]), backward + max(0.0, rings[1] - attention[1]))


def _crossing(copies: float, axis: Axis) -> float:
    """Share of a token's copies that cross to other nodes: one for each node that has some of its experts, which hands it on
    (DeepEP and Megatron's hybrid dispatcher; the nodes of independent, even choices)."""
    nodes = axis.ranks / axis.inside
    return 1.0 if nodes <= 1 or copies <= 1 else nodes * (1 - (1 - 1 / nodes) ** copies) / copies


def _ring(axis: Axis, size: float, law: TimeLaw) -> float:
    """Keys and values of each rank pass all others; `size` is that of all ranks' together."""
    far = axis.inside < axis.ranks
    return (axis.ranks - 1) * law.sent(size / axis.ranks, far=far)
