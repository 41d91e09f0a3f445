"""The caches and states of each layer of a GGUF file, sized as llama.cpp allocates them.

Source: src/llama-hparams.cpp (n_embd_k_gqa, n_embd_r, n_embd_s), src/llama-model.cpp (create_memory), src/llama-kv-cache*.cpp.
"""

from collections.abc import Callable, Iterator, Mapping

from memcalc.blocks.ledger import Cache, whole
from memcalc.blocks.mixers.state import StateTensor, convolution_state
from memcalc.frozen import NamedTuple
from memcalc.readers.weights.hyperparameters import Hyperparameters
from memcalc.readers.weights.llama_cpp import Keeping

FP32 = "float32"
COMPRESSED = (4, 128)  # tokens to an entry that DeepSeek V4 compresses by (DSV4_CSA_RATIO, DSV4_HCA_RATIO)


class LayerMemory(NamedTuple):
    """What one layer keeps of a sequence, and what its attention looks like."""

    caches: tuple[Cache, ...] = ()
    states: tuple[StateTensor, ...] = ()
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    value_dim: int = 0
    window: int | None = None
    chunked: bool = False


class LayerPlan(NamedTuple):
    """Of each layer that runs: its window, whether it attends, has a state or an indexer, and what it compresses by."""

    windows: tuple[int | None, ...]
    attends: tuple[bool, ...]
    recurrent: tuple[bool, ...]
    indexed: tuple[bool, ...]
    ratios: tuple[int, ...]


def layer_memory(h: Hyperparameters, kept: Keeping, layers: int) -> list[LayerMemory]:
    """One entry for each of the `layers` that are stored; the last one also has what belongs to no stored layer."""
    none = (False,) * h.all_layers
    plan = LayerPlan(
        windows=_windows(h, kept),
        attends=_attends(h, kept),
        recurrent=kept.recurrent(h) if kept.recurrent else none,
        indexed=kept.indexer.layers(h) if kept.indexer else none,
        ratios=h.each("attention.compress_ratios") if kept.compressed else (0,) * h.all_layers,
    )
    found = [_memory(h, kept, plan, layer) for layer in range(layers if kept.loops else max(layers, h.all_layers))]
    return _gathered(h, kept, found, layers)


def _memory(h: Hyperparameters, kept: Keeping, plan: LayerPlan, number: int) -> LayerMemory:
    layer = min(number, h.all_layers - 1)
    window, ratio = plan.windows[layer], plan.ratios[layer]
    caches = tuple(_caches(h, kept, layer, window)) if plan.attends[layer] else ()
    caches += tuple(_index(h, kept)) if plan.indexed[layer] else ()
    caches += tuple(_entries(h, ratio, caches)) if ratio else ()
    if kept.loops:
        caches *= kept.loops(h, number)
    states = tuple(STATES[kept.state](h, layer)) if kept.state and plan.recurrent[layer] else ()
    states += tuple(_unfinished(h, ratio)) if ratio and layer < h.layers else ()
    heads = (h.heads[layer], h.kv_heads[layer], *_sizes(h, bool(window))) if plan.attends[layer] or not kept.cached else ()
    made = LayerMemory(caches, states, *heads)
    return made._replace(window=window, chunked=bool(kept.sliding and kept.sliding.chunked and window))


def _gathered(h: Hyperparameters, kept: Keeping, found: list[LayerMemory], layers: int) -> list[LayerMemory]:
    """The stored layers; the last one takes the caches of layers that are not stored."""
    beyond = tuple(cache for memory in found[layers:] for cache in memory.caches)
    if kept.router:  # the layer that chooses adapters: one head
        beyond += (Cache("keys and values of the router", 1, h.key_length + h.value_length),)
    if beyond and layers:
        found[layers - 1] = found[layers - 1]._replace(caches=found[layers - 1].caches + beyond)
    return found[:layers]


def _windows(h: Hyperparameters, kept: Keeping) -> tuple[int | None, ...]:
    if kept.compressed:
        return (h.whole("attention.sliding_window", least=1),) * h.all_layers
    tokens = kept.sliding.tokens(h) if kept.sliding else 0
    if not kept.sliding or not tokens:
        return (None,) * h.all_layers
    return tuple(tokens if slides else None for slides in kept.sliding.layers(h))


def _attends(h: Hyperparameters, kept: Keeping) -> tuple[bool, ...]:
    """Layers with a cache of their own."""
    if not kept.cached or kept.borrowed:
        return (False,) * h.all_layers
    attends = kept.attends(h) if kept.attends else (True,) * h.all_layers
    if kept.attends is None and not kept.predicts and not kept.compressed and h.layers:
        attends = tuple(attends[layer] and layer < h.layers for layer in range(h.all_layers))
    shared = kept.shared(h) if kept.shared else 0
    return tuple(attends[layer] and layer < h.all_layers - shared for layer in range(h.all_layers))


