"""The report of `memcalc bytes`."""

from collections.abc import Sequence

from memcalc.dtypes import number_format
from memcalc.estimates.rule_of_thumb import RuleOfThumb
from memcalc.report.report import SCHEMA, Column, Report, Table
from memcalc.sources import SOURCES

STORED = ("fp32", "fp16", "bf16", "fp8-e4m3", "int8", "int4", "nf4-dq")


def report(rows: Sequence[RuleOfThumb], params: int) -> Report:
    stored = [(name, number_format(name).bytes_for(params)) for name in STORED]
    document = {
        "schema": SCHEMA,
        "command": "bytes",
        "parameters": params,
        "store": dict(stored),
        "rows": [
            {"precision": row.precision, "optimizer": row.optimizer, **row.bytes._asdict(), "store": row.bytes.store,
             "extra": row.bytes.extra, "total": row.bytes.train, "bytes_to_train": round(row.bytes.train * params),
             "note": row.note}
            for row in rows
        ],
        "assumptions": ["activations and temporaries: 2 × compute bytes per parameter, the rule of thumb"],
        "sources": {"coursera-2023": SOURCES["coursera-2023"]._asdict()},
    }  # fmt: skip
    columns = [Column("precision"), Column("optimizer")]
    columns += [Column(t, "number") for t in ("weights", "gradients", "states", "master", "activations", "total")]
    columns.append(Column(f"to train {params / 1e9:g}B", "gb"))
    table = Table(
        "Bytes per parameter to train",
        tuple(columns),
        [
            (row.precision, row.optimizer, row.bytes.weights, row.bytes.gradients, round(row.bytes.optimizer_states, 4),
             row.bytes.master_weights, row.bytes.activations, round(row.bytes.train, 4), round(row.bytes.train * params))
            for row in rows
        ],
    )  # fmt: skip
    store = Table(
        f"To store {params / 1e9:g}B parameters", (Column("format"), Column("decimal", "gb"), Column("binary", "bytes")),
        [(name, size, size) for name, size in stored],
    )  # fmt: skip
    notes = (
        "a rule of thumb: activations and temporaries are 2 × compute bytes; `memcalc train MODEL` counts instead",
        "fp32 Adam: 4 bytes to store a parameter and 20 more to train it",
    )
    return Report(document, (store, table), "Bytes per parameter", notes=notes)
