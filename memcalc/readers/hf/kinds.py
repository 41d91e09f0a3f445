"""Layers of several kinds: the pattern that they follow."""

from collections.abc import Sequence

from memcalc.readers.hf.config import Config

RENAMED = {"mamba": "linear_attention", "attention": "full_attention"}  # older names of transformers


def layer_kinds(c: Config, default: Sequence[str], accepted: Sequence[str], key: str = "layer_types") -> list[str]:
    """The kind of each layer under today's names: the list in the config, else `default`."""
    kinds = default
    if c.has(key):
        found = c.entries(key, length=len(default), of=str)
        kinds = [RENAMED.get(kind, kind) for kind in found]
    return refuse_unknown(c, key, kinds, accepted)


def refuse_unknown(c: Config, key: str, kinds: Sequence[str], accepted: Sequence[str]) -> list[str]:
    for kind in kinds:
        if kind not in accepted:
            raise c.error(key, f"holds {kind!r:.60}; accepted are {', '.join(accepted)}")
    return list(kinds)


def prediction_notes(c: Config) -> tuple[str, ...]:
    """A note where the config announces multi-token-prediction layers, which transformers does not build."""
    for key in ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers", "num_mtp_modules"):
        if c.has(key) and (count := c.integer(key, low=0)):
            return (f"{count} multi-token-prediction layer{'s' * (count > 1)} ({key}) not counted",)
    return ()
