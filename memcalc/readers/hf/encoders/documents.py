"""Encoders that read where a word stands on a page, or what an image beside it shows: BERT with more tables."""

from memcalc.blocks.architecture import Architecture, Named
from memcalc.blocks.ledger import Weight, linear
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.task_head import Pooler
from memcalc.readers.hf.common import layer_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.heads import Heads, headless, masked_lm, under, usual
from memcalc.readers.hf.encoders.layers import UNRECORDED, bert_but, body, embedded, tables, unread
from memcalc.readers.hf.multimodal.vision import patches
from memcalc.readers.hf.tasks import classifier, label_count

SIDES = ("x", "y", "height", "width")


def lilt(c: Config) -> Architecture:
    """Text and boxes flow side by side, the boxes' stream narrower; their scores are added (modeling_lilt.py)."""
    hidden, inner, ratio = c.integer("hidden_size"), c.integer("intermediate_size"), c.integer("channel_shrink_ratio")
    narrow, rows, sixth = hidden // ratio, c.integer("max_2d_position_embeddings"), hidden // 6
    if not narrow or not sixth:
        raise c.error("hidden_size", f"({hidden}) is too small for channel_shrink_ratio ({ratio}) and boxes")
    norm = layer_norm(c, size=narrow)
    beside: Named = (
        (
            "boxes",
            tables(*((side, rows, sixth) for side in SIDES), ("positions", c.integer("max_position_embeddings"), narrow)),
        ),
        ("box_projection", Projection(6 * sixth, narrow, bias=True)),
        ("box_norm", norm),
    )
    projections = (
        *(w for name in "qkv" for w in linear(name, "attention", narrow, narrow, bias=True)),
        *linear("output", "attention", narrow, narrow, bias=True),
    )
    feed_forward = (
        *linear("up", "mlp", narrow, inner // ratio, bias=True),
        *linear("down", "mlp", inner // ratio, narrow, bias=True),
    )
    within: Named = (
        ("box_attention", Plain(projections)), ("box_attention_norm", norm),
        ("box_mlp", Plain(feed_forward)), ("box_mlp_norm", norm),
    )  # fmt: skip
    return under(c, body(c, beside=beside, within=within), headless(c))


def markuplm(c: Config) -> Architecture:
    """Each step of a word's path through a web page has tables of its own; a small MLP reads them all."""
    hidden, depth, width = c.integer("hidden_size"), c.layers("max_depth"), c.integer("xpath_unit_hidden_size")
    kinds = ("tag", "subs")
    units = tuple(
        Weight(kind, "other", (c.integer(f"max_xpath_{kind}_unit_embeddings"), width), tensors=depth) for kind in kinds
    )
    beside: Named = (
        ("path", Plain(units)),
        ("path_unread", Plain(linear("weight", "other", width * depth, hidden, bias=True))),
        ("path_up", Projection(width * depth, 4 * hidden, bias=True, activation="relu")),
        ("path_down", Projection(4 * hidden, hidden, bias=True)),
    )
    return under(c, body(c, beside=beside), headless(c))


def bros(c: Config) -> Architecture:
    """Sines of the box, projected to the width of a head, are added to the scores; classes keep the pooler."""
    if any("Spade" in name for name in c.entries("architectures", [], of=str)):
        raise c.error("architectures", "names a class that extracts relations, which is not modelled")
    hidden, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    sines, width = c.integer("dim_bbox_sinusoid_emb_2d", hidden // 4), c.integer("dim_bbox_projection", hidden // heads)
    beside: Named = (("boxes", Projection(sines, width)),)
    return under(c, body(c, beside=beside, within=UNRECORDED), headless(c, kept=True))


def layoutlmv3(c: Config) -> Architecture:
    """Words and patches in one sequence, with learned biases by distance along the text and across the page."""
    hidden, heads, rows = (c.integer(key) for key in ("hidden_size", "num_attention_heads", "max_2d_position_embeddings"))
    entry: Named = ()
    if c.flag("text_embed"):
        sizes = [c.integer("coordinate_size")] * 2 + [c.integer("shape_size")] * 2
        boxes = tables(*((side, rows, size) for side, size in zip(SIDES, sizes, strict=True)))
        entry += (*embedded(c), ("boxes", boxes))
    if c.flag("visual_embed"):
        image = c.reread(image_size=c.raw("input_size"))
        _, convolution = patches(image, bias=True)
        side = c.integer("input_size") // c.integer("patch_size")
        norm = layer_norm(c)
        tokens = (Weight("class", "other", (1, 1, hidden)), Weight("positions", "position", (1, side * side + 1, hidden)))
        entry += (("patches", convolution), ("patch_tokens", Plain(tokens)), ("joined_norm", norm), ("patch_norm", norm))
    bias: list[Weight] = []
    if c.flag("has_relative_attention_bias"):
        bias.append(Weight("distances", "attention", (heads, c.integer("rel_pos_bins"))))
    if c.flag("has_spatial_attention_bias"):
        bias += [Weight(name, "attention", (heads, c.integer("rel_2d_pos_bins"))) for name in SIDES[:2]]
    part = body(c, entry=(*entry, ("bias", Plain(tuple(bias)))), within=UNRECORDED)
    labels = label_count(c)
    scores: Named = (("classifier", classifier(hidden, labels)),)
    deep: Named = (("pooler", Pooler(hidden, hidden, dropped=True)), *scores)
    kinds = {
        "Model": (), "SequenceClassification": deep, "QuestionAnswering": deep,
        "TokenClassification": scores if labels < FEW else deep,
    }  # fmt: skip
    return under(c, part, Heads((), False, kinds))


FEW = 10  # from so many labels on, tokens get a dense layer before their scores (modeling_layoutlmv3.py)


def visual_bert(c: Config) -> Architecture:
    """Features of image regions, projected, with positions and segments of their own, behind the text."""
    hidden, tied = c.integer("hidden_size"), c.flag("tie_word_embeddings")
    if c.flag("bypass_transformer"):
        raise c.error("bypass_transformer", "must be false: a layer of its own for images is not modelled")
    seen = tables(
        ("segments", c.integer("type_vocab_size"), hidden), ("positions", c.integer("max_position_embeddings"), hidden)
    )
    beside: Named = (("seen", seen), ("seen_projection", Projection(c.integer("visual_embedding_dim"), hidden, bias=True)))
    heads = usual(c, masked_lm(c, tied=tied), tied=tied)
    kinds = {kind: heads.kinds[kind] for kind in ("Model", "PreTraining")}
    return under(c, body(c, beside=unread(beside)), Heads((), False, kinds))


_BOXES = bert_but(max_2d_position_embeddings=1024)

FAMILIES = {
    "lilt": Family(lilt, {**_BOXES, "channel_shrink_ratio": 4}),
    "markuplm": Family(
        markuplm,
        bert_but(
            max_depth=50, max_xpath_tag_unit_embeddings=256, max_xpath_subs_unit_embeddings=1024, xpath_unit_hidden_size=32
        ),
    ),
    "bros": Family(bros, bert_but()),
    "layoutlmv3": Family(
        layoutlmv3,
        {
            **_BOXES, "vocab_size": 50265, "coordinate_size": 128, "shape_size": 128, "has_relative_attention_bias": True,
            "rel_pos_bins": 32, "has_spatial_attention_bias": True, "rel_2d_pos_bins": 64, "text_embed": True,
            "visual_embed": True, "input_size": 224, "num_channels": 3, "patch_size": 16,
        },
    ),
    "visual_bert": Family(visual_bert, bert_but(visual_embedding_dim=512, bypass_transformer=False)),
}  # fmt: skip
