"""Reports of the catalogues: models, accelerators, number formats, optimizers, engines."""

from collections.abc import Callable, Sequence
from typing import Any

from memcalc.report.report import SCHEMA, Column, Report, Table
from memcalc.units import counted

HALF = 2  # bytes of a bf16 parameter
MATRIX = (4096, 4096)


def _listing(
    kind: str, columns: tuple[Column, ...], entries: Sequence[tuple[tuple[Any, ...], dict[str, Any]]], text: str | None
) -> Report:
    """Rows (cells, document), those that contain the text in any cell."""
    wanted = (text or "").lower()
    kept = [(row, entry) for row, entry in entries if wanted in " ".join(map(str, row)).lower()]
    document = {"schema": SCHEMA, "command": kind, kind: [entry for _, entry in kept]}
    note = f"{len(kept)} of {len(entries)} match {text!r}" if text else counted(len(kept), kind.removesuffix("s"))
    return Report(document, (Table("", columns, [row for row, _ in kept]),), notes=(note,))


def models_report(folders: Sequence[str], text: str | None) -> Report:
    from memcalc.readers.preset_index import model_facts

    entries = [
        (tuple(entry[key] for key in ("id", "model_type", "parameters", "active_parameters", "context", "dtype")), entry)
        for entry in model_facts(folders)
    ]
    columns = (Column("model"), Column("family"), Column("parameters", "count"), Column("active", "count"),
               Column("context", "number"), Column("dtype"))  # fmt: skip
    return _listing("models", columns, entries, text)


def gpus_report(folders: Sequence[str], text: str | None) -> Report:
    from memcalc.readers.catalogue import accelerators

    entries = []
    for gpu in accelerators(folders):
        peak = gpu.peak.get("bf16") or gpu.peak.get("fp16")
        assert gpu.bandwidth  # of the catalogue
        row = (gpu.id, gpu.name, gpu.vendor_bytes, gpu.limit, gpu.bandwidth / 1e9, peak, gpu.tdp)
        entries.append((row, gpu.model_dump() | {"usable": gpu.usable, "limit": gpu.limit}))
    columns = (Column("gpu"), Column("name"), Column("as sold", "gb"), Column("limit", "bytes"),
               Column("GB/s", "number"), Column("bf16 FLOP/s", "rate"), Column("W", "number"))  # fmt: skip
    return _listing("gpus", columns, entries, text)


def gpu_report(name: str, folders: Sequence[str]) -> Report:
    from memcalc.readers.catalogue import accelerator

    gpu = accelerator(name, folders)
    assert gpu.bandwidth  # of the catalogue
    facts: list[tuple[str, Any]] = [
        ("memory as sold", f"{gpu.vendor_bytes / 1e9:g} GB"),
        ("memory of CUDA", f"{gpu.cuda_mib} MiB" if gpu.cuda_mib else None),
        ("memory of the driver", f"{gpu.driver_mib} MiB" if gpu.driver_mib else None),
        ("limit of a process", f"{gpu.limit / 2**30:.2f} GiB"),
        *((("how so", gpu.limit_assumed),) if gpu.limit_assumed else ()),
        ("bandwidth", f"{gpu.bandwidth / 1e9:,g} GB/s"),
        *((f"dense {kind}", f"{rate / 1e12:,g} TFLOP/s") for kind, rate in gpu.peak.items()),
        ("scale-up link", gpu.scale_up or None),
        ("scale-up bandwidth", f"{gpu.scale_up_bandwidth / 1e9:,g} GB/s each way" if gpu.scale_up_bandwidth else None),
        ("PCIe bandwidth", f"{gpu.pcie_bandwidth / 1e9:,g} GB/s each way" if gpu.pcie_bandwidth else None),
        ("power", f"{gpu.tdp:g} W" if gpu.tdp else None),
        ("aliases", ", ".join(gpu.aliases) or None),
        ("not read in a source", ", ".join(gpu.unverified) or None),
    ]
    document = {"schema": SCHEMA, "command": "gpus", "gpu": gpu.model_dump() | {"usable": gpu.usable, "limit": gpu.limit}}
    notes = [*gpu.notes, *(f"source: {source}" for source in gpu.sources)]
    return Report(document, (Table("", (Column("fact"), Column("value")), facts),), f"{gpu.id}: {gpu.name}", notes=tuple(notes))


def formats_report(name: str | None, text: str | None) -> Report:
    from memcalc.dtypes import FORMATS, number_format

    chosen = (number_format(name),) if name else FORMATS
    entries = []
    for row in chosen:
        billion = row.bytes_for(10**9)
        cells = (row.name, row.bits_per_value, row.block_size, billion, row.range or None, row.description)
        entry = {**row._asdict(), "bits_per_value": row.bits_per_value, "bytes_per_billion": billion}
        entries.append((cells, entry))
    columns = (Column("format"), Column("bits per value", "number"), Column("block", "number", spare=1),
               Column("1B parameters", "gb"), Column("range"), Column("what it is"))  # fmt: skip
    report = _listing("formats", columns, entries, text)
    return report._replace(notes=(*report.notes, f"source: {chosen[0].source}")) if name else report


