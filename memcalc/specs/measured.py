"""One published measurement of training memory: what was measured, where it is published, and the run in memcalc's words."""

from dataclasses import dataclass, field
from typing import Annotated

from memcalc.specs.published import MAX_BYTES, Published
from memcalc.specs.rules import Choice, Range, SpecError
from memcalc.specs.training import Training

# What the number counts, and the field of the estimate it compares with.
KINDS = {
    "allocated": "peak",  # torch.cuda.max_memory_allocated
    "active": "peak",  # the same with blocks that wait for another stream
    "reserved": "reserved",  # torch.cuda.max_memory_reserved
    "device": "device",  # nvidia-smi, NVML: with the CUDA context
}
ROLES = ("measurement", "oom", "computed")  # oom: ran out of memory; computed: a formula's value, printed as if measured


@dataclass(frozen=True, kw_only=True)
class Measured(Published):
    """A row of presets/measured. Either `run` says how it was made, or `unpredictable` why that cannot be said."""

    role: Annotated[str, Choice(ROLES)]
    kind: Annotated[str, Choice(tuple(KINDS))] | None = None
    value: Annotated[int, Range(1, MAX_BYTES)] | None = None  # bytes
    printed: str = ""  # value and unit as published
    also: dict[str, int] = field(default_factory=dict)  # the same run by other kinds
    run: Training | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model and self.architecture is None:
            raise SpecError("what was trained? give the name of a preset or an architecture", "model", "architecture")
        if (self.run is None) == (self.unpredictable == ""):
            raise SpecError("give the run, or say why it cannot be predicted", "run", "unpredictable")
        if (self.role == "oom") != (self.value is None):
            raise SpecError("a run that ended out of memory has no value, every other one does", "value", "role")
        if self.role == "oom" and self.run and not (self.gpu or self.usable):
            raise SpecError("what did not fit? name the GPU, or say how many bytes are usable", "gpu", "usable")
        if (self.kind is None) != (self.value is None):
            raise SpecError("a value needs its kind", "kind", "value")
        for kind, value in self.also.items():
            Choice(tuple(KINDS)).check("also", kind)
            Range(1, MAX_BYTES).check("also", value)

    @property
    def values(self) -> dict[str, int]:
        """Bytes by kind."""
        return {self.kind: self.value, **self.also} if self.kind and self.value else dict(self.also)
