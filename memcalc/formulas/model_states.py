"""Bytes of parameters, gradients and optimizer states on one GPU, whole or sharded.

All sizes are local: tensor, pipeline and expert parallelism have already divided the elements that come in here.
"""

from memcalc.formulas.formula import ESTIMATE, ceil_div, formula


@formula("memcalc", "elements × bytes each")
def whole_bytes(elements: int, bytes_each: int) -> int:
    """A tensor kept whole on every data-parallel rank.

    elements × bytes_each      elements [count], bytes_each [B]. Returns bytes [B].

    >>> whole_bytes(elements=1_000_000_000, bytes_each=4)
    4000000000
    """
    return elements * bytes_each


@formula("rajbhandari-2020", "section 5, P_os, P_os+g, P_os+g+p")
def zero_partition_bytes(elements: int, shards: int, alignment: int, bytes_each: int) -> int:
    """One rank's part of a flat ZeRO partition.

    ceil(elements / (shards × alignment)) × alignment × bytes_each

    elements [count], shards = data-parallel size, alignment [elements]: DeepSpeed pads the flat buffer to a multiple of
    shards × 2 (nccl_start_alignment_factor in stage_1_and_2.py). Returns bytes [B].

    >>> zero_partition_bytes(elements=7_500_000_000, shards=64, alignment=2, bytes_each=12)
    1406250000
    """
    return ceil_div(elements, shards * alignment) * alignment * bytes_each


@formula("pytorch-fsdp2", "FSDPParam._init_sharded_param: torch.chunk on dim 0, padded to equal shards")
def fsdp_shard_bytes(sharded_elements: int, bytes_each: int) -> int:
    """One rank's shards of all parameters under FSDP2.

    Σ over parameters of ceil(rows / shards) × row size, times bytes_each; the sum comes in as sharded_elements [count].
    Returns bytes [B].
    """
    return sharded_elements * bytes_each


@formula("pytorch-ddp", "Reducer buckets")
def ddp_bucket_bytes(gradient_elements: int, bytes_each: int) -> int:
    """DDP's communication buckets hold a second copy of every gradient unless gradient_as_bucket_view is set.

    gradient_elements × bytes_each. Returns bytes [B].
    """
    return gradient_elements * bytes_each


@formula("deepspeed", "reduce_bucket_size")
def zero_reduce_bucket_bytes(bucket_elements: int, buffers: int, bytes_each: int) -> int:
    """Contiguous-gradient buckets of ZeRO.

    bucket_elements × buffers × bytes_each      buffers: 2 where communication overlaps. Returns bytes [B].

    >>> zero_reduce_bucket_bytes(bucket_elements=500_000_000, buffers=1, bytes_each=2)
    1000000000
    """
    return bucket_elements * buffers * bytes_each


@formula("deepspeed", "stage_1_and_2.py, step; stage3.py, _prepare_fp32_grad_for_sub_group")
def flat_gradient_bytes(elements: int, bytes_each: int, cast_each: int, released: int) -> int:
    """Copies of a rank's gradients in ZeRO's step: flattened in their own format, and cast to the master weights'.

    max(0, elements × (bytes_each + cast_each) − released × bytes_each)

    elements [count] of one group, cast_each [B] (0 where no cast is needed), released [elements]: gradients that leave
    beforehand. Returns bytes [B].

    >>> flat_gradient_bytes(elements=1_000_000, bytes_each=2, cast_each=4, released=0)
    6000000
    """
    return max(0, elements * (bytes_each + cast_each) - released * bytes_each)


@formula("deepspeed", "stage3_prefetch_bucket_size", ESTIMATE)
def zero3_prefetch_bytes(elements: int, prefetch_elements: int, bytes_each: int) -> int:
    """Parameters that ZeRO 3 fetches ahead, all that is known to be gathered of a model without layers.

    min(elements, prefetch_elements) × bytes_each      both [elements]. Returns bytes [B].
    """
    return min(elements, prefetch_elements) * bytes_each


@formula("deepspeed", "partitioned_param_coordinator.py: fetch_sub_module goes on until so many are there", ESTIMATE)
def fetched_bytes(needed: int, live: int, remaining: int, bytes_each: int) -> int:
    """Unsharded parameters under ZeRO 3: every module fetches those of later ones as well, until max_live_parameters are there
    or no more are to come.

    min(remaining, max(needed, live)) × bytes_each      needed [elements] of what runs, live [elements], remaining [elements]
    until the step's end. Returns bytes [B].

    >>> fetched_bytes(needed=218_112_000, live=1_000_000_000, remaining=8_030_261_248, bytes_each=2)
    2000000000
    """
    return min(remaining, max(needed, live)) * bytes_each


@formula("memcalc", "elements × bytes each, as the libraries' sources read: not measured", ESTIMATE)
def outside_bytes(elements: int, bytes_each: int) -> int:
    """What stands on a GPU, a host or a disk while a model is loaded or saved.

    elements × bytes_each      elements [count], bytes_each [B]. Returns bytes [B].

    >>> outside_bytes(elements=8_030_261_248, bytes_each=2)
    16060522496
    """
    return elements * bytes_each


@formula("pytorch-fsdp2", "all-gather around a layer: the one in use, the next on its way, the root throughout", ESTIMATE)
def gathered_bytes(root: int, layer: int, layers: int, bytes_each: int) -> int:
    """Unsharded parameters alive at one moment, where parameters are sharded (FSDP, ZeRO 3).

    (root + layer × layers) × bytes_each      root [elements]: embedding, final norm and head, which stay gathered from forward
    to backward; layer [elements] of each of so many layers. Returns bytes [B].

    >>> gathered_bytes(root=1_050_677_248, layer=218_112_000, layers=2, bytes_each=2)
    2973802496
    """
    return (root + layer * layers) * bytes_each