def optimizers_report(name: str | None, text: str | None) -> Report:
    from memcalc.formulas.optimizer_table import OPTIMIZERS
    from memcalc.formulas.optimizers import elementwise_bytes_per_parameter, optimizer, state_bytes

    entries = []
    for row in (optimizer(name),) if name else OPTIMIZERS.values():
        per_matrix = state_bytes(row, MATRIX, parameter_bytes=4) / (MATRIX[0] * MATRIX[1])
        rate = elementwise_bytes_per_parameter(row, 4)
        states = ", ".join(dict.fromkeys(state.name for state in row.states)) or "none"
        cells = (row.name, row.title, states, round(per_matrix, 4), "" if rate is not None else "by shape")
        entry = {
            "name": row.name, "title": row.title, "states": [state._asdict() for state in row.states],
            "otherwise": [state._asdict() for state in row.otherwise], "scope": row.scope, "elementwise": row.elementwise,
            "paged": row.paged, "bytes_per_parameter": rate, "bytes_per_parameter_of_a_4096_matrix": per_matrix,
            "source": row.source, "note": row.note,
        }  # fmt: skip
        entries.append((cells, entry))
    columns = (Column("optimizer"), Column("title"), Column("states"), Column("B per parameter", "number"), Column(""))
    report = _listing("optimizers", columns, entries, text)
    notes = [*report.notes, "bytes of the states per fp32 parameter of a 4096 × 4096 matrix"]
    if name:
        row = optimizer(name)
        notes += [f"source: {row.source}"] + ([row.note] if row.note else [])
    return report._replace(notes=tuple(notes))


def engines_report(name: str | None, text: str | None) -> Report:
    """Training and serving engines, each with its defaults and habits; one that does both has a row in either table."""
    from memcalc.errors import InputError, nearest
    from memcalc.formulas.engines import ENGINES
    from memcalc.formulas.serving_engines import RELEASES, SERVING_ENGINES, release

    known = (*ENGINES, *SERVING_ENGINES)
    name, _, version = (name or "").partition("@")
    if name and name not in known:
        raise InputError(f"unknown engine {name!r:.40}{nearest(name, known)} (engines: {', '.join(known)})")
    wanted = (text or "").lower()
    training = [row for row in ENGINES.values() if name in ("", row.name) and wanted in f"{row.name} {row.note}".lower()]
    rows_of = RELEASES if not name else SERVING_ENGINES
    serving = [row for row in rows_of.values() if name in ("", row.name) and wanted in f"{row.name} {row.note}".lower()]
    if version:
        found = release(name, version) if name in SERVING_ENGINES else None
        if found is None:
            raise InputError(f"no release {version!r:.40} of {name} is described; `memcalc engines` lists those that are")
        training, serving = [], [found]
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "command": "engines",
        "training": [row._asdict() for row in training],
        "serving": [row._asdict() for row in serving],
    }
    if name:
        rows: list[dict[str, Any]] = [*document["training"], *document["serving"]]
        facts = [(key.replace("_", " "), _fact(value)) for row in rows for key, value in row.items()]
        return Report(document, (Table("", (Column("fact"), Column("value")), facts),), heading=name)
    tables = (
        Table(
            "Training: --engine of train",
            (Column("engine"), Column("kernels"), Column("loss"), Column("optimizer"), Column("what it is")),
            [(row.name, row.kernels, row.loss, row.optimizer_impl, row.note) for row in training],
        ),
        Table(
            "Serving: --engine of infer",
            (Column("engine"), Column("GPU share", "percent"), Column("block", "number"), Column("tokens a pass", "number"),
             Column("sequences", "number"), Column("what it is")),
            [(row.name if row is SERVING_ENGINES[row.name] else row.key, row.utilization, row.block, row.batched_tokens,
              row.sequences, row.note) for row in serving],
        ),
    )  # fmt: skip
    count = f"{len(training)} training and {counted(len(serving), 'serving engine')}"
    return Report(document, tables, notes=(count + (f" match {text!r}" if text else ""), "— is worked out from GPU or run"))


def _fact(value: Any) -> str:
    """A setting in words.

    >>> _fact(True), _fact(None), _fact(16)
    ('yes', 'worked out', '16')
    """
    if value is None:
        return "worked out"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


# memcalc's own tables, by the command that lists them: (name of one row, or text to look for) → report.
TABLES: dict[str, Callable[[str | None, str | None], Report]] = {
    "formats": formats_report, "optimizers": optimizers_report, "engines": engines_report,
}  # fmt: skip
