"""What the optimizer's step allocates beside its states: copies of gradients, temporaries, sums of norms."""

from collections.abc import Iterator, Sequence
from math import prod

from memcalc.caches import cached
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Tensors
from memcalc.estimates.training.states import STEP, ShardGroup, StateSetting, most_shards, setting_of
from memcalc.formulas import model_states
from memcalc.formulas.optimizer_steps import step_temporaries, tensor_bytes
from memcalc.formulas.optimizers import optimizer


def step_copies(setting: StateSetting, groups: Sequence[ShardGroup]) -> tuple[Line, ...]:
    """Copies of gradients that the strategy makes for the step."""
    parts = [(group.trained, group.shards) for group in groups if group.trained]
    if not parts or setting.places.optimizer != "gpu" or setting.run.gradients_leave:
        return ()
    made = setting.strategy.step_copies(setting.run, parts, setting.gradients, setting.master)
    return tuple(entry for entry in made if entry.bytes)


def optimizer_lines(setting: StateSetting, groups: Sequence[ShardGroup]) -> tuple[Line, ...]:
    """What clipping and the step allocate, whichever is more: they come one after the other. Nothing where the step is inside
    the backward, which has it beside the gradient in hand."""
    trained = [(group.trained, group.shards) for group in groups if group.trained]
    if not trained or setting.places.optimizer != "gpu" or setting.run.steps_in_backward:
        return ()
    alike: dict[int, list[ShardGroup]] = {}  # torch's foreach takes tensors of one type at a time
    for group in groups:
        if group.trained:
            alike.setdefault(group.itemsize, []).append(group)
    temporaries = (
        _temporaries(setting_of(setting, some[0]), groups, [(g.trained, g.shards) for g in some if g.trained])
        for some in alike.values()
    )
    made = (*temporaries, *_clipping(setting, trained))
    return tuple(entry for entry in (max(made, key=lambda entry: entry.bytes),) if entry.bytes)


def _temporaries(setting: StateSetting, groups: Sequence[ShardGroup], trained: Sequence[tuple[Tensors, int]]) -> Line:
    strategy, run, each = setting.strategy, setting.run, setting.master or setting.weights
    row, name = optimizer(run.optimizer), "optimizer temporaries"
    if run.precision_aware and run.narrow_states:
        elements = max(strategy.updated(held, shards) for held, shards in trained)
        return line("activations", name, STEP, model_states.unscaled_state_bytes, elements=elements, states=run.narrow_states)
    made = step_temporaries(row, run.optimizer_impl_used)
    if made.at_once:
        elements = sum(strategy.updated(held, shards) for held, shards in trained)
        rate = int(made.bytes_per_element(each))
        return line("activations", name, STEP, model_states.foreach_bytes, elements=elements, bytes_each=rate)
    shards = most_shards(groups) if strategy.cuts_optimizer else 1
    largest = max(_largest_update(held, run.optimizer, run.optimizer_impl_used, each) for held, _ in trained)
    return line("activations", name, STEP, model_states.for_loop_bytes, largest=largest, shards=shards)


@cached(1024)
def _largest_update(held: Tensors, name: str, asked: str, each: int) -> int:
    """Bytes that the update of one of these tensors makes at most."""
    row = optimizer(name)
    sizes = (tensor_bytes(row, asked, entry.shape, entry.role, parameter_bytes=each) for entry in held.held)
    return max(sizes, default=0)


def _clipping(setting: StateSetting, trained: Sequence[tuple[Tensors, int]]) -> Iterator[Line]:
    """Partial sums of the gradients' norms."""
    if setting.run.max_grad_norm and not setting.run.gradients_leave:
        shapes = [(prod(shape), n) for held, shards in trained for shape, _, n in setting.strategy.state_shapes(held, shards)]
        yield line("activations", "gradient norms", STEP, model_states.norm_buffer_bytes, chunk=NORM_CHUNK,
                   tensors=sum(n for _, n in shapes), largest=max(size for size, _ in shapes))  # fmt: skip


NORM_CHUNK = 65_536  # elements that one block of a multi-tensor kernel sums (ATen/native/cuda/MultiTensorApply.cuh, kChunkSize)
