"""What sharding adds beside the states: buckets, gathered parameters, gradients on their way out, optimizer temporaries."""

from collections.abc import Sequence

from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage
from memcalc.estimates.states import Group, Setting
from memcalc.estimates.timeline import Moment, Traffic
from memcalc.formulas import model_states
from memcalc.formulas.engines import DEEPSPEED, FSDP_LAYERS_IN_FLIGHT
from memcalc.formulas.formula import ceil_div


def communication_lines(setting: Setting, stage: Stage, groups: Sequence[Group]) -> list[Line]:
    p, zero = setting.run.parallelism, setting.zero
    ranks = max((group.shards for group in groups), default=1)
    if ranks == 1 and p.shard_ranks == 1:
        return []
    trained = sum(group.trained.elements() for group in groups if group.trained)
    if p.zero is None and (p.fsdp is None or p.fsdp_shards == 1):
        return [line("communication", "gradient buckets", "backward", model_states.ddp_bucket_bytes,
                     gradient_elements=trained, bytes_each=setting.gradients)]  # fmt: skip
    local = sum(group.elements for group in groups)
    if setting.fsdp:
        keeps = p.fsdp == "grad-op"
        return [line("communication", "gathered parameters", "forward and backward", model_states.fsdp_gathered_bytes,
                     root=local if keeps else stage.root, largest_layer=stage.largest_layer,
                     layers_in_flight=0 if keeps else min(FSDP_LAYERS_IN_FLIGHT, stage.layers),
                     bytes_each=setting.compute)]  # fmt: skip
    out = []
    if zero >= 2:
        out.append(line("communication", "reduce buckets", "backward", model_states.zero_reduce_bucket_bytes,
                        elements=trained, bucket_elements=DEEPSPEED.reduce_bucket, buffers=DEEPSPEED.buffers[zero],
                        bytes_each=setting.gradients))  # fmt: skip
    if zero == 3:
        largest = max(stage.largest_layer, stage.largest_root)
        out.append(line("communication", "gathered parameters", "forward and backward",
                        model_states.zero3_gathered_bytes, largest_layer=largest,
                        prefetch_elements=DEEPSPEED.prefetch_bucket, max_live=DEEPSPEED.max_live_parameters,
                        elements=local, bytes_each=setting.compute))  # fmt: skip
    return out


def traffic(setting: Setting, groups: Sequence[Group]) -> Traffic:
    """How parameters arrive and gradients leave under the run's sharding."""
    p, zero = setting.run.parallelism, setting.zero
    shards = max((group.shards for group in groups), default=1)
    trained = sum(group.trained.elements() for group in groups if group.trained)
    away = setting.gradients_at != "gpu"
    if setting.fsdp and shards > 1:
        full = p.fsdp != "grad-op"
        return Traffic(full, not full, True, setting.compute, setting.gradients, shards, away=away,
                       prefetches=setting.run.engine_row.prefetches or setting.run.recompute != "full")  # fmt: skip
    if zero >= 2 and shards > 1:
        bucket = min(trained, DEEPSPEED.reduce_bucket) * DEEPSPEED.buffers[zero] * setting.gradients
        if zero == 3:
            return Traffic(True, False, True, setting.compute, setting.gradients, shards, bucket, away)
        return Traffic(False, False, True, setting.compute, setting.gradients, shards, bucket, away)
    if not zero and p.shard_ranks > 1 and p.zero is None:
        return Traffic(buffers=trained * setting.gradients)  # DDP's buckets
    return Traffic()


def optimizer_moment(setting: Setting, groups: Sequence[Group], gradients: int) -> Moment:
    """The optimizer's step: all gradients, and what its implementation allocates beside them.

    fused updates in place; foreach makes one intermediate as large as all parameters; for-loop two of the largest tensor
    (torch/optim/adamw.py, _multi_tensor_adamw and _single_tensor_adamw).
    """
    run = setting.run
    temporaries = 0
    if setting.optimizer_at == "gpu":
        each = setting.master or setting.weights
        if run.optimizer_impl_used == "foreach":
            temporaries = sum(_updated(setting, group) for group in groups if group.trained) * each
        elif run.optimizer_impl_used == "for-loop":
            largest = max((group.trained.largest for group in groups if group.trained), default=0)
            temporaries = 2 * largest // (max(group.shards for group in groups) if setting.fsdp or setting.zero else 1) * each
    buckets = traffic(setting, groups).buffers
    return Moment("optimizer step", temporaries, gradients, buckets)


def _updated(setting: Setting, group: Group) -> int:
    """Elements that one rank's optimizer updates."""
    assert group.trained
    if setting.fsdp:
        return group.trained.elements("rows", group.shards)
    return ceil_div(group.trained.elements(), group.shards if setting.zero else 1)
