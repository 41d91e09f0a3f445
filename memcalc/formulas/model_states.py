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


@formula("deepspeed", "reduce_bucket_size", ESTIMATE)
def zero_reduce_bucket_bytes(elements: int, bucket_elements: int, buffers: int, bytes_each: int) -> int:
    """Contiguous-gradient buckets of ZeRO 2 and 3.

    min(elements, bucket_elements) × buffers × bytes_each      buffers: 2 where communication overlaps. Returns bytes [B].
    """
    return min(elements, bucket_elements) * buffers * bytes_each


@formula("deepspeed", "stage3_prefetch_bucket_size, stage3_max_live_parameters", ESTIMATE)
def zero3_gathered_bytes(largest_layer: int, prefetch_elements: int, max_live: int, elements: int, bytes_each: int) -> int:
    """Parameters gathered at one moment under ZeRO 3: the layer in use and what is prefetched, bounded by max_live.

    min(elements, max(largest_layer, min(largest_layer + prefetch_elements, max_live))) × bytes_each. Returns bytes [B].
    """
    return min(elements, max(largest_layer, min(largest_layer + prefetch_elements, max_live))) * bytes_each


@formula("pytorch-fsdp2", "all-gather with one layer in use, one on its way, root kept", ESTIMATE)
def fsdp_gathered_bytes(root: int, largest_layer: int, layers_in_flight: int, bytes_each: int) -> int:
    """Unsharded parameters alive at one moment under FSDP full sharding.

    (root + largest_layer × layers_in_flight) × bytes_each      root: embedding, final norm and head, which the root module
    keeps gathered from forward to backward. Returns bytes [B].
    """
    return (root + largest_layer * layers_in_flight) * bytes_each


@formula("deepspeed", "partition_parameters.py: every tensor flattened and cut into equal padded parts")
def zero3_partition_bytes(partitioned_elements: int, bytes_each: int) -> int:
    """One rank's parts of all parameters under ZeRO 3.

    Σ over parameters of ceil(elements / shards), times bytes_each; the sum comes in as partitioned_elements [count].
    Returns bytes [B].
    """
    return partitioned_elements * bytes_each


@formula("memcalc", "sum over tensors of what the optimizer keeps for each shape")
def shaped_state_bytes(state_bytes: int, tensors: int) -> int:
    """Optimizer states that depend on tensor shapes (factored, low-rank, blockwise), already summed over `tensors`.

    Returns bytes [B]. The shape rules and their sources stand in memcalc.formulas.optimizers.
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
