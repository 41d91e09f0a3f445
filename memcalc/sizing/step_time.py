"""The time of a sized training: the law of its accelerator, and days and money where they were asked for."""

from memcalc.blocks.architecture import Architecture
from memcalc.errors import Unsupported
from memcalc.estimates.step_time.horizon import Timed, whole
from memcalc.estimates.step_time.step import StepTime, step_time
from memcalc.readers.timing import time_law
from memcalc.specs.hardware import Accelerator
from memcalc.specs.horizon import Horizon
from memcalc.specs.training import Training

DECOMPOSING = ("shampoo", "soap", "galore", "q-galore", "apollo", "dion")


def timed(architecture: Architecture | None, run: Training, gpu: Accelerator | None, horizon: Horizon) -> Timed:
    """Time a step on an accelerator."""
    if gpu is None:
        return Timed()
    if architecture is None:
        return Timed(reason="a parameter count has no layers to time")
    if unknown := untimed(gpu):
        return Timed(reason=unknown)
    law = time_law(gpu, horizon.network)
    try:
        step = step_time(architecture, run, law)
    except Unsupported as error:
        return Timed(reason=str(error))
    tokens = horizon.tokens_of(run.seq_len)
    found = whole(step, tokens, gpu.id, horizon.price) if tokens else None
    projected = run.optimizer.startswith(DECOMPOSING)
    left_out = f"the decompositions inside {run.optimizer}'s step are not in its time" if projected else ""
    return Timed(step, found, "", law.constants.source, left_out)


def untimed(gpu: Accelerator) -> str:
    """Why nothing can be timed on an accelerator; empty where its speed is known."""
    if gpu.bandwidth and gpu.peak:
        return ""
    return f"the bandwidth or the dense peak of {gpu.name} is not known; give gpu_bandwidth and gpu_flops"


def pace_beside(run: Training, step: StepTime | None, asked: StepTime | None) -> str:
    """Tokens a second of a changed run beside those of the run that was asked for; empty where either is not known, as where
    activations come and go over PCIe."""
    if "activations" in run.offload or step is None or asked is None:
        return ""
    return f"{step.tokens_per_second:,.0f} tokens/s, {asked.tokens_per_second:,.0f} as asked"
