"""ViT and CLIP."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.ledger import Weight
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.task_head import Pooler
from memcalc.readers.hf.common import architecture, layer_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal import vision
from memcalc.readers.hf.multimodal.vision import encoder_layer, patches
from memcalc.readers.hf.tasks import classifier, label_count, task, uncounted


def vit(c: Config) -> Architecture:
    hidden = c.integer("hidden_size")
    norm = layer_norm(c)
    count, convolution = patches(c, bias=True)
    tokens = [
        Weight("class", "other", (1, 1, hidden)),
        Weight("positions", "position", (1, count + 1, hidden)),
    ]
    kind = task(c)
    if kind == "MaskedImageModeling":
        tokens.append(Weight("mask", "other", (1, 1, hidden)))
    layer = encoder_layer(
        c,
        norm,
        residual_dropout=c.number("hidden_dropout_prob"),
        dropout=c.number("attention_probs_dropout_prob"),
        query_bias=c.flag("qkv_bias"),
    )
    exit_blocks: Named = (("final_norm", norm),)
    warnings: tuple[str, ...] = ()
    if kind in ("", "ImageClassification"):
        exit_blocks += (("classifier", replace(classifier(hidden, label_count(c)), first=True)),)
    elif kind == "Model":
        pooled = Pooler(hidden, c.integer("pooler_output_size", hidden))
        exit_blocks += (("pooler", pooled),)
    elif kind == "MaskedImageModeling":
        pixels = c.integer("encoder_stride") ** 2 * c.integer("num_channels")
        exit_blocks += (("pixels", Convolution(hidden, pixels, (1, 1), bias=True, role="head")),)
    else:
        warnings = uncounted(c)
    part = Part(
        "vision",
        entry=(("patches", convolution), ("tokens", Plain(tuple(tokens)))),
        stacks=(Stack.uniform(layer, c.layers()),),
        exit=exit_blocks,
    )
    return replace(architecture(c, (part,), tied=False, vocabulary=0), warnings=warnings)


def clip(c: Config) -> Architecture:
    """Two towers and a projection from each into a common space."""
    # the older form of a saved config repeats the towers under *_config_dict, and those win
    text, image = (
        c.sub(f"{key}_dict" if c.has(f"{key}_dict") else key, defaults)
        for key, defaults in (("text_config", _CLIP_TEXT), ("vision_config", vision.CLIP))
    )
    if task(c) == "ImageClassification":
        tower = vision.clip(image)
        labels = classifier(image.integer("hidden_size"), label_count(c))
        tower = replace(tower, exit=(*tower.exit, ("classifier", labels)))
        return architecture(c, (tower,), tied=False, text=image, vocabulary=0)
    norm = layer_norm(text)
    hidden, shared = text.integer("hidden_size"), c.integer("projection_dim")
    language = Part(
        "language",
        entry=(
            (
                "embedding",
                Embedding(text.integer("vocab_size"), hidden, position=text.integer("max_position_embeddings")),
            ),
        ),
        stacks=(Stack.uniform(encoder_layer(text, norm, causal=True), text.layers()),),
        exit=(("final_norm", norm),),
    )
    projector = Part(
        "projector",
        entry=(
            ("vision", Projection(image.integer("hidden_size"), shared)),
            ("text", Projection(hidden, shared)),
            ("logit_scale", Plain((Weight("scale", "other", ()),))),
        ),
    )
    return architecture(c, (language, vision.clip(image), projector), tied=False, text=text)


_VIT = {
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "qkv_bias": True,
    "encoder_stride": 16,
}
_CLIP_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
}

FAMILIES = {
    "vit": Family(vit, _VIT),
    "clip": Family(clip, {"projection_dim": 512}),
}
