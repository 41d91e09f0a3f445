"""What is built of Gemma 4: EmbeddingGemma 2, and the drafters that read a Gemma 4's cache."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.ledger import linear
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import architecture, biased_attention, decoder_part, mlp, rms, sandwich, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.multimodal.gemma import (
    GEMMA4_NORM,
    KINDS,
    gemma4_towers,
    normed_heads,
    per_layer_input,
    sizes_by_layer,
)
from memcalc.readers.hf.multimodal.nested import joined, read_language, tied_outside


def embedding_gemma2(c: Config) -> Architecture:
    language = read_language(c, "embedding_gemma2_text", tied=True)
    return joined(c, language, gemma4_towers(c, language))


def embedding_gemma2_text(c: Config) -> Architecture:
    """Sees both ways; each layer's own vector is projected from the token's, no table holds it; no head but a projection
    (modeling_embedding_gemma2.py).
    """
    hidden, depth, size = c.integer("hidden_size"), c.layers(), c.integer("hidden_size_per_layer_input")
    kinds = layer_kinds(c, [KINDS[(i + 1) % 6 == 0] for i in range(depth)], KINDS)
    kinds[-1] = "full_attention"  # the library insists
    norm = rms(c, kind=GEMMA4_NORM)
    vectors = (*linear("projection", "other", hidden, depth * size), *rms(c, size=size).weights())

    def layer(kind: tuple[str, tuple[int, int]]) -> Layer:
        window = c.integer("sliding_window") + 1 if kind[0] == "sliding_attention" else None  # on each side, and itself
        mixer = biased_attention(c, head_dim=kind[1][0], kv_heads=kind[1][1], window=window, causal=False)
        blocks = sandwich(norm, normed_heads(c, mixer, shared=False, kind=GEMMA4_NORM), mlp(c)).blocks
        return Layer((*blocks, *per_layer_input(c)))

    part = decoder_part(
        c,
        windowed(list(zip(kinds, sizes_by_layer(c, kinds), strict=True)), layer),
        norm,
        tied=True,
        embedding=Embedding(c.integer("vocab_size"), hidden, scaled=True),
        after_embedding=(("per_layer_vectors", Plain(vectors)),),
    )
    projection = Projection(hidden, c.integer("embedding_dim"), role="head")
    return architecture(c, (replace(part, exit=(part.exit[0], ("projection", projection))),), tied=True)


def assistant(c: Config, text_type: str) -> Architecture:
    """A drafter: a Gemma 4 without keys and values of its own, between two projections from and to the main model's width.

    `use_ordered_embeddings`: tokens are looked for among the nearest of so many centroids (modeling_gemma4_assistant.py).
    """
    text = c.sub("text_config", {})
    own: dict[str, Any] = {"hidden_size_per_layer_input": 0}
    if not text.integer("num_kv_shared_layers", 0, low=0):
        own["num_kv_shared_layers"] = text.integer("num_hidden_layers", 30)
    language = read_language(c, text_type, own, nested=text.reread(**own) if len(own) > 1 else text, tied=tied_outside(c, True))
    if text.integer("hidden_size_per_layer_input", 0, low=0):
        raise text.error("hidden_size_per_layer_input", "must be 0 in a drafter")
    wide = c.integer("backbone_hidden_size")
    into: Named = (("input", Projection(2 * wide, language.hidden)), ("output", Projection(language.hidden, wide)))
    if c.flag("use_ordered_embeddings"):
        into += (("centroids", Projection(language.hidden, c.integer("num_centroids"))),)
    return joined(c, language, (Part("projector", entry=into),))


_ASSISTANT: Mapping[str, Any] = {"use_ordered_embeddings": False, "num_centroids": 2048}

FAMILIES = {
    "embedding_gemma2": Family(embedding_gemma2, {}),
    "embedding_gemma2_text": Family(
        embedding_gemma2_text,
        {
            "vocab_size": 262144, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 24,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
            "max_position_embeddings": 262144, "sliding_window": 512, "hidden_size_per_layer_input": 512,
            "embedding_dim": 768, "global_head_dim": 512, "num_global_key_value_heads": 1, "attention_k_eq_v": True,
        },
    ),
    "gemma4_assistant": Family(partial(assistant, text_type="gemma4_text"), {**_ASSISTANT, "backbone_hidden_size": 1536}),
    "gemma4_unified_assistant": Family(
        partial(assistant, text_type="gemma4_unified_text"), {**_ASSISTANT, "backbone_hidden_size": 3840}
    ),
}  # fmt: skip
