"""What every published measurement says, of training or of serving: its citation, the model and the GPU."""

from typing import Annotated, Any, Self

from pydantic import model_validator

from memcalc.specs.spec import OneOf, Spec, SpecError, within

GRADES = ("A", "B", "C")  # A: fully specified; B: with the assumptions listed; C: not a measurement
MAX_BYTES = 10**15


class Published(Spec):
    """The columns that rows of presets/measured share."""

    id: str
    citation: str
    framework: str
    version: str = ""
    model: str = ""  # a preset's name …
    architecture: dict[str, Any] | None = None  # … or a config's keys, for a model that has no preset
    named: str  # as the source names the model
    gpu: str = ""  # a preset's name, where there is one
    gpu_named: str = ""
    generation: str = ""  # of that GPU (sm_90), read from its preset
    usable: Annotated[int, within(1, MAX_BYTES)] | None = None  # bytes that a process can allocate, where the source says
    grade: Annotated[str, OneOf(GRADES)]
    assumptions: tuple[str, ...] = ()
    unpredictable: str = ""  # why memcalc cannot predict the row

    @model_validator(mode="after")
    def _check_citation(self) -> Self:
        if not self.citation.strip():
            raise SpecError("a measurement without a citation is hearsay", "citation")
        if self.model and self.architecture is not None:
            raise SpecError("give the name of a preset or an architecture, one of them", "model", "architecture")
        return self
