"""One published measurement of serving memory: what was read off, where it is published, and the run in memcalc's words."""

from typing import Annotated

from pydantic import Field

from memcalc.specs.published import MAX_BYTES, Published
from memcalc.specs.serving import Serving
from memcalc.specs.spec import OneOf, SpecError, rule, setting, within

# What a number counts, and its unit. Each has one function that predicts it, in estimates/validation_serving.py.
QUANTITIES = {
    "weights": "bytes",  # on one GPU, as the engine logs them after loading
    "weights_file": "bytes",  # the whole model as stored
    "parameters": "parameters",
    "activations": "bytes",  # the peak of a profiling pass beyond the weights
    "kv_cache": "bytes",  # of layers that keep every token
    "kv_cache_window": "bytes",  # of layers with a window
    "compute_buffer": "bytes",
    "kv_tokens_of_memory": "tokens",  # what the cache's memory, as logged, holds
    "kv_tokens": "tokens",  # from the GPU's memory and the share of it, end to end
    "max_concurrency": "requests",
}
ROLES = ("measurement", "computed")  # computed: a formula's value, printed as if measured

Quantity = Annotated[str, OneOf(tuple(QUANTITIES))]
Amount = Annotated[float, Field(gt=0, le=MAX_BYTES)]


class Served(Published):
    """A row of presets/measured with a [serving] table. Either `serving` says how it was run, or `unpredictable` why not."""

    cache: Annotated[int, within(1, MAX_BYTES)] | None = setting(None, "Bytes of the cache's memory, where the source says.")
    role: Annotated[str, OneOf(ROLES)] = Field(description="What the row is: measured, or computed by a formula.")
    measured: dict[Quantity, Amount] = Field(default_factory=dict, description="What was read off, by quantity, in its unit.")
    unpredicted: dict[str, str] = Field(
        default_factory=dict, description="Quantities that the source has and memcalc does not predict, and why."
    )
    serving: Serving | None = setting(None, "How it was served.")

    @rule()
    def _check(self) -> None:
        if (self.serving is None) == (self.unpredictable == ""):
            raise SpecError("give the run, or say why it cannot be predicted", "serving", "unpredictable")
        if self.serving and not (self.model or self.architecture):
            raise SpecError("what was served? name a preset, or give an architecture", "model")
        if "kv_tokens_of_memory" in self.measured and self.cache is None:
            raise SpecError("tokens of which memory? say how many bytes the cache has", "cache", "measured")
