"""How the work is divided over GPUs, and which divisions contradict each other."""

from typing import Annotated

from memcalc.specs.pipeline import Pipeline
from memcalc.specs.sharding_settings import ShardingSettings
from memcalc.specs.spec import EXPERTS, HARDWARE, SHARDING, Flag, OneOf, Spec, SpecError, rule, setting, within

MAX_GPUS = 10_000_000
Degree = Annotated[int, within(1, MAX_GPUS)]
ZERO = {
    "0": "replicates everything, as DDP does",
    "1": "shards the optimizer's states",
    "2": "shards gradients too",
    "3": "shards parameters too, gathered layer by layer",
}
FSDP = {
    "full": "shards parameters, gradients and states over all GPUs (FULL_SHARD)",
    "grad-op": "keeps gathered parameters until the backward has passed (SHARD_GRAD_OP)",
    "hybrid": "shards inside a node, replicates between nodes (HYBRID_SHARD)",
    "none": "replicates (NO_SHARD)",
}
FSDP_NAMES = tuple(FSDP)
CP = {
    "ring": "passes keys and values round (Megatron-LM's p2p)",
    "all-gather": "gathers the keys and values of all ranks",
    "all-to-all": "exchanges tokens for heads (DeepSpeed-Ulysses)",
}
TP_OVERLAP = {
    "on": "cuts products and messages into pieces that run at once (--tp-comm-overlap; torchtitan's async TP)",
    "off": "waits for each message",
}
CP_KINDS = tuple(CP)  # Megatron-LM's cp_comm_type p2p, all_gather, a2a


OF_STAGES = {  # settings of DeepSpeed, and the stages that read them
    "reduce_bucket_size": (1, 2, 3), "auto_buckets": (1, 2, 3), "overlap_comm": (1, 2), "sub_group_size": (3,),
    "hpz_partition_size": (3,), "quantized_frozen": (3,), "max_live_parameters": (3,),
}  # fmt: skip


