"""Older models that caption images: GIT, Kosmos 2 and 2.5, Idefics, BLIP.

Structures follow transformers src/transformers/models/{git,kosmos2,kosmos2_5,idefics,blip}/.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import Attention, attention_of
from memcalc.blocks.block import Block
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.task_head import Pooler
from memcalc.blocks.values import revised
from memcalc.errors import Unsupported
from memcalc.readers.hf.common import architecture, decoder_part, head_norms, mlp, norm_of_sum, pre_norm, rms, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal.vision import CLIP, clip, encoder_layer, full_attention, patches, table
from memcalc.readers.hf.tasks import task


def git(c: Config) -> Architecture:
    """A BERT that writes, over the patches of a CLIP and the words so far."""
    vision, hidden, tied = (
        c.sub("vision_config", {**CLIP, "patch_size": 16}),
        c.integer("hidden_size"),
        c.flag("tie_word_embeddings", False),
    )
    vocabulary, norm = c.integer("vocab_size"), Norm(hidden, "layer")
    layer = norm_of_sum(norm, _bert_attention(c, causal=True), _bert_mlp(c))
    language = Part(
        "language",
        entry=(*_bert_embedding(c, norm),),
        stacks=(Stack.uniform(layer, c.layers()),),
        exit=(("head", Head(vocabulary, hidden, tied=tied, bias=True)),),
    )
    frames = c.integer("num_image_with_embedding") if c.has("num_image_with_embedding") else 0
    seen = vision.integer("hidden_size")
    projector: Named = (
        *((("frames", Plain((Weight("weight", "position", (1, 1, seen), tensors=frames),))),) if frames else ()),
        ("linear", Projection(seen, hidden, bias=True)),
        ("norm", norm),
    )
    return architecture(c, (language, clip(vision), Part("projector", entry=projector)), tied=tied)


def blip(c: Config) -> Architecture:
    """A ViT, and a BERT that attends to it in every layer; to answer, another one reads the question first."""
    kind = task(c)
    vision, text = c.sub("vision_config", _BLIP_VISION), c.sub("text_config", _BLIP_TEXT)
    hidden, norm, source = (
        text.integer("hidden_size"),
        Norm(text.integer("hidden_size"), "layer"),
        vision.integer("hidden_size"),
    )
    tied = c.flag("tie_word_embeddings", True) or text.flag("tie_word_embeddings", True)
    crosses = text.flag("is_decoder", True)

    def words(name: str, *, causal: bool, end: Named) -> Part:
        made = norm_of_sum(norm, _bert_attention(text, causal=causal), _bert_mlp(text))
        cross = _bert_attention(text, causal=False, source=source)
        between: Named = (("image_attention", cross), ("image_attention_norm", norm)) if crosses else ()
        layer = replace(made, blocks=(*made.blocks[:2], *between, *made.blocks[2:]))
        return Part(name, entry=_bert_embedding(text, norm), stacks=(Stack.uniform(layer, text.layers()),), exit=end)

    seeing = _blip_vision(vision)
    if kind == "Model":
        width = c.integer("projection_dim")
        joint: Named = (
            ("image", Projection(source, width)),
            ("text", Projection(hidden, width)),
            ("scale", Plain((Weight("logit", "other", ()),))),
        )
        read = words("language", causal=False, end=(("pooler", Pooler(hidden, hidden)),))
        return architecture(c, (read, seeing, Part("projector", entry=joint)), tied=False, text=text)
    if kind not in ("", "ConditionalGeneration", "QuestionAnswering"):
        raise Unsupported(f"{c.place}: of BLIP's classes {kind!r:.60} is not modelled")
    head = Head(text.integer("vocab_size"), hidden, tied=tied, bias=True)
    activation = text.text("hidden_act")
    end: Named = (("dense", Projection(hidden, hidden, bias=True, activation=activation, role="head")), ("head_norm", norm))
    # of the head's bias the library has two names, which are one where the matrix is tied
    again: Named = () if tied else (("head_bias", Plain((Weight("bias", "head", (head.vocabulary,)),))),)
    written = words("language", causal=True, end=(*end, ("head", head), *again))
    question = (words("question", causal=False, end=()),) if kind == "QuestionAnswering" else ()
    return architecture(c, (written, seeing, *question), tied=tied, text=text)


def _blip_vision(c: Config) -> Part:
    hidden, norm = c.integer("hidden_size"), Norm(c.integer("hidden_size"), "layer")
    count, convolution = patches(c, bias=True)
    entry: Named = (
        ("patches", convolution),
        ("class", table("other", (1, 1, hidden))),
        ("positions", table("position", (1, count + 1, hidden))),
    )
    layer = encoder_layer(c, norm, fused=True)
    return Part("vision", entry=entry, stacks=(Stack.uniform(layer, c.layers()),), exit=(("final_norm", norm),))


def _bert_attention(c: Config, *, causal: bool, source: int = 0) -> Attention:
    """`source`: width of what it attends to, images whose keys and values no text adds to."""
    made = full_attention(c, causal=causal, dropout=c.number("attention_probs_dropout_prob", 0.0))
    return revised(made, cross=True, images=True, kv_inputs=source) if source else made


def _bert_mlp(c: Config) -> MLP:
    hidden, inner = c.integer("hidden_size"), c.integer("intermediate_size")
    return MLP(hidden, inner, gated=False, bias=True, activation=c.text("hidden_act"))


def _bert_embedding(c: Config, norm: Norm) -> Named:
    positions = c.integer("max_position_embeddings")
    return (
        ("embedding", Embedding(c.integer("vocab_size"), c.integer("hidden_size"), position=positions)),
        ("embedding_norm", norm),
    )


def kosmos2(c: Config) -> Architecture:
    vision = c.sub("vision_config", _KOSMOS2_VISION)
    return _kosmos(c, _kosmos_text(c, _KOSMOS2_TEXT), clip(vision), vision.integer("hidden_size"), inner=True)


def kosmos2_5(c: Config) -> Architecture:
    """Pix2Struct's encoder of patches that say their row and column; a mark for text and one for images."""
    vision = c.sub("vision_config", _KOSMOS2_5_VISION)
    hidden, norm = vision.integer("hidden_size"), rms(vision)
    heads, patch = vision.integer("num_attention_heads"), vision.integer("patch_embed_hidden_size")
    places = table("position", (vision.integer("max_num_patches"), hidden))
    mixer = attention_of(hidden, heads, heads, vision.integer("head_dim"), causal=False, rotary=False)
    feed_forward = MLP(hidden, vision.integer("intermediate_size"), activation=vision.text("dense_act_fn"))
    tower = Part(
        "vision",
        entry=(("patches", Projection(patch, hidden, bias=True, role="other")), ("rows", places), ("columns", places)),
        stacks=(Stack.uniform(pre_norm(norm, mixer, feed_forward), vision.layers()),),
        exit=(("final_norm", norm),),
    )
    text = _kosmos_text(c, _KOSMOS2_5_TEXT)
    return _kosmos(c, text, tower, hidden, inner=False, more=(("segments", table("other", (2, text.integer("embed_dim")))),))


