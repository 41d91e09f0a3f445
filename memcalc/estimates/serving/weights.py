"""What stands in memory before the first request: weights as stored, tables, slots for adapters, a draft model."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.reused import Reused
from memcalc.dtypes import NumberFormat, number_format
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage
from memcalc.formulas import model_states
from memcalc.formulas.serving import adapter_bytes, rotary_table_bytes
from memcalc.specs.serving import Serving

# Engines leave embeddings, norms, routers and the head in 16 bit (compressed-tensors, GPTQ, AWQ and bitsandbytes alike).
QUANTISED_ROLES = ("attention", "linear-attention", "state-space", "mlp", "experts")
ADAPTED_ROLES = ("attention", "mlp")


def weight_lines(architecture: Architecture, run: Serving, stage: Stage) -> tuple[Line, ...]:
    """Weights of one rank, by role, and what else is loaded beside them."""
    tables = rotary_tables(architecture) if run.engine_row.rotary_table else ()
    return _lines(stage, run.weights, run.compute_format, tables, run.lora_adapters, run.lora_rank)


@lru_cache(maxsize=1024)
def _lines(
    stage: Stage, weights: str, compute_format: str, tables: tuple[tuple[int, int], ...], adapters: int, rank: int
) -> tuple[Line, ...]:
    lines = list(_by_format(stage, number_format(weights)))
    size = number_format(compute_format).block_bytes
    for positions, rotary_dim in tables:
        lines.append(line("weights", f"rotary table, {rotary_dim} wide", "always", rotary_table_bytes, positions=positions,
                          rotary_dim=rotary_dim, bytes_per_value=size))  # fmt: skip
    if adapters:
        lines.append(line("weights", "adapters", "always", adapter_bytes, adapters=adapters, rank=rank, widths=_widths(stage),
                          bytes_per_value=size))  # fmt: skip
    return tuple(lines)


def _by_format(stage: Stage, stored: NumberFormat) -> Iterator[Line]:
    """Weights by role; block formats leave what engines do not quantise in bf16."""
    plain = number_format("bf16")
    for (role, low), elements in _by_role(stage).items():
        chosen = stored if low or stored.bits_per_value >= 16 else plain
        yield line(
            "weights", role + ("" if low or chosen is stored else ", unquantised"), "always",
            model_states.block_format_bytes, elements=elements, block=chosen.block_size,
            bytes_per_block=chosen.block_bytes,
        )  # fmt: skip


@lru_cache(maxsize=256)
def _by_role(stage: Stage) -> dict[tuple[str, bool], int]:
    """Elements by (role, whether engines quantise them)."""
    totals: dict[tuple[str, bool], int] = {}
    for entry in stage.held:
        low = entry.layered and entry.role in QUANTISED_ROLES and len(entry.shape) >= 2
        totals[entry.role, low] = totals.get((entry.role, low), 0) + entry.elements
    return totals


@lru_cache(maxsize=256)
def _widths(stage: Stage) -> int:
    """Inputs and outputs of all adapted linears."""
    adapted = (e for e in stage.held if e.layered and e.role in ADAPTED_ROLES and len(e.shape) == 2)
    return sum(sum(entry.shape) * entry.copies for entry in adapted)


@lru_cache(maxsize=256)
def rotary_tables(architecture: Architecture) -> tuple[tuple[int, int], ...]:
    """(positions, width) of every distinct table: one a width, and one more where sliding layers rotate by their own base."""
    if not architecture.context:
        return ()
    found: dict[tuple[bool, int], int] = {}
    for block in _rotating(architecture):
        own = len(architecture.rotary_stretch) > 1 and bool(block.window)
        width = block.head_dim if block.rotary_dim is None else block.rotary_dim
        found[own, width] = round(architecture.context * architecture.rotary_stretch[own])
    return tuple((rows, width) for (_, width), rows in found.items())


def _rotating(architecture: Architecture) -> Iterator[Any]:
    for part in architecture.parts:
        if part.name in ("language", "decoder"):
            for stack in part.stacks:
                for layer in stack.layers:
                    for _, held in layer.blocks:
                        block = held.block if isinstance(held, Reused) else held
                        if getattr(block, "rotary", False) and hasattr(block, "head_dim"):
                            yield block
