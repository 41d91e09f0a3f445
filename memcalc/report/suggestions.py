"""What would make it fit, as people read it."""

from typing import Any

from memcalc.estimates.suggestions import Advice
from memcalc.formulas.verdict import Verdict
from memcalc.report.report import Column, Table
from memcalc.units import format_bytes


def suggestions_document(advice: Advice) -> dict[str, Any]:
    """`suggestions`, and `nearest_miss` where there are none."""
    out: dict[str, Any] = {"suggestions": [suggestion.document() for suggestion in advice.suggestions]}
    if advice.nearest:
        out["nearest_miss"] = advice.nearest.document()
    return out


def suggestions_table(advice: Advice, verdict: Verdict) -> Table:
    """One row a suggestion, cheapest first."""
    title = (
        "Changes that make it fit, cheapest first" if verdict == "no" else "Changes with which it surely fits, cheapest first"
    )
    columns = (
        Column("add"),
        Column("needed", "bytes"),
        Column("left free", "bytes"),
        Column("verdict"),
        Column("at what cost"),
    )
    rows = [
        (each.flags, each.needed, each.headroom, each.verdict, "; ".join(each.costs) or "nothing but another kernel")
        for each in advice.suggestions
    ]
    return Table(title, columns, rows)


def nothing_helps(advice: Advice) -> str:
    """What could not be tried; that no change makes it fit, and the nearest miss."""
    if advice.suggestions:
        return advice.note
    out = "no change that memcalc tries makes it fit"
    if advice.nearest:
        near = advice.nearest
        out += f"; nearest: {near.flags}, {format_bytes(near.needed)} needed, {format_bytes(-near.headroom)} too much"
    return "; ".join(filter(None, (out, advice.note)))