@formula("pytorch-fsdp2", "foreach_reduce: a layer's gradients, cast into the reduce-scatter's input", ESTIMATE)
def reduce_scatter_bytes(gradient: int, bytes_each: int, reduced_each: int) -> int:
    """A layer's gradients on their way into shards.

    gradient / bytes_each × reduced_each      gradient [B] as the backward made it, of elements of bytes_each [B]; reduced_each
    [B] of an element in the buffer. Returns bytes [B].
    """
    return gradient // bytes_each * reduced_each


@formula("pytorch-autograd", "a layer's gradients stand once its backward is through")
def layer_gradient_bytes(gradient: int, layers: int) -> int:
    """Whole gradients of the layers that the backward has been through.

    gradient × layers      gradient [B] of one layer. Returns bytes [B].
    """
    return gradient * layers


@formula("pytorch-fsdp2", "foreach_reduce: each rank keeps its shard of the reduced gradients")
def reduced_gradient_bytes(gradient: int, bytes_each: int, reduced_each: int, shards: int, layers: int) -> int:
    """One rank's shards of the gradients of the layers that the backward has been through.

    gradient / bytes_each × reduced_each / shards × layers      gradient [B] of one layer, as the backward made it, of elements
    of bytes_each [B]; reduced_each [B] of an element as stored. Returns bytes [B].
    """
    return gradient // bytes_each * reduced_each // shards * layers


@formula("pytorch-autograd", "torch/optim/adamw.py, _multi_tensor_adamw: one intermediate as large as all parameters")
def foreach_bytes(elements: int, bytes_each: int) -> int:
    """What a step over all tensors at once allocates while it updates.

    elements × bytes_each      elements [count] that one rank updates, bytes_each [B] of temporaries for each: one or two of
    the parameter's format, by optimizer. Returns bytes [B].
    """
    return elements * bytes_each


@formula("pytorch-autograd", "torch/optim/adamw.py, _single_tensor_adamw: two intermediates of the tensor in hand")
def for_loop_bytes(largest: int, shards: int) -> int:
    """What a step tensor by tensor allocates for the tensor that needs most.

    largest / shards      largest [B]: what that tensor's update makes, cut over so many ranks. Returns bytes [B].
    """
    return largest // shards


@formula("transformer-engine", "pytorch/optimizers/fused_adam.py, step: get_unscaled_state of every tensor of a group")
def unscaled_state_bytes(elements: int, states: int) -> int:
    """fp32 copies that Transformer Engine's FusedAdam makes of all states that it keeps in fewer bits.

    elements × states × 4      elements [count] of one parameter group (routed experts have their own), states [count]: Adam's
    averages and main parameters that are not fp32. Returns bytes [B].

    >>> unscaled_state_bytes(elements=1_000_000, states=2)
    8000000
    """
    return elements * states * 4


@formula("pytorch-autograd", "ATen/native/cuda/ForeachReduceOp.cu, foreach_tensor_norm_cuda: an fp32 partial sum a chunk")
def norm_buffer_bytes(tensors: int, largest: int, chunk: int) -> int:
    """What clip_grad_norm_ allocates while it sums squares: for every tensor as many partial sums as the largest has chunks.

    tensors × ceil(largest / chunk) × 4      tensors [count], largest [elements], chunk [elements]. Returns bytes [B].

    >>> norm_buffer_bytes(tensors=291, largest=525_336_576, chunk=65_536)
    9330624
    """
    return tensors * ceil_div(largest, chunk) * 4


@formula("deepspeed", "partition_parameters.py: every tensor flattened and cut into equal padded parts")
def zero3_partition_bytes(partitioned_elements: int, bytes_each: int) -> int:
    """One rank's parts of all parameters under ZeRO 3.

    Σ over parameters of ceil(elements / shards), times bytes_each; the sum comes in as partitioned_elements [count].
    Returns bytes [B].
    """
    return partitioned_elements * bytes_each


@formula("megatron-lm", "cpu_offloading/hybrid_optimizer.py, offload_fraction", ESTIMATE)
def offloaded_bytes(whole: int, fraction: float) -> int:
    """Optimizer states that are kept off the GPU: whole tensors until the share is reached.

    whole × fraction      whole [B], fraction of them. Returns bytes [B].

    >>> offloaded_bytes(whole=1000, fraction=0.25)
    250
    """
    return int(whole * fraction)


@formula("megatron-lm", "cpu_offloading/hybrid_optimizer.py, offload_fraction", ESTIMATE)
def staying_bytes(whole: int, fraction: float) -> int:
    """Optimizer states that stay on the GPU beside those that are offloaded.

    whole − whole × fraction      whole [B], fraction of them. Returns bytes [B].

    >>> staying_bytes(whole=1000, fraction=0.25)
    750
    """
    return whole - int(whole * fraction)


@formula("memcalc", "sum over tensors of what the optimizer keeps for each shape")
def shaped_state_bytes(state_bytes: int, tensors: int) -> int:
    """Optimizer states that depend on tensor shapes (factored, low-rank, blockwise): the sum over the `tensors` that are listed
    with the line.

    state_bytes [B]. Returns bytes [B]. The shape rules and their sources stand in memcalc.formulas.optimizers.
    """
    return state_bytes


@formula("dettmers-2023", "section 3: NF4 with double quantisation, 16 bit outside the quantised matrices")
def block_format_bytes(elements: int, block: int, bytes_per_block: int) -> int:
    """A tensor stored in a block format, scales included.

    ceil(elements / block) × bytes_per_block. Returns bytes [B].

    >>> block_format_bytes(elements=64, block=64, bytes_per_block=36)
    36
    """
    return ceil_div(elements, block) * bytes_per_block
