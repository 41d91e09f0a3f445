"""Which runs share what was worked out of their ranks.

Ranks depend on all of a run but its batch and length, of which only some facts reach them. The key is made of the fields of
the spec, so that a new one cannot be forgotten.
"""

from operator import itemgetter

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.training.profiles import batch_of
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.training import Training

# What ranks depend on of these stands in `key_of`.
BATCH_AND_LENGTH = (
    "micro_batch", "seq_len", "seq_len_max", "tokens_per_batch", "grad_accum", "global_batch", "passages",
    "passage_len", "cached_batch", "lora_dropout",
)  # fmt: skip
FIELDS = tuple(name for name in Training.model_fields if name not in (*BATCH_AND_LENGTH, "parallelism"))
# of the dictionaries: plain tuples are compared and hashed faster than specs
_values, _degrees = itemgetter(*FIELDS), itemgetter(*Parallelism.model_fields)


class RankKey:
    """An architecture and the part of a run that its ranks depend on; equal keys share their ranks."""

    __slots__ = ("_key", "architecture", "run")

    def __init__(self, architecture: Architecture, run: Training) -> None:
        self.architecture, self.run, self._key = architecture, run, key_of(architecture, run)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RankKey) and self.architecture is other.architecture and self._key == other._key


def key_of(architecture: Architecture, run: Training) -> tuple[object, ...]:
    """All fields but those of batch and length, and what ranks see of these."""
    accumulated, p = run.grad_accum, run.parallelism
    in_flight = accumulated if p.pipeline_schedule == "gpipe" else min(accumulated, 2 * p.pp)
    return (
        _values(vars(run)),
        _degrees(vars(p)),
        run.lora_dropout > 0,
        accumulated > 1,
        in_flight,
        batch_of(architecture, run),
        (run.row_length, run.micro_batch) if run.images else (),
        run.cached_batch is not None,
    )
