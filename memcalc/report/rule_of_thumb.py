"""The report of `memcalc bytes`."""

from collections.abc import Sequence

from memcalc.dtypes import number_format
from memcalc.estimates.rule_of_thumb import RuleOfThumb
from memcalc.formulas.precision import PRECISION_NAMES
from memcalc.report.report import SCHEMA, Column, Report, Table
from memcalc.sources import SOURCES
from memcalc.units import counted, format_count

STORED = ("fp32", "fp16", "bf16", "fp8-e4m3", "int8", "int4", "nf4-dq")


def report(
    rows: Sequence[RuleOfThumb], params: int, *, others: Sequence[RuleOfThumb] = (), formats: Sequence[str] = ()
) -> Report:
    """`rows` for the screen, `others` beside them for `--all` and the document; `formats`: number formats asked for by name."""
    stored = [(name, number_format(name).bytes_for(params)) for name in formats or STORED]
    document = {
        "schema": SCHEMA,
        "command": "bytes",
        "parameters": params,
        "store": dict(stored),
        "rows": [
            {"precision": row.precision, "optimizer": row.optimizer, **row.bytes._asdict(), "store": row.bytes.store,
             "extra": row.bytes.extra, "total": row.bytes.train, "bytes_to_train": round(row.bytes.train * params),
             "note": row.note}
            for row in (*rows, *others)
        ],
        "assumptions": ["activations and temporaries: 2 × compute bytes per parameter, the rule of thumb"],
        "sources": {"coursera-2023": SOURCES["coursera-2023"]._asdict()},
    }  # fmt: skip
    count = format_count(params)
    store = Table(
        f"To store {count} parameters", (Column("format"), Column("decimal", "gb"), Column("binary", "bytes")),
        [(name, size, size) for name, size in stored],
    )  # fmt: skip
    tables = [_training("Bytes per parameter to train", rows, params)] if rows else []
    tables.append(store)
    notes = [
        "a rule of thumb: activations and temporaries are 2 × compute bytes; `memcalc train MODEL` counts instead",
    ]
    verdict = "fp32 Adam: 4 bytes to store a parameter and 20 more to train it" if rows else ""
    if formats and not rows:
        notes = [f"{' and '.join(formats)}: for storing; precisions to train in are {', '.join(PRECISION_NAMES)}"]
    return Report(
        document,
        tuple(tables),
        f"Memory of {count} parameters",
        verdict,
        notes=tuple(notes),
        details=(_training("The other precisions and optimizers", others, params),) if others else (),
        more=f"{counted(len(others), 'more row')}: --all" if others else "",
    )


def _training(title: str, rows: Sequence[RuleOfThumb], params: int) -> Table:
    columns = [Column("precision"), Column("optimizer")]
    parts = ("weights", "gradients", "states", "master", "activations", "total")
    columns += [Column(part, "number", "B a parameter") for part in parts]
    columns.append(Column(f"to train {format_count(params)}", "gb"))
    return Table(
        title,
        tuple(columns),
        [
            (row.precision, row.optimizer, row.bytes.weights, row.bytes.gradients, round(row.bytes.optimizer_states, 4),
             row.bytes.master_weights, row.bytes.activations, round(row.bytes.train, 4), round(row.bytes.train * params))
            for row in rows
        ],
    )  # fmt: skip
