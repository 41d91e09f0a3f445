"""What goes with an answer in words: settings that contradict each other or the model, and lengths that nobody gave.

What cannot be answered is refused elsewhere; here stands what is answered, but perhaps was not meant.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from memcalc.blocks.architecture import Architecture
from memcalc.frozen import NamedTuple
from memcalc.specs.spec import Spec

if TYPE_CHECKING:  # serving has doubts of the same kind
    from memcalc.specs.training import Training


class Doubts(NamedTuple):
    """Sentences for `warnings[]` and for `assumptions[]`."""

    warnings: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


class Doubt(NamedTuple):
    """A sentence, and when it is true of a run."""

    of: Callable[..., bool]
    sentence: str


TRAINING = (
    Doubt(lambda run: (run.parallelism.zero or 0) >= 2 and run.engine == "megatron",
          "ZeRO stages 2 and 3 are DeepSpeed's: Megatron-LM shards states alone (--zero 1) or by FSDP (--fsdp)"),
    Doubt(lambda run: bool(run.parallelism.zero) and run.engine in ("torchtitan", "torchtune", "fsdp-qlora"),
          "ZeRO is DeepSpeed's: this engine shards by FSDP (--fsdp); buffers are counted as DeepSpeed's"),
    Doubt(lambda run: run.parallelism.fsdp not in (None, "none") and run.engine == "deepspeed",
          "FSDP is PyTorch's: DeepSpeed shards by ZeRO (--zero)"),
    Doubt(lambda run: run.parallelism.zero is not None and run.parallelism.gpus == 1,
          "ZeRO on one GPU shards nothing; its buffers are counted"),
    Doubt(lambda run: run.allocator_settings.expandable_segments and run.allocator_settings.max_split_size_mb > 0,
          "max_split_size keeps free blocks of that size from smaller requests in expandable segments too, where free blocks "
          "grow together: much is reserved and cannot be used; give one of the two"),
)  # fmt: skip


def of_training(architecture: Architecture | None, run: "Training", *, length_given: bool) -> Doubts:
    """What to say of a training run. Of a bare parameter count nothing depends on lengths."""
    warnings = [doubt.sentence for doubt in TRAINING if doubt.of(run)]
    if architecture is None:
        return Doubts(tuple(warnings))
    warnings += beyond_positions(architecture, run.seq_len_max or run.seq_len, "sequences")
    return Doubts(tuple(warnings), () if length_given else (taken_length("seq_len", run.seq_len, architecture.context),))


def not_replayed(names: Iterable[str]) -> str:
    """What to say of the allocator's settings where the step is not replayed on it."""
    return f"{', '.join(names)}: without effect here, as the order of this run's allocations is not known"


def taken_length(name: str, length: int, context: int | None, engine: str | None = None) -> str:
    """What was taken for a length that nobody gave, and why."""
    reason = "memcalc's default"
    if context and length == context:
        reason = f"the model's maximum, as {engine} takes it" if engine else "the model's maximum"
    elif context:
        reason += f"; the model has {context:,} positions"
    return f"{name} is not given: {length:,} tokens, {reason}"


def beyond_positions(architecture: Architecture, length: int, what: str) -> list[str]:
    """What to say of a length for which the model has no positions."""
    context = architecture.context
    if not context or length <= context:
        return []
    table = any(counted.weight.role == "position" for counted in architecture.weights if counted.part != "vision")
    way = "its table of positions ends there" if table else "it needs RoPE scaling"
    return [f"{what} of {length:,} tokens: the model has {context:,} positions, {way}"]


def unsaid(name: str, run: Spec | None, settings: Mapping[str, object]) -> bool:
    """Whether nobody gave a setting."""
    return settings.get(name) is None and (run is None or name not in run.model_fields_set)
