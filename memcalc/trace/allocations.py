"""Every allocation of a run, as a caching allocator would count it: live bytes, their peak, and what is still alive.

A storage is seen when an operation returns a tensor on it and leaves when Python frees it, which is when CUDA's allocator
would get it back. Views share their storage and cost nothing.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from memcalc.formulas.formula import ceil_div
from memcalc.frozen import NamedTuple

GRANULE = 512  # bytes; CUDACachingAllocator.h, kMinBlockSize: every allocation is rounded up to it


class Allocation(NamedTuple):
    """One storage: who asked for it, by which operation, and the tensor it was made for."""

    module: str
    operation: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int


class Allocations:
    """The book of live storages. `module` is who allocates now; whoever runs the model keeps it."""

    def __init__(self) -> None:
        self.live = 0
        self.peak = 0
        self.peak_operation = ""
        self.module = ""
        self.events: list[tuple[int, int]] = []  # (number of a storage, its bytes, or -1: it leaves), in order
        self._count = 0
        self._storages: dict[
            int, tuple[int, Allocation]
        ] = {}  # address → its number in the order of allocation, and what it is

    def see(self, tensor: Any, operation: str = "") -> None:
        """Count a tensor's storage unless it is known already."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._storages:
            return
        size = ceil_div(storage.nbytes(), GRANULE) * GRANULE
        dtype = str(tensor.dtype).removeprefix("torch.")
        self._storages[key] = (self._count, Allocation(self.module, operation, tuple(tensor.shape), dtype, size))
        self.events.append((self._count, size))
        self._count += 1
        self.live += size
        weakref.finalize(storage, self._free, key).atexit = False
        if self.live > self.peak:
            self.peak, self.peak_operation = self.live, operation

    def _free(self, key: int) -> None:
        number, allocation = self._storages.pop(key)
        self.live -= allocation.bytes
        self.events.append((number, -1))

    def assign(self, tensor: Any, module: str) -> None:
        """Say anew whose a storage is."""
        self._change(tensor, module=module)

    def exclude(self, tensor: Any) -> None:
        """This tensor would not be on the device."""
        self.live -= self._change(tensor, bytes=0).bytes
        self.events.append((self._storages[tensor.untyped_storage()._cdata][0], -1))

    def _change(self, tensor: Any, **fields: Any) -> Allocation:
        """Change a storage's record; returns the former."""
        key = tensor.untyped_storage()._cdata
        number, before = self._storages[key]
        self._storages[key] = (number, before._replace(**fields))
        return before

    def restart_peak(self) -> None:
        self.peak, self.peak_operation = self.live, ""

    def mark(self) -> int:
        """A moment, to tell what came before from what comes after."""
        return self._count

    def since(self, mark: int) -> tuple[Allocation, ...]:
        """What came after a mark and is still alive, in the order of allocation."""
        return tuple(allocation for number, allocation in self._storages.values() if number >= mark)


@contextmanager
def watching(allocations: Allocations) -> Iterator[None]:
    """See the results of every operation that PyTorch dispatches."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for leaf in tree_leaves(out):
                if isinstance(leaf, torch.Tensor):
                    allocations.see(leaf, func.name())
            return out

    with Watch():
        yield
