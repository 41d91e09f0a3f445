"""The one door: an answer, whatever it is of, and keys of its document."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from memcalc.estimates.explanation import Explanation, given
from memcalc.sizing.answer import Reported
from memcalc.sizing.explaining.keys import Table, explained_by, find

if TYPE_CHECKING:
    from memcalc.report.report import Report

# Which module's table explains an answer, by the class of the answer.
TABLES = {
    "SizedTraining": "training",
    "SizedServing": "serving",
    "SizedBudget": "budget",
    "SizedScaling": "scaling",
    "SizedBytes": "rule_of_thumb",
    "Inspected": "inspecting",
}
WORD = "a word, not a number: the assumptions and the numbers beside it say where it comes from"


def table_of(answer: Reported) -> Table:
    """The keys that an answer can explain."""
    from importlib import import_module

    name = next(TABLES[cls.__name__] for cls in type(answer).__mro__ if cls.__name__ in TABLES)
    rows: Table = import_module(f"memcalc.sizing.explaining.{name}").ROWS
    return rows


def explain(answer: Reported, *paths: str, document: dict[str, Any] | None = None) -> tuple[Explanation, ...]:
    """The tree behind each key of the answer's document; `peak` and `verdict` stand for theirs.

    Raises InputError for what is no key.

    >>> import memcalc
    >>> tree, = explain(memcalc.size_training("gpt2", seq_len=1024), "peak")
    >>> tree.path, tree.parts[0].path
    ('per_gpu.peak', 'parameters/dense')
    """
    whole = answer.to_dict() if document is None else document
    return tuple(_explained(answer, whole, path) for path in paths)


def explained(answer: Reported, paths: Iterable[str]) -> "Report":
    """The answer's report, with the trees behind some keys in place of its tables."""
    report = answer.report()
    if not (asked := tuple(paths)):
        return report
    from memcalc.report.explanation import with_explanations

    return with_explanations(report, explain(answer, *asked, document=report.document))


def _explained(answer: Reported, document: dict[str, Any], path: str) -> Explanation:
    key = find(document, path)
    if key.value is None:
        return given(key.path, None, "not known from what was said, or it does not apply: the assumptions say why")
    found = explained_by(table_of(answer), answer, key)
    return found if found is not None else given(key.path, key.value, WORD)
