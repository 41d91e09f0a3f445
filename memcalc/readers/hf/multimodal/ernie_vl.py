"""ERNIE 4.5 VL: a rotary ViT, a resampler over space and time, and a mixture with experts apart for text and images."""

from collections.abc import Mapping
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.experts.mixture import experts_of
from memcalc.blocks.experts.modality import OtherModality
from memcalc.blocks.ledger import Weight
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import biased_attention, decoder, mlp, pre_norm, rms
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.multimodal.nested import assumed_tied, joined, read_language, tied_outside
from memcalc.readers.hf.multimodal.vision import full_attention, plain_mlp

KINDS = ("dense", "sparse")


def ernie4_5_vl_moe(c: Config) -> Architecture:
    language = read_language(c, "ernie4_5_vl_moe_text", tied=tied_outside(c, True))
    vision = c.sub("vision_config", _VISION)
    hidden, patch, norm = (
        vision.integer("hidden_size"),
        vision.integer("patch_size"),
        Norm(vision.integer("hidden_size"), "layer"),
    )
    layer = pre_norm(norm, full_attention(vision, heads="num_heads", fused=True, rotary=True), plain_mlp(vision))
    patches = Projection(vision.integer("in_channels") * patch * patch, hidden, role="other")
    tower = Part(
        "vision",
        entry=(("patches", patches),),
        stacks=(Stack.uniform(layer, vision.layers("depth"), "blocks"),),
        exit=(("final_norm", norm),),
    )
    projector = Part("projector", entry=_resampler(vision, language.hidden))
    return joined(c, language, (tower, projector), warnings=assumed_tied(c))


def ernie4_5_vl_moe_text(c: Config) -> Architecture:
    """Both modalities share attention, router's width and the shared experts; each has experts of its own size."""
    depth, norm = c.layers(), rms(c)
    kinds = layer_kinds(c, ["dense"] + ["sparse"] * (depth - 1), KINDS, "mlp_layer_types")
    mixer = biased_attention(c, "use_bias")
    sizes = c.entries("moe_intermediate_size", of=int)
    if len(sizes) != 2 or min(sizes) < 1:
        raise c.error("moe_intermediate_size", f"must hold two sizes, of text's and of images' experts, not {sizes!r:.60}")
    count, top_k = c.integer("num_experts"), c.integer("num_experts_per_tok")
    if top_k > count:
        raise c.error("num_experts_per_tok", f"({top_k}) exceeds {c.spelling('num_experts')} ({count})")
    shared = c.integer("moe_num_shared_experts", low=0)
    traits: dict[str, Any] = {
        "activation": c.text("hidden_act"),
        "router_extras": (Weight("correction_bias", "router", (1, count)),),
        "routing": "softmax-corrected",
    }
    bias = c.flag("use_bias")
    text, images = (experts_of(c.integer("hidden_size"), size, count, top_k, **traits) for size in sizes)
    beside: Named = (("shared_mlp", mlp(c, intermediate=shared * sizes[0], bias=bias)),) if shared else ()
    dense = pre_norm(norm, mixer, mlp(c, bias=bias))
    sparse = Layer((*dense.blocks[:3], ("mlp", text), ("image_mlp", OtherModality(images)), *beside))
    return decoder(c, [sparse if kind == "sparse" else dense for kind in kinds], norm)


def _resampler(vision: Config, outputs: int) -> Named:
    """Squares of patches, then pairs of frames, are laid side by side and projected."""
    frames = vision.integer("temporal_merge_size")
    count = vision.integer("spatial_merge_size") ** 2
    width = vision.integer("hidden_size") * count

    def side_by_side(name: str, inputs: int, merge: int) -> Named:
        return (
            (f"{name}_up", Projection(inputs, width, bias=True, activation="gelu", merge=merge)),
            (f"{name}_down", Projection(width, width, bias=True)),
            (f"{name}_norm", Norm(width, "layer")),
        )

    return (
        *side_by_side("spatial", width, count),
        *side_by_side("temporal", width * frames, frames),
        ("linear", Projection(width, outputs, bias=True)),
        ("norm", Norm(outputs)),
    )


_VISION: Mapping[str, Any] = {
    "depth": 32,
    "hidden_size": 1280,
    "hidden_act": "quick_gelu",
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_merge_size": 2,
    "intermediate_size": 5120,
}
_TEXT: Mapping[str, Any] = {
    "num_key_value_heads": 4,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
    "use_bias": False,
    "moe_intermediate_size": (1536, 512),
    "moe_k": 6,
    "moe_num_experts": 64,
    "moe_num_shared_experts": 2,
}

FAMILIES = {
    "ernie4_5_vl_moe": Family(ernie4_5_vl_moe, {}),
    "ernie4_5_vl_moe_text": Family(ernie4_5_vl_moe_text, _TEXT),
}
