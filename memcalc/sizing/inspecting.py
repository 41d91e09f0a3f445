"""What a model is and what its weight files hold."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memcalc.errors import InputError
from memcalc.readers.models import Model, read_contents
from memcalc.sizing.answer import Reported

if TYPE_CHECKING:
    from memcalc.report.report import Report


class Inspected(Reported):
    """A model, read as far as its files say."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def report(self) -> "Report":
        from memcalc.report.inspection import inspect_report

        m = self.model
        return inspect_report(m.name, m.architecture, m.source, m.stored, m.problem)


def inspected(path: str, presets: Sequence[str] = ()) -> Inspected:
    """Read a model, without an architecture where nothing says it.

    >>> inspected("gpt2").model.parameters
    124439808
    """
    found = read_contents(path, presets)
    if found.architecture is None and found.stored is None:
        raise found.problem or InputError(f"{path!r:.60} is a parameter count; there is nothing to inspect in it", place="PATH")
    return Inspected(found)
