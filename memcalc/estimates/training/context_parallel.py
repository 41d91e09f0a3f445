"""Context parallelism in an estimate: its buffers as a line, its rules against the model, what is taken for granted."""

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import main_parts
from memcalc.estimates.training.layer_kinds import Setup, recorded_kind
from memcalc.formulas.context_parallel import exchange_bytes
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

SENTENCES = {
    "ring": "keys and values travel from rank to rank, double-buffered; each rank keeps its own tokens' (Megatron's p2p)",
    "all-gather": "all ranks' keys and values are gathered, in the backward again; each rank keeps its own tokens'",
    "all-to-all": "queries, keys, values and the result are redistributed over heads (Megatron's a2a, DeepSpeed-Ulysses)",
}


def exchange_line(run: Training, setup: Setup, tokens: int) -> Line | None:
    """The largest layer's buffers; they are alive while its attention's backward runs."""
    kinds = range(len(setup.stage.sequence.marks))
    found = [made for made in (recorded_kind(setup, index).exchange for index in kinds) if made]
    if not found:
        return None
    made = max(found, key=lambda each: each.bytes)
    return line("communication", f"context parallel ({run.parallelism.cp_kind})", "backward", exchange_bytes, tokens=tokens,
                **made._asdict())  # fmt: skip


def check_heads(architecture: Architecture, run: Training) -> None:
    """Raises SpecError where all-to-all cannot spread heads over context-parallel ranks."""
    p = run.parallelism
    layers = (layer for part in main_parts(architecture) for stack in part.stacks for layer in stack.layers)
    found = (block.traits for layer in layers for _, block in layer.blocks)
    kernels = (traits for traits in found if traits.query_size and not traits.compressed)
    named = ((name, size) for traits in kernels for name, size in (("heads", traits.heads), ("kv_heads", traits.kv_heads)))
    for name, heads in named:
        # DeepSpeed's ulysses_sp.py repeats fewer key heads than ranks
        repeats = name == "kv_heads" and run.engine_row.trainer and p.tp == 1 and 0 < heads < p.cp and p.cp % heads == 0
        if heads % (p.tp * p.cp) and not repeats:
            raise SpecError(
                f"all-to-all spreads heads over tp × cp = {p.tp} × {p.cp} ranks, which do not divide {heads} {name}; "
                f"use ring or all-gather, or a smaller cp",
                "cp_kind",
                "cp",
            )
