"""Buffers of ranks that share experts, as the engine asks a library for them (memcalc.formulas.all_to_all)."""

from collections.abc import Iterator

from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage
from memcalc.formulas import all_to_all as formulas
from memcalc.specs.serving import Serving


def exchange_lines(run: Serving, stage: Stage, hidden: int, memory: int) -> Iterator[Line]:
    """Of the library that --all-to-all names; one buffer for all layers."""
    found = [block.traits for layer in stage.sequence.kinds for _, block in layer.blocks if block.traits.experts]
    if not run.all_to_all or not found:
        return
    experts, top_k = max((one.experts, one.top_k) for one in found)
    if run.all_to_all == "one-sided":
        tokens = run.all_to_all_tokens or run.batched_tokens(memory)
        yield line("overhead", "all-to-all workspace", "always", formulas.one_sided_bytes, ranks=run.ep, tokens=tokens,
                   hidden=hidden, top_k=top_k)  # fmt: skip
        return
    if run.engine_row.fixed_exchange:
        buffers = 2 if run.all_to_all == "deepep-normal" and run.ep > formulas.PEERS else 1
        yield line("overhead", "all-to-all buffers", "always", formulas.fixed_bytes, buffers=buffers)
    nvlink = rdma = 0
    if run.all_to_all != "deepep-low-latency" and not run.engine_row.fixed_exchange:
        nvlink, rdma = formulas.normal_tokens(run.ep)
    token = 2 * hidden + formulas.META + formulas.INDEX + formulas.WEIGHT + formulas.SCALES
    tokens = run.all_to_all_tokens or run.engine_row.exchange_tokens
    low = line("overhead", "all-to-all, low latency", "always", formulas.low_latency_bytes, tokens=tokens,
               experts=experts + run.redundant_experts, message=formulas.message_bytes(hidden))  # fmt: skip
    between = formulas.normal_bytes(formulas.CHANNELS, 0, rdma, token)
    if run.all_to_all != "deepep-normal" and low.bytes > between:  # one buffer between nodes serves both modes
        yield low
        rdma = 0
    if nvlink or rdma:
        yield line("overhead", "all-to-all, normal", "always", formulas.normal_bytes, channels=formulas.CHANNELS,
                   nvlink_tokens=nvlink, rdma_tokens=rdma, token=token)  # fmt: skip
