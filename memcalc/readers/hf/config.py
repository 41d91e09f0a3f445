"""A checked view of a config.json: typed, bounded, with the family's defaults, and errors that name file and key."""

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.errors import InputError
from memcalc.frozen import NamedTuple

MAX_LAYERS = 10_000
MAX_SIZE = 2**31 - 1  # no dimension of a real model comes near
REQUIRED: Any = object()
QUANTIZATION_KEYS = ("quantization_config", "compression_config", "quantization")  # the last: mlx-lm

# Other spellings of the same key (the attribute_map of transformers' configuration classes).
ALIASES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "n_embed", "d_model", "dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv"),
    "intermediate_size": ("n_inner", "ffn_dim", "d_ff", "ffn_hidden_size"),
    "max_position_embeddings": ("n_positions", "n_ctx", "max_seq_len", "max_sequence_length"),
    "hidden_act": ("activation_function", "hidden_activation", "activation"),
    "partial_rotary_factor": ("rotary_pct", "rope_pct"),
    "torch_dtype": ("dtype",),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts"),
    "num_experts_per_tok": ("num_experts_per_token", "moe_topk", "moe_k", "moe_top_k"),
    "moe_intermediate_size": ("expert_ffn_hidden_size",),
}


class Config:
    """Values of one (sub-)config. A key that is absent or null takes the family's default, then the caller's.

    `asked` collects the keys that were looked for in the whole file, those of nested objects behind their own.
    """

    def __init__(
        self, values: Mapping[str, Any], place: str, defaults: Mapping[str, Any], asked: set[str] | None = None, path: str = ""
    ) -> None:
        self._values = values
        self._defaults = defaults
        self.place = place
        self.asked: set[str] = set() if asked is None else asked
        self._path = path

    def has(self, key: str) -> bool:
        """Whether the key has a value. A null in the file is none, even where the library has a default: it says no
        window, no softcap, a head size to be derived."""
        names = self._names(key)
        given = [self._values[name] for name in names if name in self._values]
        if given:
            return any(value is not None for value in given)
        return any(self._defaults.get(name) is not None for name in names)

    def written(self, key: str) -> bool:
        """Whether the file itself gives the key a value, whatever the library's default."""
        return any(self._values.get(name) is not None for name in self._names(key))

    def null(self, key: str) -> bool:
        """Whether the file says null, which can mean something else than its silence."""
        return not self.written(key) and any(name in self._values for name in self._names(key))

    def asks(self, *keys: str) -> bool:
        """Counts keys as looked for that another one makes superfluous."""
        for key in keys:
            self._names(key)
        return True

    def raw(self, key: str, default: Any = None) -> Any:
        """The unchecked value, for keys whose type varies; the caller checks it."""
        found = self._find(key, None)
        return default if found is None else found

    def integer(self, key: str, default: Any = REQUIRED, *, low: int = 1, high: int = MAX_SIZE) -> int:
        value = self._find(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"must be a whole number, not {value!r:.60}")
        if not low <= value <= high:
            raise self.error(key, f"must be between {low} and {high}, not {value}")
        return value

    def layers(self, key: str = "num_hidden_layers") -> int:
        return self.integer(key, high=MAX_LAYERS)

    def number(self, key: str, default: Any = REQUIRED) -> float:
        value = self._find(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
            raise self.error(key, f"must be a finite number, not {value!r:.60}")
        return float(value)

    def flag(self, key: str, default: Any = REQUIRED) -> bool:
        value = self._find(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, not {value!r:.60}")
        return value

    def text(self, key: str, default: Any = REQUIRED) -> str:
        value = self._find(key, default)
        if not isinstance(value, str):
            raise self.error(key, f"must be a string, not {value!r:.60}")
        return value

    def entries(self, key: str, default: Any = REQUIRED, *, length: int | None = None, of: type = object) -> list[Any]:
        value = self._find(key, default)
        if not isinstance(value, (list, tuple)) or len(value) > MAX_LAYERS:
            raise self.error(key, f"must be a list, not {value!r:.60}")
        if length is not None and len(value) != length:
            raise self.error(key, f"must have {length} entries, one a layer, not {len(value)}")
        if not all(isinstance(entry, of) for entry in value):
            raise self.error(key, f"must hold only {of.__name__} entries")
        return list(value)

    def sub(self, key: str, defaults: Mapping[str, Any], *, required: bool = False) -> "Config":
        """A nested config; absent means: all defaults."""
        value = self._find(key, REQUIRED if required else {})
        if not isinstance(value, Mapping):
            raise self.error(key, f"must be an object, not {value!r:.60}")
        return Config(value, f"{self.place}: {key}", defaults, self.asked, f"{self._path}{self.spelling(key)}.")

    def reread(self, defaults: Mapping[str, Any] | None = None, **changes: Any) -> "Config":
        """The same values under other defaults, or with some of them changed (what an outer config decides)."""
        kept = self._defaults if defaults is None else defaults
        return Config({**self._values, **changes}, self.place, kept, self.asked, self._path)

    def error(self, key: str, message: str) -> InputError:
        return InputError(f"{self.spelling(key)} {message}", place=self.place)

    def spelling(self, key: str) -> str:
        """The key as this file spells it."""
        return next((name for name in (key, *ALIASES.get(key, ())) if name in self._values), key)

    def unasked(self) -> Iterator[tuple[str, Any]]:
        """Every key that nobody looked for, and its value; of a nested object that nobody opened, the object's."""
        yield from _unasked(self._values, self._path, self.asked)

    def _names(self, key: str) -> tuple[str, ...]:
        """All spellings of a key, which from now on count as looked for."""
        names = (key, *ALIASES.get(key, ()))
        self.asked.update(self._path + name for name in names)
        return names

    def _find(self, key: str, default: Any) -> Any:
        for source in (self._values, self._defaults):
            for name in self._names(key):
                if (value := source.get(name)) is not None:
                    return value
        if default is REQUIRED:
            names = " or ".join((key, *ALIASES.get(key, ())))
            raise InputError(f"{names} is missing", place=self.place)
        return default


def _unasked(values: Mapping[str, Any], path: str, asked: set[str]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        full = f"{path}{key}"
        if full not in asked:
            yield full, value
        elif isinstance(value, Mapping) and any(name.startswith(f"{full}.") for name in asked):
            yield from _unasked(value, f"{full}.", asked)


class Family(NamedTuple):
    """A reader and the default values of the library's configuration class for the keys that the reader asks for."""

    read: Callable[[Config], Architecture]
    defaults: Mapping[str, Any]
    renamed: Mapping[str, str] = {}  # its own spelling of a key → the reader's

    def config(self, values: Mapping[str, Any], place: str) -> Config:
        """A file's values as the reader asks for them."""
        ours = {self.renamed.get(key, key): value for key, value in values.items()} if self.renamed else values
        return Config(ours, place, self.defaults)
