"""What --draft names → how tokens are guessed, and the architecture that does: a method, a model, or a head's own config."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.draft_heads import BUILDERS, HeadSizes, draft_head
from memcalc.errors import InputError
from memcalc.formulas.drafts import METHODS, DraftMethod, draft_method
from memcalc.readers.hf import read_config

MOST = 1 << 20  # of any count in a head's config


class Draft(NamedTuple):
    method: DraftMethod
    architecture: Architecture | None  # None: nothing is loaded


def named_draft(word: str, model: Architecture) -> Draft | None:
    """What the name of a method comes to beside a model; None: the word names none."""
    method = draft_method(word)
    if method is None:
        return None
    if not method.weights:
        return Draft(method, None)
    if method.name == "mtp":
        from memcalc.blocks.prediction import prediction_layers

        return Draft(method, prediction_layers(model))
    return Draft(method, draft_head(method.name, model))


def head_method(values: Mapping[str, Any]) -> str:
    """Which head a config.json describes; "": a model of its own, or none that says so.

    Published EAGLE 3 configs call themselves Llama and have a vocabulary of the draft; EAGLE 1 configs say nothing.
    """
    words = " ".join(map(str, values.get("architectures") or ())).lower() + " " + str(values.get("model_type") or "").lower()
    if "medusa" in words or "medusa_num_heads" in values:
        return "medusa"
    if "dflash" in words or "dflash_config" in values:
        return "dflash"
    if "eagle3" in words or "draft_vocab_size" in values:
        return "eagle3"
    return "eagle" if "eagle" in words else ""


def read_head(values: Mapping[str, Any], method: str, model: Architecture, place: str = "--draft") -> Draft:
    """A head from its own config."""
    if method not in BUILDERS:
        raise InputError(f"a head's config is read for {', '.join(BUILDERS)}, not for {method}", place=place)
    flash, eagle = values.get("dflash_config"), values.get("eagle_config")
    layers = flash.get("target_layer_ids") if isinstance(flash, Mapping) else None
    if isinstance(eagle, Mapping):
        layers = eagle.get("eagle_aux_hidden_state_layer_ids")
    sizes = HeadSizes(
        _count(values, place, "draft_vocab_size", "truncated_vocab_size") or _whole(values, method, place),
        len(layers)
        if isinstance(layers, Sequence) and 0 < len(layers) < MOST
        else _count(values, place, "num_aux_hidden_states"),
        _count(values, place, "medusa_num_heads", "num_heads"),
        _count(values, place, "medusa_num_layers") or (_count(values, place, "num_hidden_layers") if method == "medusa" else 0),
    )
    if method == "medusa":
        return Draft(METHODS[method], draft_head(method, model, None, sizes))
    said = dict(values) | {"model_type": _family(values), "architectures": None}
    return Draft(METHODS[method], draft_head(method, model, read_config(said, place), sizes))


def _whole(values: Mapping[str, Any], method: str, place: str) -> int:
    return _count(values, place, "vocab_size") if method == "eagle3" else 0


def _family(values: Mapping[str, Any]) -> str:
    word = str(values.get("model_type") or "llama").lower()
    return "llama" if "eagle" in word or "dflash" in word else word


def _count(values: Mapping[str, Any], place: str, *keys: str) -> int:
    """The first of these keys that is there; 0: none."""
    for key in keys:
        value = values.get(key)
        if value is None:
            continue
        if type(value) is not int or not 0 < value < MOST:
            raise InputError(f"{key}: a number from 1 to {MOST - 1:,} is accepted, not {value!r:.40}", place=place)
        return value
    return 0
