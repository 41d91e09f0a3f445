"""The cache as an engine keeps it: how many tokens of each kind of layer, in which format, in units of what."""

from collections.abc import Callable
from typing import NamedTuple

from memcalc.dtypes import NumberFormat, number_format
from memcalc.errors import Unsupported
from memcalc.estimates.lines import Line, line
from memcalc.estimates.serving.demand import Demand, Growth, Requests
from memcalc.estimates.serving.mixers import INDEX, LayerCache, LayerState, state_values
from memcalc.formulas import kv_cache
from memcalc.formulas.formula import ceil_div
from memcalc.formulas.serving import page_padding_bytes
from memcalc.specs.serving import Serving

# Tokens that a layer with a window keeps: (window, whether it is an aligned chunk, tokens of a forward pass) → tokens.
WINDOWS: dict[str, Callable[[int, bool, int], int]] = {
    "window": lambda window, chunked, batched: window,
    "last": lambda window, chunked, batched: max(1, window - 1),  # transformers' DynamicSlidingWindowLayer
    "batched": lambda window, chunked, batched: window + batched - (not chunked),  # vLLM's kv_cache_interface.py
    "padded": lambda window, chunked, batched: window + batched,  # llama-kv-cache-iswa.cpp
}
BLOCK_STEP, LATENT_STEP = 16, 64  # tokens to whose multiples vLLM rounds the block of a hybrid with recurrent layers
RECURRENT_BLOCKS = 2  # of a sequence in such a hybrid: the state, and the one a shared prefix leaves behind


class Kind(NamedTuple):
    """One kind of cache as this run keeps it; `rate` [B] is that of one layer's granule."""

    held: LayerCache
    stored: NumberFormat
    width: int
    growth: Growth

    def bytes_of(self, tokens: int) -> int:
        """Bytes of so many tokens in one layer."""
        return ceil_div(self.width * tokens * self.stored.block_bytes, self.stored.block_size)


class Kept(NamedTuple):
    """What a stage's layers keep of all requests."""

    lines: tuple[Line, ...]
    demand: Demand
    per_token: int  # bytes of one sequence's token before any window is full
    full_per_token: int  # the part of it in layers without a window


def kept(run: Serving, caches: tuple[LayerCache, ...], states: tuple[LayerState, ...], memory: int) -> Kept:
    """Lines of cache and state, and the demand of one sequence."""
    kinds = [_kind(run, held, memory) for held in caches if held.cache.per_token]
    fixed = [held for held in caches if not held.cache.per_token]
    requests = requests_of(run)
    sequences = run.batch * run.copies
    lines = _fixed_lines(run, fixed, sequences) + _state_lines(run, states, sequences)
    per_token = sum(kind.bytes_of(1) * kind.held.layers for kind in kinds)
    full = sum(kind.bytes_of(1) * kind.held.layers for kind in kinds if not kind.held.cache.window)
    if run.engine_row.grouped and (kinds or states):
        if fixed:
            raise Unsupported(f"how engine {run.engine} pages {fixed[0].cache.name} is not modelled yet; leave out --engine")
        demand, kinds = _paged(run, kinds, states)
    else:
        rates = tuple(kind.growth._replace(rate=kind.bytes_of(kind.growth.granule) * kind.held.layers) for kind in kinds)
        demand = Demand(1, sum(ceil_div(entry.bytes, sequences) for entry in lines), rates)
    pieces = requests.pieces(run.batch)
    tokens = [_kind_line(run, kind, sum(count * kind.growth.kept(length) for length, count in pieces)) for kind in kinds]
    lines = tokens + lines
    if demand.unit > 1:
        blocks = requests.base(demand) + run.batch * requests.each(demand)
        padding = line("kv_cache", "padding of pages", "always", page_padding_bytes, blocks=blocks,
                       block_bytes=demand.unit, used=sum(entry.bytes for entry in lines))  # fmt: skip
        lines += [padding] if padding.bytes else []
    return Kept(tuple(lines), demand, per_token, full)


def requests_of(run: Serving) -> Requests:
    """The pieces of context that requests keep; engines that share nothing keep every sequence whole."""
    if not run.engine_row.shares:
        return Requests(0, 0, run.context, run.copies)
    if run.copies == 1:
        return Requests(run.shared_prefix, 0, run.context - run.shared_prefix, 1)
    return Requests(run.shared_prefix, run.prompt - run.shared_prefix, run.context - run.prompt, run.copies)


def _kind(run: Serving, held: LayerCache, memory: int) -> Kind:
    row, cache = run.engine_row, held.cache
    granule = run.block_size or row.block
    cap, extra = None, 0
    if cache.window:
        kept_tokens = WINDOWS[row.window](cache.window, held.chunked, run.batched_tokens(memory))
        cap = ceil_div(kept_tokens, granule)
        extra = int(row.window == "batched" and not held.chunked)
    stored = number_format(cache.format or run.kv_dtype)
    if cache.name == INDEX and row.index_format:
        stored = number_format(row.index_format)
    return Kind(held, stored, cache.local_width(run.tp), Growth(1, granule, cap, extra))


