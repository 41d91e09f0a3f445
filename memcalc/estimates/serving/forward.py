"""What a forward pass and sampling allocate, beside weights and cache."""

from collections.abc import Callable, Iterator
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.caches import cached
from memcalc.dtypes import number_format
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage
from memcalc.estimates.serving.encoders import Encoded, encoded, image_lines
from memcalc.estimates.serving.local import LINES
from memcalc.estimates.serving.mixers import latent_widths, widest, widest_dense, widest_experts
from memcalc.formulas import serving as formulas
from memcalc.formulas.overhead import overhead
from memcalc.formulas.serving_engines import RELEASES
from memcalc.formulas.trtllm import profiled_requests
from memcalc.frozen import NamedTuple
from memcalc.specs.serving import Serving

SAMPLERS: dict[str, Callable[..., int]] = {
    "vllm": formulas.sampling_bytes,
    "sorted": formulas.sorted_sampling_bytes,
    "logits": formulas.logits_bytes,
}


def forward_lines(architecture: Architecture, run: Serving, stage: Stage, memory: int, generation: str) -> tuple[Line, ...]:
    """The larger of a layer's widest moment and sampling; none without an engine."""
    if not run.engine:
        return ()
    if own := LINES.get(run.engine_row.kin):
        return own(architecture, run, stage, memory)
    moment = ForwardPass(
        run.engine_row.key,
        _tokens(run, memory),
        _rows(run, memory),
        run.compute_format,
        run.tp,
        run.ep,
        run.pp > 1,
        _images(architecture, run, stage, memory),
        run.attention_tp,
        _latent_chunk(run, memory),
    )
    return _lines(architecture, stage, moment, generation)


def _images(architecture: Architecture, run: Serving, stage: Stage, memory: int) -> Encoded | None:
    """Those that the peak is measured with, on the stage that embeds them."""
    if not run.engine_row.profiles_inputs or stage.index:
        return None
    return encoded(architecture, run.batched_tokens(memory), run.tp, run.images_per_prompt, run.step_sequences(memory))


def _latent_chunk(run: Serving, memory: int) -> int:
    """Tokens of earlier context that the peak is measured with."""
    if not run.engine_row.profiles_inputs:
        return 0
    return formulas.latent_chunk(run.context, run.step_sequences(memory), run.block_size or run.engine_row.block)


def _rows(run: Serving, memory: int) -> int:
    """Sequences whose logits the peak has, of as many prompts as fill a pass where it is measured with those."""
    if run.engine_row.profiles_prompts:
        return min(run.step_sequences(memory), profiled_requests(run.batched_tokens(memory), run.context))
    return run.step_sequences(memory)


def _tokens(run: Serving, memory: int) -> int:
    """Of the largest pass: an SGLang server that reads no prompts has none of them, vLLM's profile runs one all the same."""
    if run.role == "decode" and run.engine_row.request_table:
        return run.step_sequences(memory) * (1 + (run.draft_tokens or 0))
    return run.batched_tokens(memory)


class ForwardPass(NamedTuple):
    """What a forward pass depends on."""

    row: str  # of RELEASES
    tokens: int  # of the pass
    rows: int  # sequences whose logits are made
    compute_format: str
    tp: int
    ep: int
    staged: bool  # there are several pipeline stages
    images: Encoded | None = None
    attention_tp: int = 1
    latent_chunk: int = 0  # tokens of earlier context that latent attention reads at once


@cached(1024)
def _lines(architecture: Architecture, stage: Stage, run: ForwardPass, generation: str) -> tuple[Line, ...]:
    size = number_format(run.compute_format).block_bytes
    feed_forward = widest(stage, run.tp, run.ep)
    hidden, vocabulary = architecture.hidden, architecture.predicted
    layer = line("activations", "widest layer", "forward", formulas.forward_bytes, tokens=run.tokens,
                 feed_forward=feed_forward, hidden=hidden, bytes_per_value=size)  # fmt: skip
    kept: list[Line] = []
    reading = [layer]
    wide, top_k, _ = widest_experts(stage, run.tp, run.ep)
    if top_k and RELEASES[run.row].expert_workspaces:
        kept = [line("activations", "workspaces of the experts", "always", formulas.experts_workspace_bytes, tokens=run.tokens,
                     feed_forward=wide, hidden=hidden, top_k=top_k, bytes_per_value=size)]  # fmt: skip
        reading = [line("activations", "widest layer beside them", "forward", formulas.forward_bytes, tokens=run.tokens,
                        feed_forward=widest_dense(stage, run.tp), hidden=hidden, bytes_per_value=size)]  # fmt: skip
    if run.latent_chunk and (heads := latent_widths(stage, run.attention_tp))[0]:
        reading.append(line("activations", "earlier tokens of latent attention", "forward", formulas.latent_context_bytes,
                            tokens=run.latent_chunk, heads=heads[0], widths=heads[1], bytes_per_value=size))  # fmt: skip
    sampling = list(_sampling(run, hidden, vocabulary, size)) if stage.last else []
    moments = [reading, sampling]
    if run.images:
        pixels, embeddings, tower = image_lines(run.images, hidden, size)
        moments = [[*lines, pixels, embeddings] for lines in moments] + [[tower, pixels]]
    lines = kept + max(moments, key=lambda lines: sum(entry.bytes for entry in lines))
    if run.staged:
        lines.append(line("activations", "from the stage before", "forward", formulas.stage_input_bytes, tokens=run.tokens,
                          hidden=hidden, bytes_per_value=size))  # fmt: skip
    lines.append(line("activations", "workspace of matrix products", "always", formulas.outside_bytes,
                      outside=overhead(generation).workspace))  # fmt: skip
    return tuple(lines)


def passes(architecture: Architecture, run: Serving, stage: Stage) -> tuple[tuple[int, int], ...]:
    """Bytes that each moment of a forward pass takes for one sequence: a token of its prompt, and at once.

    Empty for engines that bound a forward pass, whose activations do not grow with the requests.
    """
    if not run.engine_row.whole_prompt:
        return ()
    size = number_format(run.compute_format).block_bytes
    feed_forward = widest(stage, run.tp, run.ep)
    hidden, vocabulary = architecture.hidden, architecture.predicted
    layer = formulas.forward_bytes(1, feed_forward, hidden, size)
    if not stage.last:
        return ((layer, 0),)
    logits = formulas.sorted_sampling_bytes(1, vocabulary, size) + hidden * size
    return ((layer, 0), (hidden * size, logits))


def _sampling(run: ForwardPass, hidden: int, vocabulary: int, size: int) -> Iterator[Line]:
    """The head's logits and what choosing tokens from them takes, while the last hidden states are alive."""
    kind = RELEASES[run.row].sampler
    if not kind or not vocabulary:
        return
    yield line("activations", "last hidden states", "sampling", formulas.hidden_states_bytes, tokens=run.tokens,
               rows=run.rows, hidden=hidden, bytes_per_value=size)  # fmt: skip
    shape: dict[str, Any] = {"rows": run.rows, "vocabulary": vocabulary, "bytes_per_value": size}
    if kind == "vllm":
        shape["kernel_rows"] = formulas.SAMPLER_ROWS
    yield line("activations", "sampling", "sampling", SAMPLERS[kind], **shape)
