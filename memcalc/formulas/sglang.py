"""SGLang's own arithmetic of memory: what its share of the GPU leaves for everything else, which graphs it captures, and the
rows of its table of requests (sglang/srt/server_args.py; since 0.5.20 srt/arg_groups/memory_hook.py, cuda_graph_hook.py)."""

from memcalc.formulas.formula import ESTIMATE, formula
from memcalc.frozen import NamedTuple

MEBI, GIBI = 2**20, 2**30
LEAST_TOKENS = 2048  # of a pass, that activations are reserved for
FLOOR = 10 * 1024  # MiB, on GPUs above 60 GiB
LATENT_GRAPHS = 1536  # MiB of prefill graphs of latent attention
GRAPH = 8  # MiB of each other prefill graph


class ShareFacts(NamedTuple):
    """What a server's share of the GPU depends on beside its settings."""

    latent: bool = False  # latent attention (MLA)
    tower: tuple[int, int] | None = None  # layers and width of its vision tower, as SGLang reads them
    generation: str = ""  # of the GPU


NO_FACTS = ShareFacts()


class StaticReserve(NamedTuple):
    """What is reserved beside weights and cache depends on: MiB and numbers of one server."""

    tokens: int  # of a prefill pass
    largest: int  # batch that a decode graph is captured for; 0: none
    ranks: int  # tp × pp
    prefill_graphs: float = 0  # MiB
    attention_dp: int = 1  # ranks with requests of their own inside the tensor-parallel group
    draft: int = 0  # MiB


def reserved_mib(need: StaticReserve, memory: int) -> float:
    """MiB that SGLang keeps for activations, graphs and the rest, on a GPU of `memory` bytes.

    512 + 1.5 × tokens + 2 × largest + 128 × ranks + prefill graphs, and with attention by data-parallel ranks 3 × largest × dp
    (4.5 where the largest graph is above 300); 10 GiB at least on GPUs above 60 GiB; a draft's reserve comes on top
    """
    found = 512 + 1.5 * max(need.tokens, LEAST_TOKENS) + 2 * need.largest + 128 * need.ranks + need.prefill_graphs
    if need.attention_dp > 1:
        found += need.largest * need.attention_dp * (4.5 if need.largest > 300 else 3)
    if memory > 60 * GIBI:
        found = max(found, FLOOR)
    return found + need.draft


def static_share(need: StaticReserve, memory: int, tower: tuple[int, int] | None = None) -> float:
    """SGLang's default --mem-fraction-static on a GPU of `memory` bytes, to three digits.

    (memory − reserved) / memory, and for a model with a vision tower × 0.95 × (1 − 0.1 × (its layers × width² beside those of
    ViT-L/14 − 1)), of which the second factor is 0.8 to 1.05

    >>> static_share(StaticReserve(8192, 256, 1), 80 * 2**30), static_share(StaticReserve(8192, 256, 1), 80 * 2**30, (24, 1024))
    (0.836, 0.7942)
    """
    mib = memory / MEBI
    share = round((mib - reserved_mib(need, memory)) / mib, 3)
    if tower:
        layers, width = tower
        share = round(share * 0.95 * max(0.8, min(1.05, 1 - 0.1 * (layers * width**2 / (24 * 1024**2) - 1))), 4)
    return max(0.01, share)


def decode_graphs(largest: int, guesses: bool) -> int:
    """Batches that decode graphs are captured for, up to the largest; more small ones where a draft guesses.

    >>> decode_graphs(256, False), decode_graphs(8, False), decode_graphs(48, True)
    (36, 4, 23)
    """
    if guesses:
        sizes = [*range(1, 9), *range(10, 33, 2), *range(40, 65, 4), *range(72, 257, 8), *range(272, largest + 1, 16)]
    else:
        sizes = [1, 2, 4, 8, 12, *range(16, 257, 8), *range(272, 512, 16), *range(512, largest + 1, 32)]
    return len({size for size in sizes if size <= largest} | ({largest} if largest else set()))


def prefill_graphs(tokens: int) -> int:
    """Passes that prefill graphs are captured for, by their tokens.

    >>> prefill_graphs(8192), prefill_graphs(2048)
    (58, 42)
    """
    steps = ((4, 33, 4), (48, 257, 16), (288, 513, 32), (576, 1025, 64), (1280, 4097, 256), (4608, tokens + 1, 512))
    return sum(size <= tokens for step in steps for size in range(*step))


def prefill_graphs_mib(tokens: int, latent: bool) -> int:
    """MiB of them: what they hold outside PyTorch's allocator, whose memory they share with the decode graphs.

    >>> prefill_graphs_mib(8192, False), prefill_graphs_mib(8192, True)
    (464, 1536)
    """
    return LATENT_GRAPHS if latent else GRAPH * prefill_graphs(tokens)


def request_rows(cache_tokens: int | None, context: int, limit: int | None) -> int:
    """Requests that may run at once, for each of which there is a row of the table: resolve_max_num_reqs.

    512 for every full context that the cache holds, 2,048 to 4,096, or what --max-running-requests says; never more than one
    for two tokens of the cache (None: not known)

    >>> request_rows(400_000, 131072, None), request_rows(None, 8192, 64), request_rows(100_000_000, 8192, None)
    (2048, 64, 4096)
    """
    rows = limit or max(min(512 * (cache_tokens or 0) // context, 4096), 2048)
    return rows if cache_tokens is None else max(1, min(rows, cache_tokens // 2))


@formula("sglang", "srt/mem_cache/memory_pool.py, ReqToTokenPool: int32 [requests + 1, context + 4 + draft tokens]")
def request_table_bytes(rows: int, context: int, guesses: int) -> int:
    """The table of where each request's tokens stand in the cache, kept beside the share.

    (rows + 1) × (context + 4 + guesses) × 4      rows [requests], context and guesses [tokens]. Returns bytes [B].

    >>> round(request_table_bytes(2048, 131072, 0) / 2**30, 2)
    1.0
    """
    return (rows + 1) * (context + 4 + guesses) * 4


@formula("sglang", "srt/arg_groups/memory_hook.py, reserve_for_graph_mb: what prefill graphs hold beyond PyTorch's", ESTIMATE)
def prefill_graphs_bytes(mebibytes: int) -> int:
    """CUDA graphs of prefill passes, 8 MiB each, or 1.5 GiB together of latent attention.

    mebibytes × 2²⁰      Returns bytes [B].
    """
    return mebibytes * 2**20


@formula("sglang", "srt/model_executor/pool_configurator.py: pools of fixed shares; kv_cache_configurator.py, mamba pool")
def pool_remainder_bytes(pools: int, used: int) -> int:
    """What pools of fixed shares hold while the fullest of them is full, beyond what requests use.

    max(0, pools − used)      Returns bytes [B].
    """
    return max(0, pools - used)


@formula("sglang", "srt/model_executor/pool_configurator.py, _get_c128_state_fixed_bytes: a ring of states for every request")
def states_apart_bytes(tokens: int, token_bytes: int) -> int:
    """States of compressors that are set apart for all requests that may run.

    tokens × token_bytes      token_bytes: keys and gates of a token in all layers. Returns bytes [B].
    """
    return tokens * token_bytes
