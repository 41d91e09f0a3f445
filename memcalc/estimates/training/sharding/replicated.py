"""One GPU, model parallelism alone, or DDP: every data-parallel rank keeps all states."""

from collections.abc import Iterator, Sequence

from memcalc.blocks.ledger import Shape
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Tensors
from memcalc.estimates.training.sharding.strategy import Around, Cutter, Places, offloaded, tensor_shapes, whole
from memcalc.formulas import model_states
from memcalc.frozen import NamedTuple
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.training import Training


class Replicated(NamedTuple):
    """Whole states everywhere; with several ranks, DDP's buckets beside the gradients."""

    fp32_shards: bool = False
    wraps_layers: bool = False
    cuts_parameters: bool = False
    gradients_stand: bool = False
    cuts_optimizer: bool = False

    @property
    def cutters(self) -> tuple[Cutter, Cutter, Cutter]:
        return whole, whole, whole

    def ranks(self, p: Parallelism) -> tuple[int, int]:
        return p.shard_ranks, p.expert_shard_ranks

    def places(self, run: Training) -> Places:
        """One GPU's optimizer may live on the host; its gradients wait on the GPU (torchao CPUOffloadOptimizer)."""
        return Places("gpu", "gpu", offloaded(run) if "optimizer" in run.offload else "gpu")

    def state_shapes(self, held: Tensors, shards: int) -> Iterator[tuple[Shape, str, int]]:
        return tensor_shapes(held, 1)

    def updated(self, held: Tensors, shards: int) -> int:
        return held.elements()

    def buckets(self, run: Training, shards: int, trained: int, each: int) -> tuple[Line, ...]:
        return ddp_buckets(run, trained, each)

    def step_copies(self, run: Training, parts: Sequence[tuple[Tensors, int]], each: int, master: int) -> tuple[Line, ...]:
        return ()

    def around_layer(self, run: Training, shards: int, compute: int, gradient: int) -> Around:
        return Around()

    def unknown_layers(self, around: Around, elements: int) -> tuple[Line, ...]:
        return ()


def ddp_buckets(run: Training, trained: int, each: int) -> tuple[Line, ...]:
    """DDP's buckets, where there is somebody to reduce gradients with; Megatron's gradients live in theirs
    (megatron/core/distributed/param_and_grad_buffer.py)."""
    if run.parallelism.shard_ranks == 1 or run.engine_row.fp32_gradients:
        return ()
    return (line("communication", "gradient buckets", "always", model_states.ddp_bucket_bytes, gradient_elements=trained,
                 bytes_each=each),)  # fmt: skip
