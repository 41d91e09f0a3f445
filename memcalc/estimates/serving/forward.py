"""What a forward pass and sampling allocate, beside weights and cache."""

from collections.abc import Iterator
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.dtypes import number_format
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage
from memcalc.estimates.serving.mixers import widest
from memcalc.formulas import serving as formulas
from memcalc.formulas.overhead import overhead
from memcalc.specs.serving import Serving

CPP_ONLY = "llama.cpp"


def forward_lines(architecture: Architecture, run: Serving, stage: Stage, memory: int, generation: str) -> Iterator[Line]:
    """The larger of a layer's widest moment and sampling; none without an engine."""
    row = run.engine_row
    if not row.name:
        return
    tokens, rows = run.batched_tokens(memory), run.step_sequences(memory)
    size = number_format(run.compute_format).block_bytes
    feed_forward, queries = widest(stage, run.tp, run.ep)
    hidden, vocabulary = architecture.hidden, architecture.vocabulary
    if row.name == CPP_ONLY:
        yield line("activations", "compute buffer", "forward", formulas.compute_buffer_bytes, tokens=tokens, hidden=hidden,
                   vocabulary=vocabulary if stage.last else 0, feed_forward=feed_forward, queries=queries)  # fmt: skip
        return
    layer = line("activations", "widest layer", "forward", formulas.forward_bytes, tokens=tokens, feed_forward=feed_forward,
                 hidden=hidden, bytes_per_value=size)  # fmt: skip
    sampling = list(_sampling(run, tokens, rows, hidden, vocabulary, size)) if stage.last else []
    yield from max([layer], sampling, key=lambda lines: sum(entry.bytes for entry in lines))
    if run.pp > 1:
        yield line("activations", "from the stage before", "forward", formulas.stage_input_bytes, tokens=tokens, hidden=hidden,
                   bytes_per_value=size)  # fmt: skip
    yield line("activations", "workspace of matrix products", "always", formulas.outside_bytes,
               outside=overhead(generation).workspace)  # fmt: skip


def passes(architecture: Architecture, run: Serving, stage: Stage) -> tuple[tuple[int, int], ...]:
    """Bytes that each moment of a forward pass takes for one sequence: a token of its prompt, and at once.

    Empty for engines that bound a forward pass, whose activations do not grow with the requests.
    """
    if not run.engine_row.whole_prompt:
        return ()
    size = number_format(run.compute_format).block_bytes
    feed_forward, _ = widest(stage, run.tp, run.ep)
    hidden, vocabulary = architecture.hidden, architecture.vocabulary
    layer = formulas.forward_bytes(1, feed_forward, hidden, size)
    if not stage.last:
        return ((layer, 0),)
    logits = formulas.sorted_sampling_bytes(1, vocabulary, size) + hidden * size
    return ((layer, 0), (hidden * size, logits))


def _sampling(run: Serving, tokens: int, rows: int, hidden: int, vocabulary: int, size: int) -> Iterator[Line]:
    """The head's logits and what choosing tokens from them takes, while the last hidden states are alive."""
    kind = run.engine_row.sampler
    if not kind or not vocabulary:
        return
    yield line("activations", "last hidden states", "sampling", formulas.hidden_states_bytes, tokens=tokens, rows=rows,
               hidden=hidden, bytes_per_value=size)  # fmt: skip
    shape: dict[str, Any] = {"rows": rows, "vocabulary": vocabulary, "bytes_per_value": size}
    if kind == "vllm":
        yield line("activations", "sampling", "sampling", formulas.sampling_bytes, **shape, kernel_rows=formulas.SAMPLER_ROWS)
    elif kind == "sorted":
        yield line("activations", "sampling", "sampling", formulas.sorted_sampling_bytes, **shape)
    else:
        yield line("activations", "sampling", "sampling", formulas.logits_bytes, **shape)
