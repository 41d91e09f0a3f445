"""The cache as an engine keeps it: how many tokens of each kind of layer, in which format, in units of what."""

from collections.abc import Callable, Iterator

from memcalc.blocks.mixers.state import StateTensor
from memcalc.caches import cached
from memcalc.dtypes import NumberFormat, number_format
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage
from memcalc.estimates.serving.compressed import compressed_layout
from memcalc.estimates.serving.demand import Demand, Growth, Pool, Requests
from memcalc.estimates.serving.layouts import CacheKind, CacheSetting, Fixed, Layout
from memcalc.estimates.serving.mixers import LayerCache, LayerState, caches, state_values, states
from memcalc.estimates.serving.pools import REQUESTS, state_tokens
from memcalc.formulas import kv_cache
from memcalc.formulas.cache_slots import BOUNDARY, LATENT, SLOTS, TURBO
from memcalc.formulas.formula import ceil_div
from memcalc.formulas.serving import page_padding_bytes
from memcalc.formulas.sglang import pool_remainder_bytes, states_apart_bytes
from memcalc.frozen import NamedTuple
from memcalc.specs.serving import Serving
from memcalc.specs.spec import SpecError

MORE = 2**40  # than any sequence has
# Tokens that a layer with a window keeps: (window, whether it is an aligned chunk, tokens of a forward pass) → tokens.
WINDOWS: dict[str, Callable[[int, bool, int], int]] = {
    "window": lambda window, chunked, batched: window,
    "last": lambda window, chunked, batched: max(1, window - 1),  # transformers' DynamicSlidingWindowLayer
    "batched": lambda window, chunked, batched: window + batched - (not chunked),  # vLLM's kv_cache_interface.py
    "rotating": lambda window, chunked, batched: window + batched - 1,  # mlx-lm models/cache.py, RotatingKVCache
    "ring": lambda window, chunked, batched: window + 2 * 256,  # exllamav3 modules/sliding_attn.py, kv_state_size
    "whole": lambda window, chunked, batched: MORE,
    "padded": lambda window, chunked, batched: window + batched,  # llama-kv-cache-iswa.cpp
}
SCALED_LATENTS = ("", "sm_90")  # FlashMLA's layout; Blackwell's kernels take plain fp8
BLOCK_STEP, LATENT_STEP = 16, 64  # tokens to whose multiples vLLM rounds the block of a hybrid with recurrent layers
RECURRENT_BLOCKS = 2  # of a sequence in such a hybrid: the state, and the one a shared prefix leaves behind


class Kept(NamedTuple):
    """What a stage's layers keep of all requests."""

    lines: tuple[Line, ...]
    layout: Layout
    requests: Requests
    demand: Demand
    apart: int = 0  # bytes of the states of all sequences that may run, whatever runs


