"""Muse Glimmer and Muse Spark: images, and sound in Spark, in front of a decoder with gated attention.

Structures follow transformers src/transformers/models/muse_{glimmer,spark}/.
"""

from collections.abc import Mapping
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.block import Block
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.head import Head
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.blocks.residual_gate import ResidualGate
from memcalc.readers.hf.common import biased_attention, decoder, layer_windows, mlp, optional_number, rms, sandwich, windowed
from memcalc.readers.hf.common import sliding_window as window_of
from memcalc.readers.hf.config import MAX_SIZE, Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import experts
from memcalc.readers.hf.multimodal.nested import Language, joined, read_language, tied_outside
from memcalc.readers.hf.multimodal.vision import encoder_layer, table

CENTRED, POWER = "rms-zero-centred", "rms-fp32"  # scaled by 1 + weight; divided by a power of the statistic


def muse_glimmer(c: Config) -> Architecture:
    language = read_language(c, "muse_glimmer_text", _GLIMMER_SIZES, tied=tied_outside(c, False))
    return joined(c, language, _seeing(c, language))


def muse_spark(c: Config) -> Architecture:
    """The model class ties nothing, whatever the config says."""
    language = read_language(c, "muse_spark_text", _SPARK_SIZES, tied=False)
    return joined(c, language, (*_seeing(c, language), _hearing(c.sub("audio_config", _AUDIO))))


def glimmer_text(c: Config) -> Architecture:
    norm, feed_forward = rms(c, kind="rms-zero-centred"), mlp(c)
    return _decoder(c, windowed(_windows(c), lambda window: sandwich(norm, _attention(c, window), feed_forward)))


def spark_text(c: Config) -> Architecture:
    """Experts in a smaller space, with norms of their own; a learned gate mixes each block's result with its residual."""
    depth, hidden = c.layers(), c.integer("hidden_size")
    sparse = layer_kinds(c, ["sparse"] * depth, ("dense", "sparse"), "mlp_layer_types")
    gate, before, after = ResidualGate(hidden), rms(c, kind=CENTRED), rms(c, kind="rms-scaled-first")

    def layer(kind: tuple[int | None, str]) -> Layer:
        window, feed_forward = kind
        made: Block = _spark_experts(c) if feed_forward == "sparse" else mlp(c)
        named: Named = (
            ("input_norm", before), ("attention", _attention(c, window, POWER, result=True)),
            ("post_attention_norm", rms(c, kind=POWER, affine=False)), ("attention_gate", gate),
            ("pre_mlp_norm", before), ("mlp", made), ("post_mlp_norm", after), ("mlp_gate", gate),
        )  # fmt: skip
        return Layer(named, wiring="gated residuals")

    return _decoder(c, windowed(list(zip(_windows(c), sparse, strict=True)), layer), POWER)


def _spark_experts(c: Config) -> Block:
    width = c.integer("moe_hidden_size")
    first, last = rms(c, size=width, kind=CENTRED), rms(c, size=width, kind="rms-scaled-first")
    return experts(c, latent=width, latent_norm=first, norm=last, routing="sigmoid-fp32-router")


def _decoder(c: Config, layers: list[Layer], kind: str = "rms") -> Architecture:
    tied, softcap = c.flag("tie_word_embeddings", False), optional_number(c, "final_logit_softcapping")
    head = Head(c.integer("vocab_size"), c.integer("hidden_size"), tied=tied, softcap=softcap, scaled=True)
    embedding_norm = rms(c, kind=kind, affine=False)
    return decoder(c, layers, rms(c, kind=kind), head=head, after_embedding=(("embedding_norm", embedding_norm),))


def _attention(c: Config, window: int | None, kind: str = "rms", *, result: bool = False) -> Block:
    """Norms of queries and keys, in Spark of the result too, without a scale; full layers know no positions."""
    head_norm = rms(c, size=c.integer("head_dim"), kind=kind, affine=False)
    gate = c.integer("num_attention_heads") * c.integer("head_dim")
    norms: dict[str, Any] = {
        "query_norm": head_norm,
        "key_norm": head_norm,
        "norms_after_rotary": False,
        "result_norm": head_norm if result else None,
    }
    return biased_attention(c, window=window, rotary=window is not None, gate=gate, **norms)


def _windows(c: Config) -> list[int | None]:
    """Every fourth layer, counted from the last, sees everything."""
    depth, window = c.layers(), window_of(c)
    return layer_windows(c, default=[window if (depth - 1 - i) % 4 else None for i in range(depth)])


