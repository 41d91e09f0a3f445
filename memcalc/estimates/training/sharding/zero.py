"""DeepSpeed's ZeRO: stage 1 cuts optimizer states, 2 also gradients, 3 also parameters (Rajbhandari et al. 2020)."""

from collections.abc import Iterator, Sequence

from memcalc.blocks.ledger import Shape
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Tensors
from memcalc.estimates.training.sharding.strategy import (
    GATHERED,
    Around,
    Cutter,
    Places,
    by_elements,
    flat,
    offloaded,
    tensor_shapes,
    whole,
)
from memcalc.formulas import model_states
from memcalc.formulas.engines import DEEPSPEED
from memcalc.formulas.formula import ceil_div
from memcalc.frozen import NamedTuple
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.training import Training

CUTTERS: tuple[tuple[Cutter, Cutter, Cutter], ...] = (  # by stage: parameters, gradients, optimizer states
    (whole, whole, whole),
    (whole, whole, flat),
    (whole, flat, flat),
    (by_elements, flat, flat),
)


class Zero(NamedTuple):
    """One stage of ZeRO. Gradients of stages 2 and 3 leave through buckets. Parameters of stage 3 are fetched for every module,
    and those of later modules after it, until max_live_parameters are there; one that a later module has been found to need is
    not released (partitioned_param_coordinator.py, fetch_sub_module and __params_to_release).

    On one GPU as on many: buckets are made whatever the number of ranks (stage3.py, `bucket.buffer = torch.empty(`), and
    parameters in host memory come to the GPU as those of other ranks do (partition_parameters.py, NoGatherCoalescedHandle);
    those on the GPU are not copied there.
    """

    stage: int
    fp32_shards: bool = False
    wraps_layers: bool = False

    @property
    def gradients_stand(self) -> bool:
        """Stage 3 allocates the rank's share of all gradients at once (stage3.py, grad_partitions_flat_buffer)."""
        return self.stage == 3

    @property
    def cuts_parameters(self) -> bool:
        return self.stage == 3

    @property
    def cuts_optimizer(self) -> bool:
        return self.stage >= 1

    @property
    def cutters(self) -> tuple[Cutter, Cutter, Cutter]:
        return CUTTERS[self.stage]

    def ranks(self, p: Parallelism) -> tuple[int, int]:
        """Over all ranks, or under MiCS inside groups of them (deepspeed/runtime/zero/mics.py)."""
        groups = p.shard_ranks // (p.shard_size or p.shard_ranks)
        return p.shard_ranks // groups, max(1, p.expert_shard_ranks // groups)

    def places(self, run: Training) -> Places:
        """Gradients go to the host with the optimizer where they are cut (ZeRO-Offload, Ren et al. 2021)."""
        off = offloaded(run)
        parameters = off if "parameters" in run.offload else "gpu"
        optimizer = off if "optimizer" in run.offload else "gpu"
        return Places(parameters, "host" if optimizer != "gpu" and self.stage >= 2 else "gpu", optimizer)

    def state_shapes(self, held: Tensors, shards: int) -> Iterator[tuple[Shape, str, int]]:
        """From stage 1 on one flat partition, which the optimizer sees as a vector."""
        if not self.cuts_optimizer:
            return tensor_shapes(held, 1)
        return iter((((ceil_div(held.elements(), shards),), "flat", 1),))

    def updated(self, held: Tensors, shards: int) -> int:
        return ceil_div(held.elements(), shards if self.cuts_optimizer else 1)

    def buckets(self, run: Training, shards: int, trained: int, each: int) -> tuple[Line, ...]:
        """Contiguous gradients: stages 1 and 2 have them while a backward runs (stage_1_and_2.py, setup_buckets and
        _release_ipg_buffers), stage 3 always (stage3.py); as large as they may get, whatever the model's size."""
        buffers = DEEPSPEED.buffers[self.stage] + run.parallelism.overlap_comm
        if not buffers or run.engine_row.fp32_gradients or not trained:
            return ()
        phase = "always" if self.stage == 3 else "backward"
        return (line("communication", "reduce buckets", phase, model_states.zero_reduce_bucket_bytes,
                     bucket_elements=run.parallelism.bucket_elements, buffers=buffers, bytes_each=each),)  # fmt: skip

    def step_copies(self, run: Training, parts: Sequence[tuple[Tensors, int]], each: int, master: int) -> tuple[Line, ...]:
        """A rank's gradients are flattened into a copy, and this is cast to fp32: of one parameter group at a time in stages 1
        and 2 (stage_1_and_2.py, step), of one sub-group in stage 3 (stage3.py, _prepare_fp32_grad_for_sub_group). Stage 1 lets
        other ranks' gradients go first."""
        if not self.cuts_optimizer or run.engine_row.fp32_gradients:
            return ()
        held, shards = max(parts, key=lambda part: part[0].elements() // part[1])
        share = ceil_div(held.elements(), shards)
        at_once = min(share, run.parallelism.sub_group_elements) if self.stage == 3 else share
        released = sum(part.elements() - ceil_div(part.elements(), over) for part, over in parts) if self.stage == 1 else 0
        return (line("gradients", "flattened gradients", "optimizer step", model_states.flat_gradient_bytes, elements=at_once,
                     bytes_each=each, cast_each=master if master != each else 0, released=released),)  # fmt: skip

    def around_layer(self, run: Training, shards: int, compute: int, gradient: int) -> Around:
        if self.stage < 2:
            return Around()
        away = self.places(run).gradients != "gpu"
        gathers = self.stage == 3 and (shards > 1 or self.places(run).parameters != "gpu")
        return Around(gathers, False, True, compute, gradient, shards, away, live=run.parallelism.live_elements)

    def unknown_layers(self, around: Around, elements: int) -> tuple[Line, ...]:
        """The bucket of parameters that stage 3 fetches ahead."""
        if not around.gathers:
            return ()
        return (line("communication", GATHERED, "forward and backward", model_states.zero3_prefetch_bytes,
                     elements=elements, prefetch_elements=DEEPSPEED.prefetch_bucket, bytes_each=around.each),)  # fmt: skip
