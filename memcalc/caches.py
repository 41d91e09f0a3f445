"""What is worked out once and kept: every cache of the package is bounded, and all of them can be emptied."""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

R = TypeVar("R")
_CACHES: "list[_lru_cache_wrapper[Any]]" = []


def cached(maxsize: int) -> "Callable[[Callable[..., R]], _lru_cache_wrapper[R]]":
    """functools.lru_cache with a bound, known to `clear_caches`."""

    def decorate(function: Callable[..., R]) -> "_lru_cache_wrapper[R]":
        found = lru_cache(maxsize)(function)
        _CACHES.append(found)
        return found

    return decorate


def clear_caches() -> None:
    """Forget everything that was kept of models, runs and files; the next question works it out anew."""
    for found in _CACHES:
        found.cache_clear()
