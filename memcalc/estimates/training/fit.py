"""What would make a training run fit: the smallest changes, tried in order of how little they disturb the run."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from memcalc.estimates.training.estimate import TrainingEstimate
from memcalc.formulas.verdict import Fit, Verdict
from memcalc.specs.parallelism import MAX_GPUS
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

MAX_SUGGESTIONS = 3


class Suggestion(NamedTuple):
    """A change that makes the run fit, as flags to add, and what it leaves free [B]."""

    flags: str
    device: int
    headroom: int
    verdict: Verdict


def suggestions(run: Training, limit: int, estimate: Callable[[Training], TrainingEstimate]) -> list[Suggestion]:
    """Up to three changes that fit, single ones first; combinations only when no single change is enough."""
    found = list(_that_fit(_single_changes(run), limit, estimate))
    return (found or list(_that_fit(_combined_changes(run), limit, estimate)))[:MAX_SUGGESTIONS]


def _that_fit(
    changes: Iterator[tuple[str, Training]], limit: int, estimate: Callable[[Training], TrainingEstimate]
) -> Iterator[Suggestion]:
    for flags, changed in changes:
        try:
            found = estimate(changed)
            if found.floor("device") > limit:  # needs no replay
                continue
            fit = Fit(found.needed, limit)
        except SpecError:
            continue
        if fit.fits:
            yield Suggestion(flags, fit.needed.bytes, fit.headroom, fit.verdict)


def _single_changes(run: Training) -> Iterator[tuple[str, Training]]:
    if run.micro_batch > 1:
        yield from _try(f"--micro-batch 1 --grad-accum {run.micro_batch * run.grad_accum}", run,
                        micro_batch=1, grad_accum=run.micro_batch * run.grad_accum)  # fmt: skip
    if run.attention == "eager":
        yield from _try("--attention flash", run, attention="flash")
    if run.recompute == "none":
        yield from _try("--recompute full", run, recompute="full")
    if (run.recompute_every or 1) > 1:
        yield from _try("--recompute-every 1", run, recompute_every=1)
    yield from _more_sharding(run)
    if not run.adapts and run.optimizer in ("adam", "adamw"):
        yield from _try("--optimizer adamw-8bit", run, optimizer="adamw-8bit")
    yield from _more_gpus(run)
    yield from _offload(run)
    if not run.adapts:
        yield from _try("--method lora", run, method="lora")
    if not run.method_row.quantised:
        yield from _try("--method qlora", run, method="qlora")


def _combined_changes(run: Training) -> Iterator[tuple[str, Training]]:
    """Full recomputation and one sequence at a time, with every kind of sharding, then GPUs, then offload."""
    eager = run.attention == "eager"
    small_flags = "--recompute full --micro-batch 1" + (" --attention flash" if eager else "")
    attention = "flash" if eager else run.attention
    for _, small in _try(small_flags, run, recompute="full", micro_batch=1, attention=attention):
        for changes in (_more_sharding, _more_gpus, _offload):
            for flags, changed in changes(small):
                yield f"{small_flags} {flags}", changed
        for flags, changed in _try("--method qlora", small, method="qlora"):
            yield f"{small_flags} {flags}", changed


def _more_sharding(run: Training) -> Iterator[tuple[str, Training]]:
    p = run.parallelism
    if p.shard_ranks == 1 or p.fsdp == "full":
        return
    if p.fsdp is not None:
        yield from _try("--fsdp full", run, parallelism={"fsdp": "full", "shard_size": None})
        return
    for stage in range((p.zero or 0) + 1, 4):
        yield from _try(f"--zero {stage}", run, parallelism={"zero": stage, "ddp": False})


def _more_gpus(run: Training) -> Iterator[tuple[str, Training]]:
    """The fewest GPUs, doubling, that fit; more GPUs help only where states are sharded, so ZeRO 3 when nothing is."""
    p = run.parallelism
    sharding = p.fsdp not in (None, "none") or (p.zero or 0) > 0
    strategy = {} if sharding else {"zero": 3, "ddp": False, "fsdp": None, "shard_size": None}
    gpus = p.gpus * 2
    while gpus <= min(p.gpus * 1024, MAX_GPUS):
        yield from _try(f"--gpus {gpus}" + ("" if sharding else " --zero 3"), run, parallelism={"gpus": gpus, **strategy})
        gpus *= 2


def _offload(run: Training) -> Iterator[tuple[str, Training]]:
    p = run.parallelism
    if p.fsdp is None and "optimizer" not in run.offload:
        yield from _try("--zero 2 --offload optimizer", run, parallelism={"zero": 2, "ddp": False}, offload=("optimizer",))
    if "parameters" not in run.offload:
        strategy = {} if p.fsdp not in (None, "none") else {"zero": 3, "ddp": False, "fsdp": None, "shard_size": None}
        yield from _try(
            ("" if not strategy else "--zero 3 ") + "--offload optimizer,parameters", run, parallelism=strategy,
            offload=("optimizer", "parameters"),
        )  # fmt: skip


def _try(flags: str, run: Training, parallelism: Mapping[str, object] | None = None, **changes: object):  # type: ignore[no-untyped-def]
    """The changed run, unless its own rules refuse it."""
    try:
        changed = run.parallelism.replace(**parallelism) if parallelism else run.parallelism
        yield flags, run.replace(parallelism=changed, **changes)
    except SpecError:
        return
