"""A pipeline's step from the times of its stages, without walking through every micro-batch."""

from collections.abc import Sequence


def pipeline_seconds(stages: Sequence[tuple[float, int]], micro_batches: int, chunks: int, idle: float = 1.0) -> float:
    """Forward and backward of all micro-batches through all stages.

    m · t_max + idle / chunks · (Σ t − t_max): the slowest stage never waits once the pipeline is full; filling and draining
    it takes every other stage once, or one chunk of it (Narayanan et al. 2021, section 2.2).

    stages: (seconds [s] of one micro-batch on it, how many such stages there are); `idle`: share of the bubble that the
    schedule leaves empty. Returns [s].

    >>> pipeline_seconds(((1.0, 4),), 8, 1), pipeline_seconds(((1.0, 4),), 8, 2)
    (11.0, 9.5)
    """
    slowest = max(seconds for seconds, _ in stages)
    through = sum(seconds * count for seconds, count in stages)
    return micro_batches * slowest + (through - slowest) * idle / chunks


# Share of the bubble that a schedule leaves empty. ZB-H1: a third of 1F1B's (Qi et al. 2023, table 1).
IDLE = {"gpipe": 1.0, "1f1b": 1.0, "interleaved": 1.0, "zero-bubble": 1 / 3}
