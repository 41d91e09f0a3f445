"""PyTorch's FSDP: every tensor cut by rows. full gathers layer by layer, grad-op keeps what it gathered, hybrid shards
inside groups of ranks and replicates between them; a sharding factor of 1 replicates."""

from collections.abc import Iterator, Sequence

from memcalc.blocks.ledger import Shape
from memcalc.estimates.lines import Line
from memcalc.estimates.placement import Tensors
from memcalc.estimates.training.sharding.replicated import ddp_buckets
from memcalc.estimates.training.sharding.strategy import Around, Cutter, Places, by_rows, offloaded, tensor_shapes
from memcalc.frozen import NamedTuple
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.training import Training


class Fsdp(NamedTuple):
    """One of FSDP's sharding strategies."""

    kind: str  # full, grad-op, hybrid or none
    fp32_shards: bool = True
    wraps_layers: bool = True
    cuts_parameters: bool = True
    gradients_stand: bool = False
    cuts_optimizer: bool = True

    @property
    def cutters(self) -> tuple[Cutter, Cutter, Cutter]:
        return by_rows, by_rows, by_rows

    def ranks(self, p: Parallelism) -> tuple[int, int]:
        replicas = p.shard_ranks // p.fsdp_shards
        return p.fsdp_shards, max(1, p.expert_shard_ranks // replicas)

    def places(self, run: Training) -> Places:
        """CPUOffloadPolicy moves parameters, gradients and optimizer states together."""
        off = offloaded(run)
        if "parameters" in run.offload:
            return Places(off, "host", off)
        return Places("gpu", "gpu", off if "optimizer" in run.offload else "gpu")

    def state_shapes(self, held: Tensors, shards: int) -> Iterator[tuple[Shape, str, int]]:
        return tensor_shapes(held, shards)

    def updated(self, held: Tensors, shards: int) -> int:
        return held.elements("rows", shards)

    def buckets(self, run: Training, shards: int, trained: int, each: int) -> tuple[Line, ...]:
        return () if shards > 1 else ddp_buckets(run, trained, each)

    def step_copies(self, run: Training, parts: Sequence[tuple[Tensors, int]], each: int, master: int) -> tuple[Line, ...]:
        return ()

    def around_layer(self, run: Training, shards: int, compute: int, gradient: int) -> Around:
        if shards == 1:
            return Around()
        keeps, away = self.kind == "grad-op", self.places(run).gradients != "gpu"
        prefetches = run.engine_row.prefetches or run.recompute != "full"
        prefetches = prefetches and run.parallelism.backward_prefetch in (None, "pre")
        return Around(not keeps, keeps, True, compute, gradient, shards, away, prefetches, root_waits=True)

    def unknown_layers(self, around: Around, elements: int) -> tuple[Line, ...]:
        return (around.gathered(elements),) if around.keeps else ()
