"""What every published measurement says, of training or of serving: its citation, the model and the GPU."""

from typing import Annotated, Any

from pydantic import Field

from memcalc.specs.spec import OneOf, Spec, SpecError, rule, setting, within

GRADES = ("A", "B", "C")  # A: fully specified; B: with the assumptions listed; C: not a measurement
MAX_BYTES = 10**15


class Published(Spec):
    """The columns that rows of presets/measured share."""

    id: str = Field(description="The row's own name.")
    citation: str = Field(description="Where it is published.")
    framework: str = Field(description="What ran.")
    version: str = setting("", "Of that framework.")
    model: str = setting("", "A preset's name …")
    architecture: dict[str, Any] | None = setting(None, "… or a config's keys, for a model that has no preset.")
    named: str = Field(description="The model as the source names it.")
    gpu: str = setting("", "A preset's name, where there is one.")
    gpu_named: str = setting("", "The GPU as the source names it.")
    generation: str = setting("", "Of that GPU (sm_90), read from its preset.")
    usable: Annotated[int, within(1, MAX_BYTES)] | None = setting(
        None, "Bytes that a process can allocate, where the source says."
    )
    grade: Annotated[str, OneOf(GRADES)] = Field(description="How completely the source describes the run.")
    assumptions: tuple[str, ...] = setting((), "What the source leaves open and was filled in.")
    unpredictable: str = setting("", "Why memcalc cannot predict the row.")

    @rule()
    def _check_citation(self) -> None:
        if not self.citation.strip():
            raise SpecError("a measurement without a citation is hearsay", "citation")
        if self.model and self.architecture is not None:
            raise SpecError("give the name of a preset or an architecture, one of them", "model", "architecture")
