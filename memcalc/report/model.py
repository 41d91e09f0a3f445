"""The `model` part of every document, and the report of `inspect` and `models NAME`."""

from typing import TYPE_CHECKING, Any

from memcalc.blocks.architecture import Architecture
from memcalc.readers.models import Model
from memcalc.report.report import SCHEMA, Column, Report, Table
from memcalc.units import counted, format_count

if TYPE_CHECKING:  # only weight files need it
    from memcalc.blocks.stored import StoredTensors

FORMATS_SHOWN = ("fp32", "bf16", "fp8-e4m3", "int8", "nf4-dq", "int4")


def model_document(name: str, architecture: Architecture | None, parameters: int) -> dict[str, Any]:
    """model.*: for a bare count only the count is known."""
    if architecture is None:
        return {"name": name, "parameters": parameters, "active_parameters": parameters, "embedding_parameters": None}
    return {
        "name": name,
        "model_type": architecture.model_type,
        "parameters": architecture.total,
        "active_parameters": architecture.active_parameters,
        "embedding_parameters": architecture.embedding_parameters,
        "routed_expert_parameters": architecture.routed_expert_parameters,
        "tied": architecture.tied,
        "hidden_size": architecture.hidden,
        "vocabulary": architecture.vocabulary,
        "context": architecture.context,
        "dtype": architecture.dtype,
        "quantization": architecture.quantization.method or None,
    }


def titled(model: Model) -> str:
    """A model and its size: "Llama 3.1 8B (8.03B parameters)"; of a bare count, the count."""
    size = f"{format_count(model.parameters)} parameters"
    return f"{model.name} ({size})" if model.architecture else size


def inspect_report(
    name: str,
    architecture: Architecture | None,
    source: str,
    stored: "StoredTensors | None" = None,
    problem: Exception | None = None,
) -> Report:
    """What a model is and what its weight files hold, as far as either is known; `problem` says why one is not."""
    about = _architecture_report(name, architecture) if architecture else Report({}, (), name)
    document = {"schema": SCHEMA, **about.document}
    warnings = [*(architecture.warnings if architecture else stored.warnings if stored else ())]
    if problem:
        warnings.append(str(problem))
    heading, tables = about.heading, about.tables
    if stored:
        from memcalc.report.stored import bits_per_parameter, stored_document, stored_tables

        known = {} if stored.parameters is None else {"parameters": stored.parameters}
        document.setdefault("model", {"name": name, **known})
        document["stored"] = stored_document(stored)
        tables = (*tables[:2], *stored_tables(stored, detailed=architecture is None), *tables[2:])
        bits = bits_per_parameter(stored)
        heading += f": {stored.kind}, {counted(len(stored.files), 'file')}"
        heading += f", {bits:.4g} bits a parameter" if bits else ""
    document |= {"source": source, "assumptions": list(architecture.notes) if architecture else [], "warnings": warnings}
    return Report(
        document,
        tables,
        heading,
        about.verdict,
        notes=(*about.notes, f"source: {source}"),
        settings=about.settings,
        warnings=tuple(warnings),
    )


def _architecture_report(name: str, architecture: Architecture) -> Report:
    """Architecture, parameters by role and by layer, and bytes in the usual number formats."""
    from memcalc.dtypes import number_format

    roles = {part.name: architecture.by_role(part.name) for part in architecture.parts}
    layers = architecture.layers_by_run()
    formats = {name: number_format(name).bytes_for(architecture.parameters) for name in FORMATS_SHOWN}
    document = {
        "model": model_document(name, architecture, architecture.parameters),
        "roles": roles,
        "layers": {stack: [{"parameters": size, "count": count} for size, count in runs] for stack, runs in layers.items()},
        "blocks": _blocks(architecture),
        "formats": formats,
    }
    total = architecture.parameters
    rows: list[tuple[Any, ...]] = [
        (part, role, count, count / total, count / total) for part, by_role in roles.items() for role, count in by_role.items()
    ]
    rows.append(("total", "", total, 1.0, None if not total else 1.0))
    active = architecture.active_parameters
    tables = (
        Table(
            "Parameters by role",
            (Column("part"), Column("role"), Column("parameters", "number"), Column("share", "percent"), Column("", "bar")),
            rows,
            frozenset({len(rows) - 1}),
        ),
        Table(
            "Layers",
            (Column("stack"), Column("layers", "number"), Column("parameters each", "number")),
            [(stack, count, size) for stack, runs in _shortened(layers).items() for size, count in runs],
        ),
        Table("Memory of the weights, all of them in one format",
              (Column("format"), Column("binary", "bytes"), Column("decimal", "gb")),
              [(name, size, size) for name, size in formats.items()]),
    )  # fmt: skip
    facts = [f"{architecture.model_type}", f"hidden {architecture.hidden:,}", f"vocabulary {architecture.vocabulary:,}"]
    facts.append("tied head" if architecture.tied else "untied head")
    if architecture.context:
        facts.append(f"context {architecture.context:,}")
    if architecture.dtype:
        facts.append(architecture.dtype)
    if architecture.quantization.method:
        facts.append(f"checkpoint quantised: {architecture.quantization.method}")
    verdict = f"{architecture.total:,} parameters" + (
        f", {active:,} of them active per token" if active != architecture.total else ""
    )
    return Report(document, tables, name, verdict, notes=tuple(architecture.notes), settings=", ".join(facts))


def _blocks(architecture: Architecture) -> list[dict[str, Any]]:
    """Every distinct block with what it is made of."""
    out = []
    for part in architecture.parts:
        places = [("entry", part.entry, 1)]
        places += [(s.path, layer.blocks, n) for s in part.stacks for layer, n in zip(s.layers, s.counts, strict=True)]
        places.append(("exit", part.exit, 1))
        for place, blocks, count in places:
            for path, block in blocks:
                fields = {k: v for k, v in _facts(block).items() if v not in (None, False, 0, "", ())}
                out.append({"path": f"{part.name}/{place}/{path}", "kind": type(block).__name__, "count": count, **fields})
    return out


# What facts of small values are called among a block's own, where their names alone do not say what they are.
NAMES = {
    ("router", "bias"): "router_bias", ("router", "bias_trained"): "router_bias_trained",
    ("router", "hashed"): "router_hashed", ("router", "extras"): "router_extras",
    ("relative", "layer"): "biased", ("relative", "buckets"): "relative_buckets",
}  # fmt: skip


def _facts(block: Any) -> dict[str, Any]:
    """A block's fields; those of the small values that it is made of stand among them."""
    from dataclasses import asdict, is_dataclass

    if not is_dataclass(block) or isinstance(block, type):
        return {}
    found = _flat("", asdict(block))
    found.pop("tensors", None)
    return found


def _flat(group: str, facts: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in facts.items():
        if hasattr(value, "_asdict") and name != "tensors":
            found = _flat(name, value._asdict()) | found
        else:
            found.setdefault(NAMES.get((group, name), name), value)
    return found


def _shortened(layers: dict[str, list[tuple[int, int]]]) -> dict[str, list[tuple[int, int]]]:
    """Alternating layers by kind rather than run by run, for the table."""
    out = {}
    for stack, runs in layers.items():
        counts: dict[int, int] = {}
        for size, count in runs:
            counts[size] = counts.get(size, 0) + count
        out[stack] = list(counts.items())
    return out
