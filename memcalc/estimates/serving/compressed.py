"""Layouts of layers that keep compressed entries beside windows (DeepSeek V4): vLLM's pages, SGLang's pools."""

from memcalc.blocks.ledger import Cache
from memcalc.estimates.placement import Stage
from memcalc.estimates.serving.demand import Demand, Growth
from memcalc.estimates.serving.layouts import CacheKind, CacheSetting, Layout
from memcalc.estimates.serving.mixers import LayerCache
from memcalc.estimates.serving.packed import BLOCK, Page, growth_of, packed, pages
from memcalc.estimates.serving.pools import PAGE, shared


def compressed_layout(setting: CacheSetting, stage: Stage, draft: Stage | None) -> Layout | None:
    """As the engine keeps them; None where it is not known to page them."""
    if setting.engine_row.grouped:
        return _packed(setting, (stage, draft) if draft else (stage,))
    if setting.window_share and setting.windows:
        return _shared(setting, setting.window_share, stage)
    return None


def _packed(setting: CacheSetting, stages: tuple[Stage, ...]) -> Layout:
    """Layers that keep compressed entries beside windows, in blocks with pages of several sizes."""
    found = pages(stages, setting.kv_dtype, setting.block_size or BLOCK)
    kinds = _kinds_of(found, tuple(growth_of(page, setting.batched_tokens) for page in found))
    demand = packed(found, setting.batched_tokens, patterns=setting.engine_row.page_patterns)
    rates = [kind.bytes_of(1) * kind.held.layers for kind in kinds]  # of tokens: a state is an entry's yet to be
    per_token = sum(rate for rate, page in zip(rates, found, strict=True) if not page.state)
    full = sum(rate for rate, page in zip(rates, found, strict=True) if not page.window)
    return Layout(kinds, (), (), demand, per_token, full)


def _kinds_of(found: tuple[Page, ...], growth: tuple[Growth, ...]) -> tuple[CacheKind, ...]:
    return tuple(
        CacheKind(LayerCache(page.path, Cache(page.name, 0, page.width, page.window, every=page.every), page.layers, False,
                             latent=True), page.stored, page.width, grows)
        for page, grows in zip(found, growth, strict=True)
    )  # fmt: skip


def _shared(setting: CacheSetting, share: tuple[int, int], stage: Stage) -> Layout:
    """The same in pools of fixed shares."""
    found = pages((stage,), setting.kv_dtype, PAGE)
    made = shared(found, share, guessing=setting.guesses > 0, in_window=setting.engine_row.states_in_window)
    kept = [(page, grows) for page, grows in zip(found, made.growth, strict=True) if grows.rate and not page.state]
    kinds = _kinds_of(tuple(page for page, _ in kept), tuple(grows for _, grows in kept))
    per_token, full = (sum(grows.rate for _, grows in kept if whole or grows.cap is None) // PAGE for whole in (True, False))
    return Layout(kinds, (), (), Demand(1, 0, (), pools=made.pools), per_token, full, (made.state, made.ring))
