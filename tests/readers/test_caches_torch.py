"""The cache of every family that generates against the tensors that transformers keeps after a prefill, on the meta device.

Encoder-decoders, whose caches hold two halves, are in tests/estimates/test_serving_engines.py.
"""

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memcalc.errors import MemcalcError
from memcalc.estimates.serving.estimate import estimate
from memcalc.readers.hf import read_config
from memcalc.readers.hf.depth import at_depth
from memcalc.specs.serving import Serving

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from families import outcome, rows

CONTEXT, BATCH, DEPTH = 4992, 2, 6  # a multiple of every window of tokens that is compressed; past most sliding windows
GENERATES = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
UNSEEN = {
    "recurrent_gemma": "its modules keep their own state",
    "zamba": "weights are tied by layer numbers, which a shorter model does not have",
    "zamba2": "the library asks a recurrent layer for its length",
    "bert-generation": "a decoder of an encoder's states",
}

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


def generating() -> Iterator[dict[str, Any]]:
    """The first row of every decoder-only type that memcalc counts exactly."""
    seen: set[str] = set()
    for row in rows():
        kind = row["config"]["model_type"]
        if kind in seen or kind in UNSEEN or not row["class"].endswith(GENERATES) or row["config"].get("is_encoder_decoder"):
            continue
        if outcome(row).startswith("exact"):
            seen.add(kind)
            yield row


@pytest.mark.parametrize("row", [*generating()], ids=lambda row: row["config"]["model_type"])
def test_cache_of_a_family(row: dict[str, Any]) -> None:
    values = {**shorter(row["config"]), "architectures": [row["class"]]}
    architecture = read_config(values)
    held = tensors_after_prefill(values, row["class"])
    found = estimate(architecture, Serving(engine="transformers", context=CONTEXT, batch=BATCH))
    assert found.kv_cache + found.state == sum(x.numel() * x.element_size() for x in held), [tuple(x.shape) for x in held]


def shorter(values: dict[str, Any]) -> dict[str, Any]:
    """Of fewer layers, where other keys that number layers allow it."""
    try:
        cut = at_depth(values, DEPTH)
        read_config(cut)
    except MemcalcError:
        return values
    return cut


def tensors_after_prefill(values: dict[str, Any], name: str) -> list[Any]:
    """Every tensor of the cache, once; skipped where the model cannot run without values."""
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[values["model_type"]]
    tokens = torch.zeros(BATCH, CONTEXT, dtype=torch.long, device="meta")
    try:
        config = config_class.from_dict(config_class._decode_special_floats(copy.deepcopy(values)))
        config._experts_implementation = "batched_mm"
        with torch.device("meta"):
            model = getattr(transformers, name)._from_config(config, dtype=torch.bfloat16, attn_implementation="eager").eval()
        with torch.no_grad():
            out = model(input_ids=tokens, use_cache=True)
    except Exception as error:  # what depends on values, and configs that cannot be cut
        pytest.skip(f"{type(error).__name__}: {error}".partition("\n")[0][:120])
    cache = next((out[key] for key in ("cache", "past_key_values", "cache_params", "state") if out.get(key) is not None), None)
    seen: dict[int, Any] = {}
    collect(cache, seen)
    return [tensor for tensor in seen.values() if tensor.dim() > 1]


def collect(value: Any, seen: dict[int, Any]) -> None:
    import torch

    if isinstance(value, torch.Tensor):
        seen[id(value)] = value
    elif isinstance(value, (list, tuple)):
        for entry in value:
            collect(entry, seen)
    elif isinstance(value, dict):
        collect(list(value.values()), seen)
    elif type(value).__module__.startswith("transformers") and not hasattr(value, "model_type"):
        collect(vars(value), seen)
