"""What every published measurement says, of training or of serving: its citation, the model and the GPU."""

from dataclasses import dataclass
from typing import Annotated, Any

from memcalc.specs.rules import Choice, Range, SpecError, check_fields

GRADES = ("A", "B", "C")  # A: fully specified; B: with the assumptions listed; C: not a measurement
MAX_BYTES = 10**15


@dataclass(frozen=True, kw_only=True)
class Published:
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
    usable: Annotated[int, Range(1, MAX_BYTES)] | None = None  # bytes that a process can allocate, where the source says
    grade: Annotated[str, Choice(GRADES)]
    assumptions: tuple[str, ...] = ()
    unpredictable: str = ""  # why memcalc cannot predict the row

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by Pydantic, never changed

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.citation.strip():
            raise SpecError("a measurement without a citation is hearsay", "citation")
        if self.model and self.architecture is not None:
            raise SpecError("give the name of a preset or an architecture, one of them", "model", "architecture")
