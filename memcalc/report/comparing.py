"""The report of `memcalc compare`: one row a case, every figure beside what it is more or less than the first one's."""

import re
from collections.abc import Callable
from typing import Any

from memcalc.estimates.comparison import ComparedCase, SideBySide, word
from memcalc.report.heatmap import HeatMap
from memcalc.report.report import SCHEMA, Column, Quantity, Report, Table
from memcalc.units import counted, format_bytes, format_count, format_duration

# What a key of the JSON holds, by the first pattern that it matches: its unit, and how people read it.
KINDS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    (r"(parameters|vocabulary|tokens|_per_second\w*)$", "", format_count),
    (r"\b(mfu|hfu|mbu|link_efficiency|utilisation)$|share$", "share", "{:.1%}".format),
    (r"seconds(_low|_high)?$", "s", format_duration),
    (r"usd", "USD", "{:,.2f} USD".format),
    (r"\bdays$", "d", "{:,.3g} days".format),
    (r"^(per_gpu|host|moments|peak|lines|start|save)\b|^gpu\.(memory|usable|allocatable|limit|headroom)|kv_cache_memory|bytes",
     "B", format_bytes),
    ("", "", "{:,.6g}".format),
)  # fmt: skip
UNCHANGED = 5e-4  # of the first case's figure: what rounds to 0.0 %


def report(found: SideBySide) -> Report:
    document = {
        "schema": SCHEMA,
        "command": "compare",
        "of": found.command,
        "columns": list(found.columns),
        "varied": {name: [_plain(value) for value in values] for name, values in found.varied.items()},
        "cases": [_document(case, found) for case in found.cases],
    }
    refused = sum(bool(case.refused) for case in found.cases)
    notes = [f"in brackets: more or less than {found.first.name or 'the first'}"]
    if refused:
        notes.append(f"{counted(refused, 'case')} of {len(found.cases)} could not be sized: see below their names")
    return Report(document, (_table(found),), f"memcalc {found.command}: {counted(len(found.cases), 'case')} side by side",
                  notes=tuple(notes), pictures=_heat_maps(found))  # fmt: skip


def _document(case: ComparedCase, found: SideBySide) -> dict[str, Any]:
    out: dict[str, Any] = {"name": case.name}
    if case.command:
        out |= {"settings": {name: _plain(value) for name, value in case.settings.items()}, "command": case.command}
    if case.refused:
        return out | {"refused": case.refused, "values": None, "changes": None}
    changes = {column: case.change(column, found.first) for column in dict.fromkeys((*found.columns, *case.values))}
    return out | {"refused": None, "values": dict(case.values), "changes": changes}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _table(found: SideBySide) -> Table:
    rows = []
    for case in found.cases:
        name = f"{case.name}: {case.refused}" if case.refused else case.name
        rows.append((name, *(_cell(column, case, found.first) for column in found.columns)))
    heads = (Column("case"), *(Column(title, "quantity") for title in _titles(found.columns)))
    marks = {i: "compared with" for i, case in enumerate(found.cases) if case is found.first and len(found.cases) > 1}
    return Table("", heads, rows, marks=marks)


def _titles(columns: tuple[str, ...]) -> list[str]:
    """The last word of each key, with those before it where that alone is not unique."""
    last = [column.rpartition(".")[2] for column in columns]
    return [
        (short if last.count(short) == 1 else column).replace("_", " ") for short, column in zip(last, columns, strict=True)
    ]


def _cell(column: str, case: ComparedCase, first: ComparedCase) -> Quantity:
    value = case.values.get(column)
    unit, text = text_of(column, value)
    change = None if case.refused else case.change(column, first)
    if change is not None and abs(change) >= UNCHANGED:
        text += f" ({100 * change:+.0f} %)" if abs(change) >= 0.095 else f" ({100 * change:+.1f} %)"
    return Quantity(value if not isinstance(value, bool) else str(value).lower(), unit, text)


def text_of(column: str, value: Any) -> tuple[str, str]:
    """Unit, and how people read a value of a key.

    >>> text_of("per_gpu.peak", 2**30), text_of("time.mfu", 0.431), text_of("gpu.verdict", "fits"), text_of("run.tp", 8)
    (('B', '1.00 GiB'), ('share', '43.1%'), ('', 'fits'), ('', '8'))
    """
    if value is None:
        return "", "—"
    if isinstance(value, (bool, str)):
        return "", str(value).lower() if isinstance(value, bool) else value
    unit, shown = next((unit, shown) for pattern, unit, shown in KINDS if re.search(pattern, column))
    return unit, shown(value)


def _heat_maps(found: SideBySide) -> tuple[HeatMap, ...]:
    """The first figure over two settings, where two are varied."""
    if len(found.varied) != 2 or any(len(values) < 2 for values in found.varied.values()):
        return ()
    numeric = (c for c in found.columns if any(isinstance(case.values.get(c), (int, float)) for case in found.cases))
    column = next(numeric, None)
    if column is None:
        return ()
    (down, rows), (across, heads) = found.varied.items()
    cases = iter(found.cases)  # in the order of the product: the second setting runs fastest
    grid = [[next(cases) for _ in heads] for _ in rows]
    values = [[case.values.get(column) for case in line] for line in grid]
    texts = [[_beside(column, case) for case in line] for line in grid]
    title = f"{column}: {down} down, {across} across"
    return (HeatMap(title, [word(value) for value in rows], [word(value) for value in heads], values, texts),)


def _beside(column: str, case: ComparedCase) -> str:
    """A figure, with the verdict where there is one and it is not that it fits."""
    verdict = case.values.get("gpu.verdict")
    text = "refused" if case.refused else text_of(column, case.values.get(column))[1]
    return f"{text} {verdict}" if verdict in ("no", "tight") else text
