"""What a layout needs at the least: model states alone, shared as evenly as arithmetic allows; and the time of its layers."""

from memcalc.blocks.architecture import Architecture
from memcalc.caches import cached
from memcalc.estimates.placement import all_stages
from memcalc.estimates.planning.accepts import Settings, shards_of
from memcalc.estimates.planning.space import Division
from memcalc.estimates.training.states import make_setting
from memcalc.formulas.optimizers import elementwise_bytes_per_parameter, optimizer
from memcalc.frozen import NamedTuple
from memcalc.specs.training import Training


class StateBytes(NamedTuple):
    """Bytes of a trained (or, behind adapters, frozen) element; `states`: optimizer states and a master copy."""

    weights: float
    gradients: float
    states: float


class Count(NamedTuple):
    """Elements of a model, and how many of them are routed experts'."""

    all: int
    routed: int


@cached(64)
def counted(architecture: Architecture) -> Count:
    """Of the whole model, but for what no gradient ever reaches."""
    (stage,) = all_stages(architecture, 1, 1, 1, 1, ())
    dense, routed = (held.by_training[0].elements() for held in (stage.dense, stage.routed))
    return Count(dense + routed, routed)


def state_bytes(run: Training) -> StateBytes:
    """What an element takes under a run's precision, optimizer and method; of adapters themselves nothing is counted."""
    if run.offload:
        return StateBytes(0, 0, 0)
    if run.adapts:
        base = run.base
        return StateBytes(base.bytes_per_block / base.block if run.method_row.quantised else 2, 0, 0)
    setting = make_setting(run)
    if run.freeze or run.train_layers is not None:  # of what is frozen the weights alone, and those in 16 bits
        return StateBytes(min(2, setting.weights), 0, 0)
    gradients = 0 if run.gradients_leave else setting.gradients
    row = optimizer(run.optimizer)
    states = 0.0 if row.paged else elementwise_bytes_per_parameter(row, setting.states) or 0.0
    return StateBytes(setting.weights, gradients, setting.master + states)


def least_states(count: Count, each: StateBytes, place: Division, sharding: Settings, inside: int) -> float:
    """Bytes of model states on the heaviest rank, or less: the mean over pipeline stages, nothing padded or replicated.

    Σ over dense and routed elements of elements / ranks that hold different ones × (weights + gradients + states, each divided
    by the ranks that share it); `inside`: ranks that a hybrid sharding cuts over, at most.
    """
    level = shards_of(sharding)
    cuts_weights = level == 3 or (level == 2 and "fsdp" in sharding)  # between steps
    ranks = place.copies * place.cp
    if sharding.get("fsdp") == "hybrid":
        ranks = min(ranks, inside)
    dense_ranks, routed_ranks = place.tp * place.pp, place.ep * place.etp * place.pp
    routed_shards = max(1, place.gpus // routed_ranks) if ranks == place.copies * place.cp else ranks
    out = 0.0
    for elements, held, shared in (
        (count.all - count.routed, dense_ranks, ranks),
        (count.routed, routed_ranks, routed_shards),
    ):
        weights = each.weights / (shared if cuts_weights else 1)
        gradients = each.gradients / (shared if level >= 2 else 1)
        states = each.states / (shared if level >= 1 else 1)
        out += elements / held * (weights + gradients + states)
    return out


def least_seconds(micro_batch: float, place: Division, micro_batches: int, idle: float = 1.0) -> float:
    """A step's time, or less: all layers shared evenly over the stages, and the time that these wait for each other.

    m · Σ / pp + idle · (Σ − Σ / pp) / chunks      Σ = micro_batch [s] through all layers, on ranks that hold no parameters of
    others; m micro-batches; `idle`: share of the bubble that the schedule leaves (estimates.step_time.schedule.IDLE). The
    slowest stage is never faster than their mean, nor does traffic between copies take less than nothing.
    """
    stage = micro_batch / place.pp
    return micro_batches * stage + (micro_batch - stage) * idle / place.chunks
