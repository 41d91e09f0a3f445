"""Slots for LoRA adapters served beside a model: two thin matrices beside every linear that an engine wraps."""

from collections.abc import Iterator
from math import prod

from memcalc.blocks.architecture import Architecture
from memcalc.caches import cached
from memcalc.dtypes import number_format
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Held, Stage
from memcalc.formulas.engine_families import has_vocabulary_slots
from memcalc.formulas.serving import adapter_bytes
from memcalc.specs.serving import Serving

ROLES = ("attention", "mlp", "linear-attention")


def adapter_lines(architecture: Architecture, run: Serving, stage: Stage) -> Iterator[Line]:
    """One line for linears, one for routed experts, one for embedding and head."""
    if not run.lora_adapters:
        return
    size = number_format(run.compute_format).block_bytes
    ranks = (run.tp, max(1, run.tp // run.ep)) if run.sharded_adapters else (1, 1)
    beyond = run.engine_row.adapts_experts
    found = {
        "adapters": _linears(stage, ranks[0]),
        "adapters of experts": _experts(stage, architecture.hidden, ranks[1]) if beyond else 0,
        "adapters of embedding and head": _vocabulary(architecture, stage) if beyond else 0,
    }
    for name, widths in found.items():
        if widths:
            yield line("weights", name, "always", adapter_bytes, adapters=run.lora_adapters, rank=run.lora_rank, widths=widths,
                       bytes_per_value=size)  # fmt: skip


@cached(256)
def _linears(stage: Stage, ranks: int) -> int:
    """Inputs and outputs of all adapted linears; of the side that tensor parallelism leaves whole, a rank's part where the
    slots are sharded (vllm/lora/layers/column_parallel_linear.py, row_parallel_linear.py)."""
    adapted = (e for e in stage.held if e.layered and e.role in ROLES and len(e.shape) == 2)
    return sum(_widths(entry, ranks) * entry.copies for entry in adapted)


def _widths(entry: Held, ranks: int) -> int:
    split = entry.weight.split if entry.weight else None
    if split is None or ranks == 1:
        return sum(entry.shape)
    return sum(width if dim == split.dim else -(-width // ranks) for dim, width in enumerate(entry.shape))


@cached(256)
def _experts(stage: Stage, hidden: int, ranks: int) -> int:
    """Of each expert gate, up and down: their inner widths, and the hidden one three times (vllm/lora/layers/fused_moe.py)."""
    total = 0
    for entry in stage.routed.held:
        if len(entry.shape) == 3:
            inner = prod(entry.shape[1:]) // hidden
            wide = 2 if entry.path.endswith("gate_up") else 1
            total += entry.shape[0] * entry.copies * (inner + wide * -(-hidden // ranks))
    return total


def _vocabulary(architecture: Architecture, stage: Stage) -> int:
    """vllm/lora/layers/vocab_parallel_embedding.py, logits_processor.py: the whole vocabulary on every rank."""
    if not has_vocabulary_slots(architecture.model_type):
        return 0
    return (architecture.vocabulary + architecture.hidden) * ((stage.index == 0) + stage.last)
