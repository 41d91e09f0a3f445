"""What a GGUF file says about its model, as the rows of families ask for it."""

from collections.abc import Mapping
from typing import Any

from memcalc.errors import InputError
from memcalc.frozen import NamedTuple
from memcalc.readers.hf.config import MAX_LAYERS


class Facts(NamedTuple):
    """What a file says: the values that KEYS names, all keys of its architecture, and which tensors it holds."""

    values: Mapping[str, Any]
    keys: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]  # of tensors outside the layers, by name
    layered: frozenset[str]  # names within a layer, of any layer: attn_q.bias
    inner: Mapping[str, tuple[int, ...]]  # shapes of these, in the first layer that has them
    places: Mapping[str, frozenset[int]]  # and all layers that have them

    def kinds(self, tensor: str, there: str, elsewhere: str) -> list[str]:
        """One of two words for each layer: whether it has the tensor."""
        depth, found = self.values.get("num_hidden_layers"), self.places.get(tensor, frozenset())
        if type(depth) is not int or not 0 < depth <= MAX_LAYERS:
            raise InputError(f"block_count must be between 1 and {MAX_LAYERS}, not {depth!r:.40}")
        return [there if layer in found else elsewhere for layer in range(depth)]

    def whole(self, key: str) -> int:
        """A key of the architecture that must be a positive whole number."""
        value = self.keys.get(key)
        if type(value) is not int or value < 1:
            raise InputError(f"{key} must be a positive whole number, not {value!r:.40}")
        return value

    @property
    def biased(self) -> bool:
        return not self.layered.isdisjoint(("attn_q.bias", "attn_qkv.bias"))
