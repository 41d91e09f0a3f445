"""What stands beside a served model to guess its tokens: weights, and the buffers that a draft is fed from."""

from memcalc.blocks.architecture import Architecture
from memcalc.dtypes import number_format
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage
from memcalc.estimates.serving.weights import weight_lines
from memcalc.formulas.drafts import METHODS, draft_buffers_bytes, draft_tables_bytes
from memcalc.formulas.serving import captured_bytes
from memcalc.formulas.sglang import decode_graphs
from memcalc.specs.serving import Serving


def freed_tables(architecture: Architecture, run: Serving) -> int:
    """Bytes of a draft's own token table and head on a rank, which an engine frees when its cache has been sized; [B]."""
    method = METHODS[run.draft_method or "model"]
    if not run.engine_row.draft_tables or not run.draft_tokens:
        return 0
    return draft_tables_bytes(min(method.tables, 1) if architecture.tied else method.tables, architecture.predicted,
                              architecture.hidden, run.tp, number_format(run.compute_format).block_bytes)  # fmt: skip


def draft_lines(draft: Architecture, run: Serving, stage: Stage, memory: int, others: tuple[Line, ...]) -> tuple[Line, ...]:
    """Lines of a draft on a rank; tables that the model's own lines (`others`) already hold are not loaded twice.

    Heads are stored in 16 bits, whatever the model's weights are.
    """
    method = METHODS[run.draft_method or "model"]
    plain = {"weights": run.compute_format} if method.head and method.name != "mtp" else {}
    own = run.replace(**plain, lora_adapters=0) if plain or run.lora_adapters else run
    there = {(entry.name, entry.bytes) for entry in others}
    lines = [entry for entry in weight_lines(draft, own, stage) if (entry.name, entry.bytes) not in there
             or not entry.name.startswith("rotary table")]  # fmt: skip
    if run.engine_row.grouped:  # vLLM's proposer
        lines.append(line("activations", "buffers", "always", draft_buffers_bytes, tokens=run.batched_tokens(memory),
                          hidden=draft.hidden, bytes_per_value=number_format(run.compute_format).block_bytes))  # fmt: skip
    if run.engine_row.request_table and (largest := run.largest_graph(memory)):  # SGLang's draft runner captures its own
        lines.append(line("overhead", "CUDA graphs", "always", captured_bytes, sizes=decode_graphs(largest, True),
                          layers=stage.layers))  # fmt: skip
    return tuple(entry._replace(name=f"draft: {entry.name}") for entry in lines)