def _kosmos_text(c: Config, defaults: Mapping[str, Any]) -> Config:
    """The text's own spellings under the usual ones too."""
    text = c.sub("text_config", defaults)
    if text.flag("add_cross_attention", False):
        raise Unsupported(f"{text.place}: a text model with add_cross_attention is not modelled")
    names = {"hidden_size": "embed_dim", "num_hidden_layers": "layers", "num_attention_heads": "attention_heads"}
    sizes: dict[str, Any] = {usual: text.integer(own) for usual, own in names.items()}
    return text.reread(**sizes)


def _kosmos(c: Config, text: Config, tower: Part, seen: int, *, inner: bool, more: Named = ()) -> Architecture:
    """Magneto's layers: norms inside the feed-forward and, with `inner`, the attention too; learned queries read an image."""
    hidden, ffn, norm = text.integer("hidden_size"), text.integer("ffn_dim"), Norm(text.integer("hidden_size"), "layer")
    tied = c.flag("tie_word_embeddings", True) or text.flag("tie_word_embeddings", True)
    mixer = full_attention(text, causal=True)
    own = revised(mixer, result_norm=norm) if inner else mixer
    feed_forward = MLP(
        hidden, ffn, gated=False, bias=True, activation=text.text("activation_function"), norm=Norm(ffn, "layer")
    )
    embedding = Embedding(text.integer("vocab_size"), hidden, scaled=True)
    language = decoder_part(text, pre_norm(norm, own, feed_forward), norm, tied=tied, embedding=embedding, after_embedding=more)
    projector: Named = (
        ("linear", Projection(seen, hidden, bias=True)),
        ("queries", table("other", (c.integer("latent_query_num"), hidden))),
        ("attention", revised(mixer, causal=False, cross=True, images=True)),
    )
    return architecture(c, (language, tower, Part("projector", entry=projector)), tied=tied, text=text)


