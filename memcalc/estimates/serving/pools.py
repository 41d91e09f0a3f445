"""Pools of fixed shares of SGLang's cache: of layers that keep all tokens, of sliding layers, of recurrent states, and of
compressed entries (srt/model_executor/pool_configurator.py, DSV4PoolConfigurator; mem_cache/deepseek_v4_memory_pool.py)."""

from math import ceil

from memcalc.estimates.serving.demand import Growth, Pool
from memcalc.estimates.serving.packed import STATE_PAGE, Page
from memcalc.frozen import NamedTuple

PAGE = 256  # tokens of a page of compressed entries and of their windows
REQUESTS = 256  # that run at once where nothing is said, beside compressed entries


class EntryPools(NamedTuple):
    """Pools of compressed entries, and the bytes of the states that every running sequence has for itself."""

    growth: tuple[Growth, ...]  # of each page, bytes a page of tokens of all its layers
    pools: tuple[Pool, ...]
    state: int  # bytes of a token's state in all layers whose states go with the sequence
    ring: int  # tokens of it that a sequence has room for


def shared(found: tuple[Page, ...], share: tuple[int, int], *, guessing: bool, in_window: bool) -> EntryPools:
    """`share`: of the tokens, those that layers with a window have. `guessing`: a draft guesses, for which states hold twice
    as many tokens, and whose layer is paid for as one more of the model's.

    `in_window`: states of entries whose windows do not overlap share the windows' pool too (before 0.5.14), which counted a
    window more than there are layers.
    """
    layers = sum(page.layers for page in found if page.window and not page.state)
    growth, state, ring = [], 0, 0
    for page in found:
        rate = page.stored.bytes_for(page.width) * page.layers  # of an entry, or of a token
        if page.state and page.window and not _overlaps(page) and not in_window:
            state += rate
            ring = page.window * (2 if guessing else 1)
            growth.append(Growth(0, PAGE, 1))
            continue
        if page.state and page.window:
            rate = rate * page.window * (2 if guessing else 1) * PAGE // _window(found)
        else:
            rate = rate * PAGE // page.every
            if in_window and page.window:
                rate = rate * (layers + 1) // layers  # of the config's list of ratios, which ends with the prediction layer's
        rate = ceil(rate * (layers + 1) / layers) if guessing else rate
        growth.append(Growth(rate, PAGE, None if page.window is None else ceil(_window(found) / PAGE)))
    whole, sliding = (tuple(g for g in growth if g.rate and (g.cap is None) == entire) for entire in (True, False))
    part, of = share
    both = sum(g.rate for g in whole) * of + sum(g.rate for g in sliding) * part
    pools = (Pool(sum(g.rate for g in whole) * of, both, 0, whole), Pool(sum(g.rate for g in sliding) * part, both, 0, sliding))
    return EntryPools(tuple(growth), pools, state, ring)


def _window(found: tuple[Page, ...]) -> int:
    return max(page.window or 0 for page in found if not page.state)


def _overlaps(page: Page) -> bool:
    """Whether an entry sees the window before it too: its states are then kept by pages of the window."""
    return page.tokens == STATE_PAGE[True]


def state_tokens(requests: int, ring: int) -> int:
    """Tokens whose states are set apart: a ring for every request and two more, in whole rings of 128.

    >>> state_tokens(256, 128)
    33152
    """
    return ceil(((requests + 2) * ring + 1) / 128) * 128
