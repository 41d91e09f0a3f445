"""One training run: precision, optimizer, batch, what is trained and what is recomputed or offloaded."""

from dataclasses import dataclass, field
from typing import Annotated

from memcalc.blocks.profile import KERNELS, LOSSES
from memcalc.formulas.engines import ENGINES, Engine
from memcalc.formulas.optimizers import OPTIMIZERS, optimizer
from memcalc.formulas.precision import PRECISION_NAMES
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.rules import Choice, Range, SpecError, check_fields

OPTIMIZER_NAMES = tuple(OPTIMIZERS)
METHODS = ("full", "lora", "qlora", "dora", "qat")
ADAPTER_METHODS = ("lora", "qlora", "dora")
RECOMPUTE = ("none", "selective", "full")
OFFLOADABLE = ("optimizer", "parameters", "activations")
ATTENTION = ("eager", "sdpa", "flash")
KERNEL_NAMES = tuple(KERNELS)
LOSS_NAMES = tuple(LOSSES)
FREEZABLE = ("embeddings",)
BASE_FORMATS = ("nf4-dq", "nf4")
OPTIMIZER_IMPLS = ("fused", "foreach", "for-loop")
MAX_TOKENS = 2**40


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is trained. Sizes are per GPU: micro_batch sequences of seq_len tokens at a time."""

    parallelism: Parallelism = field(default_factory=Parallelism)
    precision: Annotated[str, Choice(PRECISION_NAMES)] = "bf16-mixed"
    optimizer: Annotated[str, Choice(OPTIMIZER_NAMES)] = "adamw"
    micro_batch: Annotated[int, Range(1, 2**24)] = 1
    grad_accum: Annotated[int, Range(1, 2**24)] = 1
    seq_len: Annotated[int, Range(1, 2**31)] = 4096
    recompute: Annotated[str, Choice(RECOMPUTE)] = "none"
    recompute_every: Annotated[int, Range(1, 65536)] | None = None  # full: each so-many-th layer alone
    recompute_layers: Annotated[int, Range(1, 65536)] | None = None  # full: the first so many of each pipeline stage alone
    expert_imbalance: Annotated[float, Range(1.0, 65536.0)] = 1.0  # rows on the busiest expert-parallel rank over the mean
    capacity_factor: Annotated[float, Range(0.01, 65536.0)] | None = None  # bounds an expert's rows; None: no token is dropped
    pad_to_capacity: bool = False  # every expert computes as many rows as its capacity
    attention: Annotated[str, Choice(ATTENTION)] = "sdpa"
    kernels: Annotated[str, Choice(KERNEL_NAMES)] | None = None  # default: the engine's
    loss: Annotated[str, Choice(LOSS_NAMES)] | None = None  # default: the kernels', or else the engine's
    optimizer_impl: Annotated[str, Choice(OPTIMIZER_IMPLS)] | None = None  # default: the engine's
    engine: Annotated[str, Choice(tuple(ENGINES))] | None = None  # default: deepspeed under ZeRO, else torch
    method: Annotated[str, Choice(METHODS)] = "full"
    freeze: tuple[Annotated[str, Choice(FREEZABLE)], ...] = ()  # weights that are not trained under full or qat
    lora_rank: Annotated[int, Range(1, 65536)] = 16
    lora_targets: tuple[str, ...] = ("all-linear",)
    lora_dropout: Annotated[float, Range(0.0, 0.999)] = 0.0  # on the adapters' input
    base_format: Annotated[str, Choice(BASE_FORMATS)] = "nf4-dq"  # of the frozen matrices under qlora
    offload: tuple[Annotated[str, Choice(OFFLOADABLE)], ...] = ()
    offload_to: Annotated[str, Choice(("cpu", "nvme"))] = "cpu"

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by Pydantic, never changed

    def __post_init__(self) -> None:
        check_fields(self)
        if self.micro_batch * self.seq_len > MAX_TOKENS:
            raise SpecError(
                f"{self.micro_batch:,} × {self.seq_len:,} tokens at once is beyond any GPU", "micro_batch", "seq_len"
            )
        if self.seq_len % self.parallelism.cp:
            raise SpecError(
                f"context parallelism {self.parallelism.cp} must divide the sequence of {self.seq_len} tokens",
                "cp",
                "seq_len",
            )
        if self.parallelism.sequence_parallel and self.seq_len // self.parallelism.cp % self.parallelism.tp:
            raise SpecError(
                f"sequence parallelism: tp {self.parallelism.tp} must divide the {self.seq_len // self.parallelism.cp} tokens "
                f"of a sequence",
                "tp",
                "seq_len",
            )
        self._check_recomputation()
        self._check_routing()
        if self.freeze and self.adapts:
            raise SpecError(f"{self.method} freezes the whole model; only its adapters are trained", "freeze", "method")
        self._check_sharding()

    @property
    def engine_row(self) -> Engine:
        """The engine asked for; ZeRO is DeepSpeed's unless another is named."""
        return ENGINES[self.engine or ("deepspeed" if self.parallelism.zero is not None else "torch")]

    @property
    def adapts(self) -> bool:
        """Whether adapters are trained beside frozen weights."""
        return self.method in ADAPTER_METHODS

    @property
    def kernels_used(self) -> str:
        return self.kernels or self.engine_row.kernels

    @property
    def loss_used(self) -> str:
        return self.loss or KERNELS[self.kernels_used].loss or self.engine_row.loss

    @property
    def optimizer_impl_used(self) -> str:
        return self.optimizer_impl or self.engine_row.optimizer_impl

    @property
    def fsdp(self) -> bool:
        return self.parallelism.fsdp is not None

    def _check_recomputation(self) -> None:
        for name in ("recompute_every", "recompute_layers"):
            if getattr(self, name) is not None and self.recompute != "full":
                raise SpecError("says which layers are recomputed; add recompute full", name, "recompute")
        if self.recompute_every is not None and self.recompute_layers is not None:
            raise SpecError("each n-th layer, or the first n of a stage; choose one", "recompute_every", "recompute_layers")

    def _check_routing(self) -> None:
        if self.expert_imbalance > 1 and self.parallelism.ep == 1:
            raise SpecError(
                "one rank holds all experts, so it has all rows however they spread; add ep", "expert_imbalance", "ep"
            )
        if self.pad_to_capacity and self.capacity_factor is None:
            raise SpecError(
                "pads each expert's rows to its capacity; add a capacity_factor", "pad_to_capacity", "capacity_factor"
            )
        if self.pad_to_capacity and self.expert_imbalance > 1:
            raise SpecError(
                "padded experts compute as many rows however tokens spread; choose one", "pad_to_capacity", "expert_imbalance"
            )

    def _check_sharding(self) -> None:
        row, zero, fsdp = optimizer(self.optimizer), self.parallelism.zero or 0, self.parallelism.fsdp
        if zero and not row.elementwise:
            raise SpecError(
                f"{self.optimizer} looks at whole matrices, but ZeRO {zero} cuts the flattened parameters; "
                f"use --zero 0, or an elementwise optimizer such as adamw",
                "optimizer",
                "zero",
            )
        if "parameters" in self.offload and zero != 3 and fsdp in (None, "none"):
            raise SpecError(
                "offloading parameters needs them sharded: zero 3, or fsdp full, grad-op or hybrid", "offload", "zero"
            )
        if "optimizer" in self.offload and not zero and fsdp in (None, "none"):
            raise SpecError("offloading the optimizer needs zero 1, 2 or 3, or fsdp", "offload", "zero")
        if self.offload_to == "nvme" and zero != 3:
            raise SpecError("NVMe offload is part of ZeRO 3 (ZeRO-Infinity)", "offload_to", "zero")
