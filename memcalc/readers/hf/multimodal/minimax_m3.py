"""MiniMax M3: block-sparse attention and a mixture of experts, joined to a CLIP-like video encoder."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Part, Stack
from memcalc.blocks.attention.block_indexer import BlockIndexer
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.experts.mixture import Experts
from memcalc.blocks.image_sizes import Bounded
from memcalc.blocks.images import ImageRule
from memcalc.blocks.mlp import MLP
from memcalc.blocks.projection import Projection
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import attention, decoder, head_norms, layer_norm, pre_norm, rms, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import corrected_experts, sparse_after_dense
from memcalc.readers.hf.multimodal.nested import joined, read_language, tied_either
from memcalc.readers.hf.multimodal.vision import encoder_layer

ACTIVATION = "swigluoai"  # whatever hidden_act says: a clamped gate, and one added to the other factor
ZERO_CENTRED = "rms-zero-centred"


def minimax_m3_text(c: Config) -> Architecture:
    norm = rms(c, kind=ZERO_CENTRED)

    def feed_forward(routed: bool) -> MLP | Experts:
        if not routed:
            return _mlp(c, c.integer("dense_intermediate_size"))
        shared = _mlp(c, c.integer("shared_intermediate_size"))
        traits: dict[str, Any] = {"shared": shared, "shared_first": True, "routing": "sigmoid-narrow"}
        return corrected_experts(c, "intermediate_size", activation=ACTIVATION, **traits)

    kinds = list(zip(_sparse_attention(c), sparse_after_dense(c), strict=True))
    layers = windowed(kinds, lambda kind: pre_norm(norm, _attention(c, indexed=kind[0]), feed_forward(kind[1])))
    model = decoder(c, layers, norm)
    count = c.integer("num_mtp_modules", 0, low=0)
    return replace(model, notes=(f"{count} multi-token-prediction modules not counted",)) if count else model


def minimax_m3_vl(c: Config) -> Architecture:
    language = read_language(c, "minimax_m3_vl_text", _SIZES, tied=tied_either(c))
    vision = c.sub("vision_config", _VISION)
    hidden, norm, patch = vision.integer("hidden_size"), layer_norm(vision), vision.integer("patch_size")
    kernel = (vision.integer("temporal_patch_size"), patch, patch)
    tower = Part(
        "vision",
        # shortest and longest edge of the processor (models/minimax_m3_vl/image_processing_minimax_m3_vl.py)
        images=ImageRule((patch, patch), Bounded(4 * 28 * 28, 576 * 28 * 28), vision.integer("spatial_merge_size")),
        entry=(("patches", Convolution(vision.integer("num_channels"), hidden, kernel)), ("input_norm", norm)),
        stacks=(Stack.uniform(encoder_layer(vision, norm, rotary=True), vision.layers()),),
    )
    count, width = vision.integer("spatial_merge_size") ** 2, c.integer("projector_hidden_size")
    shared: dict[str, Any] = {"outputs": width, "bias": True, "activation": "gelu", "cut": "outputs"}
    projector = Part(
        "projector",
        entry=(
            ("up", Projection(hidden, **shared)),
            ("down", Projection(width, language.hidden, bias=True, cut="inputs")),
            ("merge_up", Projection(language.hidden * count, merge=count, **shared)),
            ("merge_down", Projection(width, language.hidden, bias=True, cut="inputs")),
        ),
    )
    return joined(c, language, (tower, projector))


def _attention(c: Config, *, indexed: bool) -> Attention:
    mixer = head_norms(c, attention(c), ZERO_CENTRED)
    if not indexed:
        return mixer
    # saved files say it in an object with longer names, which wins
    saved = c.sub("sparse_attention_config", {})
    heads, size, block, selected, local = (
        saved.integer(long) if saved.has(long) else c.integer(short) for short, long in _INDEXER
    )
    norm = rms(c, size=size, kind=ZERO_CENTRED)
    return revised(mixer, indexer=BlockIndexer(c.integer("hidden_size"), heads, size, block, selected, local, norm))


def _sparse_attention(c: Config) -> list[bool]:
    """Which layers read selected blocks only: by type, or by the flags of older files."""
    depth, saved = c.layers(), c.sub("sparse_attention_config", {})
    if c.has("layer_types") or not saved.has("sparse_attention_freq"):
        kinds = layer_kinds(c, ["full_attention"] * depth, ("full_attention", "minimax_m3_sparse"))
        return [kind == "minimax_m3_sparse" for kind in kinds]
    return [bool(flag) for flag in saved.entries("sparse_attention_freq", length=depth, of=int)]


def _mlp(c: Config, intermediate: int) -> MLP:
    return MLP(c.integer("hidden_size"), intermediate, fused=True, activation=ACTIVATION)


_INDEXER = (
    ("index_n_heads", "sparse_num_index_heads"),
    ("index_head_dim", "sparse_index_dim"),
    ("index_block_size", "sparse_block_size"),
    ("index_topk_blocks", "sparse_topk_blocks"),
    ("index_local_blocks", "sparse_local_block"),
)
_TEXT: Mapping[str, Any] = {
    "num_key_value_heads": 4,
    "head_dim": 128,
    "dense_intermediate_size": 12288,
    "shared_intermediate_size": 3072,
    "index_n_heads": 4,
    "index_head_dim": 128,
    "index_block_size": 128,
    "index_topk_blocks": 16,
    "index_local_blocks": 1,
    "max_position_embeddings": 524288,
}
_SIZES: Mapping[str, Any] = {
    "vocab_size": 200064,
    "hidden_size": 6144,
    "intermediate_size": 3072,
    "num_hidden_layers": 60,
    "num_attention_heads": 64,
    "num_experts_per_tok": 4,
    "num_local_experts": 128,
}
_VISION: Mapping[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "num_channels": 3,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
    "hidden_act": "gelu",
}

FAMILIES = {
    "minimax_m3_vl": Family(minimax_m3_vl, {"projector_hidden_size": 6144}),
    "minimax_m3_vl_text": Family(minimax_m3_text, _TEXT),
}
