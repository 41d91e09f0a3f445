"""Sizes of what stands between steps: parameters, buckets, optimizer states, tensor by tensor as the account has them."""

from collections.abc import Iterator
from math import prod

from memcalc.autograd.tape import Size
from memcalc.blocks.architecture import Layer
from memcalc.estimates.lines import Line
from memcalc.estimates.training.layer_kinds import Setup
from memcalc.estimates.training.ranks import Rank
from memcalc.estimates.training.replay.traffic import Unit
from memcalc.formulas.optimizer_steps import step_temporaries
from memcalc.formulas.optimizers import optimizer

BUCKET = 25 * 2**20  # bytes of a bucket of DDP's and of others' buffers (torch/nn/parallel/distributed.py, bucket_cap_mb)
Counted = list[tuple[int, int]]  # elements of a tensor, how many there are


def parameter_sizes(rank: Rank) -> Iterator[int]:
    """Trained, frozen and quantised parameters, and buffers."""
    for entry in rank.steady:
        if entry.component == "parameters":
            last = entry.name.rpartition("/")[2]
            kind = {"frozen": "frozen", "upcast": "frozen", "nf4": "quantised", "quantised": "quantised"}.get(last, "trained")
            yield from _over(entry, _tensors(rank, entry.name, kind))


def state_sizes(rank: Rank) -> Iterator[int]:
    """Optimizer states in the order in which the first step makes them: all of one tensor, then the next's."""
    for entry in rank.steady:
        if entry.component == "optimizer_states":
            copies = entry.name.endswith(("master weights", "moving average"))
            states = 1 if copies else len(optimizer(rank.setting.run.optimizer).states) or 1
            for size in _over(entry, _tensors(rank, entry.name, "trained")):
                yield from (size // states for _ in range(states) if size >= states)


def gradient_sizes(rank: Rank) -> Iterator[int]:
    """Gradients of a whole step, where they stand throughout."""
    for entry in rank.gradients:
        yield from _over(entry, _tensors(rank, entry.name, "trained"))


def temporary_sizes(rank: Rank) -> Iterator[int]:
    """What the optimizer's implementation allocates at once."""
    for entry in rank.step:
        if entry.component == "activations":
            run = rank.setting.run
            together = step_temporaries(optimizer(run.optimizer), run.optimizer_impl_used).at_once
            yield from _over(entry, _tensors(rank, "", "trained") if together else [(1, 1)])


def bucket_sizes(setup: Setup) -> Iterator[int]:
    for entry in setup.buckets:
        if entry.place == "gpu":
            whole, rest = divmod(entry.bytes, BUCKET)
            yield from (BUCKET for _ in range(whole))
            yield from (rest for _ in range(rest > 0))


def _tensors(rank: Rank, name: str, kind: str) -> Counted:
    """The tensors of a group as a rank sees them; of all groups where the name has none."""
    strategy, out = rank.setting.strategy, []
    for group in rank.groups:
        if name.partition("/")[0] in (group.name, "") and (held := getattr(group, kind)):
            out += [(prod(shape), copies) for shape, _, copies in strategy.state_shapes(held, group.shards)]
    return out


def _over(entry: Line, tensors: Counted) -> Iterator[int]:
    """A line's bytes over tensors, by their elements."""
    total = sum(elements * copies for elements, copies in tensors)
    if not total:
        yield entry.bytes
        return
    for elements, copies in tensors:
        if size := entry.bytes * elements // total:
            yield from (size for _ in range(copies))


def layer_unit(layer: Layer, elements: int, each: int) -> Unit:
    """What is gathered for a layer of so many elements on this rank."""
    weights = [weight.parameters for weight in layer.weights]
    total = sum(weights) or 1
    return Unit(tuple(size for weight in weights if (size := weight * elements // total * each)))


def root_units(rank: Rank, each: int) -> tuple[Unit, Unit]:
    """What is gathered of everything before and after the layers."""
    stage = rank.stage
    before: list[int] = []
    after: list[int] = []
    for entry in stage.held:
        if not entry.layered and entry.elements:
            sizes = after if entry.path.split("/")[1] in stage.closing_names else before
            sizes += [entry.elements // entry.copies * each] * entry.copies
    return Unit(tuple(before)), Unit(tuple(after))


def shared_sizes(setup: Setup) -> tuple[Size, ...]:
    return tuple(tensor.bytes for tensor in setup.shared)
