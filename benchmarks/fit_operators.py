"""The time law's constants beside measured operators, and fitted to them anew.

    python benchmarks/fit_operators.py                          how far the shipped constants are off, table by table
    python benchmarks/fit_operators.py --fit h100 product bf16  one row of presets/timing, fitted (needs NumPy and SciPy)

benchmarks/operators.json.xz holds 354 tables of single operators on real GPUs (its key `about` says whose, and under which
licence). Errors are |predicted / measured - 1|. A fit is scored on shapes it has not seen: five parts by shape.
"""

import argparse
import json
import lzma
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from memcalc.formulas.timing.attention import AttentionShape
from memcalc.formulas.timing.experts import ExpertShape
from memcalc.formulas.timing.law import TimeLaw
from memcalc.readers.catalogue import accelerator
from memcalc.readers.timing import time_law

DATA = Path(__file__).parent / "operators.json.xz"
GPUS = {"a100_sxm": "a100-sxm4-80", "h100_sxm": "h100-sxm-80", "b200_sxm": "b200-sxm", "b300_sxm": "b300-sxm",
        "gb200": "gb200", "gb300": "gb300", "l40s": "l40s", "b60": "arc-pro-b60"}  # fmt: skip
FORMATS = {"bfloat16": "bf16", "fp8_block": "fp8-block", "fp8_static": "fp8-static", "int8_wo": "int8-weights",
           "int4_wo": "int4-weights", "sq": "int8", "w4a16_mxfp4": "mxfp4-weights", "w4a8_mxfp4_mxfp8": "mxfp4-mxfp8",
           "w4afp8": "int4-fp8"}  # fmt: skip
COLLECTIVES = {"all_reduce": "all-reduce", "all_gather": "all-gather", "reduce_scatter": "reduce-scatter",
               "alltoall": "all-to-all"}  # fmt: skip
ENGINES = {"trtllm": "tensorrt-llm", "sglang": "sglang"}  # whose own rows stand under [engine.…]
PARTS = 5


class Table(NamedTuple):
    """Measurements that one row of constants is to answer."""

    gpu: str
    kind: str  # section of presets/timing
    key: str  # row in it
    engine: str
    rows: list[tuple[Any, ...]]
    predict: Callable[[TimeLaw, tuple[Any, ...]], float]


def tables() -> Iterator[Table]:
    for table in json.loads(lzma.decompress(DATA.read_bytes()))["tables"]:
        if table["gpu"] not in GPUS:
            continue
        gpu, engine = GPUS[table["gpu"]], f"{table['engine']} {table['version']}"
        rows = [tuple(row) for row in table["rows"]]
        if table["op"] == "nccl":
            for name, kind in COLLECTIVES.items():
                yield Table(gpu, "collective", kind, engine, [row for row in rows if row[0] == name], _collective)
        elif made := _operator(table):
            kind, key, predict = made
            yield Table(gpu, kind, key, engine, rows, predict)


def _operator(table: dict[str, Any]) -> tuple[str, str, Callable[[TimeLaw, tuple[Any, ...]], float]] | None:
    op, name = table["op"], FORMATS.get(table.get("format", ""), table.get("format", ""))
    if op == "gemm":
        return "product", name, lambda law, r: law.product(r[0], r[1], r[2], name)
    if op == "moe":
        return "experts", name, lambda law, r: law.experts(
            ExpertShape(r[1], r[2], r[4], r[3], r[5], r[6]), r[0], name, skewed=r[7] != "balanced"
        )  # fmt: skip
    if "compute" not in table or op.endswith("module"):
        return None
    compute, cache = (FORMATS.get(table[key], table[key]) for key in ("compute", "kv"))
    key = compute if compute == cache else f"{compute}-{cache}"
    size = 1.0 if cache == "fp8" else 2.0
    if op == "attention_context":
        return "attention", key, lambda law, r: law.attention(
            AttentionShape(r[1], r[2], r[3], r[3], r[4]), r[0], r[5], key, cached_bytes=size
        )  # fmt: skip
    if op == "attention_generation":
        return "decode", key, lambda law, r: law.decode(AttentionShape(r[1], r[2], r[3], r[3], r[4]), r[0], r[5], key, size)
    if op == "mla_context":
        return "latent", key, lambda law, r: law.attention(AttentionShape(r[1], r[1], 192, 128), r[0], r[2], key, latent=True)
    if op == "mla_generation":
        return "latent_decode", key, lambda law, r: law.latent_decode(r[1], 512, 64, r[0], r[2], key, size)
    return None


def _collective(law: TimeLaw, row: tuple[Any, ...]) -> float:
    return law.collective(COLLECTIVES[row[0]], row[2], row[3])


