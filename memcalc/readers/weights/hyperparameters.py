"""The keys of a GGUF file as llama.cpp reads them into its hyperparameters (src/llama-model.cpp, load_hparams)."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from memcalc.errors import InputError, one_line

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
MAX_SIZE = 2**31 - 1
REQUIRED: Any = object()


class Hyperparameters:
    """The keys of one architecture, below its name. Every number is checked; what is wrong is named with its key."""

    def __init__(self, architecture: str, keys: Mapping[str, Any], place: str) -> None:
        self.architecture, self.keys, self.place = architecture, keys, place
        self.all_layers = self.whole("block_count", least=1, most=MAX_LAYERS)
        self.ahead = self.whole("nextn_predict_layers", 0, most=self.all_layers)
        self.layers = self.all_layers - self.ahead  # without those that predict further tokens

    def error(self, key: str, problem: str) -> InputError:
        return InputError(f"{self.architecture}.{key} {problem}", place=self.place)

    def whole(self, key: str, default: Any = REQUIRED, *, least: int = 0, most: int = MAX_SIZE) -> int:
        """One whole number."""
        value = self.keys.get(key, default)
        if value is REQUIRED:
            raise self.error(key, "is missing")
        if type(value) is not int or not least <= value <= most:
            raise self.error(key, f"must be a whole number between {least} and {most:,}, not {one_line(str(value), 40)}")
        return value

    def each(self, key: str, default: Any = REQUIRED) -> tuple[int, ...]:
        """One number for each layer: the same for all, or from an array of as many."""
        value = self.keys.get(key, default)
        if isinstance(value, tuple):
            return value
        if isinstance(value, list):
            return tuple(self._entry(key, entry) for entry in self._long_enough(key, value))
        return (self.whole(key, default),) * self.all_layers

    def flags(self, key: str) -> tuple[bool, ...] | None:
        """One truth for each layer, or None where the key holds no array."""
        value = self.keys.get(key)
        if not isinstance(value, list):
            return None
        return tuple(self._entry(key, entry) != 0 for entry in self._long_enough(key, value))

    def _long_enough(self, key: str, value: list[Any]) -> list[Any]:
        if len(value) < self.layers:
            raise self.error(key, f"holds {len(value):,} values for {self.layers:,} layers")
        return [*value, *[0] * (self.all_layers - len(value))][: self.all_layers]

    def _entry(self, key: str, entry: Any) -> int:
        if type(entry) not in (int, bool) or not 0 <= entry <= MAX_SIZE:
            raise self.error(key, f"holds {one_line(str(entry), 40)}, which is no size")
        return int(entry)

    @cached_property
    def hidden(self) -> int:
        return self.whole("embedding_length", least=1)

    @cached_property
    def heads(self) -> tuple[int, ...]:
        return self.each("attention.head_count", 0)

    @cached_property
    def kv_heads(self) -> tuple[int, ...]:
        return self.each("attention.head_count_kv", self.heads)

    @cached_property
    def feed_forward(self) -> tuple[int, ...]:
        return self.each("feed_forward_length", 0)

    @cached_property
    def key_length(self) -> int:
        return self._head_size("attention.key_length")

    @cached_property
    def value_length(self) -> int:
        return self._head_size("attention.value_length")

    @cached_property
    def window_key_length(self) -> int:
        return self.whole("attention.key_length_swa", self.key_length)

    @cached_property
    def window_value_length(self) -> int:
        return self.whole("attention.value_length_swa", self.value_length)

    def _head_size(self, key: str) -> int:
        return self.whole(key, self.hidden // self.heads[0] if self.heads[0] else 0)
