"""How fast a model served one way can be: the roofline, fed with the weights as this run stores them."""

from typing import NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.stored import StoredTensors
from memcalc.errors import Unsupported
from memcalc.estimates.placement import depth_of
from memcalc.estimates.serving.bytes_moved import stored_by_role
from memcalc.estimates.serving.estimate import estimate
from memcalc.estimates.serving.roofline import Roofline, roofline
from memcalc.estimates.stored_weights import leading_format, leaves_towers_out
from memcalc.specs.hardware import Accelerator
from memcalc.specs.serving import Serving


class Speed(NamedTuple):
    """The roofline, or the reason why there is none."""

    roofline: Roofline | None
    reason: str = ""


def speed(
    architecture: Architecture,
    run: Serving,
    gpu: Accelerator,
    files: StoredTensors | None = None,
    *,
    mfu: float | None = None,
    mbu: float | None = None,
    link_efficiency: float | None = None,
) -> Speed:
    """Prefill and decode of one replica; what is not modelled comes back as the reason.

    `mfu`, `mbu`, `link_efficiency`: shares of peak FLOP/s, memory and link bandwidth that it reaches; None: a published one.
    Raises InputError for what is no share.
    """
    try:
        if run.gpu_layers is not None and run.gpu_layers < depth_of(architecture):
            raise Unsupported("the speed of layers in host memory is not modelled")
        if run.draft_tokens:
            raise Unsupported("the speed of speculative decoding depends on how many guesses are right")
        if leaves_towers_out(architecture, run.weights, run.engine_row.name):
            raise Unsupported("the speed of a GGUF file that leaves the model's image or sound towers out is not modelled")
        whole = run.replace(pp=1, draft_tokens=None, lora_adapters=0)
        stored = stored_by_role(estimate(architecture, whole, gpu.architecture, gpu.allocatable, files=files).lines)
        found = roofline(
            architecture, tp=run.tp, pp=run.pp, ep=run.ep, weights_bytes_per_rank=stored,
            weights_format=leading_format(architecture, run.weights),
            kv_format=run.kv_dtype, prompt=run.prompt, context=run.context, batch=run.batch * run.copies, accelerator=gpu,
            mfu=mfu, mbu=mbu, link_efficiency=link_efficiency,
        )  # fmt: skip
    except Unsupported as error:
        return Speed(None, str(error))
    return Speed(found)
