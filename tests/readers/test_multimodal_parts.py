"""Multimodal models by part: what each part is called, what a text token passes, what generation caches."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from memcalc.blocks.architecture import Architecture
from memcalc.errors import InputError
from memcalc.readers.hf import read_config

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from families import TABLE

PARTS = {
    "internvl": {"language", "vision", "projector"},
    "video_llava": {"language", "vision", "video", "projector"},
    "idefics2": {"language", "vision", "projector", "resampler"},
    "qwen2_audio": {"language", "audio", "projector"},
    "qwen2_5_omni_thinker": {"language", "vision", "audio", "projector"},
    "blip-2": {"language", "vision", "qformer", "projector"},
    "granite_speech": {"language", "audio", "qformer", "projector"},
    "idefics": {"language", "vision"},
    "kosmos-2.5": {"language", "vision", "projector"},
    "janus": {"language", "vision", "projector", "image codes", "image generation"},
    "muse_spark": {"language", "vision", "audio", "projector"},
    "dots3_note": {"language", "vision", "audio", "projector"},
    "unlimited_ocr": {"language", "high-resolution vision", "vision", "projector"},
}


@pytest.fixture(scope="module")
def models() -> dict[str, dict[str, Any]]:
    rows = [row for row in json.loads(TABLE.read_text(encoding="utf-8")) if row["variant"] == "default"]
    wanted = [row for row in rows if not row["class"].endswith("Model")]
    return {row["config"]["model_type"]: {**row["config"], "architectures": [row["class"]]} for row in reversed(wanted)}


@pytest.mark.parametrize("kind", PARTS)
def test_the_parts_of_a_model_are_named(models: dict[str, dict[str, Any]], kind: str) -> None:
    assert {part.name for part in read_config(models[kind]).parts} == PARTS[kind]


@pytest.mark.parametrize(
    "kind", ["internvl", "qwen2_audio", "idefics2", "qwen3_omni_moe_thinker", "blip-2", "glm4v", "idefics", "blip"]
)
def test_towers_cache_nothing(models: dict[str, dict[str, Any]], kind: str) -> None:
    for part in read_config(models[kind]).parts:
        caches = [
            cache for stack in part.stacks for layer in stack.layers for _, block in layer.blocks for cache in block.cache()
        ]
        assert bool(caches) == (part.name == "language"), part.name


def test_experts_for_images_are_idle_for_text(models: dict[str, dict[str, Any]]) -> None:
    """transformers modeling_ernie4_5_vl_moe.py: of 64 text experts a token passes 6, of those for images none."""
    found = read_config(models["ernie4_5_vl_moe"])
    hidden, layers = 2560, 27
    idle_text = layers * (64 - 6) * 3 * 1536 * hidden
    images = layers * (64 * 3 * 512 * hidden + 64 * hidden + 64)
    assert found.active_parameters == found.parameters - idle_text - images


@pytest.mark.parametrize(
    ("kind", "spoken"),
    [
        # transformers 5.24 on the meta device, the default whole less its thinker
        ("qwen2_5_omni", {"talker", "spectrogram", "waveform"}),
        ("qwen3_omni_moe", {"talker", "code predictor", "waveform"}),
    ],
)
def test_a_talker_is_built_unless_switched_off(models: dict[str, dict[str, Any]], kind: str, spoken: set[str]) -> None:
    thinker, text = models[f"{kind}_thinker"], {"text_config": {"shared_expert_intermediate_size": 768}}
    whole = {"model_type": kind, "thinker_config": thinker, "talker_config": text if "3" in kind else {}}
    speaking = read_config(whole)
    assert {part.name for part in speaking.parts} == {part.name for part in read_config(thinker).parts} | spoken
    silent: Architecture = read_config({**whole, "enable_audio_output": False})
    assert silent.parameters == read_config(thinker).parameters


@pytest.mark.parametrize(
    ("kind", "part", "key", "value"),
    [
        ("internvl", "vision_config", "norm_type", "batch_norm"),
        ("nemotron_h_omni", "vision_config", "mlp_ratio", 0),
        ("step3p7", "text_config", "per_layer_config", {"99": {"num_attention_heads": 8}}),
        ("ernie4_5_vl_moe", "text_config", "moe_intermediate_size", [1536]),
        ("molmo2", "text_config", "qk_norm_type", "llama"),
        ("glm_ocr", "vision_config", "num_heads", 7),
    ],
)
def test_a_refusal_names_its_key(models: dict[str, dict[str, Any]], kind: str, part: str, key: str, value: Any) -> None:
    config = models[kind]
    said = "hidden_size" if key == "num_heads" else key
    with pytest.raises(InputError, match=said):
        read_config({**config, part: {**config[part], key: value}})