def _seeing(c: Config, language: Language) -> tuple[Part, Part]:
    """A ViT with windows, learned positions of a grid; squares of patches are laid side by side."""
    vision = c.sub("vision_config", _VISION)
    hidden, patch = vision.integer("hidden_size"), vision.integer("patch_size")
    norm = Norm(hidden, "layer")
    pixels = 3 * vision.integer("patch_temporal") * patch**2
    grid = vision.integer("pos_emb_height") * vision.integer("pos_emb_width")
    tower = Part(
        "vision",
        entry=(
            ("patches", Projection(pixels, hidden, role="other")),
            ("positions", table("position", (grid, hidden))),
            ("input_norm", norm),
        ),
        stacks=(Stack.uniform(encoder_layer(vision, norm, rotary=True), vision.layers()),),
        exit=(("final_norm", norm),),
    )
    wide, inner = c.integer("out_hidden_size"), c.integer("projector_hidden_size")
    adapter = Projection(
        wide, inner, activation=c.text("projector_hidden_act"), cut="outputs", merge=vision.integer("merge_size") ** 2
    )
    projector: Named = (
        ("up", adapter),
        ("down", Projection(inner, inner, cut="inputs")),
        ("linear", Projection(inner, language.hidden)),
    )
    return tower, Part("projector", entry=projector)


def _hearing(c: Config) -> Part:
    """A pyramid over the waveform: at each level patches of time, then depthwise convolutions and feed-forwards."""
    levels = c.layers()
    widths, patches, depths = (_list(c, key, levels) for key in ("hidden_sizes", "patch_sizes", "depths"))
    ratio, kernel, stacks = c.number("mlp_ratio"), (c.integer("conv_kernel_size"),), []
    for level, (width, patch, depth) in enumerate(zip(widths, patches, depths, strict=True)):
        inputs = patch * (widths[level - 1] if level else 1)
        start = Layer((("patches", Projection(inputs, width, bias=True)), ("patch_norm", rms(c, size=width))))
        feed_forward = MLP(width, int(width * ratio), gated=False, bias=True, activation=c.text("hidden_act"))
        convolution = Convolution(width, width, kernel, (1,), groups=width, bias=True)
        block = Layer((("convolution", convolution), ("norm", rms(c, size=width)), ("mlp", feed_forward)))
        stacks.append(Stack.of([start, *[block] * depth], f"levels{level}"))
    output = c.integer("out_hidden_size")
    end: Named = (
        ("final_norm", rms(c, size=widths[-1])),
        ("linear", Projection(widths[-1], output, bias=True)),
        ("output_norm", rms(c, size=output)),
    )
    return Part("audio", stacks=tuple(stacks), exit=end)


def _list(c: Config, key: str, count: int) -> list[int]:
    values = c.entries(key, of=int)
    if len(values) < count or not all(0 < value <= MAX_SIZE for value in values):
        raise c.error(key, f"must hold a positive whole number for each of the {count} levels")
    return values[:count]


_VISION: Mapping[str, Any] = {
    "patch_size": 14,
    "pos_emb_height": 32,
    "pos_emb_width": 32,
    "num_attention_heads": 16,
    "num_hidden_layers": 50,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "hidden_act": "gelu",
    "patch_temporal": 2,
    "merge_size": 2,
}
_AUDIO: Mapping[str, Any] = {
    "patch_sizes": (16, 6, 5, 4),
    "hidden_sizes": (256, 512, 1024, 2048),
    "depths": (2, 2, 2, 2),
    "num_hidden_layers": 4,
    "mlp_ratio": 4.0,
    "conv_kernel_size": 7,
    "hidden_act": "gelu",
    "out_hidden_size": 8192,
}
_PROJECTOR: Mapping[str, Any] = {"out_hidden_size": 6144, "projector_hidden_size": 4096, "projector_hidden_act": "gelu"}
_TEXT: Mapping[str, Any] = {"sliding_window": 2048, "final_logit_softcapping": 20.0, "rms_norm_eps": 1e-5}
_GLIMMER: Mapping[str, Any] = {**_TEXT, "num_key_value_heads": 2, "head_dim": 128, "max_position_embeddings": 131072}
_SPARK: Mapping[str, Any] = {
    **_TEXT,
    "num_key_value_heads": 16,
    "head_dim": 64,
    "moe_hidden_size": 4096,
    "moe_intermediate_size": 4096,
    "num_experts_per_tok": 8,
    "max_position_embeddings": 1048576,
}
_GLIMMER_SIZES: Mapping[str, Any] = {
    "vocab_size": 202048,
    "hidden_size": 6656,
    "intermediate_size": 19968,
    "num_hidden_layers": 52,
    "num_attention_heads": 32,
}
_SPARK_SIZES: Mapping[str, Any] = {
    "vocab_size": 202048,
    "hidden_size": 8192,
    "intermediate_size": 16384,
    "num_hidden_layers": 62,
    "num_attention_heads": 128,
    "num_local_experts": 256,
}

FAMILIES = {
    "muse_glimmer": Family(muse_glimmer, _PROJECTOR),
    "muse_glimmer_text": Family(glimmer_text, _GLIMMER),
    "muse_spark": Family(muse_spark, _PROJECTOR),
    "muse_spark_text": Family(spark_text, _SPARK),
}
