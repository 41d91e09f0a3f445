"""The speed of serving as part of a report: the time law where it answers, and the roofline beside it."""

from collections.abc import Iterator
from typing import Any

from memcalc.estimates.serving.speed import Speed
from memcalc.estimates.serving.timed_notes import timed_notes
from memcalc.report.report import Table
from memcalc.report.roofline import decode_table, roofline_document, roofline_table
from memcalc.report.timed import parts_table, timed_document, timed_table


def speed_document(speed: Speed) -> dict[str, Any]:
    """speed.*: what cannot be known is null, and `reasons` says why. Times are the law's where it has any."""
    out = roofline_document(speed.roofline, speed.reason)
    out["reasons"] += [speed.untimed] if speed.untimed else []
    return out | timed_document(speed.timed, speed.asked)


def speed_tables(speed: Speed) -> list[Table]:
    """What requests see; the roofline alone where shares of the peaks were given, or the law knows nothing."""
    if speed.timed and speed.asked:
        return [timed_table(speed.timed, speed.asked)]
    return [roofline_table(speed.roofline)] if speed.roofline else []


def speed_details(speed: Speed) -> tuple[Table, ...]:
    roof = (decode_table(speed.roofline),) if speed.roofline else ()
    if speed.timed:
        return (parts_table(speed.timed), *((roofline_table(speed.roofline),) if speed.roofline else ()), *roof)
    return roof


def speed_sentences(speed: Speed) -> Iterator[str]:
    """Why parts are missing, and what is taken for granted."""
    if not (speed.roofline or speed.timed):
        yield f"no speed: {speed.reason}"
    elif speed.untimed:
        yield f"no time by the law of operators: {speed.untimed}"
    if speed.roofline:
        yield from speed.roofline.reasons
    elif speed.timed:
        yield f"no roofline: {speed.reason}"
    yield from speed_assumptions(speed)


def speed_assumptions(speed: Speed) -> Iterator[str]:
    if speed.timed and speed.asked:
        yield from timed_notes(speed.timed, speed.asked, speed.law)
    if speed.roofline:
        yield from speed.roofline.assumptions
