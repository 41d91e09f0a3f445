"""Formats of main gradients, main parameters and Adam's averages (Megatron-LM's precision-aware optimizer), and the share of
the optimizer's states that is offloaded."""

from typing import Annotated

from memcalc.specs.spec import STATES, OneOf, SpecPart, setting, within

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1}
GRADIENTS, PARAMETERS, AVERAGES = ("fp32", "bf16"), ("fp32", "fp16"), tuple(BYTES)
PARTS = ("main_grads_dtype", "main_params_dtype", "exp_avg_dtype", "exp_avg_sq_dtype")


class MainStates(SpecPart):
    """megatron/core/optimizer/optimizer_config.py; DeepSpeed's offload_optimizer.ratio."""

    main_grads_dtype: Annotated[str, OneOf(GRADIENTS)] | None = setting(
        None, "Megatron's main gradients.", STATES, otherwise="fp32"
    )
    main_params_dtype: Annotated[str, OneOf(PARAMETERS)] | None = setting(
        None, "Megatron's main parameters under a precision-aware optimizer; fp32 keeps the 16 bits that bf16 lacks.", STATES,
        otherwise="fp32",
    )  # fmt: skip
    exp_avg_dtype: Annotated[str, OneOf(AVERAGES)] | None = setting(
        None, "Adam's average of gradients there.", STATES, otherwise="fp32"
    )
    exp_avg_sq_dtype: Annotated[str, OneOf(AVERAGES)] | None = setting(
        None, "Adam's average of their squares there.", STATES, otherwise="fp32"
    )
    offload_fraction: Annotated[float, within(0.0, 1.0)] = setting(
        1.0, "Share of the optimizer's states that --offload optimizer moves.", STATES
    )

    @property
    def precision_aware(self) -> bool:
        """Whether any of the formats is named."""
        return any(getattr(self, part) is not None for part in PARTS)

    @property
    def narrow_states(self) -> int:
        """How many of Adam's averages and main parameters are in fewer bits than fp32; what bf16 lacks of fp32 is none."""
        return sum(self.bytes_of(part) < 4 for part in PARTS[1:])

    def bytes_of(self, part: str) -> int:
        """Of one element of `part`."""
        return BYTES[getattr(self, part) or "fp32"]
