"""One published measurement of training memory: what was measured, where it is published, and the run in memcalc's words."""

from typing import Annotated

from pydantic import Field

from memcalc.specs.published import MAX_BYTES, Published
from memcalc.specs.spec import OneOf, SpecError, rule, setting, within
from memcalc.specs.training import Training

# What the number counts, and the field of the estimate it compares with.
KINDS = {
    "allocated": "peak",  # torch.cuda.max_memory_allocated
    "active": "peak",  # the same with blocks that wait for another stream
    "reserved": "reserved",  # torch.cuda.max_memory_reserved
    "device": "device",  # nvidia-smi, NVML: with the CUDA context
}
ROLES = ("measurement", "oom", "computed")  # oom: ran out of memory; computed: a formula's value, printed as if measured

Kind = Annotated[str, OneOf(tuple(KINDS))]
Bytes = Annotated[int, within(1, MAX_BYTES)]


class Measured(Published):
    """A row of presets/measured. Either `run` says how it was made, or `unpredictable` why that cannot be said."""

    role: Annotated[str, OneOf(ROLES)] = Field(
        description="What the row is: measured, out of memory, or computed by a formula."
    )
    kind: Kind | None = setting(None, "What the value counts.")
    value: Bytes | None = setting(None, "Bytes on one GPU.")
    printed: str = setting("", "Value and unit as published.")
    also: dict[Kind, Bytes] = Field(default_factory=dict, description="Bytes of the same run by other kinds.")
    run: Training | None = setting(None, "How it was trained.")

    @rule()
    def _check(self) -> None:
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

    @property
    def values(self) -> dict[str, int]:
        """Bytes by kind."""
        return {self.kind: self.value, **self.also} if self.kind and self.value else dict(self.also)
