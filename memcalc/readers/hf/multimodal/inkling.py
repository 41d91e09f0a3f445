"""Inkling with its eyes and ears: patches folded into depth and codes of sound (1), a ViT (2).

Structures follow transformers src/transformers/models/{inkling,inkling2,inkling2_loop}/.
"""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from math import log
from typing import Any

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import layer_norm, rms
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal.nested import joined, read_language
from memcalc.readers.hf.multimodal.towers import scaled_layer
from memcalc.readers.hf.multimodal.vision import full_attention, plain_mlp, table


def inkling(c: Config) -> Architecture:
    """The model class ties nothing, whatever the config says."""
    language = read_language(c, "inkling_text", _TEXT, tied=False)
    audio = c.sub("audio_config", _AUDIO)
    codes = Embedding(audio.integer("n_mel_bins") * audio.integer("mel_vocab_size"), language.hidden)
    norm = ("norm", rms(audio, size=language.hidden))
    hearing = Part("audio", entry=(("embedding", codes), norm))
    return joined(c, language, (_folding(c.sub("vision_config", _VISION), language.hidden), hearing))


def _folding(c: Config, outputs: int) -> Part:
    """Matrices over ever larger pieces of a patch, until one vector is left of it."""
    scales = _scales(c)
    blocks: Named = ()
    for i, ((time, side, width), (later, wider, result)) in enumerate(pairwise(scales)):
        inputs, last = width * (later // time) * (wider // side) ** 2, i == len(scales) - 2
        made = outputs if last else result
        blocks += ((f"layers{i}/linear", Projection(inputs, made, role="mlp")),)
        if not last:
            blocks += ((f"layers{i}/norm", rms(c, size=made)),)
    return Part("vision", entry=(*blocks, ("final_norm", rms(c, size=outputs))))


def _scales(c: Config) -> list[tuple[int, int, int]]:
    """Frames, side and channels after each layer: of all foldings those whose sizes come nearest to equal steps."""
    frames, patch, channels = c.integer("temporal_patch_size"), c.integer("patch_size"), c.integer("num_channels")
    depth = c.layers()
    scales, side, time = [(1, 1, channels)], 1, 1
    for factor in _prime_factors(patch):
        side *= factor
        scales.append((1, side, -(-(side**2) * channels // 64) * 64))
    widest = scales[-1][2] if side == 1 else side**2 * channels
    for factor in _prime_factors(frames):
        time *= factor
        scales.append((time, side, widest * time * 64))
    if depth < len(scales):
        raise c.error("num_hidden_layers", f"must be at least {len(scales)} for patches of {frames} × {patch} × {patch}")
    top = log(patch * patch * frames * channels)
    steps = [top * i / depth for i in range(depth + 1)]
    sizes = [log(t * s * s) for t, s, _ in scales]
    nearest = [min(range(len(scales)), key=lambda j: abs(step - sizes[j])) for step in steps]
    nearest[0], nearest[-1] = 0, len(scales) - 1
    return [scales[j] for j in nearest]


def _prime_factors(value: int) -> list[int]:
    """Largest first.

    >>> _prime_factors(40)
    [5, 2, 2, 2]
    """
    found, divisor = [], 2
    while divisor * divisor <= value:
        while value % divisor == 0:
            found.append(divisor)
            value //= divisor
        divisor += 1
    return sorted([*found, value] if value > 1 else found, reverse=True)


def inkling2(c: Config, kind: str, sizes: Mapping[str, Any]) -> Architecture:
    """A ViT with a class token and learned scales, and two matrices over squares of patches."""
    language = read_language(c, kind, sizes, tied=False)
    vision = c.sub("vision_config", _VISION2)
    hidden, norm, wanted = (
        vision.integer("hidden_size"),
        layer_norm(vision),
        vision.integer("text_hidden_size", language.hidden),
    )
    if wanted != language.hidden:
        raise vision.error("text_hidden_size", f"({wanted}) must be the hidden_size of text_config ({language.hidden})")
    inner = vision.integer("intermediate_size", int(hidden * vision.number("mlp_ratio")))
    mlp = plain_mlp(vision.reread(intermediate_size=inner))
    pixels = vision.integer("num_channels") * vision.integer("patch_size") ** 2
    entry: Named = (
        ("patches", Projection(pixels, hidden, role="other")),
        ("class", table("other", (hidden,))),
        ("class_position", table("position", (hidden,))),
        ("positions", table("position", (vision.integer("posemb_grid_size") ** 2, hidden))),
        ("input_norm", norm),
    )
    layer = scaled_layer(norm, full_attention(vision, rotary=True), mlp)
    tower = Part("vision", entry=entry, stacks=(Stack.uniform(layer, vision.layers()),))
    count, width, bias = (
        vision.integer("spatial_merge_size") ** 2,
        vision.integer("projection_hidden_dim"),
        vision.flag("projector_bias"),
    )
    projector: Named = (
        ("up", Projection(hidden * count, width, bias=bias, activation="gelu", cut="outputs", merge=count)),
        ("down", Projection(width, language.hidden, bias=bias, cut="inputs")),
    )
    return joined(c, language, (tower, Part("projector", entry=projector)))


_VISION: Mapping[str, Any] = {"patch_size": 40, "temporal_patch_size": 2, "num_channels": 3, "num_hidden_layers": 24}
_AUDIO: Mapping[str, Any] = {"n_mel_bins": 80, "mel_vocab_size": 256}
_VISION2: Mapping[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "num_channels": 3,
    "patch_size": 20,
    "hidden_act": "gelu",
    "mlp_ratio": 4.0,
    "spatial_merge_size": 2,
    "posemb_grid_size": 32,
    "projection_hidden_dim": 4096,
    "projector_bias": False,
}
_TEXT: Mapping[str, Any] = {
    "vocab_size": 201024,
    "hidden_size": 6144,
    "intermediate_size": 24576,
    "moe_intermediate_size": 3072,
    "num_hidden_layers": 66,
    "num_attention_heads": 64,
    "n_routed_experts": 256,
}
_TEXT2: Mapping[str, Any] = {
    "vocab_size": 201024,
    "hidden_size": 4608,
    "moe_intermediate_size": 2304,
    "num_hidden_layers": 48,
    "num_attention_heads": 48,
    "n_routed_experts": 384,
}
_LOOP: Mapping[str, Any] = {
    "vocab_size": 201024,
    "hidden_size": 2304,
    "moe_intermediate_size": 1152,
    "num_hidden_layers": 24,
    "num_attention_heads": 24,
    "n_routed_experts": 128,
}

FAMILIES = {
    "inkling_mm_model": Family(inkling, {}),
    "inkling2": Family(partial(inkling2, kind="inkling2_text", sizes=_TEXT2), {}),
    "inkling2_loop": Family(partial(inkling2, kind="inkling2_loop_text", sizes=_LOOP), {}),
}
