"""What a sized model can say of itself, training or serving."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from memcalc.estimates.suggestions import NO_ADVICE, Advice, Suggestion
from memcalc.formulas.bisection import Solved
from memcalc.formulas.verdict import Fit, Verdict
from memcalc.readers.models import Model
from memcalc.units import format_bytes

if TYPE_CHECKING:
    from memcalc.report.report import Report
    from memcalc.specs.hardware import Accelerator


class Reported:
    """What has a report, as a person reads it and as a machine does."""

    def report(self) -> "Report":
        """What the command line shows: a document for machines, tables for people."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of the command line."""
        return self.report().document


class Answer(Reported):
    """An estimate that knows its model and its accelerator; the estimate itself is the other base of a subclass."""

    model: Model
    gpu: "Accelerator | None"
    solved: tuple[Solved, ...] = ()  # the setting whose largest value was asked for
    others: int = 0  # bytes on the accelerator that a process cannot get, since others hold them

    @property
    def guessed(self) -> str:
        """Why the model may not be the one that is meant; empty where its family is known."""
        return self.model.architecture.guessed if self.model.architecture else ""

    @property
    def withheld(self) -> int:
        """Bytes that engines find on the accelerator but a process cannot get: others hold them, or the system keeps them."""
        return self.gpu.allocatable - self.gpu.limit + self.others if self.gpu else 0

    def fit_on(self, gpu: "Accelerator", others: int) -> Fit:
        """What is needed beside what a process can get on an accelerator of which `others` bytes are taken."""
        raise NotImplementedError

    @cached_property
    def fit(self) -> Fit | None:
        """What is needed beside what there is; None where no accelerator was named."""
        return self.fit_on(self.gpu, self.others) if self.gpu else None

    @property
    def certainly_too_large(self) -> bool:
        """Whether it is known for less than the verdict costs that it does not fit; else the verdict says."""
        return False

    @property
    def verdict(self) -> Verdict | None:
        """ "no", "tight" (it may fit: the range of what is needed ends above the limit) or "fits"; None without accelerator."""
        return self.fit.verdict if self.fit else None

    @property
    def fits(self) -> bool | None:
        """Whether the verdict is not "no"; None where no accelerator was named."""
        return self.fit.fits if self.fit else None

    @property
    def headroom(self) -> int | None:
        """Bytes left free of what a process can get; below zero, what is missing; None where no accelerator was named."""
        return self.fit.headroom if self.fit else None

    @cached_property
    def advice(self) -> Advice:
        """What would make it fit, where it does not; or surely fit, where it is tight."""
        if self.fit is None or self.verdict == "fits" or (self.solved and self.fits):
            return Advice()  # who asks for the largest that fits wants it, tight or not
        return self._advised(self.fit)

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document without suggestions: none are looked for."""
        return self.report_with(NO_ADVICE).document

    def report(self) -> "Report":
        return self.report_with(self.advice)

    def pace_beside(self, asked: Any) -> str:
        """How fast it runs beside what was asked for, as the last of a change's costs; empty where either is not known."""
        return ""

    def report_with(self, advice: Advice) -> "Report":
        """What the command line shows, with these suggestions."""
        raise NotImplementedError

    def _advised(self, fit: Fit) -> Advice:
        """The search for such changes, beginning at what was found."""
        raise NotImplementedError

    @property
    def suggestions(self) -> list[Suggestion]:
        """The changes that make it fit, cheapest first."""
        return list(self.advice.suggestions)

    def _line(self, what: str, gpus: int, device: int) -> str:
        where = f"{gpus} × {self.gpu.name if self.gpu else 'GPU'}"
        verdict = "" if self.verdict is None else f", {SAID[self.verdict]}"
        return f"<{what} {self.model.name:.60} on {where:.60}: {format_bytes(device)} per GPU{verdict}>"


Wanted = Callable[[Any, Fit], Fit]  # what an answer's fit is to those who have more limits than the accelerator's


def nothing_else(answer: Answer, fit: Fit) -> Fit:
    """The accelerator is the only limit."""
    return fit


def fit_of(answer: Answer) -> Fit:
    """Of an answer that has an accelerator."""
    assert answer.fit is not None
    return answer.fit


SAID: dict[Verdict, str] = {"no": "does not fit", "tight": "tight", "fits": "fits"}
