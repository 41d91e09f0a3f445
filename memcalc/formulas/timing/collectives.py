"""Messages between GPUs: a start, a step for each further GPU, and bytes at the rate of the slowest link on the way."""

import math

from memcalc.formulas.timing.constants import CollectiveConstants
from memcalc.frozen import NamedTuple

# Times the bytes that each GPU's link carries: 2 (n - 1) / n for an all-reduce, (n - 1) / n for the others, where bytes are
# the whole buffer (of an all-gather its result, of a reduce-scatter its input). NCCL, doc/PERFORMANCE.md.
PASSES = {"all-reduce": 2.0, "all-gather": 1.0, "reduce-scatter": 1.0, "all-to-all": 1.0}


class Link(NamedTuple):
    """One tier of the network: what a GPU can send over it, one way, and what each collective makes of it."""

    bandwidth: float  # B/s
    constants: tuple[tuple[str, CollectiveConstants], ...]  # collective → its constants

    def of(self, collective: str) -> CollectiveConstants:
        return next(found for name, found in self.constants if name == collective)


def collective_seconds(link: Link, collective: str, ranks: int, size: float) -> float:
    """Time of a collective among ranks of one node.

    start + step · (ranks − 2) + x + ramp · x ^ exponent
    x = passes · (ranks − 1) / ranks · bytes / (share · bandwidth) · (ranks / 2) ^ crowding
    ranks [count], size [B]. Returns [s].
    """
    if ranks < 2 or size <= 0:
        return 0.0
    c = link.of(collective)
    sent = PASSES[collective.removeprefix("engine ")] * (ranks - 1) / ranks * size / link.bandwidth
    carrying = sent / min(c.link, 1.0) * math.pow(ranks / 2, c.crowding)
    ramp = c.ramp * (carrying * 1e6) ** c.exponent if c.ramp else 0.0
    return c.start + c.step * (ranks - 2) + carrying + ramp


def network_seconds(near: Link, far: Link, collective: str, ranks: int, inside: int, size: float) -> float:
    """The same among ranks of which `inside` share a node: each of them has a network card of its own, and rings through all
    cards run at once, so that bytes pass at the slower of the links inside and the cards of a node together.

    ranks, inside [count], size [B]. Returns [s].
    """
    inside = max(1, min(inside, ranks))
    if inside == ranks:
        return collective_seconds(near, collective, ranks, size)
    nodes = -(-ranks // inside)
    outside = far.of(collective)
    passes = PASSES[collective]
    if collective == "all-to-all":
        return all_to_all_seconds(near, far, ranks, inside, size * inside / ranks, size)
    slowest = min(
        near.of(collective).link * near.bandwidth if inside > 1 else float("inf"), outside.link * far.bandwidth * inside
    )
    return outside.start + outside.step * (nodes - 2) + passes * (ranks - 1) / ranks * size / slowest


def all_to_all_seconds(near: Link, far: Link, ranks: int, inside: int, near_size: float, far_size: float) -> float:
    """An all-to-all of which `near_size` passes between the ranks of a node, and of `far_size`, spread evenly over all ranks,
    what is for other nodes leaves over each GPU's own card.

    ranks, inside [count], near_size, far_size [B]. Returns [s].
    """
    within = collective_seconds(near, "all-to-all", inside, near_size)
    if inside >= ranks:
        return within
    outside = far.of("all-to-all")
    return within + outside.start + far_size * (ranks - inside) / ranks / (outside.link * far.bandwidth)


def point_to_point_seconds(link: Link, size: float) -> float:
    """Time that one GPU's message to another takes: size [B]. Returns [s]."""
    c = link.of("all-gather")
    return c.start + size / (min(c.link, 1.0) * link.bandwidth) if size > 0 else 0.0
