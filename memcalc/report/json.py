"""The document as JSON, and single fields of it for shell scripts."""

import json
import re
from typing import Any

from memcalc.errors import InputError, nearest, printable
from memcalc.report.report import Report

KEYS = re.compile(r"[^.\[\]]+")
FILES = frozenset(("launch", "sizing"))  # keys whose text is a file of several lines
OF_A_GPU = ("gpu", "capacity", "speed", "suggestions")  # what an estimate says only where a GPU is named


def render(report: Report) -> str:
    """ASCII, so that the bytes are the same whatever the encoding of stdout."""
    return json.dumps(report.document, indent=2, allow_nan=False)


def field(document: dict[str, Any], path: str) -> str:
    """One field, bare: `per_gpu.peak`, `lines.0.bytes` or `laws[1].tokens`. Objects and lists come as JSON."""
    value: Any = document
    walked = ""
    if not path.strip(".[] "):
        raise InputError(f"no field {path!r:.80}; the document has {', '.join(list(document)[:12])}", place="--get")
    for key in KEYS.findall(path):
        known = (
            list(value) if isinstance(value, dict) else [str(i) for i in range(len(value))] if isinstance(value, list) else []
        )
        if key in OF_A_GPU and not walked and key not in known and "per_gpu" in known:
            raise InputError(f"{path:.80} needs a --gpu", place="--get")
        if key not in known:
            shown = f"; {walked or 'the document'} has {', '.join(known[:12])}" if known else ""
            raise InputError(f"no field {path!r:.80}{nearest(key, known)}{shown}", place="--get")
        value = value[int(key)] if isinstance(value, list) else value[key]
        walked = f"{walked}.{key}" if walked else key
    if isinstance(value, str) and FILES.intersection(KEYS.findall(path)):
        return "\n".join(printable(line, longest=len(line)) for line in value.rstrip("\n").split("\n"))
    if isinstance(value, str):
        return printable(value, longest=len(value))
    return json.dumps(value, allow_nan=False)


MISSING = object()


def looked_up(document: dict[str, Any], path: str) -> Any:
    """The value of one field; MISSING where the document has no such key."""
    value: Any = document
    for key in KEYS.findall(path):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return MISSING
    return value
