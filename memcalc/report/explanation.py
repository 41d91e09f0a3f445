"""Explanations in a report: `explain[]` of the document, a tree on a screen, and one flat table for everything else."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memcalc.errors import printable
from memcalc.estimates.explanation import Explanation
from memcalc.report.report import MARKS, Column, Report, Table, cell

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

LONGEST = 160  # characters of a formula in a tree; the document has all


def with_explanations(report: Report, found: Sequence[Explanation]) -> Report:
    """The report with trees in place of its tables: who asks for one number wants no others."""
    document = report.document | {"explain": [tree.document() for tree in found]}
    notes = ("~ a formula with a stated error, ≈ a stated constant or a default; everything else is exact",)
    return report._replace(document=document, tables=(flat(found),), trees=tuple(found), pictures=(), notes=notes,
                           details=(), assumptions=(), more="", warnings=())  # fmt: skip


def flat(found: Sequence[Explanation]) -> Table:
    """Every node as a row, under the names that lead to it."""
    columns = (
        Column("number"), Column("value"), Column("unit"), Column("formula"), Column("numbers put in"), Column("source"),
        Column("certainty"),
    )  # fmt: skip
    return Table("How do you know?", columns, [row for tree in found for row in _rows(tree, "")])


def _rows(node: Explanation, above: str) -> list[tuple[Any, ...]]:
    path = f"{above} › {node.path}" if above else node.path
    row = (path, node.value, node.unit, node.formula, node.evaluated, node.source, node.certainty)
    return [row, *(below for part in node.parts for below in _rows(part, path))]


ASCII_GUIDES = ("    ", "|   ", "+-- ", "`-- ")  # rich.tree, which names them since 13.8


def rich_tree(root: Explanation, *, ascii_only: bool = False) -> "Tree":
    """The tree as rich draws it; what stands in it twice is drawn once."""
    from rich.tree import Tree

    class AsciiTree(Tree):
        TREE_GUIDES = [ASCII_GUIDES] * 3

    tree = (AsciiTree if ascii_only else Tree)(_label(root), guide_style="dim")
    _grow(tree, root, set())
    return tree


def drawn_tree(root: Explanation, width: int) -> list[str]:
    """The tree as lines of text, at most so wide."""
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, highlight=False, _environ={})
    console.print(rich_tree(root))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def _grow(tree: "Tree", node: Explanation, drawn: set[tuple[str, str]]) -> None:
    for part in node.parts:
        what = (part.path, repr(part[1:]))
        again = bool(part.parts) and what in drawn
        drawn.add(what)
        branch = tree.add(_label(part, again=again))
        if not again:
            _grow(branch, part, drawn)


def _label(node: Explanation, *, again: bool = False) -> "Text":
    """Name, value and certainty; beneath them the formula with its numbers, and where it is from."""
    from rich.text import Text

    mark = f" {MARKS[node.certainty]}".rstrip()
    details = ["  as above"] if again else _details(node)
    texts = (printable(node.path), f"  {printable(value_of(node))}{mark}", *details)
    label = Text(texts[0], style="bold")
    label.append(texts[1], style="not bold")
    for detail in texts[2:]:
        label.append(detail, style="dim not bold")
    return label


def _details(node: Explanation) -> list[str]:
    if "shape" in node.inputs:  # a tensor is one line
        return [f"  {_tensor(node)}"]
    if node.formula in node.inputs or (node.parts and node.terms == node.parts):  # the source, or the parts, say it all
        return [f"  {printable(node.source)}"] if node.source else []
    lines = []
    if not node.formula and (count := node.inputs.get("tensors") or node.inputs.get("layers")):
        lines.append(f"  × {count:,}")
    if node.formula:
        lines.append(f"\n= {_short(printable(node.formula))}")
    if node.evaluated:
        lines.append(f"\n= {_short(printable(node.evaluated))}")
    if node.source:
        lines.append(f"  [{printable(node.source)}]" if lines else f"  {printable(node.source)}")
    return lines


def _tensor(node: Explanation) -> str:
    """Shape, format and how often: [4096, 4096] bf16 × 32."""
    inputs = node.inputs
    shape = f"[{', '.join(map(str, inputs['shape']))}]"
    layers = inputs.get("layers", 1) * inputs.get("tensors", 1)
    words = [shape, str(inputs.get("format", "")), f"× {layers:,g}" if layers != 1 else ""]
    words.append(f"on one of {inputs['shards']} ranks" if "shards" in inputs else "")
    return " ".join(word for word in words if word)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


KINDS = {"B": "bytes", "share": "percent", "FLOP": "flops"}


def value_of(node: Explanation) -> str:
    """The value as people read it, with its unit."""
    value = node.value
    if value is None or isinstance(value, bool):
        return "not known" if value is None else "yes" if value else "no"
    if isinstance(value, str):
        return value
    if kind := KINDS.get(node.unit):
        return cell(value, kind)
    shown = f"{value:,.0f}" if isinstance(value, float) and 1e6 <= value < 1e15 else cell(value, "number")
    return f"{shown} {node.unit}".rstrip()
