"""What weight files hold: the `stored` part of a document, and its tables."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from memcalc.blocks.stored import StoredTensor, StoredTensors
from memcalc.report.report import Column, Table

MOST_ROWS = 100  # groups of tensors in a table; JSON has all
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def stored_document(stored: StoredTensors) -> dict[str, Any]:
    """stored.*: exact bytes by format and role, and every group of equal tensors."""
    return {
        "kind": stored.kind,
        "files": list(stored.files),
        "tensors": len(stored.tensors),
        "bytes": stored.bytes,
        "parameters": stored.parameters,
        "bits_per_parameter": bits_per_parameter(stored),
        "bytes_by_format": stored.bytes_by_format,
        "roles": {role: _sums(tensors) for role, tensors in stored.by_role.items()},
        "groups": groups(stored.tensors),
    }


def stored_tables(stored: StoredTensors, *, detailed: bool) -> Iterable[Table]:
    """Bytes by role and by format; `detailed`: the tensors as well, equal ones of all layers together."""
    total = stored.bytes or 0
    rows: list[Sequence[Any]] = [
        (role, sums["tensors"], sums["parameters"], sums["bytes"], sums["bytes"] / total if total else None)
        for role, sums in ((role, _sums(tensors)) for role, tensors in stored.by_role.items())
    ]
    rows.append(("total", len(stored.tensors), stored.parameters, stored.bytes, 1.0 if total else None))
    yield Table(
        "Stored weights",
        (Column("role"), Column("tensors", "number"), Column("parameters", "number"), Column("bytes", "bytes"),
         Column("share", "percent")),
        rows,
        frozenset({len(rows) - 1}),
    )  # fmt: skip
    yield Table(
        "Stored formats",
        (Column("format"), Column("bytes", "bytes"), Column("decimal", "gb"), Column("share", "percent")),
        [(name, size, size, size / total if total else None) for name, size in stored.bytes_by_format.items()],
    )
    if detailed:
        yield Table(
            "Tensors",
            (Column("name"), Column("count", "number"), Column("shape"), Column("format"), Column("bytes", "bytes")),
            [
                (group["name"], group["count"], " × ".join(map(str, group["shape"])), group["format"], group["bytes"])
                for group in groups(stored.tensors)[:MOST_ROWS]
            ],
        )


def groups(tensors: Iterable[StoredTensor]) -> list[dict[str, Any]]:
    """Tensors that differ only in the numbers in their names, together: `*` for each number, bytes of all of them."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for tensor in tensors:
        name = _NUMBER.sub("*", tensor.name)
        key = (name, tensor.format, tensor.shape)
        if key not in found:
            found[key] = {
                "name": name, "role": tensor.role, "part": tensor.part, "format": tensor.format,
                "shape": list(tensor.shape), "count": 0, "bytes": 0, "parameters": 0,
            }  # fmt: skip
        group = found[key]
        group["count"] += 1
        group["bytes"] += tensor.bytes
        group["parameters"] = _sum((group["parameters"], tensor.parameters))
    return list(found.values())


def bits_per_parameter(stored: StoredTensors) -> float | None:
    """Bits of the file for one weight, scales and all."""
    if not stored.parameters or stored.bytes is None:
        return None
    return 8 * stored.bytes / stored.parameters


def _sums(tensors: Sequence[StoredTensor]) -> dict[str, Any]:
    return {
        "tensors": len(tensors),
        "parameters": _sum(tensor.parameters for tensor in tensors),
        "bytes": sum(tensor.bytes for tensor in tensors),
    }


def _sum(counts: Iterable[int | None]) -> int | None:
    """The sum, unknown where one of them is."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total
