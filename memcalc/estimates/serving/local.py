"""Activations of engines with an accounting of their own that is neither llama.cpp's nor that of servers: mlx-lm, ExLlamaV3."""

from collections.abc import Callable, Iterator
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.block import Block
from memcalc.blocks.linears import is_linear
from memcalc.caches import cached
from memcalc.dtypes import number_format
from memcalc.errors import Unsupported
from memcalc.estimates.compute.matrices import matrices
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage
from memcalc.estimates.serving.mixers import widest
from memcalc.formulas import exllamav3, mlx
from memcalc.formulas import serving as formulas
from memcalc.specs.serving import Serving

Moment = tuple[str, Callable[..., int], dict[str, Any]]


def mlx_lines(architecture: Architecture, run: Serving, stage: Stage, memory: int) -> tuple[Line, ...]:
    """The widest moment of a chunk of a prompt in mlx-lm, or the logits."""
    size = number_format(run.compute_format).block_bytes
    tokens = min(run.batched_tokens(memory), run.context)
    blocks = {block for layer in stage.sequence.kinds for _, block in layer.blocks}
    moments = [found for block in blocks for found in _mlx_moments(architecture, run, block, tokens, size)]
    if architecture.predicted:
        shape = {"rows": run.batch * run.copies, "vocabulary": architecture.predicted, "bytes_each": size}
        moments.append(("logits", mlx.mlx_logits_bytes, shape))
    if not moments:
        return ()
    name, formula, inputs = max(moments, key=lambda moment: (moment[1](**moment[2]), moment[0]))
    return (line("activations", f"a chunk of a prompt: {name}", "forward", formula, **inputs),)


def _mlx_moments(architecture: Architecture, run: Serving, block: Block, tokens: int, size: int) -> Iterator[Moment]:
    traits, hidden = block.traits, architecture.hidden
    shape = {"tokens": tokens, "hidden": hidden, "bytes_each": size}
    if traits.experts:
        yield "experts", mlx.mlx_experts_bytes, {
            **shape, "feed_forward": traits.feed_forward, "top_k": traits.top_k, "shared": traits.shared_feed_forward,
        }  # fmt: skip
    elif traits.feed_forward:
        yield "MLP", mlx.mlx_mlp_bytes, {**shape, "feed_forward": traits.feed_forward}
    elif convolved := sum(tensor.shape[0] for tensor in block.state() if tensor.convolution):
        inner = max((t.shape[0] * max(t.shape[1:], default=1) for t in block.state() if not t.convolution), default=convolved)
        yield "recurrent layer", mlx.mlx_recurrent_bytes, {**shape, "convolved": convolved, "inner": min(inner, convolved)}
    elif traits.heads:
        yield from _mlx_attention(run, block, shape)


def _mlx_attention(run: Serving, block: Block, shape: dict[str, Any]) -> Iterator[Moment]:
    """Attention: its scores where no kernel fuses them, or a layer's cache as it grows."""
    traits, size = block.traits, shape["bytes_each"]
    narrow = number_format(run.key_format).bits_per_value < 16
    if narrow and traits.window:
        raise Unsupported("mlx-lm does not quantise the cache of layers with a sliding window (RotatingKVCache.to_quantized)")
    cells = min(run.context, traits.window - 1 + shape["tokens"]) if traits.window else run.context
    latent = bool(traits.kv_lora_rank)  # scores of the rotary part are the mask of the rest
    queries = traits.heads * (traits.nope_head_dim + traits.rope_head_dim) if latent else traits.query_size
    if narrow or latent or traits.head_dim not in mlx.FUSED:
        yield "attention scores", mlx.mlx_scores_bytes, {**shape, "cells": cells, "heads": traits.heads, "queries": queries}
        return
    each = max((cache.local_width(1) for cache in block.cache() if cache.per_token), default=0)
    grown = each * cells * size // 2  # keys, then values
    yield "attention", mlx.mlx_attention_bytes, {**shape, "queries": queries, "grown": grown}


def exllamav3_lines(architecture: Architecture, run: Serving, stage: Stage, memory: int) -> tuple[Line, ...]:
    """A layer's widest moment, the largest matrix in fp16, logits."""
    tokens = min(run.batched_tokens(memory), run.context)
    shape: dict[str, Any] = {"tokens": tokens, "feed_forward": widest(stage, run.tp, run.ep), "hidden": architecture.hidden}
    out = [line("activations", "widest layer", "forward", formulas.forward_bytes, bytes_per_value=2, **shape)]
    inputs, outputs = _largest(stage)
    packed = run.weights.startswith("exl3") or number_format_of(run.weights).startswith("exl3")
    if packed and tokens > exllamav3.RECONSTRUCTED and inputs:
        out.append(line("activations", "the largest matrix in fp16", "forward", exllamav3.reconstructed_bytes,
                        inputs=inputs, outputs=outputs))  # fmt: skip
    if stage.last and architecture.predicted:
        out.append(line("activations", "logits", "sampling", formulas.logits_bytes, rows=run.batch * run.copies,
                        vocabulary=architecture.predicted, bytes_per_value=2))  # fmt: skip
    return tuple(out)


def number_format_of(word: str) -> str:
    """The format behind a word of weights; empty where it is none."""
    from memcalc.errors import InputError

    try:
        return number_format(word).name
    except InputError:
        return ""


@cached(256)
def _largest(stage: Stage) -> tuple[int, int]:
    """Inputs and outputs of the largest linear layer, of which at most a slice is made at once."""
    found = [matrices(held) for held in stage.held if held.layered and is_linear(held.path, held.role, held.shape)]
    sizes = ((each.inputs, min(each.outputs, exllamav3.SLICE)) for each in found)
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


LINES: dict[str, Callable[[Architecture, Serving, Stage, int], tuple[Line, ...]]] = {
    "mlx": mlx_lines, "exllamav3": exllamav3_lines,
}  # fmt: skip
