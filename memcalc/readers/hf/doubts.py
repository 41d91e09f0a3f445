"""What a config says that cannot be meant: refused where no number would be right, else a warning that goes with the numbers.

A config is checked as it is written, with all configs nested in it, whichever family reads it.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from memcalc.autograd.operations import ACTIVATIONS
from memcalc.errors import InputError, nearest, one_line
from memcalc.readers.hf.config import ALIASES, MAX_SIZE

# Names of transformers' ACT2FN (activations.py) beyond those whose saved tensors differ.
KNOWN_ACTIVATIONS = {
    *ACTIVATIONS, "gelu_10", "gelu_accurate", "gelu_python_tanh", "gelu_bloom", "geglu", "glu", "laplace", "leaky_relu",
    "linear", "mish",
    "prelu", "quick_gelu", "relu6", "sigmoid", "silu_and_mul", "swiglu", "swigluoai", "elu", "selu",
}  # fmt: skip
# transformers modeling_rope_utils.py ROPE_INIT_FUNCTIONS, older spellings, and the multimodal layout.
ROPE_TYPES = (
    "default",
    "linear",
    "dynamic",
    "yarn",
    "longrope",
    "llama3",
    "proportional",
    "su",
    "mrope",
    "axial",
    "deepseek_yarn",
    "ntk",
)
SPACE = {"auto", ""}  # words of torch_dtype that are no number format
MAX_PARAMETERS = 10**18
# Keys whose two spellings decide all numbers: the first would win, whichever was meant.
DECISIVE = ("hidden_size", "num_hidden_layers")
RANGES = (  # part of a key, lowest and highest value
    ("dropout", 0, 1), ("pdrop", 0, 1), ("_eps", 0, 1), ("epsilon", 0, 1), ("softcap", 0, sys.float_info.max),
    ("soft_cap", 0, sys.float_info.max),
)  # fmt: skip


def check_values(values: Mapping[str, Any], place: str) -> tuple[str, ...]:
    """Refuse what cannot be meant; the rest of what is doubtful, in sentences."""
    warnings: list[str] = []
    for where, config in _nested(values, place):
        _check_ranges(config, where)
        warnings += _two_spellings(config, where)
        warnings += _check_positions(config, where)
        warnings += _unknown_words(config)
    return tuple(dict.fromkeys(warnings))


def check_size(parameters: int, place: str) -> None:
    """No model has so many parameters."""
    if parameters > MAX_PARAMETERS:
        raise InputError(f"these sizes make {parameters:.1e} parameters; at most 1e18 are accepted", place=place)


def _nested(values: Mapping[str, Any], place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A config and the configs of its parts."""
    yield place, values
    for key, value in values.items():
        if isinstance(value, Mapping) and key.endswith(("_config", "thinker", "talker")) and key != "quantization_config":
            yield from _nested(value, f"{place}: {one_line(key, 40)}")


def _check_ranges(config: Mapping[str, Any], place: str) -> None:
    for key, value in config.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        for part, low, high in RANGES:
            if part in key and not low <= value <= high:
                limits = f"between {low} and {high}" if high <= 1 else "0 or more"
                raise InputError(f"{one_line(key, 60)} must be {limits}, not {value!r:.40}", place=place)


def _two_spellings(config: Mapping[str, Any], place: str) -> Iterator[str]:
    for key, others in ALIASES.items():
        given = {name: config[name] for name in (key, *others) if config.get(name)}  # 0, null: none
        if len(given) < 2 or all(value == next(iter(given.values())) for value in given.values()):
            continue
        said = " and ".join(f"{name} {one_line(repr(value), 40)}" for name, value in given.items())
        if key in DECISIVE:
            raise InputError(f"{said} are two spellings of one key; leave one", place=place)
        yield f"{said} are two spellings of one key; {next(iter(given))} is taken"


def _check_positions(config: Mapping[str, Any], place: str) -> Iterator[str]:
    for name in ("max_position_embeddings", *ALIASES["max_position_embeddings"]):
        value = config.get(name)
        whole = (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())
        if value is not None and not (whole and 1 <= value <= MAX_SIZE):
            raise InputError(f"{name} must be a whole number between 1 and {MAX_SIZE}, not {value!r:.40}", place=place)
    for name in ("rope_scaling", "rope_parameters"):
        scaling = config.get(name)
        if scaling is None or scaling is False:
            continue
        if not isinstance(scaling, Mapping):
            raise InputError(f"{name} must be an object, not {scaling!r:.40}", place=place)
        kinds = [value for value in scaling.values() if isinstance(value, Mapping)] or [scaling]
        for kind in kinds:
            yield from _check_scaling(name, kind, place)


def _check_scaling(name: str, scaling: Mapping[str, Any], place: str) -> Iterator[str]:
    factor = scaling.get("factor")
    number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
    if factor is not None and not (number and 0 < factor <= MAX_SIZE):
        raise InputError(f"{name}: factor must be a number above 0, not {factor!r:.40}", place=place)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in ROPE_TYPES:
        hint = nearest(kind, ROPE_TYPES) if isinstance(kind, str) else ""
        yield f"{name}: type {kind!r:.40} is not known{hint}: tables of positions are counted as unscaled"


def _unknown_words(config: Mapping[str, Any]) -> Iterator[str]:
    for name in ("hidden_act", *ALIASES["hidden_act"]):
        value = config.get(name)
        if isinstance(value, str) and value.lower() not in KNOWN_ACTIVATIONS:
            hint = nearest(value[:40], KNOWN_ACTIVATIONS)
            yield f"{name} {value!r:.40} is not known{hint}: sized as a function that keeps its input"
    for name in ("torch_dtype", "dtype"):
        value = config.get(name)
        if isinstance(value, str) and value.lower() not in SPACE:
            from memcalc.dtypes import number_format

            try:
                number_format(value)
            except InputError:
                yield f"{name} {value!r:.40} is no number format"
