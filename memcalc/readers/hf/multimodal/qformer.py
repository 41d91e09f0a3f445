"""Models joined by a Q-Former, a BERT of learned queries that read what a tower made: BLIP-2, InstructBLIP, Granite Speech."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.blocks.task_head import TaskHead
from memcalc.readers.hf.common import architecture, norm_of_sum, windowed
from memcalc.readers.hf.config import MAX_SIZE, Config, Family
from memcalc.readers.hf.multimodal.nested import assumed_tied, joined, read_language, text_type, tied_outside
from memcalc.readers.hf.multimodal.towers import tower
from memcalc.readers.hf.multimodal.vision import encoder_layer, patches, table
from memcalc.readers.hf.tasks import task


def blip2(c: Config, *, instructed: bool = False) -> Architecture:
    """The head belongs to the inner language model, so the text_config alone says whether it is tied.

    The class that compares images and texts has no language model: its Q-Former reads the texts.
    `instructed`: the Q-Former reads the prompt as well (InstructBLIP).
    """
    vision, compares = c.sub("vision_config", BLIP2_VISION), task(c) == "ImageTextRetrieval"
    former = c.sub("qformer_config", {**QFORMER, "use_qformer_text_input": False})
    hidden = former.integer("hidden_size")
    reads_text = instructed or former.flag("use_qformer_text_input")
    queries: Named = (("queries", table("other", (c.integer("num_query_tokens"), hidden))),)
    if instructed or compares:
        positions = former.integer("max_position_embeddings")
        queries += (("embedding", Embedding(former.integer("vocab_size"), hidden, position=positions)),)
    middle = qformer(former, vision.integer("hidden_size"), queries, reads_text=reads_text)
    if compares:
        joint = Projection(hidden, c.integer("image_text_hidden_size", 256), bias=True)
        ends: Named = (("image", joint), ("text", joint), ("matching", TaskHead(hidden, 2)))
        return architecture(c, (middle, _eva(vision), Part("projector", entry=ends)), tied=False, text=former)
    kind = text_type(c, "opt")
    text = c.sub("text_config", {})
    language = read_language(c, kind, tied=text.flag("tie_word_embeddings", kind == "opt"))
    projector = Part("projector", entry=(("linear", Projection(hidden, language.hidden, bias=True)),))
    return joined(c, language, (_eva(vision), middle, projector))


def granite_speech(c: Config) -> Architecture:
    """Granite behind a conformer; each window of sound is summed up by a few queries."""
    kind = text_type(c, "granite")
    language = read_language(c, kind, tied=tied_outside(c, True))
    former = c.sub("projector_config", {**QFORMER, "encoder_hidden_size": 1408, "use_qformer_text_input": False})
    hidden, window, rate = former.integer("hidden_size"), c.integer("window_size"), c.integer("downsample_rate")
    queries: Named = (("queries", table("other", (window // rate, hidden))),)
    reads_text = former.flag("use_qformer_text_input")
    middle = qformer(former, former.integer("encoder_hidden_size"), queries, reads_text=reads_text)
    projector = Part("projector", entry=(("linear", Projection(hidden, language.hidden, bias=True)),))
    hearing = _conformer(c.sub("encoder_config", GRANITE_ENCODER))
    return joined(c, language, (hearing, middle, projector), warnings=assumed_tied(c))


def granite4_vision(c: Config) -> Architecture:
    """A Q-Former of its own for each vision layer that is read, and for each group of patches: windows of patches are
    summed up by fewer queries."""
    language = read_language(c, text_type(c, "granite4_vision_text"), tied=tied_outside(c, False))
    tower_part, vision = tower(c, "vision_config", "clip_vision_model", {})
    hidden = vision.integer("hidden_size")
    layers, groups = len(c.entries("deepstack_layer_map")), len(c.entries("spatial_target_layers"))
    sides = c.text("downsample_rate").split("/")
    if len(sides) != 2 or not all(side.isdecimal() and 0 < int(side) <= MAX_SIZE for side in sides):
        raise c.error("downsample_rate", "must be two whole numbers, a slash between them")
    queries: Named = (
        ("query", table("other", (1, int(sides[0]) ** 2, hidden))),
        ("positions", table("other", (1, int(sides[1]) ** 2, hidden))),
    )
    given = c.sub("qformer_config", {**QFORMER, "use_qformer_text_input": False} if c.has("qformer_config") else _ONE_LAYER)
    # as wide as the tower, whatever the file says
    former = given.reread(hidden_size=hidden, num_attention_heads=max(1, hidden // 64))
    middle = qformer(former, hidden, queries, reads_text=former.flag("use_qformer_text_input"))
    end: Named = (("norm", Norm(hidden, "layer")), ("linear", Projection(hidden, language.hidden, bias=True)))
    middle = replace(middle, exit=end)
    formers = tuple(replace(middle, name=f"qformer{i or ''}") for i in range(layers + groups))
    newline = Part("projector", entry=(("newline", table("other", (language.hidden,))),))
    return joined(c, language, (tower_part, *formers, newline))


def qformer(c: Config, source: int, queries: Named, *, reads_text: bool) -> Part:
    """BERT layers, every `cross_attention_frequency`-th with attention to `source` wide tokens of the tower.

    `reads_text`: tokens of text have a feed-forward of their own beside that of the queries.
    """
    hidden, heads, norm = c.integer("hidden_size"), c.integer("num_attention_heads"), Norm(c.integer("hidden_size"), "layer")
    if hidden % heads:
        raise c.error("hidden_size", f"({hidden}) is not a multiple of num_attention_heads ({heads})")
    every = c.integer("cross_attention_frequency")
    traits: dict[str, Any] = {"query_bias": True, "output_bias": True, "causal": False, "rotary": False}
    mixer = attention_of(hidden, heads, heads, hidden // heads, **traits)
    crossing = attention_of(hidden, heads, heads, hidden // heads, kv_inputs=source, **traits)
    feed_forward = MLP(hidden, c.integer("intermediate_size"), gated=False, bias=True, activation=c.text("hidden_act"))
    text: Named = (("text_mlp", feed_forward), ("text_norm", norm)) if reads_text else ()

    def layer(crosses: bool) -> Layer:
        made = norm_of_sum(norm, mixer, feed_forward)
        cross: Named = (("tower_attention", crossing), ("tower_attention_norm", norm)) if crosses else ()
        return replace(made, blocks=(*made.blocks[:2], *cross, *made.blocks[2:], *text))

    stack = Stack.of(windowed([i % every == 0 for i in range(c.layers())], layer))
    return Part("qformer", entry=(*queries, ("embedding_norm", norm)), stacks=(stack,))


def _eva(c: Config) -> Part:
    """EVA's ViT: a class token; one bias over query, key and value."""
    hidden, norm = c.integer("hidden_size"), Norm(c.integer("hidden_size"), "layer")
    count, convolution = patches(c, bias=True)
    layer = encoder_layer(c, norm, fused=True, query_bias=c.flag("qkv_bias"))
    return Part(
        "vision",
        entry=(
            ("patches", convolution),
            ("class", table("other", (hidden,))),
            ("positions", table("position", (count + 1, hidden))),
        ),
        stacks=(Stack.uniform(layer, c.layers()),),
        exit=(("final_norm", norm),),
    )


