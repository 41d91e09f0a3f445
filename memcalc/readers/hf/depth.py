"""The same model with fewer layers: a config.json's values cut in depth, with the lists that say what each layer is."""

from collections.abc import Mapping
from typing import Any

from memcalc.errors import InputError

DEPTH = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
REPEATED = ("num_blocks",)  # say it once more (xLSTM)
PER_LAYER = ("layers_block_type", "layer_types", "hybrid_override_pattern")  # say the depth where no number does
TEXT = ("text_config", "language_config", "llm_config")  # nested configs of the language model


def at_depth(values: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The config with its first `layers` layers; a model that has no more stays as it is.

    >>> at_depth({"num_hidden_layers": 4, "layer_types": ["a", "b", "a", "b"]}, 2)
    {'num_hidden_layers': 2, 'layer_types': ['a', 'b']}
    """
    for key in TEXT:
        if isinstance(values.get(key), dict):
            return {**values, key: at_depth(values[key], layers)}
    named = next((name for name in DEPTH if isinstance(values.get(name), int)), None)
    listed = next((name for name in PER_LAYER if isinstance(values.get(name), (list, str))), None)
    if named is None and listed is None:
        raise InputError(f"the config does not say how many layers there are ({', '.join(DEPTH)})", place="--layers")
    depth = values[named] if named else len(values[str(listed)])
    if depth <= layers:
        return dict(values)
    cut = {key: _cut(key, value, depth, layers) for key, value in values.items()}
    return cut | {name: layers for name in (*DEPTH, *REPEATED) if cut.get(name) == depth and name in cut}


def _cut(key: str, value: Any, depth: int, layers: int) -> Any:
    """A list or a word with one entry a layer, shortened; also inside nested tables. Rotary factors are no such lists."""
    if key.startswith("rope"):
        return value
    if key == "per_layer_config" and isinstance(value, dict):
        return {name: inner for name, inner in value.items() if str(name).isdecimal() and int(name) < layers}
    if isinstance(value, dict):
        return {name: _cut(name, inner, depth, layers) for name, inner in value.items()}
    if key == "attention_types":  # GPT-Neo: [[kinds, times], …]
        return [[[kind for kinds, times in value for kind in kinds * times][:layers], 1]]
    whole = isinstance(value, (list, str)) and len(value) == depth
    return value[:layers] if whole and (isinstance(value, list) or key in PER_LAYER) else value
