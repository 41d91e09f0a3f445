"""The report of `inspect` and `models NAME`: what a model is, on one screen; all of it in JSON."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from memcalc.blocks.architecture import Architecture
from memcalc.dtypes import number_format
from memcalc.estimates.serving.footprint import CACHE_FORMAT, Footprint, footprint
from memcalc.report.model import model_document
from memcalc.report.report import SCHEMA, Column, Quantity, Report, Table
from memcalc.units import counted, format_bytes, format_count

if TYPE_CHECKING:  # only weight files need it
    from memcalc.blocks.stored import StoredTensors
    from memcalc.estimates.lines import Line

FORMATS_SHOWN = ("fp32", "bf16", "fp8-e4m3", "int8", "nf4-dq", "int4")
LEAST = 0.0002  # share of a part or role below which a screen leaves it out: norms, not routers
KINDS_SHOWN = 3  # layers' sizes in the row of a part


def inspect_report(
    name: str,
    architecture: Architecture | None,
    source: str,
    stored: "StoredTensors | None" = None,
    problem: Exception | None = None,
) -> Report:
    """What a model is and what its weight files hold, as far as either is known; `problem` says why one is not."""
    about = _architecture_report(name, architecture, stored) if architecture else Report({}, (), name)
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
        tables = (*tables[:1], *stored_tables(stored, detailed=architecture is None), *tables[1:])
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
        details=about.details,
    )


def _architecture_report(name: str, architecture: Architecture, stored: "StoredTensors | None") -> Report:
    """Architecture, parameters by part and role, bytes in the usual number formats, and the cache."""
    takes = footprint(architecture)
    formats = {word: number_format(word).bytes_for(architecture.parameters) for word in FORMATS_SHOWN}
    layers = architecture.layers_by_run()
    checkpoint = stored.bytes if stored else total(takes.checkpoint) if takes.checkpoint else None
    cached = _cache_document(takes, architecture.context)
    document = {
        "model": model_document(name, architecture, architecture.parameters),
        "roles": {part.name: architecture.by_role(part.name) for part in architecture.parts},
        "layers": {stack: [{"parameters": size, "count": count} for size, count in runs] for stack, runs in layers.items()},
        "blocks": _blocks(architecture),
        "formats": formats,
        "checkpoint": {"bytes": checkpoint},
        "cache": cached,
    }
    as_stored = {"checkpoint": checkpoint} if checkpoint is not None else {}
    tables = (_parameters(architecture), _formats(as_stored | formats), *_cache(cached))
    each = Table(
        "Layers",
        (Column("stack"), Column("layers", "number"), Column("parameters each", "number")),
        [(stack, count, size) for stack, runs in layers.items() for size, count in _kinds(runs)],
    )
    unknown = architecture.quantization.problem if not stored else ""
    notes = (*architecture.notes, *((f"how the checkpoint stores its weights is not known: {unknown}",) if unknown else ()))
    return Report(document, tables, name, _verdict(architecture, checkpoint, cached), notes=notes,
                  settings=", ".join(_facts_of(architecture)), details=(each,))  # fmt: skip


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def total(lines: "Sequence[Line]") -> int:
    return sum(entry.bytes for entry in lines)


def _cache_document(takes: Footprint, context: int | None) -> dict[str, Any]:
    """cache.*: bytes of one sequence in bf16, by what they grow with."""
    growing, windowed, fixed = total(takes.growing), total(takes.windowed), total(takes.per_sequence)
    whole = context and growing * context + windowed * min(context, takes.window or 0) + fixed
    return {
        "format": CACHE_FORMAT,
        "per_token": growing + windowed,
        "per_token_windowed": windowed,
        "window": takes.window,
        "per_source_token": total(takes.source),
        "per_sequence": fixed,
        "at_context": whole,
    }


def _verdict(architecture: Architecture, checkpoint: int | None, cache: dict[str, Any]) -> str:
    """In one line: parameters, bytes as stored, cache of a token."""
    said = f"{architecture.total:,} parameters"
    if architecture.active_parameters != architecture.total:
        said += f", {architecture.active_parameters:,} of them active per token"
    if checkpoint:
        said += f"; {_gb(checkpoint)} as stored"
    if cache["per_token"]:
        said += f"; {format_bytes(cache['per_token'])} of cache a token"
    return said


def _facts_of(architecture: Architecture) -> Iterator[str]:
    yield architecture.model_type
    yield f"hidden {architecture.hidden:,}"
    yield f"vocabulary {architecture.vocabulary:,}"
    yield "tied head" if architecture.tied else "untied head" if architecture.predicted else "no language-model head"
    if architecture.context:
        yield f"context {architecture.context:,}"
    if architecture.dtype:
        yield architecture.dtype
    if architecture.quantization.method:
        yield f"checkpoint quantised: {architecture.quantization.method}"


def _parameters(architecture: Architecture) -> Table:
    """Every part with its layers, and its roles below it; those below LEAST are left out on a screen."""
    whole = architecture.parameters
    runs = architecture.layers_by_run()
    rows: list[tuple[Any, ...]] = []
    levels: list[int] = []

    def add(level: int, name: str, layers: str, count: int) -> None:
        rows.append((name, layers, count, *((count / whole,) * 2 if whole else (1.0, None))))
        levels.append(level)

    for part in architecture.parts:
        stacks = [_kinds(found) for stack, found in runs.items() if stack.startswith(f"{part.name}/")]
        roles = architecture.by_role(part.name)
        add(1, part.name, _depth([kind for kinds in stacks for kind in kinds]), sum(roles.values()))
        for role, count in roles.items():
            add(2, role, "", count)
    add(0, "total", "", whole)
    columns = (Column("part"), Column("layers", spare=1), Column("parameters", "number"), Column("share", "percent"),
               Column("", "bar"))  # fmt: skip
    small = frozenset(i for i, (*_, share, _bar) in enumerate(rows) if levels[i] and share < LEAST)
    return Table("Parameters", columns, rows, frozenset({len(rows) - 1}), levels=levels, small=small)


def _depth(kinds: Sequence[tuple[int, int]]) -> str:
    """Layers with their parameters each, or only their number where they are of many kinds."""
    if len(kinds) > KINDS_SHOWN:
        return f"{sum(count for _, count in kinds)} of {len(kinds)} kinds"
    return " + ".join(f"{count} × {format_count(size)}" for size, count in kinds)


def _formats(sizes: dict[str, int]) -> Table:
    """All weights in one format each, and as the checkpoint stores them."""
    columns = (Column("weights"), *(Column(word, "quantity") for word in sizes))
    binary = ("binary", *(Quantity(size, "B", format_bytes(size)) for size in sizes.values()))
    decimal = ("decimal", *(Quantity(size / 1e9, "GB", _gb(size)) for size in sizes.values()))
    return Table("", columns, (binary, decimal))


def _cache(cache: dict[str, Any]) -> Iterator[Table]:
    """What a sequence keeps while it is generated."""
    window = f"of it in windows of {cache['window']:,}" if cache["window"] else ""
    cells = {
        "each token": cache["per_token"], window: cache["per_token_windowed"],
        "each source token": cache["per_source_token"], "each sequence besides": cache["per_sequence"],
        "a whole context": cache["at_context"],
    }  # fmt: skip
    kept = {title: size for title, size in cells.items() if title and size}
    if kept:
        yield Table("", (Column("cache"), *(Column(title, "bytes") for title in kept)), ((cache["format"], *kept.values()),))


def _kinds(runs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Alternating layers by kind rather than run by run: (parameters, layers)."""
    counts: dict[int, int] = {}
    for size, count in runs:
        counts[size] = counts.get(size, 0) + count
    return [*counts.items()]


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
