"""What each training engine can be told about a layout: ways to shard, axes to divide a model along. An engine is one row."""

from typing import Any

from memcalc.frozen import NamedTuple

Settings = dict[str, Any]
DDP: Settings = {"ddp": True}
FULL: Settings = {"fsdp": "full"}
GRAD_OP: Settings = {"fsdp": "grad-op"}
HYBRID: Settings = {"fsdp": "hybrid"}
REPLICATED = (DDP, {"zero": 0}, {"fsdp": "none"})  # nothing is cut


class Accepts(NamedTuple):
    """Ways to share model states over data-parallel ranks, and degrees that may be above 1."""

    shardings: tuple[Settings, ...]
    degrees: tuple[str, ...] = ()  # of tp, pp, cp, ep, etp
    chunks: bool = False  # interleaved pipelines
    uneven: bool = False  # embedding and loss may count as layers of a pipeline
    cp_kind: str = "ring"
    full: bool = True  # trains all weights
    adapters: bool = True  # trains adapters
    source: str = ""

    def trains(self, adapters: bool) -> bool:
        """Whether the engine trains adapters, or all weights."""
        return self.adapters if adapters else self.full


ENGINES: dict[str, Accepts] = {
    "torch": Accepts(
        (DDP, FULL, GRAD_OP, HYBRID), ("tp", "cp"),
        source="transformers' tp_plan and accelerate's ParallelismConfig (dp_replicate, dp_shard, tp, cp) over FSDP2",
    ),
    "accelerate": Accepts((FULL, GRAD_OP, HYBRID), source="accelerate/utils/dataclasses.py, FullyShardedDataParallelPlugin"),
    "deepspeed": Accepts(
        tuple({"zero": stage} for stage in range(4)), ("cp",), cp_kind="all-to-all",
        source="deepspeed/runtime/zero/config.py; deepspeed/sequence (Ulysses)",
    ),
    "megatron": Accepts(
        ({"zero": 0}, {"zero": 1}), ("tp", "pp", "cp", "ep", "etp"), chunks=True, uneven=True, adapters=False,
        source="megatron/training/arguments.py",
    ),
    "torchtitan": Accepts(
        (DDP, FULL, HYBRID), ("tp", "pp", "cp", "ep"), chunks=True, adapters=False,
        source="torchtitan/config/job_config.py, Parallelism",
    ),
    "torchtune": Accepts((FULL,), ("tp",), source="torchtune's full_finetune_distributed and lora_finetune_distributed"),
    "fsdp-qlora": Accepts((FULL,), full=False, source="fsdp_qlora/train.py"),
    "litgpt": Accepts((FULL,), source="litgpt/pretrain.py, litgpt/finetune/lora.py"),
}  # fmt: skip
# Tried where any engine will do: those that train the whole model, and those that train adapters.
ANY_FULL = ("torch", "deepspeed", "megatron", "torchtitan")
ANY_ADAPTERS = ("torch", "accelerate", "deepspeed", "torchtune")
DEGREES = ("tp", "pp", "cp", "ep", "etp")


def shards_of(sharding: Settings) -> int:
    """How much is cut, as ZeRO counts: 0 nothing, 1 optimizer states, 2 gradients too, 3 parameters too.

    >>> shards_of(DDP), shards_of(GRAD_OP), shards_of({"zero": 1})
    (0, 2, 1)
    """
    if "zero" in sharding:
        return int(sharding["zero"])
    return {"full": 3, "hybrid": 3, "grad-op": 2}.get(sharding.get("fsdp", ""), 0)
