"""What a run says of sharding beside the strategy: DeepSpeed's zero_optimization (deepspeed/runtime/zero/config.py), in
elements, and FSDP (torch/distributed/fsdp; accelerate's fsdp_config)."""

from typing import Annotated

from memcalc.formulas.engines import DEEPSPEED
from memcalc.specs.spec import SHARDING, Flag, OneOf, SpecPart, setting, within

Elements = Annotated[int, within(1, 10**13)]
PREFETCHES = {
    "pre": "gathers the next layer while one is in its backward",
    "post": "gathers it once that layer has been freed",
    "none": "gathers each when it is needed",
}


class ShardingSettings(SpecPart):
    """DeepSpeed's buckets and groups; when FSDP's parameters come and gradients go."""

    reduce_bucket_size: Elements | None = setting(
        None, "ZeRO: elements of the bucket that gradients leave through.", SHARDING, otherwise="5e8"
    )
    auto_buckets: Flag = setting(False, 'ZeRO: sizes as transformers fills in "auto" (hidden²).', SHARDING)
    sub_group_size: Elements | None = setting(
        None, "ZeRO 3: elements of a rank's parameters that are updated together.", SHARDING, otherwise="1e9"
    )
    overlap_comm: Flag = setting(False, "ZeRO 1, 2: a second bucket, to reduce beside the backward.", SHARDING)
    max_live_parameters: Annotated[int, within(0, 10**13)] | None = setting(
        None, "ZeRO 3: elements of parameters that may be whole at once.", SHARDING, otherwise="1e9"
    )
    quantized_frozen: Flag = setting(False, "ZeRO++: frozen weights in 8 bits (zero_quantized_nontrainable_weights).", SHARDING)
    hpz_partition_size: Annotated[int, within(1, 1024)] | None = setting(
        None, "ZeRO++: ranks that share a second copy of the parameters (hpZ).", SHARDING, otherwise="no second copy"
    )
    backward_prefetch: Annotated[str, OneOf(tuple(PREFETCHES))] | None = setting(
        None, "FSDP: when the backward gathers the next layer.", SHARDING,
        otherwise="pre, but for FSDP1's recomputed layers",
        choices=PREFETCHES,
    )  # fmt: skip
    sync_each_batch: Flag = setting(
        False, "FSDP: reduce gradients after every micro-batch where the engine would keep them whole (no_sync).", SHARDING
    )

    @property
    def bucket_elements(self) -> int:
        return self.reduce_bucket_size or DEEPSPEED.reduce_bucket

    @property
    def live_elements(self) -> int:
        """Elements of stage 3's parameters up to which later modules' are fetched."""
        return DEEPSPEED.max_live if self.max_live_parameters is None else self.max_live_parameters

    @property
    def sub_group_elements(self) -> int:
        return self.sub_group_size or DEEPSPEED.sub_group
