"""The report of `memcalc verify`: each number of a log beside its prediction, and how the run was read."""

from typing import Any

from memcalc.estimates.verifying import LogVerification, Verified
from memcalc.report.report import SCHEMA, Column, Quantity, Report, Table
from memcalc.units import counted, format_bytes

CLOSE = 0.02  # as near as logs and settings let one hope for
LONGEST = 160  # characters of a line that is quoted
WORDS = {
    "weights": "weights", "activations": "activations' peak", "cache": "memory for the cache", "kv_cache": "cache",
    "kv_tokens": "tokens of cache", "max_concurrency": "requests at once", "graphs": "CUDA graphs",
    "compute_buffer": "compute buffer", "peak": "peak allocated", "reserved": "peak reserved", "device": "on the device",
}  # fmt: skip


def report(found: LogVerification) -> Report:
    document = {
        "schema": SCHEMA,
        "command": "verify",
        "file": found.file,
        "program": found.program,
        "predicted_by": found.command,
        "rows": [_document(row) for row in found.rows],
        "settings": [setting._asdict() for setting in found.settings],
        "assumptions": list(found.assumptions),
    }
    columns = (Column("quantity"), Column("log", "quantity"), Column("memcalc", "quantity"), Column("error", "percent"),
               Column("line", "number", spare=1))  # fmt: skip
    rows = [(WORDS.get(row.quantity, row.quantity), _quantity(row.measured, row.unit), _quantity(row.predicted, row.unit),
             row.error, row.line) for row in found.rows]  # fmt: skip
    read = Table("How the run was read", (Column("setting"), Column("value"), Column("from")),
                 [(each.name, str(each.value), each.source) for each in found.settings])  # fmt: skip
    verdict, tone = _verdict(found)
    return Report(
        document, (Table("", columns, rows), read), f"{found.program}: {found.file}", verdict, tone,
        notes=(f"predicted by: {found.command}",), assumptions=found.assumptions,
        more=f"{counted(len(found.assumptions), 'assumption')}: --details, --format json" if found.assumptions else "",
    )  # fmt: skip


def _verdict(found: LogVerification) -> tuple[str, str]:
    worst = found.worst
    if worst is None or worst.error is None:
        return "nothing in the log that memcalc predicts", "near"
    name = WORDS.get(worst.quantity, worst.quantity)
    if abs(worst.error) <= CLOSE:
        return f"agrees: the furthest off is {name}, {worst.error:+.1%}", "good"
    return f"differs: {name} by {worst.error:+.1%} (line {worst.line}): {_why(worst)}", "near"


def _why(row: Verified) -> str:
    """What to look at first where a number is off."""
    return {
        "weights": "another format of weights, a part that is not loaded, another tensor parallelism (--set weights=…, tp=…)",
        "kv_tokens": "what the log leaves out: share of the GPU, length of a sequence, tokens a step (--set …), or the release",
        "cache": "what the log leaves out: share of the GPU, tokens a step (--set …), or another card than --gpu",
        "max_concurrency": "as the tokens of cache are, or another length of a sequence",
        "compute_buffer": "another micro-batch (--set ubatch=…) or attention without flash",
        "activations": "tokens a step (--set max_batched_tokens=…), or kernels with a workspace of their own",
    }.get(row.quantity, "settings that the log does not say; give them by --set")


def _document(row: Verified) -> dict[str, Any]:
    return {"quantity": row.quantity, "unit": row.unit, "measured": row.measured, "predicted": row.predicted,
            "error": row.error, "line": row.line, "text": row.text[:LONGEST]}  # fmt: skip


def _quantity(value: float | None, unit: str) -> Quantity:
    if value is None:
        return Quantity(None, unit, "—")
    return Quantity(value, unit, format_bytes(value) if unit == "B" else f"{value:,.5g}" if value < 1000 else f"{value:,.0f}")
