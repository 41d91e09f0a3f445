"""A training step as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing open: memory as counters, moments as slices.

The format is Google's Trace Event Format, JSON with `traceEvents`: complete events (ph X) and counters (ph C), times in µs.
"""

import json
from typing import Any

from memcalc.errors import Unsupported
from memcalc.report.report import Report
from memcalc.report.training import turn

STEP = 1000.0  # µs a moment, where no time is known
PARTS = ("states", "activations", "gradients", "communication")


def render(report: Report) -> str:
    """Raises Unsupported for a report without moments."""
    document = report.document
    moments = document.get("moments")
    if not moments:
        raise Unsupported("a trace shows the moments of a training step; use it with train")
    seconds = document.get("time", {}).get("step_seconds")
    each = seconds * 1e6 / len(moments) if seconds else STEP
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": 1, "args": {"name": f"{report.heading}: heaviest rank"}},
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": 1, "args": {"name": "moments of a step, evenly spaced"}},
    ]
    for number, moment in enumerate(sorted(moments, key=lambda moment: turn(moment["name"]))):
        at = number * each
        lines = {line["path"]: line["bytes"] for line in moment["lines"]}
        events.append({"name": moment["name"], "ph": "X", "ts": at, "dur": each, "pid": 1, "tid": 1, "args": lines})
        events.append({"name": "allocated [B]", "ph": "C", "ts": at, "pid": 1, "args": {p: moment[p] for p in PARTS}})
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, allow_nan=False)