def _conformer(c: Config) -> Part:
    """Shaw's relative positions; a letter-wise output in the middle is read back in."""
    hidden, heads, outputs = c.integer("hidden_dim"), c.integer("num_attention_heads"), c.integer("output_dim")
    width, inner = c.integer("dim_head", max(1, hidden // heads)), hidden * c.integer("conv_expansion_factor")
    norm = Norm(hidden, "layer")
    half = MLP(hidden, hidden * c.integer("feedforward_mult"), gated=False, bias=True)
    mixer = attention_of(hidden, heads, heads, width, output_bias=True, causal=False, rotary=False)
    kernel = (c.integer("conv_kernel_size"),)
    layer = Layer(
        (
            ("mlp_start_norm", norm),
            ("mlp_start", half),
            ("input_norm", norm),
            ("attention", mixer),
            ("relative_positions", table("position", (2 * c.integer("max_pos_emb") + 1, width))),
            ("convolution_input_norm", norm),
            ("convolution_start", Projection(hidden, 2 * inner, bias=True, activation="glu", role="mlp")),
            ("convolution", Convolution(inner, inner, kernel, (1,), groups=inner)),
            ("convolution_norm", Norm(inner, "layer")),  # over the batch
            ("convolution_end", Projection(inner, hidden, bias=True, role="mlp")),
            ("mlp_end_norm", norm),
            ("mlp_end", half),
            ("output_norm", norm),
        )
    )
    return Part(
        "audio",
        entry=(("input", Projection(c.integer("input_dim"), hidden, bias=True)),),
        stacks=(Stack.uniform(layer, c.layers()),),
        exit=(("letters", Projection(hidden, outputs, bias=True)), ("back", Projection(outputs, hidden, bias=True))),
    )


BLIP2_VISION: Mapping[str, Any] = {
    "hidden_size": 1408,
    "intermediate_size": 6144,
    "num_hidden_layers": 39,
    "num_attention_heads": 16,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 14,
    "hidden_act": "gelu",
    "qkv_bias": True,
}
QFORMER: Mapping[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "cross_attention_frequency": 2,
}
_ONE_LAYER: Mapping[str, Any] = {
    **QFORMER,
    "num_hidden_layers": 1,
    "cross_attention_frequency": 1,
    "use_qformer_text_input": False,
}
GRANITE_ENCODER: Mapping[str, Any] = {
    "input_dim": 160,
    "num_layers": 10,
    "hidden_dim": 1024,
    "feedforward_mult": 4,
    "num_heads": 8,
    "output_dim": 42,
    "max_pos_emb": 512,
    "conv_kernel_size": 15,
    "conv_expansion_factor": 2,
}
_INSTRUCTED = partial(blip2, instructed=True)

FAMILIES = {
    "blip-2": Family(blip2, {"num_query_tokens": 32}),
    "instructblip": Family(_INSTRUCTED, {"num_query_tokens": 32}),
    "instructblipvideo": Family(_INSTRUCTED, {"num_query_tokens": 32}),
    "granite4_vision": Family(granite4_vision, {"spatial_target_layers": (12, 15, 18, 21)}),
    "granite_speech": Family(granite_speech, {"downsample_rate": 5, "window_size": 15}),
    "granite_speech_plus": Family(granite_speech, {"downsample_rate": 5, "window_size": 15}),
}
