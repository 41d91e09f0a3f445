"""What a run says of FSDP beside the strategy (torch/distributed/fsdp; accelerate's fsdp_config)."""

from typing import Annotated

from memcalc.specs.spec import SHARDING, Flag, OneOf, Spec, setting

PREFETCHES = {
    "pre": "gathers the next layer while one is in its backward",
    "post": "gathers it once that layer has been freed",
    "none": "gathers each when it is needed",
}


class FsdpSettings(Spec):
    """When parameters come and gradients go."""

    backward_prefetch: Annotated[str, OneOf(tuple(PREFETCHES))] | None = setting(
        None, "FSDP: when the backward gathers the next layer.", SHARDING,
        otherwise="pre, but for FSDP1's recomputed layers",
        choices=PREFETCHES,
    )  # fmt: skip
    sync_each_batch: Flag = setting(
        False, "FSDP: reduce gradients after every micro-batch where the engine would keep them whole (no_sync).", SHARDING
    )
