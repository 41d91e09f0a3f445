"""Where text goes: lines within a width that break between words only, columns wide enough for their numbers."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.cells import cell_len

from memcalc.frozen import NamedTuple
from memcalc.report.report import Column, Table, cell

GAP = 2  # characters between two columns, as rich draws them
INDENT = 2
LEFT = ("text", "bar")
NARROW = 12  # characters below which a column of text is not squeezed
MOST = 30  # characters from which a single word, such as the path of a file, is broken
JOINED = "\0"  # stands for a space that no line may break at
HOLDING = ("×", "=", "≤", "≥", "~")
UNIT = re.compile(
    r"(B|[KMGTP]i?B|kB|%|×|m?s|min|h|d|days?|years?|[A-Z]?FLOPs?(/s)?|W|[kM]?Wh|USD|tokens?|GPUs?|layers?|PF-days?|t|kg|T|parameters)\b"
    r"|%"
)


def wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    """Lines of at most `width` characters; a number stays with its unit, a word is broken only where it alone is too long.

    >>> wrapped("needs 49.78 GiB of it", 12)
    ['needs', '49.78 GiB of', 'it']
    """
    margin = " " * indent
    lines = textwrap.wrap(
        _joined(text), width - _wide(text), initial_indent=margin, subsequent_indent=margin + "  " * (indent > 0),
        break_on_hyphens=False,
    )  # fmt: skip
    return [line.replace(JOINED, " ") for line in lines]


def _wide(text: str) -> int:
    """How many characters of two columns a text has: a margin that no line exceeds."""
    plain = text.replace(JOINED, " ")
    return max(0, min(cell_len(plain) - len(plain), 20))


def _joined(text: str) -> str:
    """With the spaces between a number and its unit, an option and its value, and around × and =, as ones that hold."""
    words = text.split(" ")
    out = words[0]
    for before, after in pairwise(words):
        option = before.startswith("--") and not after.startswith("--")
        holds = option or before in HOLDING or after in ("×", "=") or (before[-1:].isdigit() and UNIT.match(after))
        out += (JOINED if holds else " ") + after
    return out


class LaidColumn(NamedTuple):
    title: str
    width: int
    right: bool


class Laid(NamedTuple):
    """Cells as text, and the width of every column."""

    columns: tuple[LaidColumn, ...]
    rows: tuple[tuple[str, ...], ...]
    emphasised: frozenset[int]


def texts(table: Table, *, ascii_only: bool = False) -> list[list[str]]:
    """Every cell as people read it; rows indented by their level, marked ones with their word."""
    from memcalc.report.plot import as_ascii

    out = []
    for number, row in enumerate(table.rows):
        cells = [cell(value, column.kind) for value, column in zip(row, table.columns, strict=True)]
        cells[0] = "  " * table.level(number) + cells[0]
        if number in table.marks:
            cells[0] += f" ← {table.marks[number]}"
        if ascii_only:
            cells = [as_ascii(text).encode("ascii", "replace").decode() for text in cells]
        out.append(cells)
    return out


def grid(table: Table, width: int, *, ascii_only: bool = False) -> Laid | None:
    """The table side by side: without bars where they have no room, text wrapped, then without columns that can be spared;
    None where even that is too wide."""
    cells = texts(table, ascii_only=ascii_only)
    for shown in _choices(table):
        columns = [(table.columns[i], [row[i] for row in cells]) for i in shown]
        room = width - INDENT - GAP * (len(columns) - 1)
        natural, least = [_natural(*column) for column in columns], [_least(*column) for column in columns]
        bars = any(column.kind == "bar" for column, _ in columns)
        if sum(natural if bars else least) > room:  # text beside bars is not wrapped: they are the first to go
            continue
        sizes = _shared(natural, least, room)
        made = tuple(LaidColumn(c.title, size, c.kind not in LEFT) for (c, _), size in zip(columns, sizes, strict=True))
        rows = ([row[i] for i in shown] for row in cells)
        return Laid(made, tuple(_lines(row, made, table, number) for number, row in enumerate(rows)), table.emphasised)
    return None


def _choices(table: Table) -> Iterator[list[int]]:
    """Columns to show, from all of them to those that cannot be spared."""
    shown = list(range(len(table.columns)))
    yield shown
    bars = [i for i in shown if table.columns[i].kind == "bar"]
    spare = sorted((i for i in shown if table.columns[i].spare), key=lambda i: -table.columns[i].spare)
    for gone in (*((bars,) if bars else ()), *([i] for i in spare)):
        shown = [i for i in shown if i not in gone]
        yield shown


def _natural(column: Column, cells: Sequence[str]) -> int:
    """Characters that a column takes where there is room."""
    return max(map(cell_len, (column.title, *cells))) or 1


def _least(column: Column, cells: Sequence[str]) -> int:
    """Characters that it needs: words of text and of headings may stand below one another, numbers and bars are whole."""
    if column.kind != "text":
        return max(_longest(column.title), *map(cell_len, cells), 1) if cells else _natural(column, cells)
    return min(_natural(column, cells), MOST, max(NARROW, _longest(column.title), *(_longest(text) + 2 for text in cells)))


def _shared(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths within the room: what is missing is taken from the columns that can be squeezed most."""
    sizes = list(natural)
    while sum(sizes) > room:
        widest = max(range(len(sizes)), key=lambda i: sizes[i] - least[i])
        sizes[widest] -= 1
    return sizes


def _lines(row: Sequence[str], columns: Sequence[LaidColumn], table: Table, number: int) -> tuple[str, ...]:
    """Cells of text wrapped to their column, further lines under the first; numbers and bars as they are."""
    out = []
    for index, (text, column) in enumerate(zip(row, columns, strict=True)):
        if column.right or cell_len(text) <= column.width:
            out.append(text)
            continue
        margin = 2 * table.level(number) if index == 0 else 0
        out.append("\n".join(_hanging(text.strip(), column.width, margin, 2 * (index == 0 and column.width > NARROW))))
    return tuple(out)


def _hanging(text: str, width: int, margin: int, more: int) -> list[str]:
    """Lines behind a margin, those after the first behind a little more."""
    first, others = " " * margin, " " * (margin + more)
    lines = textwrap.wrap(_joined(text), width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
    return [line.replace(JOINED, " ") for line in lines]


def _longest(text: str) -> int:
    """Characters of the longest word, what comes before it on its line included."""
    joined = _joined(text.strip())
    return max((cell_len(word) for word in joined.split()), default=0) + len(text) - len(text.lstrip())


def stacked(table: Table, width: int, *, ascii_only: bool = False) -> list[str]:
    """Row by row: its words, then each value behind its heading, over as many lines as they need."""
    words = next((i for i, column in enumerate(table.columns) if column.kind != "text"), 1) or 1
    lines = []
    for row in texts(table, ascii_only=ascii_only):
        title = ", ".join(text.strip() for text in row[:words] if text)
        values = (
            _named(column.title, text).replace(" ", JOINED if column.kind != "text" else " ")
            for column, text in zip(table.columns[words:], row[words:], strict=True)
            if column.kind != "bar" and text not in ("", "—")
        )
        lines += wrapped(f"{title}: {', '.join(values)}", width, INDENT)
    return lines


def _named(title: str, text: str) -> str:
    """A value behind its heading, and before the heading's unit.

    >>> _named("time, ms", "81,790"), _named("verdict", "fits")
    ('time 81,790 ms', 'verdict fits')
    """
    name, _, unit = title.partition(", ")
    return " ".join(filter(None, (name, text, unit)))
