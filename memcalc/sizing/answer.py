"""What a sized model can say of itself, training or serving."""

from typing import TYPE_CHECKING, Any

from memcalc.readers.models import Model
from memcalc.specs.hardware import Accelerator
from memcalc.units import format_bytes

if TYPE_CHECKING:
    from memcalc.report.report import Report


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
    gpu: Accelerator | None

    @property
    def headroom(self) -> int | None:
        """Bytes left free on the accelerator; below zero, what is missing; None where none was named."""
        raise NotImplementedError

    @property
    def fits(self) -> bool | None:
        """Whether it fits into the accelerator; None where none was named."""
        return None if self.headroom is None else self.headroom >= 0

    def _line(self, what: str, gpus: int, device: int) -> str:
        where = f"{gpus} × {self.gpu.name if self.gpu else 'GPU'}"
        verdict = "" if self.fits is None else ", fits" if self.fits else ", does not fit"
        return f"<{what} {self.model.name:.60} on {where:.60}: {format_bytes(device)} per GPU{verdict}>"