def kept(
    run: Serving, stage: Stage, memory: int, draft: Stage | None = None, model_type: str = "", generation: str = "",
    shards: int = 1,
) -> Kept:  # fmt: skip
    """Lines of cache and state; `draft` is a second model's stage on the same rank; `shards`: parts of its heads beside tp."""
    windowed = run.engine_row.windowed_models
    setting = CacheSetting(
        run.engine, run.key_format, run.compute_format, run.attention_tp * shards, run.block_size, run.in_flight_tokens(memory),
        run.value_format, run.slots or 1 if run.unified else 1, run.engine_row.key if run.engine else "",
        run.draft_tokens or 0, generation in SCALED_LATENTS,
        dict(run.engine_row.window_shares).get(model_type, run.engine_row.window_share),
        windowed is None or model_type in windowed,
    )  # fmt: skip
    layout = _layout(setting, stage, draft)
    requests, sequences = _requests(run, bool(layout.sources)), run.batch * run.copies * (run.slots or 1)
    if run.engine_row.slot_states:  # all of them from the start
        sequences = max(sequences, run.step_sequences(memory))
    pieces, demand = requests.pieces(run.batch), layout.demand
    lines = []
    for kind in layout.kinds:
        tokens = sum(count * kind.growth.kept(length) for length, count in pieces) // kind.held.cache.every
        if run.engine_row.slot_states and kind.growth.cap:
            tokens = sequences * kind.growth.cap * kind.growth.granule
        made = _line("kv_cache", kind.held.name, kind.stored, kind.width, tokens, kind.held.layers)
        lines.append(made.within(kind.held.group))
    for kind in layout.sources:
        tokens = kind.growth.kept(kind.held.cache.source or run.prompt)
        made = _line("kv_cache", kind.held.name, kind.stored, kind.width, sequences * tokens, kind.held.layers)
        lines.append(made.within(kind.held.group))
        demand = demand._replace(fixed=demand.fixed + kind.growth.rate * (tokens // kind.growth.granule))
    length = run.context if setting.engine_row.window == "last" else None  # a buffer that grows, not one that is reserved
    for held in layout.fixed:
        if width := held.values(length):
            lines.append(_line("state", held.name, held.stored, width, sequences, held.layers))
        unused = (held.values(None) - width) * held.layers
        demand = demand._replace(fixed=demand.fixed - held.stored.bytes_for(unused))
    if demand.pools:
        pools = demand.unit * (requests.base(demand) + run.batch * requests.each(demand))
        rest = line("kv_cache", "rest of the pools of fixed shares", "always", pool_remainder_bytes, pools=pools,
                    used=sum(entry.bytes for entry in lines))  # fmt: skip
        lines += [rest] if rest.bytes else []
    elif layout.padded:
        blocks = requests.base(demand) + run.batch * requests.each(demand)
        padding = line("kv_cache", "padding of pages", "always", page_padding_bytes, blocks=blocks,
                       block_bytes=demand.unit, used=sum(entry.bytes for entry in lines))  # fmt: skip
        lines += [padding] if padding.bytes else []
    apart = 0
    if run.engine_row.slot_states and run.engine_row.pooled and layout.fixed:
        apart = sum(entry.bytes for entry in lines if entry.component == "state")
        demand = demand._replace(fixed=0)
    if layout.apart[0]:
        tokens = state_tokens(run.max_sequences or REQUESTS, layout.apart[1])
        lines.append(line("state", "states of all requests", "always", states_apart_bytes, tokens=tokens,
                          token_bytes=layout.apart[0]))  # fmt: skip
        apart = lines[-1].bytes
    return Kept(tuple(lines), layout, requests, demand, apart)


@cached(1024)
def _layout(setting: CacheSetting, stage: Stage, draft: Stage | None) -> Layout:
    held, recurrent = list(caches(stage)), list(states(stage))
    if any(entry.latent and not entry.cache.per_token for entry in held) and (
        whole := compressed_layout(setting, stage, draft)
    ):
        return whole
    if not setting.windows:
        held = [entry._replace(cache=entry.cache._replace(window=None)) for entry in held]
    if draft:
        held += [entry._replace(path=f"draft/{entry.path}") for entry in caches(draft)]
        recurrent += [entry._replace(path=f"draft/{entry.path}") for entry in states(draft)]
    setting = setting._replace(sparse=setting.sparse and any(entry.latent and entry.cache.indexes for entry in held))
    held = [part for entry in held for part in _boundary(setting, entry, stage, bool(recurrent))]
    kinds = [_kind(setting, entry) for one in held if one.cache.per_token for entry in _apart(setting, one)]
    fixed = [_fixed(setting, entry) for entry in held if not entry.cache.per_token]
    fixed_states = [_state(setting, entry, tensor) for entry in recurrent for tensor in entry.tensors]
    per_token = sum(kind.bytes_of(1) * kind.held.layers for kind in kinds)
    full = sum(kind.bytes_of(1) * kind.held.layers for kind in kinds if not kind.held.cache.window)
    if setting.engine_row.grouped and (kinds or recurrent) and not fixed:
        demand, kinds = _paged(setting, kinds, recurrent)
    else:
        kinds = [kind._replace(growth=kind.growth._replace(rate=kind.bytes_of(kind.growth.granule) * kind.held.layers))
                 for kind in kinds]  # fmt: skip
        rates = tuple(kind.growth for kind in kinds if kind.held.cache.source is None)
        each = sum(entry.stored.bytes_for(entry.values(None) * entry.layers) for entry in (*fixed, *fixed_states))
        each *= setting.pool
        pools = _pools(setting, kinds, each)
        demand = Demand(1, 0, (), pools=pools) if pools else Demand(1, each, rates)
    own = tuple(kind for kind in kinds if kind.held.cache.source is None)
    sources = tuple(kind for kind in kinds if kind.held.cache.source is not None)
    return Layout(own, sources, (*fixed, *fixed_states), demand, per_token, full)


def _pools(setting: CacheSetting, kinds: list[CacheKind], state: int) -> tuple[Pool, ...]:
    """Pools of fixed shares, the one of layers that keep all tokens first; none where all layers share one.

    `state`: bytes of one sequence's recurrent states.
    """
    row = setting.engine_row
    growing = tuple(kind.growth for kind in kinds)
    full, sliding = (tuple(g for g in growing if (g.cap is None) == whole) for whole in (True, False))
    if row.state_share and state and full:
        part, whole = row.state_share
        return Pool(whole - part, whole, 0, growing), Pool(
            part, whole, (row.state_slots + setting.guesses) * state, ()
        )  # a state for each guess
    if setting.window_share and full and sliding:
        part, whole = setting.window_share
        rates = [kind.growth.rate // kind.growth.granule for kind in kinds]
        whole_rate = sum(rate for rate, kind in zip(rates, kinds, strict=True) if kind.growth.cap is None) * whole
        window_rate = sum(rate for rate, kind in zip(rates, kinds, strict=True) if kind.growth.cap is not None) * part
        both = whole_rate + window_rate
        return Pool(whole_rate, both, 0, full), Pool(window_rate, both, 0, sliding)
    return ()


def _apart(setting: CacheSetting, held: LayerCache) -> Iterator[LayerCache]:
    """Keys and values as caches of their own, where their formats differ."""
    cache = held.cache
    if setting.kv_dtype == setting.value_dtype or not held.values or cache.format:
        yield held
        return
    yield held._replace(cache=cache._replace(name="keys", width=cache.width - held.values), values=0)
    yield held._replace(cache=cache._replace(name="values", width=held.values, format=setting.value_dtype), values=0)


def _boundary(setting: CacheSetting, held: LayerCache, stage: Stage, recurrent: bool) -> Iterator[LayerCache]:
    """The first and last layers apart that TurboQuant leaves in 16 bits."""
    kept = BOUNDARY * (stage.before == 0) + BOUNDARY * stage.last
    name = number_format(setting.kv_dtype).name
    if name not in TURBO or recurrent or not held.cache.heads or held.layers <= kept:
        yield held
        return
    yield held._replace(layers=held.layers - kept)
    plain = held.cache._replace(name=f"{held.cache.name}, first and last", format=setting.compute_format)
    yield held._replace(layers=kept, cache=plain)


def _stored(run: CacheSetting, held: LayerCache) -> NumberFormat:
    """The format of one kind of layer, with the bytes of a slot where these depend on a head's width."""
    row, cache = run.engine_row, held.cache
    if cache.indexes and row.index_format and held.latent:  # MiniMax M3's index keys are in the cache's format
        return number_format(row.index_format)
    own = cache.format if not cache.indexes or row.name in ("", "transformers") else ""  # an indexer's is the library's
    stored = number_format(own or run.kv_dtype)
    if run.sparse and row.sparse_fp8 and held.latent and not cache.heads and stored.name == "fp8-e4m3":
        stored = number_format(row.sparse_fp8)
    slot = SLOTS.get(stored.name)
    if not slot:
        return stored
    if stored.name in LATENT and not (held.latent and not cache.heads):
        raise SpecError(f"{stored.name} is a layout of the latents of DeepSeek's sparse attention", "kv_dtype")
    if stored.name in TURBO and not cache.heads:
        raise SpecError(f"{stored.name} is a format of keys and values, not of latents", "kv_dtype")
    return stored._replace(block_size=cache.width, block_bytes=slot(cache.width - held.values, held.values))


def _requests(run: Serving, translates: bool) -> Requests:
    """The pieces of context that requests keep; engines that share nothing keep every sequence whole.

    `translates`: an encoder reads the prompt, and the decoder's own sequence is the answer.
    """
    if translates:
        return Requests(0, 0, run.max_new_tokens or run.context, run.copies)
    if run.slots and not run.unified:
        return Requests(0, 0, run.context, 1, run.slots)
    if not run.engine_row.shares:
        return Requests(0, 0, run.context, run.copies)
    if run.copies == 1:
        return Requests(run.shared, 0, run.kept_context - run.shared, 1)
    return Requests(run.shared, run.prompt - run.shared, run.kept_context - run.prompt, run.copies)


def _kind(run: CacheSetting, held: LayerCache) -> CacheKind:
    row, cache = run.engine_row, held.cache
    granule = (run.block_size or row.block) * cache.every
    cap, extra = None, 0
    if cache.window:
        cap = ceil_div(WINDOWS[row.window](cache.window * run.pool, held.chunked, run.batched_tokens), granule)
        extra = int(row.window == "batched" and not held.chunked)
    stored = _stored(run, held)
    if row.expands and cache.expanded:
        cache = cache._replace(heads=cache.expanded)
    return CacheKind(held, stored, cache.local_width(run.tp), Growth(1, granule, cap, extra))


def _fixed(run: CacheSetting, held: LayerCache) -> Fixed:
    return Fixed(held.name, number_format(held.cache.format or run.kv_dtype), held.cache.local_width(run.tp), held.layers,
                 held.cache.every)  # fmt: skip


def _state(run: CacheSetting, held: LayerState, tensor: StateTensor) -> Fixed:
    width = state_values(tensor, run.tp, run.engine_row.convolution_columns)
    if run.engine_row.host_embedding:  # src/llama-memory-recurrent.cpp, n_rs_seq
        width *= 1 + run.guesses
    return Fixed(f"{held.path}/{tensor.path}", _state_format(run, tensor.dtype), width, held.layers)


def _line(component: str, name: str, stored: NumberFormat, width: int, tokens: int, layers: int) -> Line:
    return line(component, name, "always", kv_cache.kv_cache_bytes, width=width, tokens=tokens, layers=layers,
                bytes_numerator=stored.block_bytes, bytes_denominator=stored.block_size)  # fmt: skip


def _state_format(run: CacheSetting, dtype: str) -> NumberFormat:
    """A state's own format, or that of the activations."""
    return number_format(run.engine_row.state_format or dtype or run.compute_format)


# --- pages: vLLM's hybrid cache ---------------------------------------------------------------------------------------


def _paged(run: CacheSetting, kinds: list[CacheKind], states: list[LayerState]) -> tuple[Demand, list[CacheKind]]:
    """Groups of equal size that share pages of equal size (vllm/v1/core/kv_cache_utils.py).

    Every kind of layer is cut into groups as large as the smallest kind, or as the largest where that is less than half
    as large again. A block is one page of every layer of a group. Layers whose pages no common size divides are kept as
    one kind, without their windows.
    """
    if states:
        kinds = [_aligned(run, kind, states) for kind in kinds]
    pages = [kind.bytes_of(kind.growth.granule) for kind in kinds]
    page = max([*pages, *(_state_page(run, held) for held in states)])
    differ = any(kind.growth.cap or kind.held.cache.source is not None for kind in kinds)
    if not states and (any(page % each for each in pages) or not differ):
        return _uniform(kinds)
    kinds = [_stretched(kind, page // each) for kind, each in zip(kinds, pages, strict=True)]
    sizes = [kind.held.layers for kind in kinds] + [held.layers for held in states]
    size = max(sizes) if max(sizes) < 1.5 * min(sizes) else min(sizes)
    kinds = [kind._replace(growth=kind.growth._replace(rate=ceil_div(kind.held.layers, size))) for kind in kinds]
    growth = tuple(kind.growth for kind in kinds if kind.held.cache.source is None)
    blocks = (RECURRENT_BLOCKS if kinds else 1) + run.guesses  # MambaSpec.num_speculative_blocks
    state_groups = sum(ceil_div(held.layers, size) for held in states)
    groups = state_groups + sum(kind.growth.rate for kind in kinds)
    return Demand(page * size, blocks * state_groups, growth, groups=groups), kinds


def _uniform(kinds: list[CacheKind]) -> tuple[Demand, list[CacheKind]]:
    """All layers as one kind that keeps every token: a block is one page of each."""
    whole = [kind._replace(growth=kind.growth._replace(cap=None, extra=0)) for kind in kinds]
    granule = whole[0].growth.granule
    unit = sum(kind.bytes_of(granule) * kind.held.layers for kind in whole)
    return Demand(unit, 0, (Growth(1, granule),)), whole


def _stretched(kind: CacheKind, ratio: int) -> CacheKind:
    """The same with blocks of `ratio` times as many tokens, which fill the common page."""
    granule, cap = kind.growth.granule * ratio, kind.growth.cap
    if ratio == 1:
        return kind
    tokens = None if cap is None else cap * kind.growth.granule
    return kind._replace(
        growth=kind.growth._replace(granule=granule, cap=None if tokens is None else ceil_div(tokens, granule))
    )


def _aligned(run: CacheSetting, kind: CacheKind, states: list[LayerState]) -> CacheKind:
    """Attention beside recurrent layers takes blocks as large as their state (vllm/model_executor/models/config.py)."""
    if run.block_size:
        return kind
    step = BLOCK_STEP if kind.held.cache.heads else LATENT_STEP
    state = max(_state_page(run, held) for held in states)
    return _stretched(kind, ceil_div(step * ceil_div(state, step * kind.bytes_of(1)), kind.growth.granule))


def _state_page(run: CacheSetting, held: LayerState) -> int:
    """Bytes of one sequence's state in one layer."""
    columns = run.engine_row.convolution_columns
    return sum(_state_format(run, t.dtype).bytes_for(state_values(t, run.tp, columns)) for t in held.tensors)
