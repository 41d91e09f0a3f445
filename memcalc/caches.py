"""What is worked out once and kept: every cache of the package is bounded, and all of them can be emptied."""

import functools
import sys
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


if TYPE_CHECKING or sys.version_info >= (3, 12):
    from functools import cached_property as cached_property
else:

    class cached_property(functools.cached_property):  # noqa: N801
        """functools.cached_property without the lock that it has before Python 3.12, which costs more than most values do."""

        def __get__(self, instance, owner=None):
            if instance is None:
                return self
            value = instance.__dict__[self.attrname] = self.func(instance)
            return value


def clear_caches() -> None:
    """Forget everything that was kept of models, runs and files; the next question works it out anew."""
    for found in _CACHES:
        found.cache_clear()