def idefics(c: Config) -> Architecture:
    """A llama; before every so many of its layers stands a gated one that attends to images, perhaps through a perceiver."""
    own = c.sub("vision_config", _IDEFICS_VISION)
    vision = own.reread(hidden_size=own.integer("embed_dim"))
    seen, norm, tied = vision.integer("hidden_size"), rms(c), c.flag("tie_word_embeddings", False)
    mixer = full_attention(c, causal=True, rotary=True, bias=False, dropout=c.number("dropout", 0.0))
    every, depth = c.integer("cross_layer_interval"), c.layers()
    plain = pre_norm(norm, mixer, mlp(c))
    wide = (1, 1, c.integer("hidden_size")) if c.text("alpha_type", "float") == "vector" else (1,)
    alphas = Plain(tuple(Weight(name, "other", wide) for name in ("attention", "mlp")))
    cross: Attention = revised(mixer, cross=True, images=True, causal=False, rotary=False, kv_inputs=seen)
    if c.flag("qk_layer_norms", False):
        cross = head_norms(c, cross)
    reading = tuple((f"image_{name}", block) for name, block in pre_norm(norm, cross, mlp(c)).blocks)
    gated = Layer((*reading, ("gates", alphas), *plain.blocks))
    reads = [i % every == 0 and i // every < depth // every for i in range(depth)]
    layers = windowed(reads, lambda crosses: gated if crosses else plain)
    extra = c.integer("additional_vocab_size", 0, low=0)
    more: Named = (("additional", table("embedding", (extra, c.integer("hidden_size")))),) if extra else ()
    end: Named = (("head_additional", table("head", (extra, c.integer("hidden_size")))),) if extra and not tied else ()
    part = decoder_part(c, layers, norm, tied=tied, after_embedding=more)
    language = replace(part, exit=(*part.exit, *end))
    parts = (language, clip(vision), *(_perceiver(c, seen) if c.flag("use_resampler", False) else ()))
    return architecture(c, parts, tied=tied)


def _perceiver(c: Config, width: int) -> tuple[Part]:
    """Learned latents attend to the patches and to themselves."""
    own = c.sub("perceiver_config", _IDEFICS_PERCEIVER)
    heads, size, norm = own.integer("resampler_n_heads"), own.integer("resampler_head_dim"), Norm(width, "layer")
    mixer: Block = attention_of(width, heads, heads, size, causal=False, rotary=False)
    if own.flag("qk_layer_norms_perceiver"):
        head_norm = Norm(size, "layer")
        mixer = revised(mixer, query_norm=head_norm, key_norm=head_norm)
    feed_forward = MLP(width, 4 * width, gated=False, activation="relu")
    layer = Layer((("context_norm", norm), *pre_norm(norm, mixer, feed_forward).blocks))
    latents: Named = (("latents", table("other", (own.integer("resampler_n_latents"), width))),)
    stack = Stack.uniform(layer, own.layers("resampler_depth"))
    return (Part("resampler", entry=latents, stacks=(stack,), exit=(("final_norm", norm),)),)


_BLIP_VISION: Mapping[str, Any] = {**CLIP, "image_size": 384, "patch_size": 16, "hidden_act": "gelu"}
_BLIP_TEXT: Mapping[str, Any] = {
    "vocab_size": 30524,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 512,
    "hidden_act": "gelu",
}
_KOSMOS2_TEXT: Mapping[str, Any] = {
    "vocab_size": 65037,
    "embed_dim": 2048,
    "layers": 24,
    "attention_heads": 32,
    "ffn_dim": 8192,
    "activation_function": "gelu",
    "attention_dropout": 0.1,
    "max_position_embeddings": 2048,
}
_KOSMOS2_5_TEXT: Mapping[str, Any] = {
    **_KOSMOS2_TEXT,
    "vocab_size": 108481,
    "embed_dim": 1536,
    "attention_heads": 16,
    "ffn_dim": 6144,
    "attention_dropout": 0.0,
    "max_position_embeddings": 4096,
}
_KOSMOS2_VISION: Mapping[str, Any] = {
    **CLIP,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}
_KOSMOS2_5_VISION: Mapping[str, Any] = {
    "hidden_size": 1536,
    "patch_embed_hidden_size": 768,
    "intermediate_size": 3968,
    "head_dim": 64,
    "num_hidden_layers": 18,
    "num_attention_heads": 24,
    "dense_act_fn": "gelu_new",
    "max_num_patches": 4096,
}
_IDEFICS_VISION: Mapping[str, Any] = {
    "embed_dim": 768,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 14,
    "hidden_act": "gelu",
}
_IDEFICS_PERCEIVER: Mapping[str, Any] = {
    "resampler_n_latents": 64,
    "resampler_depth": 6,
    "resampler_n_heads": 16,
    "resampler_head_dim": 96,
    "qk_layer_norms_perceiver": False,
}

FAMILIES = {
    "git": Family(git, {"hidden_act": "gelu", "max_position_embeddings": 1024}),
    "blip": Family(blip, {"projection_dim": 512}),
    "kosmos-2": Family(kosmos2, {"latent_query_num": 64}),
    "kosmos-2.5": Family(kosmos2_5, {"latent_query_num": 2048}),
    "idefics": Family(idefics, {"cross_layer_interval": 1, "hidden_act": "silu", "max_position_embeddings": 2048}),
}