def _sizes(h: Hyperparameters, window: bool) -> tuple[int, int]:
    return (h.window_key_length, h.window_value_length) if window else (h.key_length, h.value_length)


def _latent(h: Hyperparameters, kept: Keeping) -> bool:
    """llama_hparams::is_mla: only then are values read from the keys."""
    return kept.latent and all(h.whole(f"attention.{size}_length_mla", 0) for size in ("key", "value"))


def _caches(h: Hyperparameters, kept: Keeping, layer: int, window: int | None) -> Iterator[Cache]:
    key, value = _sizes(h, bool(window))
    heads = h.kv_heads[layer]
    if kept.compressed:
        yield Cache("keys and values", 0, heads * key, window)
    elif _latent(h, kept):
        yield Cache("latent", 0, heads * key, window)
    elif heads:
        yield Cache("keys and values", heads, key + value, window)


def _index(h: Hyperparameters, kept: Keeping) -> Iterator[Cache]:
    if indexer := kept.indexer:
        width = indexer.copies * h.whole("attention.indexer.key_length", 0)
        values = indexer.values or (kept.latent and not _latent(h, kept))  # a cache that is no latent has values too
        if width:
            yield Cache("index keys", 0, width + (h.value_length if values else 0))


def _entries(h: Hyperparameters, every: int, whole_keys: tuple[Cache, ...]) -> Iterator[Cache]:
    """DeepSeek V4: an entry for every so many tokens; where it stands for four, an indexer's beside it."""
    if every in COMPRESSED:
        yield Cache("compressed entries", 0, whole_keys[0].width, every=every)
        if every == COMPRESSED[0]:
            yield Cache("index entries", 0, h.whole("attention.indexer.key_length"), every=every)


def _unfinished(h: Hyperparameters, every: int) -> Iterator[StateTensor]:
    """Keys and scores of windows that are not full yet, in fp32: llama_dsv4_comp_state."""
    if every == COMPRESSED[0]:
        yield _state("unfinished entries", 2 * 2 * every, 2 * h.key_length)
        yield _state("unfinished index entries", 2 * 2 * every, 2 * h.whole("attention.indexer.key_length"))
    elif every == COMPRESSED[1]:
        yield _state("unfinished entries", 2 * every, h.key_length)


def _state(name: str, rows: int, width: int) -> StateTensor:
    return StateTensor(name, (rows, width), whole(0, rows), FP32)


def _state_space(groups: bool) -> Callable[[Hyperparameters, int], Iterator[StateTensor]]:
    def state(h: Hyperparameters, layer: int) -> Iterator[StateTensor]:
        inner, size, kernel = h.whole("ssm.inner_size"), h.whole("ssm.state_size"), h.whole("ssm.conv_kernel")
        shared = 2 * h.whole("ssm.group_count") * size if groups else 0
        yield convolution_state(kernel, ((inner + shared, 1),))
        yield _state("recurrent", inner, size)

    return state


def _history(h: Hyperparameters, layer: int) -> Iterator[StateTensor]:
    """A delta net, and in the layer that looks n-grams up the inputs of a convolution over them (ple_conv_state)."""
    yield from _state_space(groups=True)(h, layer)
    listed = h.keys.get("ple.layers")
    if isinstance(listed, list) and layer in listed:
        rows = (h.whole("ple.conv_kernel", least=1) - 1) * h.whole("ple.ngram_size")
        yield _state("n-grams", rows * h.whole("hyper_connection.count"), h.hidden)


def _weighted(h: Hyperparameters, layer: int) -> Iterator[StateTensor]:
    """RWKV: the last tokens' inputs, and a matrix for each head."""
    yield _state("shifted", h.whole("token_shift_count", 2), h.hidden)
    yield _state("recurrent", h.hidden, h.whole("wkv.head_size"))


def _short(h: Hyperparameters, layer: int) -> Iterator[StateTensor]:
    yield convolution_state(h.whole("shortconv.l_cache", least=1), ((h.hidden, 1),))


def _kda(h: Hyperparameters, layer: int) -> Iterator[StateTensor]:
    size, heads = h.whole("kda.head_dim"), h.heads[0]
    yield convolution_state(h.whole("ssm.conv_kernel") or 4, ((3 * heads * size, 1),))
    yield _state("recurrent", heads * size, size)


def _lightning(h: Hyperparameters, layer: int) -> Iterator[StateTensor]:
    yield _state("recurrent", h.heads[0] * h.key_length, h.key_length)


STATES: Mapping[str, Callable[[Hyperparameters, int], Iterator[StateTensor]]] = {
    "ssm": _state_space(groups=False),
    "ssm-grouped": _state_space(groups=True),
    "ssm-history": _history,
    "wkv": _weighted,
    "shortconv": _short,
    "kda": _kda,
    "lightning": _lightning,
}
