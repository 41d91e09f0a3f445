"""Encoders: the BERT line, ViT and CLIP."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.task_head import Pooler
from memcalc.blocks.values import revised
from memcalc.readers.hf import vision
from memcalc.readers.hf.common import architecture, head_dim, layer_norm, mlp, norm_of_sum
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.tasks import classification, classifier, label_count, task, uncounted
from memcalc.readers.hf.vision import encoder_layer, patches

MASKED_LM = ("", "MaskedLM", "CausalLM", "LMHeadModel", "PreTraining")


def bert(c: Config) -> Architecture:
    """BERT and RoBERTa: they differ in the names of their head classes only."""
    tied = c.flag("tie_word_embeddings")
    part = _bert_body(
        c,
        segments=c.integer("type_vocab_size", low=0),
        dropout=c.number("hidden_dropout_prob"),
        attention_dropout=c.number("attention_probs_dropout_prob"),
        output_dropout=c.number("hidden_dropout_prob"),
    )
    # the library keeps the decoder's bias beside the head's own once they are not tied
    bias = () if tied else (("head_bias", Plain((Weight("bias", "head", (c.integer("vocab_size"),)),))),)
    return _with_head(c, part, tied=tied, pooler=True, extra=bias)


def distilbert(c: Config) -> Architecture:
    part = _bert_body(
        c,
        segments=0,
        dropout=c.number("dropout"),
        attention_dropout=c.number("attention_dropout"),
        intermediate=c.integer("hidden_dim"),
    )
    return _with_head(c, part, tied=c.flag("tie_word_embeddings"), pooler=False)


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
        exit_blocks += (("classifier", classifier(hidden, label_count(c))),)
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


def _bert_body(
    c: Config,
    *,
    segments: int,
    dropout: float,
    attention_dropout: float,
    output_dropout: float = 0.0,
    intermediate: int = 0,
) -> Part:
    hidden, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    attention = attention_of(
        hidden,
        heads,
        heads,
        head_dim(c),
        query_bias=True,
        output_bias=True,
        causal=c.flag("is_decoder", False),
        rotary=False,
        dropout=attention_dropout,
        output_dropout=output_dropout,
        scores="as computed",
    )
    norm = layer_norm(c)
    feed_forward = mlp(c, gated=False, bias=True, intermediate=intermediate, dropout=dropout)
    layer = norm_of_sum(norm, attention, feed_forward)
    if c.flag("add_cross_attention", False):
        crossing = revised(attention, cross=True, causal=False)
        cross: Named = (("cross_attention", crossing), ("cross_attention_norm", norm))
        layer = replace(layer, blocks=layer.blocks[:2] + cross + layer.blocks[2:])
    embedding = Embedding(
        c.integer("vocab_size"),
        hidden,
        position=c.integer("max_position_embeddings"),
        segments=segments,
        dropout=dropout,
    )
    entry: Named = (("embedding", embedding), ("embedding_norm", norm))
    return Part("encoder", entry, (Stack.uniform(layer, c.layers()),))


def _with_head(c: Config, part: Part, *, tied: bool, pooler: bool, extra: Named = ()) -> Architecture:
    hidden, kind = c.integer("hidden_size"), task(c)
    warnings: tuple[str, ...] = ()
    pooled: Named = (("pooler", Pooler(hidden, hidden)),) if pooler else ()
    masked: Named = (
        ("head_transform", Projection(hidden, hidden, bias=True, activation=c.text("hidden_act"), role="head")),
        ("head_norm", layer_norm(c)),
        ("head", Head(c.integer("vocab_size"), hidden, tied=tied, bias=True, upcast=False)),
        *extra,
    )
    head = classification(c, hidden, kind, dropped="roberta" in c.text("model_type", ""))
    if kind in MASKED_LM:
        head = masked
        if kind == "PreTraining":
            head += (*pooled, ("next_sentence", classifier(hidden, 2)))
    elif kind == "NextSentencePrediction":
        head = (*pooled, ("next_sentence", classifier(hidden, 2)))
    elif kind == "Model":
        head = pooled
    elif head is None:
        head, warnings = (), uncounted(c)
    return replace(architecture(c, (replace(part, exit=head),), tied=tied and kind in MASKED_LM), warnings=warnings)


_BERT = {
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "tie_word_embeddings": True,
}
_DISTILBERT = {
    "activation": "gelu",
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
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
    "bert": Family(bert, _BERT),
    "roberta": Family(bert, _BERT),
    "xlm-roberta": Family(bert, _BERT),
    "distilbert": Family(distilbert, _DISTILBERT),
    "vit": Family(vit, _VIT),
    "clip": Family(clip, {"projection_dim": 512}),
}