class Parallelism(Pipeline, ShardingSettings, Spec):
    """Degrees and sharding of one training job.

    Tensor × pipeline × context parallel ranks hold one copy of the model; the rest of the GPUs are data-parallel copies,
    over which ZeRO or FSDP shards. Experts have their own split of the same GPUs: expert × expert-tensor parallel.
    """

    gpus: Degree = setting(1, "Number of GPUs.", HARDWARE)
    gpus_per_node: Annotated[int, within(1, 1024)] = setting(8, "GPUs of one host.", HARDWARE)
    ddp: Flag = setting(False, "Replicate the model (what several GPUs do unless told otherwise).", SHARDING)
    zero: Annotated[int, within(0, 3)] | None = setting(
        None, "DeepSpeed ZeRO stage.", SHARDING, otherwise="no ZeRO", choices=ZERO
    )
    fsdp: Annotated[str, OneOf(FSDP_NAMES)] | None = setting(
        None, "PyTorch FSDP2 strategy.", SHARDING, otherwise="no FSDP", choices=FSDP
    )
    shard_size: Degree | None = setting(
        None, "FSDP sharding factor: 1 replicates, N shards over N ranks.", SHARDING, otherwise="all, or a node's"
    )
    tp: Degree = setting(1, "Tensor parallel degree: GPUs that share each matrix.", SHARDING)
    sequence_parallel: Flag = setting(False, "Divide norms and dropouts over tensor-parallel ranks too.", SHARDING)
    tp_overlap: Annotated[str, OneOf(tuple(TP_OVERLAP))] | None = setting(
        None, "Whether tensor-parallel messages pass beside products.", SHARDING,
        otherwise="on for Megatron with sequence_parallel; off for torchtitan", choices=TP_OVERLAP,
    )  # fmt: skip
    cp: Degree = setting(1, "Context parallel degree: GPUs that share a sequence (for long ones).", SHARDING)
    cp_kind: Annotated[str, OneOf(CP_KINDS)] = setting("ring", "How --cp exchanges keys and values.", SHARDING, choices=CP)
    ep: Degree = setting(1, "Expert parallel degree: GPUs that share the experts of a layer.", EXPERTS)
    etp: Degree = setting(1, "Tensor parallel degree inside experts.", EXPERTS)

    @property
    def data_parallel(self) -> int:
        """Copies of the model (each may itself be sharded over context-parallel ranks too)."""
        return self.gpus // (self.tp * self.pp * self.cp)

    @property
    def shard_ranks(self) -> int:
        """Ranks that ZeRO and FSDP can shard over: data × context parallel (context ranks hold equal weights)."""
        return self.data_parallel * self.cp

    @property
    def expert_shard_ranks(self) -> int:
        """The same for routed experts, which are placed over expert × expert-tensor parallel ranks."""
        return self.gpus // (self.ep * self.etp * self.pp)

    @property
    def shards_by_fsdp(self) -> bool:
        return self.fsdp_shards > 1

    @property
    def fsdp_shards(self) -> int:
        """The FSDP sharding factor: 1 = full replication, shard_ranks = full sharding, in between = hybrid."""
        if self.fsdp is None or self.fsdp == "none":
            return 1
        if self.shard_size is not None:
            return self.shard_size
        if self.fsdp == "hybrid":
            inside = max(1, self.gpus_per_node // (self.tp * self.pp))
            return next(size for size in range(min(inside, self.shard_ranks), 0, -1) if self.shard_ranks % size == 0)
        return self.shard_ranks

    @property
    def strategy(self) -> str:
        """What the report calls the division of model states."""
        if self.zero is not None:
            return f"ZeRO-{self.zero}"
        if self.fsdp is not None:
            shards = self.fsdp_shards
            kind = "hybrid" if 1 < shards < self.shard_ranks else self.fsdp
            return f"FSDP {kind}" + (f" ({shards} shards)" if self.gpus > 1 else "")
        return "DDP" if self.shard_ranks > 1 else "single GPU" if self.gpus == 1 else "model parallel"

    def check_model(self, *, heads: int, layers: int, experts: int = 0, hidden: int = 0) -> None:
        """Rules that need the model: tp divides heads, pipeline stages are not empty, ep divides experts."""
        if heads and heads % self.tp:
            accepted = ", ".join(map(str, _divisors(heads)))
            raise SpecError(f"tensor parallelism {self.tp} does not divide {heads} attention heads (try {accepted})", "tp")
        if self.pp > layers:
            raise SpecError(f"{self.pp} pipeline stages for {layers} layers; at most {layers}", "pp")
        if self.ep > 1 and not experts:
            raise SpecError(f"expert parallelism {self.ep}, but the model has no routed experts", "ep")
        if self.etp > 1 and not experts:
            raise SpecError(f"tensor parallelism {self.etp} inside experts, but the model has no routed experts", "etp")
        if experts and experts % self.ep:
            accepted = ", ".join(map(str, _divisors(experts)))
            raise SpecError(f"expert parallelism {self.ep} does not divide {experts} experts (try {accepted})", "ep")
        if self.sequence_parallel and self.tp == 1:
            raise SpecError("sequence parallelism divides over tensor-parallel ranks, but tp is 1", "sequence_parallel", "tp")
        if self.tp_overlap is not None and not self.sequence_parallel:
            raise SpecError(
                "is about messages of sequence parallelism; add sequence_parallel", "tp_overlap", "sequence_parallel"
            )

    @rule("zero", "fsdp", "ddp", "shard_size", *OF_STAGES)
    def _check_strategy(self) -> None:
        if self.fsdp is not None and self.zero is not None:
            raise SpecError(
                f"ZeRO ({self.zero}) and FSDP ({self.fsdp}) both shard the model states; choose one", "zero", "fsdp"
            )
        if self.ddp and (self.zero or self.fsdp not in (None, "none")):
            other = "zero" if self.zero else "fsdp"
            raise SpecError(f"DDP replicates what {other} shards; choose one", "ddp", other)
        if self.shard_size is not None and self.fsdp is None and self.zero != 3:
            raise SpecError(
                "the sharding factor belongs to FSDP, or to ZeRO 3 (MiCS); add fsdp full or hybrid", "shard_size", "fsdp"
            )
        said = self.model_fields_set
        for name, stages in OF_STAGES.items():
            if name in said and getattr(self, name) not in (None, False) and self.zero not in stages:
                wanted = " or ".join(map(str, stages))
                raise SpecError(f"is one of DeepSpeed's settings; add zero {wanted}", name, "zero")
        if self.quantized_frozen and self.hpz_partition_size:
            raise SpecError("with a second copy (hpZ) is not modelled", "quantized_frozen", "hpz_partition_size")
        if self.auto_buckets and self.reduce_bucket_size is None:
            raise SpecError("hidden² of which model? give its reduce_bucket_size", "auto_buckets", "reduce_bucket_size")
        if self.fsdp == "none" and self.shard_size not in (None, 1):
            raise SpecError(f"fsdp none replicates (sharding factor 1), but shard_size is {self.shard_size}", "shard_size")
        if (self.zero or 0) >= 2 and self.pp > 1:
            raise SpecError(
                f"pipeline parallelism ({self.pp}) needs whole gradients on each stage: ZeRO 0 or 1, not {self.zero}",
                "zero",
                "pp",
            )  # deepspeed/runtime/pipe/engine.py asserts the same

    @rule("tp", "pp", "cp", "ep", "etp")
    def _check_product(self) -> None:
        dense = self.tp * self.pp * self.cp
        if self.gpus % dense:
            raise SpecError(
                f"tp × pp × cp = {self.tp} × {self.pp} × {self.cp} = {dense} must divide gpus ({self.gpus}); "
                f"use {_multiple_near(self.gpus, dense):,} GPUs or smaller degrees",
                "gpus",
                *(name for name in ("tp", "pp", "cp") if getattr(self, name) > 1),
            )
        routed = self.ep * self.etp * self.pp
        if self.gpus % routed:
            raise SpecError(
                f"ep × etp × pp = {self.ep} × {self.etp} × {self.pp} = {routed} must divide gpus ({self.gpus}); "
                f"use {_multiple_near(self.gpus, routed):,} GPUs or smaller degrees",
                "gpus",
                *(name for name in ("ep", "etp", "pp") if getattr(self, name) > 1),
            )

    @rule("shard_size")
    def _check_shards(self) -> None:
        if self.shard_size is not None and self.shard_ranks % self.shard_size:
            accepted = ", ".join(map(str, _divisors(self.shard_ranks)))
            raise SpecError(
                f"the sharding factor {self.shard_size} does not divide the data-parallel size {self.shard_ranks} "
                f"(try {accepted})",
                "shard_size",
            )

    @rule("backward_prefetch", "sync_each_batch")
    def _check_fsdp(self) -> None:
        said = next((name for name in ("backward_prefetch", "sync_each_batch") if getattr(self, name)), None)
        if said and self.fsdp in (None, "none"):
            raise SpecError("is one of FSDP's settings; add fsdp full, grad-op or hybrid", said, "fsdp")
        if self.backward_prefetch and self.fsdp == "grad-op":
            raise SpecError("grad-op gathers nothing in the backward; leave it out", "backward_prefetch", "fsdp")

    @rule("cp_kind")
    def _check_exchange(self) -> None:
        if self.cp_kind != "ring" and self.cp == 1:
            raise SpecError("says how context-parallel ranks exchange keys and values, but cp is 1", "cp_kind", "cp")


def _divisors(number: int) -> list[int]:
    """Divisors for a hint: all of a small number, the smaller ones of a large one."""
    return [d for d in range(1, min(number, 512) + 1) if number % d == 0] + ([number] if number > 512 else [])


def _multiple_near(number: int, step: int) -> int:
    return max(step, number // step * step)
