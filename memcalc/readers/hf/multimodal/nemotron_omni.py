"""Nemotron Nano Omni: Nemotron-H that sees with C-RADIO and hears with Parakeet."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.config import MAX_SIZE, Config, Family
from memcalc.readers.hf.multimodal.nested import joined, read_language, text_type
from memcalc.readers.hf.multimodal.projectors import pixel_shuffle_side
from memcalc.readers.hf.multimodal.speech import PARAKEET, parakeet
from memcalc.readers.hf.multimodal.towers import scaled_layer
from memcalc.readers.hf.multimodal.vision import full_attention, table


def nemotron_h_omni(c: Config) -> Architecture:
    """A tower for sound is there where the config has its object; the head belongs to the inner language model."""
    kind = text_type(c, "nemotron_h")
    text = c.sub("text_config", {})
    language = read_language(c, kind, tied=text.flag("tie_word_embeddings", False))
    seeing = radio(c.sub("vision_config", RADIO if c.has("vision_config") else {**RADIO, "video_temporal_patch_size": 2}))
    width = c.integer("vision_hidden_size")
    if text.integer("num_nextn_predict_layers", 0, low=0):  # its training framework then normalises every tower
        seeing = replace(seeing, exit=(("final_norm", Norm(width, "layer")),))
    merged = width * pixel_shuffle_side(c, "downsample_ratio") ** 2
    parts = [seeing, Part("projector", entry=_projector(merged, c.integer("projector_hidden_size"), language.hidden))]
    if c.has("audio_config"):
        audio = c.sub("audio_config", {**PARAKEET, "attention_bias": False})
        inner, bias = audio.integer("projection_hidden_size"), audio.flag("projection_bias")
        projector = _projector(audio.integer("hidden_size"), inner, language.hidden, bias=bias)
        parts += [parakeet(audio), Part("audio_projector", entry=projector)]
    return joined(c, language, tuple(parts))


def radio(c: Config) -> Part:
    """C-RADIO: flattened patches of images and of pairs of frames, positions of the largest image, extra tokens."""
    hidden, patch, ratio = c.integer("hidden_size"), c.integer("patch_size"), c.number("mlp_ratio")
    side, pixels = c.integer("max_img_size") // patch, c.integer("num_channels") * patch * patch
    inner = int(hidden * ratio)
    if not 1 <= inner <= MAX_SIZE:
        raise c.error("mlp_ratio", f"gives an intermediate size of {inner}")
    if c.flag("use_swiglu_ffn"):
        feed_forward = MLP(hidden, (int(inner * 2 / 3) + 7) // 8 * 8, bias=True)
    else:
        feed_forward = MLP(hidden, inner, gated=False, bias=True, activation=c.text("hidden_act"))
    frames = c.integer("video_temporal_patch_size") if c.has("video_temporal_patch_size") else 0
    video: Named = (("video_patches", Projection(pixels * frames, hidden, role="other")),) if frames else ()
    tokens = c.integer("num_cls_tokens", low=0) + c.integer("num_registers", low=0)
    return Part(
        "vision",
        entry=(
            ("patches", Projection(pixels, hidden, role="other")),
            *video,
            ("positions", table("position", (side * side, hidden))),
            ("tokens", Plain((Weight("weight", "other", (tokens, hidden)),))),
        ),
        stacks=(
            Stack.uniform(
                scaled_layer(Norm(hidden, "layer"), full_attention(c, query_bias=c.flag("qkv_bias")), feed_forward), c.layers()
            ),
        ),
    )


def _projector(inputs: int, inner: int, outputs: int, *, bias: bool = False) -> Named:
    return (
        ("norm", Norm(inputs)),
        ("up", Projection(inputs, inner, bias=bias, activation="relu2", cut="outputs")),
        ("down", Projection(inner, outputs, bias=bias, cut="inputs")),
    )


RADIO: Mapping[str, Any] = {
    "hidden_size": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "mlp_ratio": 4.0,
    "hidden_act": "gelu",
    "use_swiglu_ffn": False,
    "qkv_bias": True,
    "num_channels": 3,
    "patch_size": 16,
    "max_img_size": 2048,
    "num_cls_tokens": 3,
    "num_registers": 7,
}

FAMILIES = {
    "nemotron_h_omni": Family(
        nemotron_h_omni,
        {"downsample_ratio": 0.5, "projector_hidden_size": 4096, "vision_hidden_size": 1280},
        {
            "llm_config": "text_config",
            "sound_config": "audio_config",
            "vit_hidden_size": "vision_hidden_size",
        },
    ),
}
