"""The time law's answer about serving as part of a report: its keys of speed.*, and two tables."""

from typing import Any

from memcalc.estimates.serving.timed import ServedTime, TimedQuestion
from memcalc.report.report import Column, Table

RANGED = (("ttft_seconds", "ttft"), ("tpot_seconds", "tpot"), ("requests_per_second", "requests_per_second"))
PARTS = {
    "products": "matrix products", "attention": "attention", "experts": "experts", "recurrence": "recurrences",
    "elementwise": "norms and the like", "messages": "messages",
}  # fmt: skip


def timed_document(found: ServedTime | None, asked: TimedQuestion | None) -> dict[str, Any]:
    """Keys of the law, null without it; the seconds and rates of passes are in place of the roofline's."""
    out: dict[str, Any] = {f"{key}{end}": None for key, _ in RANGED for end in ("", "_low", "_high")}
    out |= dict.fromkeys(("law", "load"))
    if found is None or asked is None:
        return out
    for key, name in RANGED:
        if getattr(found, name) is not None:
            out[key] = getattr(found, name)
            out[f"{key}_low"], out[f"{key}_high"] = found.low_high(name)
    load = found.load
    return out | {
        "prompt": asked.prompt,
        "context": asked.context,
        "batch": asked.sequences,
        "prefill_seconds": found.prefill,
        "prefill_tokens_per_second": found.prefill_rate,
        "decode_seconds": found.decode,
        "decode_tokens_per_second": found.decode_rate,
        "decode_tokens_per_second_per_sequence": found.sequence_rate,
        "law": {
            "prefill": found.prefill_parts._asdict() if found.prefill_parts else None,
            "decode": found.decode_parts._asdict() | {"host": found.waiting},
        },
        "load": {
            "concurrency": asked.concurrency,
            "output_tokens_per_second": load.requests_per_second * found.groups * (asked.answer or 0),
            "decoding_sequences": load.sequences,
            "steps_reading_prompts": load.reading,
            "prompt_tokens_of_such_a_step": load.chunk,
        } if load else None,
    }  # fmt: skip


def timed_table(found: ServedTime, asked: TimedQuestion) -> Table:
    """What requests see, each with its range."""
    rows: list[tuple[Any, ...]] = [
        ("time per output token, ms", *_three(found, "tpot", 1000)),
        (f"tokens/s, decode of {asked.sequences} × {asked.context:,} tokens", rounded(found.decode_rate), None, None),
    ]
    if found.prefill_rate is not None:
        rows.insert(0, ("time to first token, ms", *_three(found, "ttft", 1000)))
        rows.insert(2, (f"tokens/s, prefill of {asked.prompt:,} tokens", rounded(found.prefill_rate), None, None))
    if found.requests_per_second is not None:
        rows.append(("requests/s", *_three(found, "requests_per_second", 1)))
    loaded = f"under {asked.concurrency:,} requests in flight" if asked.concurrency else "unloaded"
    columns = (Column("deployment"), *(Column(name, "number") for name in ("expected", "low", "high")))
    return Table(f"Speed by the time law, {loaded}", columns, rows)


def parts_table(found: ServedTime) -> Table:
    """Where the time of a prefill and of a decode step goes."""
    decode = found.decode_parts._asdict()
    prefill = found.prefill_parts._asdict() if found.prefill_parts else dict.fromkeys(decode, 0.0)
    rows = [
        (title, rounded(1000 * prefill[name]), rounded(1000 * decode[name]))
        for name, title in PARTS.items()
        if prefill[name] or decode[name]
    ]
    if found.waiting:
        rows.append(("waiting for the host", 0, rounded(1000 * found.waiting)))
    return Table(
        "Where a rank's time goes", (Column("ms a pass"), Column("prefill", "number"), Column("decode", "number")), rows
    )


def _three(found: ServedTime, name: str, scale: float) -> tuple[float, float, float]:
    low, high = found.low_high(name)
    return rounded(scale * getattr(found, name)), rounded(scale * low), rounded(scale * high)


def rounded(value: float) -> float:
    """To three digits: more would promise what a law cannot."""
    found = float(f"{value:.3g}")
    return int(found) if found >= 1000 else found
