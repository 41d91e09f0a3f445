"""The sizing file: a model, how it is trained or served, on what, and the limits it must keep."""

from typing import Annotated

from pydantic import Field

from memcalc.specs.device import Device
from memcalc.specs.serving import Serving, ServingQuestion
from memcalc.specs.spec import OneOf, Spec, SpecError, rule, setting, within
from memcalc.specs.training import Training

SOLVABLE = ("micro_batch", "seq_len", "lora_rank", "batch", "context")
Seconds = Annotated[float, within(1e-9, 1e9)]
OF_TRAINING = ("step_seconds",)
OF_SERVING = ("min_sequences", "kv_tokens", "ttft_seconds", "tpot_seconds")


class Limits(Spec):
    """What must not be exceeded; a limit that is not given does not hold."""

    verdict: Annotated[str, OneOf(("fits", "tight"))] | None = setting(None, "What is asked for: fits, or tight at the worst.")
    device_memory: Annotated[int, within(1, 10**15)] | None = setting(None, "Bytes on each GPU.")
    memory_utilization: Annotated[float, within(0.01, 1.0)] | None = setting(None, "Share of the GPU's usable memory.")
    host_memory: Annotated[int, within(0, 10**15)] | None = setting(None, "Bytes of host memory on each node.")
    pf_days: Annotated[float, within(1e-9, 1e15)] | None = setting(None, "petaFLOP/s-days of 8.64e19 FLOP.")
    gpu_hours: Annotated[float, within(1e-9, 1e15)] | None = setting(None, "Hours of all GPUs together.")
    days: Annotated[float, within(1e-9, 1e6)] | None = setting(None, "Wall clock.")
    cost_usd: Annotated[float, within(0.0, 1e15)] | None = setting(None, "USD.")
    energy_kwh: Annotated[float, within(0.0, 1e15)] | None = setting(None, "kWh.")
    min_sequences: Annotated[int, within(1, 2**24)] | None = setting(None, "Served at once, at the full context.")
    kv_tokens: Annotated[int, within(1, 10**15)] | None = setting(
        None, "Tokens of cache that there must be room for, at least."
    )
    step_seconds: Seconds | None = setting(None, "An optimizer step of training.")
    ttft_seconds: Seconds | None = setting(None, "To the first token of an answer.")
    tpot_seconds: Seconds | None = setting(None, "Between two tokens of an answer.")


class Compute(Spec):
    """How much is trained, for limits on compute, time and money."""

    tokens: Annotated[int, within(1, 10**18)] = Field(description="Training tokens.")
    mfu: Annotated[float, within(0.001, 1.0)] | None = setting(
        None, "Model FLOPs utilisation of the dense peak.", otherwise="the step's predicted time; without one what is usual"
    )
    price: Annotated[float, within(0.0001, 10_000)] | None = setting(
        None, "USD a GPU-hour.", otherwise="the middle of a dated range"
    )


class Scenario(Device, ServingQuestion):
    """One setting to check: training or serving, not both."""

    model: str = Field(description="A preset, or a path beside the file.")
    gpu: str | None = setting(None, "Accelerator, as in `memcalc gpus`; without one, gpu_memory.")
    training: Training | None = setting(None, "How it is trained.")
    serving: Serving | None = setting(None, "How it is served.")
    largest: Annotated[str, OneOf(SOLVABLE)] | None = setting(
        None, 'The setting to find the largest value of that fits; `micro_batch = "max"` says the same.'
    )
    compute: Compute | None = setting(None, "How much is trained.")
    limits: Limits = Field(default_factory=Limits, description="What must hold.")

    @rule()
    def _check(self) -> None:
        if self.gpu is None and self.gpu_memory is None:
            raise SpecError("missing", "gpu")
        if (self.training is None) == (self.serving is None):
            raise SpecError("give a [training] or a [serving] table, one of them", "training", "serving")
        beside = [name for name in ServingQuestion.model_fields if getattr(self, name) is not None]
        if beside and self.serving is None:
            raise SpecError("a setting of serving; give a [serving] table", *beside)
        needs = ("pf_days", "gpu_hours", "days", "cost_usd", "energy_kwh")
        asked = [name for name in needs if getattr(self.limits, name) is not None]
        if asked and self.compute is None:
            raise SpecError(f"a limit on {', '.join(asked)} needs a [compute] table with tokens", "limits", "compute")
        for table, names in (("serving", OF_SERVING), ("training", OF_TRAINING)):
            given = [name for name in names if getattr(self.limits, name) is not None]
            if given and getattr(self, table) is None:
                raise SpecError(f"{' and '.join(given)} is a limit of {table}", f"limits.{given[0]}")
        if all(getattr(self.limits, name) is None for name in Limits.model_fields):
            raise SpecError("no limit is given, so there is nothing to check", "limits")
