"""Why an engine would not start although what is asked of it fits: refusals of its own at start."""

from collections.abc import Iterator

from memcalc.estimates.serving.capacity import ServingEstimate
from memcalc.units import format_bytes


def refusals(found: ServingEstimate, memory: int, withheld: int = 0) -> Iterator[str]:
    """Sentences for a GPU of `memory` bytes, of which `withheld` cannot be had."""
    run, row = found.run, found.run.engine_row
    name, share = row.name, found.share(memory)
    if row.starts_with_share and run.kv_cache_memory is None and (free := memory - withheld) < int(memory * share):
        yield (
            f"{name} refuses to start where less is free than its share: {share:.0%} of the GPU are "
            f"{format_bytes(memory * share)}, {format_bytes(free)} are free; "
            f"give --gpu-memory-utilization {int(100 * free / memory) / 100:g}"
        )
    if row.refuses_rows and run.split_mode == "row" and run.pp > 1:
        yield (
            "llama.cpp refuses --split-mode row in builds for CUDA and HIP since August 2026 (device does not support split "
            "buffers): take tensor or layer, or name an earlier release (--engine llama.cpp@2026.7)"
        )
    left = found.headroom_in(memory, withheld)
    if row.margin and run.gpu_layers is None and not run.overridden and 0 <= left < row.margin:
        yield (
            f"{name} leaves {format_bytes(row.margin)} of a GPU free and moves layers to host memory for that; "
            f"{format_bytes(left)} would be: --fit off (LLAMA_ARG_FIT) keeps them, --gpu-layers says how many stay"
        )
    room = found.room(memory, withheld)
    if row.block_of_state and 0 < room < found.per_sequence:  # vllm/v1/core/kv_cache_utils.py, _check_enough_kv_cache_memory
        longest = found.capacity(memory, withheld).max_context or 0
        yield (
            f"{name} refuses to start where the cache is too small for one request: {run.context:,} tokens take "
            f"{format_bytes(found.per_sequence)}, {format_bytes(room)} are there"
            + (f"; the longest that fits is --context {longest}" if longest and run.batch == 1 else "")
        )
    blocks = room // found.demand.unit
    if row.block_of_state and found.state and 0 < blocks < (sequences := run.step_sequences(memory)):
        yield (
            f"{name} refuses to start (since 2026) where a step has more sequences than there are blocks for their states: "
            f"{sequences:,}, but about {blocks:,} blocks; give --max-sequences {blocks // 10 * 9 or 1}"
        )
