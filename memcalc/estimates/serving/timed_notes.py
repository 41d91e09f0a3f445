"""What a time by the law rests on: the sentences beside it."""

from collections.abc import Iterator

from memcalc.estimates.serving.timed import ServedTime, TimedQuestion
from memcalc.formulas.formula import ASSUMED
from memcalc.formulas.timing.law import TimeLaw


def timed_notes(found: ServedTime, asked: TimedQuestion, law: TimeLaw | None) -> Iterator[str]:
    """What the numbers take for granted."""
    yield "time: operators by laws that are fitted to single operators, and what the engine's host adds"
    if law:
        how = "assumed from" if law.constants.certainty == ASSUMED else "from"
        yield f"constants of the time law {how} {law.constants.source}"
    rows = found.ranges["tpot"]
    of = " ".join(filter(None, (rows.engine, rows.kind))) or "all engines"
    yield f"the range holds the middle four fifths of {rows.rows:,} measured times per output token ({of})"
    if asked.concurrency is None:
        yield "time to first token is that of an idle deployment; under --concurrency, requests wait for each other"
    else:
        yield "under load each request is followed by another; those that start together wait longer for their first token"
    if found.prefill is None:
        yield "no dense 16-bit peak is published: a step's arithmetic is left out, and how long prompts take is not known"
    if found.speculative:
        yield "every pass verifies all guesses, of which each is as likely right as the others"