def errors(table: Table, law: TimeLaw, rows: Sequence[tuple[Any, ...]] | None = None) -> list[float]:
    """Predicted over measured, less 1, of rows that have a time."""
    return [table.predict(law, row) / (row[-1] / 1e3) - 1 for row in (table.rows if rows is None else rows) if row[-1]]


def summary(found: Sequence[float]) -> tuple[float, float]:
    """Median and 90th percentile of the errors' size."""
    sizes = sorted(abs(value) for value in found)
    return median(sizes), quantiles(sizes, n=10)[-1] if len(sizes) > 1 else sizes[0]


def scores() -> Iterator[tuple[Table, tuple[float, float]]]:
    """Every table that the shipped constants speak of: those whose engine the row names."""
    for table in tables():
        law = time_law(accelerator(table.gpu)).of_engine(ENGINES.get(table.engine.split()[0], ""))
        if table.rows and table.key in getattr(law.constants, table.kind):
            yield table, summary(errors(table, law))


# --- fitting ----------------------------------------------------------------------------------------------------------

LIMITS = {"peak": (0.03, 1.3), "bandwidth": (0.1, 1.3), "start": (1e-7, 2e-4), "sharpness": (1, 12), "prologue": (0, 1000),
          "small_tile": (0, 200), "split": (0, 1e-5), "quantise_start": (0, 1e-5), "quantise_bandwidth": (0.05, 1),
          "softmax": (1e11, 1e14), "block": (0, 3e-6), "row": (0, 5e-6), "sequence": (0, 400), "routed": (0, 30),
          "imbalance": (0, 3), "spread": (1, 2.5), "moved": (0, 10), "small_group": (0, 40), "link": (0.05, 1),
          "step": (0, 5e-6), "ramp": (0, 1e-5), "exponent": (0.2, 0.8)}  # fmt: skip


def fitted(table: Table, law: TimeLaw, rows: Sequence[tuple[Any, ...]]) -> TimeLaw:
    """The law with this table's row of constants fitted to those measurements: absolute errors of logarithms."""
    from scipy.optimize import minimize

    kinds = getattr(law.constants, table.kind)
    start = kinds[table.key] if table.key in kinds else next(iter(kinds.values()))
    names = start._fields
    low, high = zip(*(LIMITS[name] for name in names), strict=True)

    def made(position: Sequence[float]) -> TimeLaw:
        values = (a + (b - a) * min(max(x, 0.0), 1.0) for a, b, x in zip(low, high, position, strict=True))
        row = type(start)(*values)
        constants = law.constants._replace(**{table.kind: {**kinds, table.key: row}})
        return TimeLaw.of(law.name, law.hardware, constants)

    def cost(position: Sequence[float]) -> float:
        outside = sum(max(0.0, -x, x - 1) for x in position)
        trial = made(position)
        return outside + sum(abs(math.log1p(error)) for error in errors(table, trial, rows)) / len(rows)

    at = [(value - a) / (b - a) for value, a, b in zip(start, low, high, strict=True)]
    for _ in range(2):
        at = minimize(cost, at, method="Nelder-Mead", options={"maxfev": 1500, "xatol": 1e-4, "fatol": 1e-5}).x
    return made(at)


def part_of(row: tuple[Any, ...]) -> int:
    """Rows of one shape, whatever the number of tokens, fall together."""
    return zlib.crc32(repr(row[1:-2]).encode()) % PARTS


def fit(gpu: str, kind: str, key: str, engine: str) -> None:
    found = [t for t in tables() if (t.gpu, t.kind, t.key) == (gpu, kind, key) and engine in t.engine]
    for table in found:
        law, held = time_law(accelerator(gpu)), []
        for part in range(PARTS):
            away = [row for row in table.rows if part_of(row) != part]
            held += errors(table, fitted(table, law, away), [row for row in table.rows if part_of(row) == part])
        row = getattr(fitted(table, law, table.rows).constants, kind)[key]
        print(f"{key} = {row._asdict()}  # {table.engine}: unseen shapes {summary(held)[0]:.1%} / {summary(held)[1]:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", nargs=3, metavar=("GPU", "KIND", "FORMAT"))
    parser.add_argument("--engine", default="", help="of several tables, those of this engine and version")
    asked = parser.parse_args()
    if asked.fit:
        fit(accelerator(asked.fit[0]).id, asked.fit[1], asked.fit[2], asked.engine)
        return
    print(f"{'accelerator':14} {'operator':14} {'format':15} {'table':24} {'rows':>5} {'median':>7} {'p90':>7}")
    for table, (middle, high) in scores():
        print(f"{table.gpu:14} {table.kind:14} {table.key:15} {table.engine:24} {len(table.rows):5} {middle:7.1%} {high:7.1%}")


if __name__ == "__main__":
    main()
