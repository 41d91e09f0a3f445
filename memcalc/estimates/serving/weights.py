"""What stands in memory before the first request: weights as stored, tables, slots for adapters, a draft model."""

from collections.abc import Iterator

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.stored import StoredTensors
from memcalc.caches import cached
from memcalc.dtypes import number_format
from memcalc.errors import Unsupported
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage, stages
from memcalc.estimates.serving.adapters import adapter_lines
from memcalc.estimates.serving.files import file_lines
from memcalc.estimates.stored_weights import leading_format, stored_weights
from memcalc.formulas.serving import absorbed_bytes, file_bytes, rotary_table_bytes
from memcalc.specs.quantization import CHECKPOINT, loader
from memcalc.specs.serving import Serving
from memcalc.specs.spec import SpecError


def weight_lines(
    architecture: Architecture,
    run: Serving,
    stage: Stage,
    files: StoredTensors | None = None,
    *,
    whole: bool = False,
    generation: str = "",
) -> tuple[Line, ...]:
    """Weights of one rank, by role, and what else is loaded beside them; some stand in host memory.

    `files`: the checkpoint's own tensors, counted as they are where that is how weights are stored. `whole`: the stage is in
    one memory, its token table too. `generation`: of the GPU, for which some engines repack what they load.
    """
    row = run.engine_row
    if files and files.tensors and run.weights == CHECKPOINT:
        stored = file_lines(files, stage, row.host_embedding and not whole, architecture.tied)
    else:
        stored = stored_weights(stage, architecture, run.weights, engine=loader(row.kin, generation),
                                host_embedding=row.host_embedding and not whole)  # fmt: skip
    if row.table_on_host and not whole:
        stored = tuple(entry._replace(place="host") if entry.group == "embedding" else entry for entry in stored)
    if row.experts_on_host and not whole:
        stored = tuple(_experts_moved(architecture, run, stored))
    tables = rotary_tables(architecture) if row.rotary_table else ()
    absorbed = row.absorbs and number_format(leading_format(architecture, run.weights)).bits_per_value < 16
    slots = tuple(adapter_lines(architecture, run, stage))
    if not (tables or absorbed or slots):
        return stored
    return stored + _beside(stage, run.compute_format, tables, absorbed) + slots


def _experts_moved(architecture: Architecture, run: Serving, lines: tuple[Line, ...]) -> Iterator[Line]:
    """Routed experts in host memory, but for some of each layer: on a GPU its rank's part of those, on the host all others."""
    experts = max((block.traits.experts for block in blocks_of(architecture)), default=0)
    if not experts:
        raise Unsupported(f"{run.engine} keeps routed experts in host memory, and {architecture.name or 'the model'} has none")
    if run.gpu_experts > experts:
        raise SpecError(f"{run.gpu_experts} of {experts} experts", "gpu_experts")
    (whole,) = stages(architecture, 1, 1, 1, 1)
    everything = stored_weights(whole, architecture, run.host_experts or run.weights, engine=run.engine_row.kin)
    for entry in lines:
        if entry.group != "experts":
            yield entry
        elif run.gpu_experts:
            yield line("weights", entry.name, "always", file_bytes, stored=entry.bytes, held=run.gpu_experts,
                       whole=experts).within("experts")  # fmt: skip
    for entry in everything:
        if entry.group == "experts" and run.gpu_experts < experts:
            yield line("weights", entry.name, "always", file_bytes, "host", stored=entry.bytes,
                       held=experts - run.gpu_experts, whole=experts).within("experts")  # fmt: skip


@cached(256)
def blocks_of(architecture: Architecture) -> tuple[Block, ...]:
    """The distinct blocks of a model's layers."""
    (whole,) = stages(architecture, 1, 1, 1, 1)
    return tuple({block: None for layer in whole.sequence.kinds for _, block in layer.blocks})


@cached(1024)
def _beside(stage: Stage, compute_format: str, tables: tuple[tuple[int, int], ...], absorbed: bool) -> tuple[Line, ...]:
    size = number_format(compute_format).block_bytes
    lines = [
        line("weights", f"rotary table, {rotary_dim} wide", "always", rotary_table_bytes, positions=positions,
             rotary_dim=rotary_dim, bytes_per_value=size).within("rotary table")
        for positions, rotary_dim in tables
    ]  # fmt: skip
    latent = sum(entry.elements for entry in stage.held if (entry.weight and entry.weight.latent_up)) if absorbed else 0
    if latent:
        lines.append(line("weights", "absorbed up-projections", "always", absorbed_bytes, elements=latent,
                          bytes_per_value=size))  # fmt: skip
    return tuple(lines)


@cached(256)
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


def _rotating(architecture: Architecture) -> Iterator[Traits]:
    for part in architecture.parts:
        if part.name in ("language", "decoder"):
            for stack in part.stacks:
                for layer in stack.layers:
                    for _, block in layer.blocks:
                        if block.traits.rotary:
                            yield block.traits
