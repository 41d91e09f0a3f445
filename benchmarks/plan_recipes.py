"""Published layouts of Megatron recipes beside the plan for the same job: `python benchmarks/plan_recipes.py [TEXT]`.

Every distinct recipe of presets/measured/step-times.json that trains all weights with Megatron on several GPUs states a
layout (tensor, pipeline, virtual, context, expert parallel, micro-batch). The plan gets model, accelerator, GPUs, length,
precision and global batch. A recipe is met where its predicted step is at most 5 % longer than the plan's best, or its
degrees are among the plan's first three. Rows are those whose group holds TEXT, all where none is given; the exit code is 1
below the goal of 70 %.
"""

import sys
from collections.abc import Iterator
from typing import Any

from memcalc.errors import MemcalcError
from memcalc.estimates.step_time.step import step_time
from memcalc.frozen import NamedTuple
from memcalc.readers.step_times import PublishedSpeed, published_speeds
from memcalc.readers.timing import time_law
from memcalc.sizing.planning import plan_training
from memcalc.sizing.training import size_training, training_run

DEGREES = ("tp", "pp", "cp", "ep", "etp")
NEAR, FIRST, GOAL = 1.05, 3, 0.7
OF_THE_JOB = ("seq_len", "precision", "attention", "gpus_per_node", "capacity_factor", "pad_to_capacity")


class Met(NamedTuple):
    """A recipe beside the plan: times as long as the best, its place among the plan's rows (0: none), and what memcalc says
    of its memory."""

    row: PublishedSpeed
    slower: float
    place: int
    verdict: str
    best: str

    @property
    def met(self) -> bool:
        return self.slower <= NEAR or 0 < self.place <= FIRST


def recipes(wanted: str = "") -> Iterator[PublishedSpeed]:
    """Each job with each layout once."""
    seen = set()
    for row in published_speeds():
        run = row.settings
        if run.get("engine") != "megatron" or run.get("gpus", 1) < 2 or run.get("method", "full") != "full" or run.get("fsdp"):
            continue
        key = (row.group, row.gpu.id, tuple(sorted((name, str(value)) for name, value in run.items())))
        if wanted in row.group and key not in seen:
            seen.add(key)
            yield row


def compared(row: PublishedSpeed) -> Met:
    """The plan for a recipe's job."""
    run = training_run(row.architecture, None, **row.settings)
    p = run.parallelism
    batch = run.micro_batch * run.grad_accum * p.data_parallel
    seconds = step_time(row.architecture, run, time_law(row.gpu, row.network)).seconds
    model = row.architecture
    job: dict[str, Any] = {name: row.settings[name] for name in OF_THE_JOB if name in row.settings}
    if run.predicting:
        job["mtp_layers"] = run.predicting
    rows = plan_training(model, row.gpu, p.gpus, engine="megatron", global_batch=batch, top=10, **job).plan.ranked
    own = [getattr(p, name) for name in DEGREES]
    alike = [number for number, each in enumerate(rows, 1) if [each.settings.get(name, 1) for name in DEGREES] == own]
    verdict = size_training(model, row.gpu, run).verdict or ""
    best = min(rows, key=lambda each: each.time.seconds) if rows else None
    said = ", ".join(f"{name} {best.settings[name]}" for name in (*DEGREES, "virtual_stages", "micro_batch", "recompute")
                     if name in best.settings) if best else "nothing fits"  # fmt: skip
    return Met(row, seconds / best.time.seconds if best else 1.0, alike[0] if alike else 0, verdict, said)


def main() -> None:
    found = []
    for row in recipes(sys.argv[1] if len(sys.argv) > 1 else ""):
        try:
            each = compared(row)
        except MemcalcError as error:
            print(f"{row.id}: {error}")
            continue
        found.append(each)
        print(
            f"{('missed', 'met')[each.met]:6} {each.slower:5.2f} × place {each.place:2} {each.verdict:5} {row.id}: {each.best}"
        )
    share = sum(each.met for each in found) / max(1, len(found))
    print(f"{share:.0%} of {len(found)} recipes are within 5 % of the plan's best or among its first three")
    sys.exit(share < GOAL)


if __name__ == "__main__":
    main()
