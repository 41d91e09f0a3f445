"""The roofline of serving as part of a report: its keys of speed.*, and two tables."""

from typing import Any

from memcalc.estimates.lines import Figure
from memcalc.estimates.serving.passes import Pass
from memcalc.estimates.serving.roofline import Roofline
from memcalc.report.report import Column, Table


def roofline_document(found: Roofline | None, reason: str) -> dict[str, Any]:
    """speed.* of the bound; without one, `reason` alone."""
    if found is None:
        return {**dict.fromkeys(("bound", *_KEYS)), "reasons": [reason]}
    prefill, rate = found.prefill, found.prefill_tokens_per_second
    compute, memory, link = found.efficiencies
    return {
        "prompt": found.prompt,
        "context": found.context,
        "batch": found.batch,
        "prefill_seconds": prefill.seconds.value if prefill else None,
        "prefill_tokens_per_second": rate.value if rate else None,
        "prefill_bound": prefill.bound if prefill else None,
        "decode_seconds": found.decode.seconds.value,
        "decode_tokens_per_second": found.decode_tokens_per_second.value,
        "decode_tokens_per_second_per_sequence": found.sequence_tokens_per_second.value,
        "bound": found.bound,
        "arithmetic_intensity": found.intensity.value,
        "ridge_point": found.ridge.value if found.ridge else None,
        "compute_bound_batch": found.compute_bound_batch,
        "compute_format": found.compute_format,
        "mfu": compute.value,
        "mbu": memory.value,
        "link_efficiency": link.value,
        "prefill": _pass(prefill) if prefill else None,
        "decode": _pass(found.decode),
        "reasons": list(found.reasons),
    }


_KEYS = (
    "prefill_seconds", "prefill_tokens_per_second", "prefill_bound", "decode_seconds", "decode_tokens_per_second",
    "decode_tokens_per_second_per_sequence", "arithmetic_intensity", "ridge_point", "compute_bound_batch",
)  # fmt: skip


def _pass(found: Pass) -> dict[str, Any]:
    """Seconds by resource, and the bytes that one rank moves and sends."""
    return {
        "compute_seconds": found.compute.value if found.compute else None,
        "memory_seconds": found.memory.value,
        "link_seconds": found.link.value if found.link else None,
        "seconds_without_overlap": found.serial.value,
        "bytes_moved": found.moved.value,
        "bytes_sent": sum(entry.value for entry in found.sent),
    }


def roofline_table(found: Roofline) -> Table:
    """Each pass by resource, and the tokens a second that follow."""
    compute, memory, _ = found.efficiencies
    title = f"Speed, a bound at {compute.value:.0%} of the peak and {memory.value:.0%} of the memory bandwidth"
    passes = [(f"decode step, {found.batch} × {found.context:,} tokens", found.decode, found.decode_tokens_per_second.value)]
    if found.prefill and found.prefill_tokens_per_second:
        passes.insert(0, (f"prefill, {found.prompt:,} tokens", found.prefill, found.prefill_tokens_per_second.value))
    resources = [name for name in ("compute", "memory", "link") if any(getattr(each, name) for _, each, _ in passes)]
    times = tuple(Column(f"{name}, ms", "number", "ms") for name in ("time", *resources))
    rows = [
        (name, *(_milliseconds(time) for time in (each.seconds, *(getattr(each, name) for name in resources))), _rounded(rate),
         each.bound)
        for name, each, rate in passes
    ]  # fmt: skip
    return Table(title, (Column("pass"), *times, Column("tokens/s", "number", "tokens/s"), Column("bound by")), rows)


def decode_table(found: Roofline) -> Table:
    """What decides whether compute or memory binds a decode step."""
    facts = [
        ("tokens a second and sequence", _rounded(found.sequence_tokens_per_second.value)),
        ("arithmetic intensity, FLOP a byte", _rounded(found.intensity.value)),
        ("ridge point of the accelerator, FLOP a byte", _rounded(found.ridge.value) if found.ridge else None),
        ("sequences from which compute binds", found.compute_bound_batch),
    ]
    return Table("Decode", (Column("per step"), Column("value", "number")), facts)


def _milliseconds(time: Figure | None) -> float | None:
    return _rounded(1000 * time.value) if time else None


def _rounded(value: float) -> float:
    """To four digits: more would promise what a bound cannot."""
    rounded = float(f"{value:.4g}")
    return int(rounded) if rounded >= 1000 else rounded
