"""Every model type against the model class itself: the multiset of parameter shapes, built on the meta device.

Shapes and not only counts: they decide how FSDP pads a shard and what a factored optimizer stores.
"""

import json
import math
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from memcalc.readers.catalogue import preset_names
from memcalc.readers.hf import MODULES, read_config
from memcalc.readers.models import read_config_values

ROWS = json.loads((Path(__file__).parents[1] / "reference" / "params.json").read_text(encoding="utf-8"))
ROWLESS = sorted(MODULES.keys() - {row["config"]["model_type"] for row in ROWS})
KINDS = ("ForImageTextToText", "ForSeq2SeqLM", "ForSpeechSeq2Seq", "ForCausalLM", "ForMaskedLM", "ForTokenClassification", "")
BROKEN = {
    "dbrx": "transformers 5.18 asks DbrxAttentionConfig for a rope_theta that it lacks",
    "beam": "transformers 5.24 asks its rotary embedding for layers of full attention that it lacks",
}

# Whose classes write some matrices and vectors with further dimensions or as one more stack: as many numbers in each
FOLDED = {"bailing_hybrid", "unlimited_ocr", "glm5_next", "inkling_text", "inkling2_loop", "xlnet", "zamba"}

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("row", ROWS, ids=[f"{i}-{row['name']}" for i, row in enumerate(ROWS)])
def test_shapes_of_a_reference_row(row: dict[str, Any]) -> None:
    ours = compare(row["config"])
    assert sum(math.prod(shape) * n for shape, n in ours.items()) == row["total_params"]


@pytest.mark.parametrize("model_type", ROWLESS)
def test_shapes_of_a_type_without_a_row(model_type: str) -> None:
    """By its first preset."""
    compare(presets().get(model_type) or pytest.skip("neither a row nor a preset"))


@cache
def presets() -> dict[str, dict[str, Any]]:
    """The first preset's values of every model type."""
    found: dict[str, dict[str, Any]] = {}
    for name in preset_names("models"):
        values = read_config_values(name)
        found.setdefault(values["model_type"], values)
    return found


def compare(config: dict[str, Any]) -> Counter[tuple[int, ...]]:
    model = build(config)
    expected = Counter(tuple(parameter.shape) for parameter in model.parameters())
    ours: Counter[tuple[int, ...]] = Counter()
    for counted in read_config(config).weights:
        ours[tuple(counted.weight.shape)] += counted.copies * counted.weight.tensors
    if config["model_type"] in FOLDED:
        ours, expected = sizes(ours), sizes(expected)
    assert ours == expected, f"missing {dict(expected - ours)}, too many {dict(ours - expected)}"
    return ours


def sizes(shapes: Counter[tuple[int, ...]]) -> Counter[tuple[int, ...]]:
    found: Counter[tuple[int, ...]] = Counter()
    for shape, count in shapes.items():
        found[math.prod(shape),] += count
    return found


def build(config: dict[str, Any]) -> Any:
    """The class that the config names, else the one of its type; skipped where transformers cannot build one."""
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    values = {key: value for key, value in config.items() if key != "quantization_config"}
    model_type = values["model_type"]
    if model_type not in CONFIG_MAPPING or model_type in BROKEN:
        pytest.skip(BROKEN.get(model_type, f"this transformers has no {model_type}"))
    read = CONFIG_MAPPING[model_type].from_dict(values)
    named = getattr(transformers, (values.get("architectures") or [""])[0], None)
    kinds = (getattr(transformers, f"AutoModel{kind}") for kind in KINDS)
    auto = next((auto for auto in kinds if type(read) in auto._model_mapping), transformers.AutoModel)
    with torch.device("meta"):
        try:
            model = named(read) if named else auto.from_config(read)
        except ImportError as error:  # Gemma 3n's vision tower is timm's
            pytest.skip(str(error).strip().partition("\n")[0])
    model.tie_weights()
    return model
