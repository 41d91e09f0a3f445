"""One way of serving a model: weight and cache formats, context, batch, parallelism."""

from dataclasses import dataclass
from typing import Annotated

from memcalc.specs.rules import Range, SpecError, check_fields


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How a model is served: `batch` sequences of `context` tokens (prompt and answer together)."""

    weights: str = "bf16"
    kv_dtype: str = "bf16"
    context: Annotated[int, Range(1, 2**31)] = 4096
    batch: Annotated[int, Range(1, 2**24)] = 1
    tp: Annotated[int, Range(1, 65536)] = 1
    pp: Annotated[int, Range(1, 65536)] = 1
    ep: Annotated[int, Range(1, 65536)] = 1
    gpu_memory_utilization: Annotated[float, Range(0.01, 1.0)] = 0.9

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by Pydantic, never changed

    def __post_init__(self) -> None:
        check_fields(self)
        from memcalc.dtypes import number_format
        from memcalc.errors import InputError
        from memcalc.specs.quantization import check_weights

        for name, check in (("weights", check_weights), ("kv_dtype", number_format)):
            try:
                check(getattr(self, name))
            except InputError as error:
                raise SpecError(str(error), name) from None
        if max(self.ep, self.tp) % min(self.ep, self.tp):
            raise SpecError(
                f"of expert parallelism {self.ep} and tensor parallelism {self.tp} one must be a multiple of the other",
                "ep", "tp",
            )  # fmt: skip

    @property
    def gpus(self) -> int:
        return max(self.tp, self.ep) * self.pp
