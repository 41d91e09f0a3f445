"""What DeepSpeed's zero_optimization says beside the stage (deepspeed/runtime/zero/config.py), in elements."""

from typing import Annotated

from memcalc.formulas.engines import DEEPSPEED
from memcalc.specs.spec import SHARDING, Flag, Spec, setting, within

Elements = Annotated[int, within(1, 10**13)]


class ZeroSettings(Spec):
    """DeepSpeed's buckets and groups."""

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