def _kind_line(run: Serving, kind: Kind, tokens: int) -> Line:
    return line(
        "kv_cache", kind.held.name, "always", kv_cache.kv_cache_bytes, width=kind.width, tokens=tokens,
        layers=kind.held.layers, bytes_numerator=kind.stored.block_bytes, bytes_denominator=kind.stored.block_size,
    )  # fmt: skip


def _fixed_lines(run: Serving, fixed: list[LayerCache], sequences: int) -> list[Line]:
    out = []
    for held in fixed:
        stored = number_format(held.cache.format or run.kv_dtype)
        out.append(line("state", held.name, "always", kv_cache.kv_cache_bytes, width=held.cache.local_width(run.tp),
                        tokens=sequences, layers=held.layers, bytes_numerator=stored.block_bytes,
                        bytes_denominator=stored.block_size))  # fmt: skip
    return out


def _state_lines(run: Serving, states: tuple[LayerState, ...], sequences: int) -> list[Line]:
    out = []
    for held in states:
        for tensor in held.tensors:
            stored = _state_format(run, tensor.dtype)
            width = state_values(tensor, run.tp, run.engine_row.convolution_columns)
            out.append(line("state", f"{held.path}/{tensor.path}", "always", kv_cache.kv_cache_bytes, width=width,
                            tokens=sequences, layers=held.layers, bytes_numerator=stored.block_bytes,
                            bytes_denominator=stored.block_size))  # fmt: skip
    return out


def _state_format(run: Serving, dtype: str) -> NumberFormat:
    """A state's own format, or that of the activations."""
    return number_format(run.engine_row.state_format or dtype or run.compute_format)


# --- pages: vLLM's hybrid cache ---------------------------------------------------------------------------------------


def _paged(run: Serving, kinds: list[Kind], states: tuple[LayerState, ...]) -> tuple[Demand, list[Kind]]:
    """Groups of equal size that share pages of equal size (vllm/v1/core/kv_cache_utils.py).

    Every kind of layer is cut into groups as large as the smallest kind, or as the largest where that is less than half
    as large again. A block is one page of every layer of a group. Layers whose pages no common size divides are kept as
    one kind, without their windows.
    """
    if states:
        kinds = [_aligned(run, kind, states) for kind in kinds]
    pages = [kind.bytes_of(kind.growth.granule) for kind in kinds]
    page = max([*pages, *(_state_page(run, held) for held in states)])
    if not states and (any(page % each for each in pages) or not any(kind.growth.cap for kind in kinds)):
        return _uniform(kinds)
    kinds = [_stretched(kind, page // each) for kind, each in zip(kinds, pages, strict=True)]
    sizes = [kind.held.layers for kind in kinds] + [held.layers for held in states]
    size = max(sizes) if max(sizes) < 1.5 * min(sizes) else min(sizes)
    growth = tuple(kind.growth._replace(rate=ceil_div(kind.held.layers, size)) for kind in kinds)
    blocks = RECURRENT_BLOCKS if kinds else 1
    fixed = sum(blocks * ceil_div(held.layers, size) for held in states)
    return Demand(page * size, fixed, growth), kinds


def _uniform(kinds: list[Kind]) -> tuple[Demand, list[Kind]]:
    """All layers as one kind that keeps every token: a block is one page of each."""
    whole = [kind._replace(growth=kind.growth._replace(cap=None, extra=0)) for kind in kinds]
    granule = whole[0].growth.granule
    unit = sum(kind.bytes_of(granule) * kind.held.layers for kind in whole)
    return Demand(unit, 0, (Growth(1, granule),)), whole


def _stretched(kind: Kind, ratio: int) -> Kind:
    """The same with blocks of `ratio` times as many tokens, which fill the common page."""
    granule, cap = kind.growth.granule * ratio, kind.growth.cap
    if ratio == 1:
        return kind
    tokens = None if cap is None else cap * kind.growth.granule
    return kind._replace(
        growth=kind.growth._replace(granule=granule, cap=None if tokens is None else ceil_div(tokens, granule))
    )


def _aligned(run: Serving, kind: Kind, states: tuple[LayerState, ...]) -> Kind:
    """Attention beside recurrent layers takes blocks as large as their state (vllm/model_executor/models/config.py)."""
    if run.block_size:
        return kind
    step = BLOCK_STEP if kind.held.cache.heads else LATENT_STEP
    state = max(_state_page(run, held) for held in states)
    return _stretched(kind, ceil_div(step * ceil_div(state, step * kind.bytes_of(1)), kind.growth.granule))


def _state_page(run: Serving, held: LayerState) -> int:
    """Bytes of one sequence's state in one layer."""
    columns = run.engine_row.convolution_columns
    return sum(_state_format(run, t.dtype).bytes_for(state_values(t, run.tp, columns)) for t in held.tensors)
